//! `tortie install` and `tortie uninstall`: what a node needs besides the agent.
//!
//! Owns: the flags, and which file goes where: the CNI plugin, its conflist, the BPF file system.
//! Does not: start the agent, nor wait for it; the plugin does, pod by pod.
//! Invariant: a runtime finds the old files or the new ones, whole, at every moment; the conflist comes after the
//! program it names and goes before it.

mod conflist;
mod files;
mod node;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::{Args, Subcommand};
use tortie_host::lock::{LockError, NodeLock};
use tortie_host::netlink::Via;

use crate::agent::devices::TUNNEL;
use crate::args::Global;
use crate::exit::{Answer, Failure, Outcome};
use crate::output;

/// The program's name in the runtime's directory of plugins, which is the type in the conflist.
const PROGRAM: &str = "tortie-cni";
/// The conflist of a node that is told nothing else.
const CONFLIST: &str = include_str!("10-tortie.conflist");

/// What is put on the node.
#[derive(Debug, Subcommand)]
pub enum Install {
    /// The CNI plugin and the conflist that names it.
    Cni(Cni),
    /// What the agent may not do itself unless it is privileged: the BPF file system that pins live in (--bpffs), and
    /// the sysctls of forwarding.
    Node,
}

/// Flags of `install cni`.
#[derive(Debug, Args)]
pub struct Cni {
    #[command(flatten)]
    places: Places,
    /// The conflist as JSON, in place of the one that comes with this version.
    #[arg(long, env = "TORTIE_CNI_CONFIG", value_name = "JSON")]
    config: Option<String>,
}

/// Flags of `uninstall`.
#[derive(Debug, Args)]
pub struct Uninstall {
    #[command(flatten)]
    places: Places,
    /// Take the data plane off as well: what is pinned below --bpffs, --run-dir and --cache. Pods of this node lose
    /// their policy and their Services.
    #[arg(long)]
    data_plane: bool,
    /// Where the agent kept what it knew of the store, when not below --run-dir.
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
}

/// Where the runtime looks.
#[derive(Debug, Args)]
struct Places {
    /// The runtime's directory of plugins.
    #[arg(long, env = "TORTIE_CNI_BIN_DIR", default_value = "/opt/cni/bin", value_name = "DIR")]
    bin_dir: PathBuf,
    /// The runtime's directory of network configurations.
    #[arg(long, env = "TORTIE_CNI_CONF_DIR", default_value = "/etc/cni/net.d", value_name = "DIR")]
    conf_dir: PathBuf,
    /// The conflist's name, which ends in .conflist; runtimes take the first in alphabetical order.
    #[arg(
        long,
        env = "TORTIE_CNI_CONF_NAME",
        default_value = "10-tortie.conflist",
        value_name = "NAME",
        value_parser = conflist_name
    )]
    conf_name: String,
}

/// Runtimes read a list of plugins from nothing else: another ending is skipped, or taken for a single plugin.
fn conflist_name(text: &str) -> Result<String, String> {
    let path = Path::new(text);
    if path.file_name() != Some(path.as_os_str()) {
        return Err("use the name of a file in the directory of network configurations".to_owned());
    }
    if text.starts_with('.') || path.extension().is_none_or(|extension| extension != "conflist") {
        return Err(
            "use a name that ends in .conflist and does not begin with a dot, else no runtime reads it"
                .to_owned(),
        );
    }
    Ok(text.to_owned())
}

/// Runs `install`.
pub fn install(what: Install, global: &Global) -> Outcome {
    match what {
        Install::Cni(cni) => install_cni(&cni, &own_program()?),
        Install::Node => node::prepare(global),
    }
}

/// This very program, also when its file has been replaced since it was started.
fn own_program() -> anyhow::Result<Vec<u8>> {
    fs::read("/proc/self/exe").context("reading this program from /proc/self/exe")
}

