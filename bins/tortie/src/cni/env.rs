//! Owns: what the runtime says in the environment (SPEC.md, "Parameters"). Does not: read the environment
//! itself. Invariant: what a command needs is there and well formed, or the error names the variable.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::error::CniError;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Give a container a network.
    Add,
    /// Take it away.
    Del,
    /// Is it as ADD left it?
    Check,
    /// Remove what belongs to no container any more.
    Gc,
    /// Would ADD work?
    Status,
    /// Which versions?
    Version,
}

/// The environment, checked for the command in it.
#[derive(Clone, Debug)]
pub struct Env {
    /// CNI_COMMAND
    pub command: Command,
    /// CNI_CONTAINERID, empty where the command has none.
    pub container_id: String,
    /// CNI_NETNS
    pub netns: Option<PathBuf>,
    /// CNI_IFNAME, empty where the command has none.
    pub ifname: String,
    /// CNI_ARGS as it came.
    pub args: String,
    /// CNI_PATH, as directories.
    pub path: Vec<PathBuf>,
}

/// The pod that a container belongs to, from CNI_ARGS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// K8S_POD_NAMESPACE
    pub namespace: String,
    /// K8S_POD_NAME
    pub name: String,
}

impl Command {
    /// As in CNI_COMMAND.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Gc => "GC",
            Self::Status => "STATUS",
            Self::Version => "VERSION",
        }
    }

    fn from_text(text: &str) -> Option<Self> {
        [Self::Add, Self::Del, Self::Check, Self::Gc, Self::Status, Self::Version]
            .into_iter()
            .find(|command| command.as_str() == text)
    }

    fn is_about_a_container(self) -> bool {
        matches!(self, Self::Add | Self::Del | Self::Check)
    }
}

impl Env {
    /// From the variables that `get` finds.
    pub fn from_vars(get: impl Fn(&str) -> Option<String>) -> Result<Self, CniError> {
        let get = |name| get(name).filter(|value| !value.is_empty());
        let command = get("CNI_COMMAND").ok_or_else(|| missing("CNI_COMMAND"))?;
        let command = Command::from_text(&command).ok_or_else(|| {
            wrong("CNI_COMMAND", format!("{command:?} is none of ADD, DEL, CHECK, GC, STATUS, VERSION"))
        })?;
        let env = Self {
            command,
            container_id: get("CNI_CONTAINERID").unwrap_or_default(),
            netns: get("CNI_NETNS").map(PathBuf::from),
            ifname: get("CNI_IFNAME").unwrap_or_default(),
            args: get("CNI_ARGS").unwrap_or_default(),
            path: get("CNI_PATH").map(|path| split_path(&path)).unwrap_or_default(),
        };
        env.check()?;
        Ok(env)
    }

    fn check(&self) -> Result<(), CniError> {
        if self.command.is_about_a_container() {
            check_container_id(&self.container_id)?;
            check_interface("CNI_IFNAME", &self.ifname)?;
        }
        if matches!(self.command, Command::Add | Command::Check) && self.netns.is_none() {
            return Err(missing("CNI_NETNS"));
        }
        if self.command != Command::Version && self.path.is_empty() {
            return Err(missing("CNI_PATH"));
        }
        self.parsed_args().map(|_| ())
    }

    /// The variables a delegate gets.
    pub fn to_vars(&self) -> Vec<(&'static str, String)> {
        let path: Vec<_> = self.path.iter().map(|dir| dir.to_string_lossy()).collect();
        let netns = self.netns.as_ref().map(|path| path.to_string_lossy().into_owned());
        vec![
            ("CNI_COMMAND", self.command.as_str().to_owned()),
            ("CNI_CONTAINERID", self.container_id.clone()),
            ("CNI_NETNS", netns.unwrap_or_default()),
            ("CNI_IFNAME", self.ifname.clone()),
            ("CNI_ARGS", self.args.clone()),
            ("CNI_PATH", path.join(":")),
        ]
    }

    /// The pod, or `None` where CNI_ARGS does not name one.
    pub fn pod(&self) -> Result<Option<Pod>, CniError> {
        let mut args = self.parsed_args()?;
        match (args.remove("K8S_POD_NAMESPACE"), args.remove("K8S_POD_NAME")) {
            (Some(namespace), Some(name)) => {
                check_kubernetes_name("K8S_POD_NAMESPACE", &namespace)?;
                check_kubernetes_name("K8S_POD_NAME", &name)?;
                Ok(Some(Pod { namespace, name }))
            }
            (None, None) => Ok(None),
            _ => Err(wrong("CNI_ARGS", "K8S_POD_NAMESPACE and K8S_POD_NAME belong together".to_owned())),
        }
    }

    /// The pod's uid, where CNI_ARGS has it.
    pub fn pod_uid(&self) -> Result<Option<String>, CniError> {
        Ok(self.parsed_args()?.remove("K8S_POD_UID"))
    }

    fn parsed_args(&self) -> Result<BTreeMap<String, String>, CniError> {
        let pairs = self.args.split(';').map(str::trim).filter(|pair| !pair.is_empty());
        pairs
            .map(|pair| match pair.split_once('=') {
                Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
                None => Err(wrong("CNI_ARGS", format!("{pair:?} is not KEY=VALUE"))),
            })
            .collect()
    }
}

