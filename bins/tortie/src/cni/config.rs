//! Owns: the network configuration that comes on stdin. Does not: look at the address plugin's part of it
//! beyond its type. Invariant: every field used is checked; the delegate gets the whole of it as it came.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};
use sha1::{Digest as _, Sha1};

use super::env::{self, Command, Env, Pod};
use super::error::CniError;
use super::version::{self, Version};

/// The network configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// What the answer must look like.
    pub version: Version,
    /// The network's name.
    pub network: String,
    /// The type of the address plugin; every command but VERSION needs one.
    pub ipam: String,
    /// MTU of both sides of the veth; absent: the kernel's default.
    pub mtu: Option<u32>,
    /// What the names of veths on the host start with.
    pub interface_prefix: String,
    /// How long ADD waits for the agent.
    pub ready_timeout: Duration,
    /// Where the agent's socket and the records are.
    pub run_dir: PathBuf,
    /// What ADD answered, in CHECK and DEL.
    pub prev_result: Option<Value>,
    /// GC: what is still in use.
    pub valid_attachments: Option<Vec<Attachment>>,
    /// All of it.
    pub raw: Map<String, Value>,
}

/// A container's interface on a network.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Attachment {
    /// CNI_CONTAINERID
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// CNI_IFNAME
    pub ifname: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    name: Option<String>,
    ipam: Option<RawIpam>,
    mtu: Option<u32>,
    interface_prefix: Option<String>,
    ready_timeout_seconds: Option<f64>,
    run_dir: Option<PathBuf>,
    prev_result: Option<Value>,
    #[serde(rename = "cni.dev/valid-attachments")]
    valid_attachments: Option<Vec<Attachment>>,
    // What the first runtimes with GC called it.
    #[serde(rename = "cni.dev/attachments")]
    attachments: Option<Vec<Attachment>>,
}

#[derive(Deserialize)]
struct RawIpam {
    r#type: Option<String>,
}

/// What the names of veths start with unless told otherwise: Calico's, so that either agent can take over the
/// other's pods.
const DEFAULT_PREFIX: &str = "cali";
/// An interface's name has 15 characters, 11 of which are the hash.
const LONGEST_PREFIX: usize = 4;

/// The version that a configuration asks for.
pub fn version_of(config: &[u8]) -> Result<String, CniError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct OnlyVersion {
        // Configurations without one are of the time before there was one.
        #[serde(default = "first")]
        cni_version: String,
    }
    fn first() -> String {
        "0.1.0".to_owned()
    }
    let parsed: OnlyVersion = serde_json::from_slice(config).map_err(decode)?;
    Ok(parsed.cni_version)
}

fn decode(source: serde_json::Error) -> CniError {
    CniError::Decode { what: "network configuration on stdin".to_owned(), source }
}

fn wrong(field: &'static str, problem: impl Into<String>) -> CniError {
    CniError::Config { field, problem: problem.into() }
}

impl Config {
    /// From stdin, for the command in `env`.
    pub fn parse(bytes: &[u8], env: &Env) -> Result<Self, CniError> {
        let requested = version_of(bytes)?;
        let version = Version::from_text(&requested).ok_or_else(|| CniError::IncompatibleVersion {
            who: "tortie".to_owned(),
            requested,
            supported: version::all_as_text(),
        })?;
        check_command(env.command, version)?;
        let whole: Map<String, Value> = serde_json::from_slice(bytes).map_err(decode)?;
        let raw: Raw = serde_json::from_value(Value::Object(whole.clone())).map_err(decode)?;
        if env.command == Command::Add && raw.prev_result.is_some() {
            let why = "tortie makes the interface, so it must be the first plugin of the list";
            return Err(CniError::UnsupportedField { field: "prevResult", why });
        }
        Ok(Self {
            version,
            network: network(raw.name)?,
            ipam: ipam(raw.ipam)?,
            mtu: mtu(raw.mtu)?,
            interface_prefix: prefix(raw.interface_prefix)?,
            ready_timeout: ready_timeout(raw.ready_timeout_seconds)?,
            run_dir: raw.run_dir.unwrap_or_else(|| PathBuf::from("/run/tortie")),
            prev_result: raw.prev_result,
            valid_attachments: raw.valid_attachments.or(raw.attachments),
            raw: whole,
        })
    }