fn install_cni(cni: &Cni, program: &[u8]) -> Outcome {
    let places = &cni.places;
    let conflist = cni.config.as_deref().unwrap_or(CONFLIST);
    let plugins = conflist::plugins_of(conflist).map_err(Failure::bad_input)?;
    let said = |path: &Path, what: files::Put| match what {
        files::Put::AsItWas => format!("{} is as it should be", path.display()),
        files::Put::Written => format!("{} written", path.display()),
    };
    let path = places.bin_dir.join(PROGRAM);
    let put = files::put(&path, program, 0o755)?;
    output::write(&said(&path, put))?;
    for missing in plugins.iter().filter(|name| !places.bin_dir.join(name).is_file()) {
        tracing::warn!(
            "the conflist names the plugin {missing}, which is not in {}; install it (containernetworking-plugins)",
            places.bin_dir.display()
        );
    }
    let path = places.conf_dir.join(&places.conf_name);
    let put = files::put(&path, format!("{}\n", conflist.trim_end()).as_bytes(), 0o644)?;
    output::write(&said(&path, put))?;
    if let Some(first) = files::first_configuration(&places.conf_dir)?
        && first != places.conf_name
    {
        tracing::warn!(
            "runtimes take {} first, so that its plugin wires pods and not Tortie; move it away when you are ready",
            places.conf_dir.join(first).display()
        );
    }
    Ok(Answer::Yes)
}

/// Runs `uninstall`.
pub fn uninstall(flags: &Uninstall, global: &Global) -> Outcome {
    let places = &flags.places;
    // Before anything is removed: a node with an agent and without the plugin could wire no pod.
    let _lock = if flags.data_plane { Some(keep_agents_away(global)?) } else { None };
    let mut done = Vec::new();
    // The runtime must not find a conflist whose program is gone.
    let conflist = places.conf_dir.join(&places.conf_name);
    done.push(say_removed(&conflist, files::remove(&conflist)));
    if flags.data_plane {
        // Links that lose their pins detach; nothing else refers to programs and maps.
        for dir in [Some(&global.bpffs), Some(&global.run_dir), flags.cache.as_ref()].into_iter().flatten() {
            done.push(say_removed(dir, files::remove_tree(dir)));
        }
        done.push(take_off_network());
    }
    let left: Vec<String> = done.into_iter().filter_map(|done| Some(format!("{:#}", done.err()?))).collect();
    if !left.is_empty() {
        let left = left.join("; ");
        return Err(anyhow!("{left}; everything else is removed but {PROGRAM}: run this again").into());
    }
    // It may be this very program, which is needed until nothing is left.
    let program = places.bin_dir.join(PROGRAM);
    say_removed(&program, files::remove(&program))?;
    Ok(Answer::Yes)
}

fn keep_agents_away(global: &Global) -> Result<NodeLock, Failure> {
    NodeLock::take_to_remove(&global.run_dir, &global.bpffs).map_err(|error| {
        let why = anyhow!("nothing is removed: {error}");
        match error {
            LockError::Taken { .. } => Failure::no(why),
            LockError::File { .. } => Failure::not_allowed(why),
        }
    })
}

fn say_removed(path: &Path, removed: io::Result<files::Removed>) -> anyhow::Result<()> {
    let said = match removed.with_context(|| format!("removing {}", path.display()))? {
        files::Removed::Gone => "removed",
        files::Removed::Emptied => "emptied; something is mounted there",
        files::Removed::WasNotThere => "is not there",
    };
    Ok(output::write(&format!("{} {said}", path.display()))?)
}

fn take_off_network() -> anyhow::Result<()> {
    let (routes, tunnel) = clear_network()?;
    output::write(&match routes {
        0 => "there are no routes to other nodes' pods".to_owned(),
        1 => "the route to another node's pods removed".to_owned(),
        n => format!("{n} routes to other nodes' pods removed"),
    })?;
    Ok(output::write(&format!("{TUNNEL} {}", if tunnel { "removed" } else { "is not there" }))?)
}

