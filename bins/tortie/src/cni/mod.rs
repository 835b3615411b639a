//! The CNI plugin (`tortie cni`).
//!
//! Owns: the conversation with the container runtime: environment and stdin in, one JSON on stdout out.
//! Does not: know policy or programs; the agent does, and the plugin waits for it.
//! Invariant: a pod whose ADD succeeded is protected; one whose ADD failed has nothing of ours.

mod agent;
mod command;
mod config;
mod env;
mod error;
mod ipam;
mod netlink;
mod netns;
mod pod_cidr;
mod records;
mod result;
mod sysctl;
mod version;
mod wiring;

use std::io::{Read as _, Write as _};

use serde_json::{Value, json};

pub use config::{Attachment, Config};
pub use env::{Command, Env, Pod};
pub use error::CniError;
pub use pod_cidr::unusable_subnet;
pub use result::{GATEWAY_V4, GATEWAY_V6, HOST_MAC};
pub use sysctl::of_host_side;
pub use version::{ALL as VERSIONS, Version};

/// Serves the runtime that called this process. Did it succeed?
pub fn main() -> bool {
    let mut input = Vec::new();
    let answer = match std::io::stdin().read_to_end(&mut input) {
        Ok(_) => run(|name| std::env::var(name).ok(), &input),
        Err(source) => {
            let error = CniError::Io { doing: "reading the configuration from stdin".to_owned(), source };
            Err(error.to_json(None))
        }
    };
    let (succeeded, json) = match answer {
        Ok(json) => (true, json),
        Err(json) => (false, Some(json)),
    };
    let printed = json.map_or(Ok(()), |json| std::io::stdout().write_all(format!("{json}\n").as_bytes()));
    if let Err(error) = &printed {
        tracing::error!("the answer cannot be written to stdout: {error}");
    }
    succeeded && printed.is_ok()
}

/// One call: `vars` finds a variable of the environment, `input` is what came on stdin. What is returned, either
/// way, belongs on stdout; commands other than ADD and VERSION have nothing to say when they succeed.
pub fn run(vars: impl Fn(&str) -> Option<String>, input: &[u8]) -> Result<Option<Value>, Value> {
    let version = config::version_of(input).ok().and_then(|text| Version::from_text(&text));
    dispatch(vars, input).map_err(|error| {
        tracing::error!("{error}");
        error.to_json(version)
    })
}

fn dispatch(vars: impl Fn(&str) -> Option<String>, input: &[u8]) -> Result<Option<Value>, CniError> {
    let env = Env::from_vars(vars)?;
    if env.command == Command::Version {
        return Ok(Some(versions(input)));
    }
    let config = Config::parse(input, &env)?;
    match env.command {
        Command::Add => command::add(&env, &config).map(Some),
        Command::Del => command::del(&env, &config).map(|()| None),
        Command::Check => command::check(&env, &config).map(|()| None),
        Command::Gc => command::gc(&env, &config).map(|()| None),
        Command::Status => command::status(&env, &config).map(|()| None),
        Command::Version => Ok(Some(versions(input))),
    }
}

/// VERSION answers in the version it is asked in, whatever that is.
fn versions(input: &[u8]) -> Value {
    let asked = config::version_of(input).unwrap_or_else(|_| version::NEWEST.to_string());
    json!({"cniVersion": asked, "supportedVersions": version::all_as_text()})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_answers_with_every_version_spoken() {
        let vars = |name: &str| (name == "CNI_COMMAND").then(|| "VERSION".to_owned());
        let answer = run(vars, br#"{"cniVersion":"1.0.0"}"#).unwrap().unwrap();
        let expected =
            json!({"cniVersion": "1.0.0", "supportedVersions": ["0.3.1", "0.4.0", "1.0.0", "1.1.0"]});
        assert_eq!(answer, expected);
    }

    #[test]
    fn an_error_is_said_in_the_version_asked_for() {
        let error = run(|_| None, br#"{"cniVersion":"0.4.0"}"#).unwrap_err();
        assert_eq!((&error["cniVersion"], &error["code"]), (&json!("0.4.0"), &json!(4)));
        assert!(error["msg"].as_str().unwrap().contains("CNI_COMMAND"));
    }
}