    /// The name of a pod's veth on the host.
    pub fn interface_of(&self, pod: &Pod) -> String {
        let digest = Sha1::digest(format!("{}.{}", pod.namespace, pod.name));
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).take(6).collect();
        format!("{}{}", self.interface_prefix, hex.get(..11).unwrap_or_default())
    }
}

fn check_command(command: Command, requested: Version) -> Result<(), CniError> {
    let minimum = match command {
        Command::Check => Version::V0_4_0,
        Command::Gc | Command::Status => Version::V1_1_0,
        Command::Add | Command::Del | Command::Version => Version::V0_3_1,
    };
    if requested < minimum {
        return Err(CniError::CommandTooNew { command: command.as_str(), minimum, requested });
    }
    Ok(())
}

fn network(name: Option<String>) -> Result<String, CniError> {
    let name = name.ok_or_else(|| wrong("name", "missing"))?;
    if env::is_identifier(&name) {
        return Ok(name);
    }
    Err(wrong("name", format!("{name:?} holds a character other than letters, digits, _ . -")))
}

fn ipam(ipam: Option<RawIpam>) -> Result<String, CniError> {
    let missing = || wrong("ipam.type", "missing; name the plugin that gives out addresses, e.g. host-local");
    let plugin = ipam.and_then(|ipam| ipam.r#type).ok_or_else(missing)?;
    // It becomes the name of a program in CNI_PATH.
    if env::is_identifier(&plugin) {
        return Ok(plugin);
    }
    Err(wrong("ipam.type", format!("{plugin:?} is not the name of a plugin")))
}

fn mtu(mtu: Option<u32>) -> Result<Option<u32>, CniError> {
    match mtu {
        // Zero is how configurations that are generated say "not set".
        None | Some(0) => Ok(None),
        Some(mtu @ 68..=65_535) => Ok(Some(mtu)),
        Some(mtu) => Err(wrong("mtu", format!("{mtu} is not between 68 and 65535"))),
    }
}

fn prefix(prefix: Option<String>) -> Result<String, CniError> {
    let prefix = prefix.unwrap_or_else(|| DEFAULT_PREFIX.to_owned());
    let valid = (1..=LONGEST_PREFIX).contains(&prefix.len())
        && prefix.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    if valid {
        return Ok(prefix);
    }
    Err(wrong("interfacePrefix", format!("{prefix:?} is not 1 to {LONGEST_PREFIX} letters or digits")))
}

fn ready_timeout(seconds: Option<f64>) -> Result<Duration, CniError> {
    let seconds = seconds.unwrap_or(10.0);
    if seconds > 0.0 && seconds <= 3600.0 {
        return Ok(Duration::from_secs_f64(seconds));
    }
    Err(wrong("readyTimeoutSeconds", format!("{seconds} is not more than 0 and at most 3600")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn env(command: Command) -> Env {
        Env {
            command,
            container_id: "c1".into(),
            netns: None,
            ifname: "eth0".into(),
            args: String::new(),
            path: Vec::new(),
        }
    }

    fn parse(command: Command, changes: Value) -> Result<Config, CniError> {
        let mut config = json!({
            "cniVersion": "1.1.0", "name": "tortie", "type": "tortie", "ipam": {"type": "host-local"},
        });
        for (key, value) in changes.as_object().unwrap() {
            config[key] = value.clone();
        }
        Config::parse(config.to_string().as_bytes(), &env(command))
    }

    #[test]
    fn names_of_veths_are_those_of_calicos_plugin() {
        let pod = Pod { namespace: "default".into(), name: "nginx".into() };
        let config = parse(Command::Add, json!({})).unwrap();
        // printf 'default.nginx' | sha1sum | cut -c1-11
        assert_eq!(config.interface_of(&pod), "calic440f455693");
        let config = parse(Command::Add, json!({"interfacePrefix": "tw"})).unwrap();
        assert_eq!(config.interface_of(&pod), "twc440f455693");
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        let config = parse(Command::Add, json!({})).unwrap();
        assert_eq!(config.ready_timeout, Duration::from_secs(10));
        assert_eq!(config.run_dir, PathBuf::from("/run/tortie"));
        assert_eq!((config.mtu, config.version), (None, Version::V1_1_0));
    }

    #[test]
    fn each_wrong_field_is_named_with_the_code_of_the_specification() {
        for (changes, code, field) in [
            (json!({"cniVersion": "0.2.0"}), 1, "0.2.0"),
            (json!({"cniVersion": "2.0.0"}), 1, "2.0.0"),
            (json!({"cniVersion": null}), 6, "stdin"),
            (json!({"name": null}), 7, "name"),
            (json!({"name": "a b"}), 7, "name"),
            (json!({"ipam": {}}), 7, "ipam.type"),
            (json!({"ipam": {"type": "../sh"}}), 7, "ipam.type"),
            (json!({"mtu": 67}), 7, "mtu"),
            (json!({"mtu": -1}), 6, "stdin"),
            (json!({"mtu": 65_536}), 7, "mtu"),
            (json!({"interfacePrefix": "calico"}), 7, "interfacePrefix"),
            (json!({"interfacePrefix": ""}), 7, "interfacePrefix"),
            (json!({"interfacePrefix": "a/b"}), 7, "interfacePrefix"),
            (json!({"readyTimeoutSeconds": 0}), 7, "readyTimeoutSeconds"),
            (json!({"readyTimeoutSeconds": 1e9}), 7, "readyTimeoutSeconds"),
            (json!({"prevResult": {}}), 2, "prevResult"),
        ] {
            let error = parse(Command::Add, changes.clone()).unwrap_err();
            assert_eq!(error.code(), code, "{changes}: {error}");
            assert!(error.to_string().contains(field), "{changes}: {error}");
        }
        let error = Config::parse(b"{", &env(Command::Add)).unwrap_err();
        assert_eq!(error.code(), 6);
    }

    #[test]
    fn a_configuration_without_version_is_of_the_time_before_ours() {
        let error = Config::parse(b"{}", &env(Command::Add)).unwrap_err();
        assert_eq!(error.code(), 1);
        assert!(error.to_string().contains("0.1.0"));
    }

    #[test]
    fn commands_exist_since_their_version_only() {
        for (command, version, works) in [
            (Command::Check, "0.3.1", false),
            (Command::Check, "0.4.0", true),
            (Command::Gc, "1.0.0", false),
            (Command::Gc, "1.1.0", true),
            (Command::Status, "1.0.0", false),
            (Command::Status, "1.1.0", true),
            (Command::Add, "0.3.1", true),
        ] {
            let parsed = parse(command, json!({"cniVersion": version}));
            assert_eq!(parsed.is_ok(), works, "{command:?} {version}");
            assert!(works || parsed.unwrap_err().code() == 1);
        }
    }

    #[test]
    fn valid_attachments_are_read_under_both_of_their_names() {
        let list = json!([{"containerID": "c1", "ifname": "eth0"}]);
        let expected = Some(vec![Attachment { container_id: "c1".into(), ifname: "eth0".into() }]);
        for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
            let config = parse(Command::Gc, json!({ key: list })).unwrap();
            assert_eq!(config.valid_attachments, expected, "{key}");
        }
        let both = json!({"cni.dev/valid-attachments": list, "cni.dev/attachments": list});
        assert_eq!(parse(Command::Gc, both).unwrap().valid_attachments, expected);
    }
}