impl std::fmt::Display for Pod {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

fn split_path(path: &str) -> Vec<PathBuf> {
    path.split(':').filter(|dir| !dir.is_empty()).map(PathBuf::from).collect()
}

fn missing(variable: &'static str) -> CniError {
    CniError::Env { variable, problem: "missing".to_owned() }
}

fn wrong(variable: &'static str, problem: String) -> CniError {
    CniError::Env { variable, problem }
}

/// Letters, digits, `_`, `.`, `-`, and a letter or digit first (SPEC.md, "Parameters").
pub(super) fn is_identifier(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

fn check_container_id(id: &str) -> Result<(), CniError> {
    if id.is_empty() {
        return Err(missing("CNI_CONTAINERID"));
    }
    if is_identifier(id) {
        return Ok(());
    }
    Err(wrong("CNI_CONTAINERID", format!("{id:?} holds a character other than letters, digits, _ . -")))
}

/// What the kernel takes as the name of an interface (`dev_valid_name`).
pub(super) fn check_interface(variable: &'static str, name: &str) -> Result<(), CniError> {
    if name.is_empty() {
        return Err(missing(variable));
    }
    let valid = name.len() <= 15
        && !matches!(name, "." | "..")
        && !name.contains(|c: char| matches!(c, '/' | ':') || c.is_whitespace() || c.is_control());
    if valid { Ok(()) } else { Err(wrong(variable, format!("{name:?} is no name for an interface"))) }
}

/// Names become file names: what Kubernetes allows, and nothing that leads elsewhere.
fn check_kubernetes_name(key: &'static str, name: &str) -> Result<(), CniError> {
    let valid = name.len() <= 253
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'));
    if valid { Ok(()) } else { Err(wrong("CNI_ARGS", format!("{key}={name:?} is no name of Kubernetes"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(changes: &[(&str, &str)]) -> Result<Env, CniError> {
        let mut vars = BTreeMap::from([
            ("CNI_COMMAND", "ADD"),
            ("CNI_CONTAINERID", "c1"),
            ("CNI_NETNS", "/run/netns/x"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=front-1;K8S_POD_UID=u"),
            ("CNI_PATH", "/opt/cni/bin:/usr/lib/cni"),
        ]);
        vars.extend(changes.iter().copied());
        Env::from_vars(|name| vars.get(name).map(|value| (*value).to_owned()))
    }

    #[test]
    fn a_runtimes_environment_is_understood() {
        let env = env(&[]).unwrap();
        assert_eq!(env.command, Command::Add);
        assert_eq!(env.path.len(), 2);
        let pod = env.pod().unwrap().unwrap();
        assert_eq!(pod.to_string(), "shop/front-1");
    }

    #[test]
    fn what_a_delegate_gets_is_what_came_in() {
        let original = env(&[]).unwrap();
        let vars: BTreeMap<_, _> = original.to_vars().into_iter().collect();
        let again = Env::from_vars(|name| vars.get(name).cloned()).unwrap();
        assert_eq!(again.to_vars(), original.to_vars());
    }

    #[test]
    fn each_missing_or_wrong_variable_is_named() {
        for (name, value) in [
            ("CNI_COMMAND", ""),
            ("CNI_COMMAND", "add"),
            ("CNI_CONTAINERID", ""),
            ("CNI_CONTAINERID", "../x"),
            ("CNI_NETNS", ""),
            ("CNI_IFNAME", ""),
            ("CNI_IFNAME", "a/b"),
            ("CNI_IFNAME", "a b"),
            ("CNI_IFNAME", ".."),
            ("CNI_IFNAME", "sixteen-letters-"),
            ("CNI_PATH", ""),
            ("CNI_ARGS", "K8S_POD_NAME"),
        ] {
            let error = env(&[(name, value)]).unwrap_err();
            assert_eq!(error.code(), 4, "{name}={value}");
            assert!(error.to_string().starts_with(name), "{name}={value}: {error}");
        }
    }

    #[test]
    fn names_that_would_lead_out_of_the_directory_are_refused() {
        for name in ["../x", "a/b", "", "-a", ".hidden"] {
            let args = format!("K8S_POD_NAMESPACE=shop;K8S_POD_NAME={name}");
            assert!(env(&[("CNI_ARGS", &args)]).unwrap().pod().is_err(), "{name}");
        }
    }

    #[test]
    fn a_pod_needs_both_names_or_neither() {
        assert_eq!(env(&[("CNI_ARGS", "")]).unwrap().pod().unwrap(), None);
        assert!(env(&[("CNI_ARGS", "K8S_POD_NAME=x")]).unwrap().pod().is_err());
    }

    #[test]
    fn del_needs_no_namespace_and_gc_and_status_need_no_container() {
        assert!(env(&[("CNI_COMMAND", "DEL"), ("CNI_NETNS", "")]).is_ok());
        for command in ["GC", "STATUS"] {
            let changes =
                [("CNI_COMMAND", command), ("CNI_CONTAINERID", ""), ("CNI_IFNAME", ""), ("CNI_NETNS", "")];
            assert!(env(&changes).is_ok(), "{command}");
        }
        assert!(env(&[("CNI_COMMAND", "VERSION"), ("CNI_CONTAINERID", ""), ("CNI_PATH", "")]).is_ok());
    }
}
