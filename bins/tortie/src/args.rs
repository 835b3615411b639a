//! The flags that every verb takes.
//!
//! Owns: their names, environment variables and defaults (design/cli.md, "Every verb").
//! Does not: open anything they name.
//! Invariant: a flag wins over its environment variable, which wins over the default.

#[cfg(test)]
mod documented;

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory as _, FromArgMatches as _, Parser};

use crate::logging::LogFormat;
use crate::output::Format;
use crate::verbs::Verb;

/// An eBPF data plane for Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "tortie", version, max_term_width = 100, propagate_version = true)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub verb: Verb,
}

impl Cli {
    /// What was typed and what the environment adds to it.
    pub fn read(argv: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let mut command = Self::command().bin_name(called());
        let matches = command.try_get_matches_from_mut(argv)?;
        let mut cli = Self::from_arg_matches(&matches)?;
        cli.global.settle(&matches).map_err(|why| command.error(ErrorKind::ArgumentConflict, why))?;
        Ok(cli)
    }
}

/// Flags that may stand before or after any verb.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Every verb")]
pub struct Global {
    /// How to print the answer.
    #[arg(short = 'o', long = "output", value_enum, default_value_t, global = true)]
    pub output: Format,
    /// Where resources are kept: dir:PATH or kube[:KUBECONFIG]; verbs for resources take the cluster that kubectl
    /// would take when it is absent. --kubeconfig and --context win over TORTIE_STORE.
    #[arg(long, env = "TORTIE_STORE", global = true, value_name = "dir:PATH|kube[:KUBECONFIG]")]
    pub store: Option<StoreAddress>,
    /// The kubeconfig file; KUBECONFIG, ~/.kube/config or a pod's own account when absent.
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context; its current one when absent.
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// The agent's socket and state.
    #[arg(long, env = "TORTIE_RUN_DIR", default_value = "/run/tortie", global = true, value_name = "DIR")]
    pub run_dir: PathBuf,
    /// Where programs, links and maps are pinned.
    #[arg(
        long,
        env = "TORTIE_BPFFS",
        default_value = "/sys/fs/bpf/tortie",
        global = true,
        value_name = "DIR"
    )]
    pub bpffs: PathBuf,
    /// The cgroup v2 directory of this node; found when absent.
    #[arg(long, env = "TORTIE_CGROUP", global = true, value_name = "DIR")]
    pub cgroup: Option<PathBuf>,
    /// Say more on stderr; twice says everything. RUST_LOG wins over it, it wins over logSeverityScreen.
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub verbose: u8,
    /// The form of what is said on stderr: lines for people, or a JSON object on each line.
    #[arg(long, env = "TORTIE_LOG_FORMAT", value_enum, default_value_t, global = true)]
    pub log_format: LogFormat,
}

impl Global {
    /// Who names a kubeconfig or a context means a cluster, whatever store the environment names.
    fn settle(&mut self, matches: &ArgMatches) -> Result<(), &'static str> {
        let names_cluster = self.kubeconfig.is_some() || self.context.is_some();
        if !names_cluster || !matches!(self.store, Some(StoreAddress::Dir(_))) {
            return Ok(());
        }
        if matches.value_source("store") == Some(ValueSource::CommandLine) {
            return Err("--store dir: is no cluster; leave out --kubeconfig and --context, or --store");
        }
        self.store = Some(StoreAddress::Kube(self.kubeconfig.clone()));
        Ok(())
    }
}

/// Where resources are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreAddress {
    /// A directory of YAML.
    Dir(PathBuf),
    /// A Kubernetes API server; without a path the usual kubeconfig rules hold.
    Kube(Option<PathBuf>),
}

impl FromStr for StoreAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("dir", path)) if !path.is_empty() => Ok(Self::Dir(PathBuf::from(path))),
            Some(("kube", path)) if !path.is_empty() => Ok(Self::Kube(Some(PathBuf::from(path)))),
            None if text == "kube" => Ok(Self::Kube(None)),
            // The directory is this one; a laboratory keeps its own.
            None if text == "dir" => Ok(Self::Dir(PathBuf::from("."))),
            _ => Err("expected dir:PATH, kube or kube:KUBECONFIG".to_owned()),
        }
    }
}

/// The arguments as the parser should see them: `tortie-cni`, and a bare `tortie` called by a container
/// runtime (which sets CNI_COMMAND and passes no arguments), mean `tortie cni`. `kubectl-tortie` is `tortie` as kubectl
/// finds it: the same verbs and flags.
pub fn effective_argv() -> Vec<OsString> {
    as_verb(env::args_os().collect(), env::var_os("CNI_COMMAND").is_some())
}

fn as_verb(argv: Vec<OsString>, called_by_runtime: bool) -> Vec<OsString> {
    let named_cni =
        argv.first().and_then(|name| Path::new(name).file_name()).is_some_and(|name| name == "tortie-cni");
    if (named_cni || called_by_runtime) && argv.len() <= 1 {
        return ["tortie", "cni"].into_iter().map(OsString::from).collect();
    }
    argv
}

/// What the program is called in its own help: as it was typed.
pub fn called() -> &'static str {
    called_by(env::args_os().next())
}

fn called_by(name: Option<OsString>) -> &'static str {
    let name = name.as_deref().and_then(|name| Path::new(name).file_name().map(ToOwned::to_owned));
    // kubectl looks for `kubectl-tortie`, and for `kubectl_tortie` where a file name cannot have a hyphen.
    match name.as_deref().and_then(|name| name.to_str()) {
        Some("kubectl-tortie" | "kubectl_tortie") => "kubectl tortie",
        _ => "tortie",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argv(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn a_runtime_that_calls_the_bare_binary_gets_the_cni_plugin() {
        assert_eq!(as_verb(argv(&["/opt/cni/bin/tortie"]), true), argv(&["tortie", "cni"]));
        assert_eq!(as_verb(argv(&["/opt/cni/bin/tortie-cni"]), false), argv(&["tortie", "cni"]));
    }

    #[test]
    fn a_person_in_an_environment_with_cni_command_still_gets_the_verb_they_typed() {
        assert_eq!(as_verb(argv(&["tortie", "status"]), true), argv(&["tortie", "status"]));
    }

    #[test]
    fn the_program_on_a_node_has_every_verb_under_the_plugins_name_too() {
        let words = argv(&["/opt/cni/bin/tortie-cni", "status", "-o", "yaml"]);
        assert_eq!(as_verb(words.clone(), false), words);
    }

    #[test]
    fn kubectls_plugin_is_the_same_program_under_another_name() {
        let words = argv(&["/usr/local/bin/kubectl-tortie", "get", "pods"]);
        assert_eq!(as_verb(words.clone(), false), words);
        assert_eq!(called_by(words.into_iter().next()), "kubectl tortie");
        assert_eq!(called_by(Some("./tortie".into())), "tortie");
        assert_eq!(called_by(None), "tortie");
    }

    #[test]
    fn a_store_is_a_directory_or_an_api_server_and_nothing_else() {
        assert_eq!("dir:/a:b".parse(), Ok(StoreAddress::Dir("/a:b".into())));
        assert_eq!("kube".parse(), Ok(StoreAddress::Kube(None)));
        assert_eq!("kube:/k".parse(), Ok(StoreAddress::Kube(Some("/k".into()))));
        assert_eq!("dir".parse(), Ok(StoreAddress::Dir(".".into())));
        for wrong in ["", "dir:", "kube:", "etcd:x", "/etc"] {
            assert!(wrong.parse::<StoreAddress>().is_err(), "{wrong}");
        }
    }
}