/// Removes the host's routes to other nodes' pods, and the tunnel's interface; how many there were, and whether there
/// was one. The routes of this node's pods go with their interfaces.
fn clear_network() -> anyhow::Result<(usize, bool)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (netlink, _) = tortie_host::netlink::Netlink::open()?;
        let routes = netlink.routes().await.context("the routes to other nodes' pods")?;
        let others: Vec<_> = routes.into_iter().filter(|(_, via)| matches!(via, Via::Gateway(_))).collect();
        for (net, via) in &others {
            netlink.remove_route(*net, *via).await.context("the routes to other nodes' pods")?;
        }
        Ok((others.len(), netlink.remove(TUNNEL).await.context("the tunnel's interface")?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(dir: &Path) -> Places {
        Places {
            bin_dir: dir.join("bin"),
            conf_dir: dir.join("net.d"),
            conf_name: "10-tortie.conflist".to_owned(),
        }
    }

    fn install_in(dir: &Path, program: &[u8], config: Option<&str>) -> Result<(), Failure> {
        install_cni(&Cni { places: places(dir), config: config.map(str::to_owned) }, program).map(drop)
    }

    #[test]
    fn an_installation_is_complete_and_a_second_one_replaces_it() {
        let dir = tempfile::tempdir().unwrap();
        install_in(dir.path(), b"one", None).unwrap();
        let program = dir.path().join("bin/tortie-cni");
        let running = fs::File::open(&program).unwrap();
        install_in(dir.path(), b"two!", None).unwrap();
        assert_eq!(fs::read(&program).unwrap(), b"two!");
        // Who runs the old one goes on running it: it was replaced and not written into.
        assert_eq!(running.metadata().unwrap().len(), 3);
        let names = |sub: &str| {
            let entries = fs::read_dir(dir.path().join(sub)).unwrap();
            entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(
            (names("bin"), names("net.d")),
            (vec!["tortie-cni".into()], vec!["10-tortie.conflist".into()])
        );
    }

    #[test]
    fn the_conflist_is_the_same_for_every_node_and_names_what_is_installed() {
        assert_eq!(conflist::plugins_of(CONFLIST).unwrap(), ["tortie-cni", "host-local"]);
        let parsed: serde_json::Value = serde_json::from_str(CONFLIST).unwrap();
        assert_eq!(parsed["plugins"][0]["ipam"]["subnet"], "usePodCidr");
        // A runtime that finds no plugin with it may refuse pods with a hostPort.
        assert_eq!(parsed["plugins"][0]["capabilities"]["portMappings"], true);
    }

    /// A conflist of our plugin with these fields.
    fn tortie(fields: &str) -> String {
        format!(r#"{{"cniVersion":"1.0.0","name":"n","plugins":[{{"type":"tortie-cni",{fields}}}]}}"#)
    }

    #[test]
    fn a_conflist_is_a_file_of_its_directory_that_runtimes_read_as_one() {
        assert!(
            ["10-tortie.conflist", "00-a.b.conflist"].into_iter().all(|name| conflist_name(name).is_ok())
        );
        for wrong in [
            "10-tortie.txt",
            "10-tortie.conf",
            "",
            "..",
            "../../zz.conflist",
            "a/b.conflist",
            "/a.conflist",
            ".conflist",
            ".a.conflist",
            "a.conflist/",
        ] {
            assert!(conflist_name(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_conflist_that_the_plugin_could_not_serve_is_refused_and_the_old_one_stays() {
        let dir = tempfile::tempdir().unwrap();
        install_in(dir.path(), b"one", None).unwrap();
        for (wrong, said) in [
            ("{", "no JSON"),
            ("{}", "plugins"),
            (r#"{"plugins":[]}"#, "cniVersion"),
            (r#"{"cniVersion":"1.0.0","plugins":[]}"#, "name"),
            (r#"{"cniVersion":"1.0.0","name":"n","plugins":[]}"#, "first plugin"),
            (r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"bridge"}]}"#, "first plugin"),
            (r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"tortie-cni"}]}"#, "ipam.type"),
            (
                r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"tortie-cni","ipam":{"type":"x"}},{}]}"#,
                "type",
            ),
            (&tortie("\"mtu\": -5, \"ipam\": {\"type\": \"host-local\"}"), "-5"),
            (&tortie("\"mtu\": \"abc\", \"ipam\": {\"type\": \"host-local\"}"), "abc"),
            (&tortie("\"mtu\": 67, \"ipam\": {\"type\": \"host-local\"}"), "mtu"),
            (&tortie("\"ipam\": {\"type\": \"host-local\", \"subnet\": \"banana\"}"), "banana"),
            (
                &tortie(
                    "\"ipam\": {\"type\": \"host-local\", \"ranges\": [[{\"subnet\": \"10.0.0.0/99\"}]]}",
                ),
                "10.0.0.0/99",
            ),
            (&CONFLIST.replace("\"cniVersion\": \"1.0.0\"", "\"cniVersion\": \"9.9\""), "9.9"),
            (&CONFLIST.replace("\"1.1.0\"]", "\"1.1.0\", \"2.0.0\"]"), "2.0.0"),
            (&CONFLIST.replace("\"name\": \"tortie\"", "\"name\": \"a/b\""), "a/b"),
        ] {
            let error = install_in(dir.path(), b"two", Some(wrong)).unwrap_err();
            assert!(
                matches!(error, Failure::BadInput(_)) && error.to_string().contains(said),
                "{wrong}: {error}"
            );
        }
        assert_eq!(fs::read(dir.path().join("bin/tortie-cni")).unwrap(), b"one");
        assert_eq!(fs::read_to_string(dir.path().join("net.d/10-tortie.conflist")).unwrap(), CONFLIST);
    }

    fn flags(dir: &Path, data_plane: bool) -> Uninstall {
        Uninstall { places: places(dir), data_plane, cache: Some(dir.join("cache")) }
    }

    fn global(dir: &Path) -> Global {
        Global {
            output: output::Format::Table,
            store: None,
            run_dir: dir.join("run"),
            bpffs: dir.join("bpf"),
            cgroup: None,
            kubeconfig: None,
            context: None,
            verbose: 0,
            log_format: crate::logging::LogFormat::Text,
        }
    }

    #[test]
    fn what_was_installed_can_be_taken_away_twice() {
        let dir = tempfile::tempdir().unwrap();
        install_in(dir.path(), b"one", None).unwrap();
        let global = global(dir.path());
        for _ in 0..2 {
            uninstall(&flags(dir.path(), false), &global).map(drop).unwrap();
        }
        assert_eq!(fs::read_dir(dir.path().join("bin")).unwrap().count(), 0);
        assert_eq!(fs::read_dir(dir.path().join("net.d")).unwrap().count(), 0);
    }

    #[test]
    fn nothing_is_removed_while_an_agent_holds_the_pins_whatever_run_directory_is_named() {
        let dir = tempfile::tempdir().unwrap();
        install_in(dir.path(), b"one", None).unwrap();
        for sub in ["bpf/links", "cache", "agents-run"] {
            fs::create_dir_all(dir.path().join(sub)).unwrap();
        }
        let global = global(dir.path());
        let _agent = NodeLock::take(&dir.path().join("agents-run"), &global.bpffs).unwrap();
        let failure = uninstall(&flags(dir.path(), true), &global).map(drop).unwrap_err();
        assert!(matches!(failure, Failure::No(_)), "{failure}");
        assert!(failure.to_string().contains("nothing is removed: another agent"), "{failure}");
        for kept in ["bin/tortie-cni", "net.d/10-tortie.conflist", "bpf/links", "cache"] {
            assert!(dir.path().join(kept).exists(), "{kept}");
        }
    }
}
