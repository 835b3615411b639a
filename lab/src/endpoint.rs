//! Who a probe is from and to.
//!
//! Owns: the grammar `pod:NS/NAME`, `svc:NS/NAME`, `node:NAME`, `client:NAME`, or an address.
//! Does not: look anything up.
//! Invariant: what it prints is what it reads.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, bad};

/// One end of a probe.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Endpoint {
    /// A pod: namespace, name.
    Pod(String, String),
    /// A Service: namespace, name.
    Service(String, String),
    /// A node.
    Node(String),
    /// A machine outside the cluster.
    Client(String),
    /// An address.
    Address(IpAddr),
}

impl FromStr for Endpoint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        let wrong = || {
            bad!("endpoint {text:?}: expected pod:NS/NAME, svc:NS/NAME, node:NAME, client:NAME or an address")
        };
        let (kind, rest) = text.split_once(':').ok_or_else(wrong)?;
        let plain = |name: &str| !name.is_empty() && !name.contains(['/', ':']);
        match (kind, rest.split_once('/')) {
            ("pod", Some((namespace, name))) if plain(namespace) && plain(name) => {
                Ok(Self::Pod(namespace.into(), name.into()))
            }
            ("svc", Some((namespace, name))) if plain(namespace) && plain(name) => {
                Ok(Self::Service(namespace.into(), name.into()))
            }
            ("pod", None) if plain(rest) => Ok(Self::Pod("default".into(), rest.into())),
            ("svc", None) if plain(rest) => Ok(Self::Service("default".into(), rest.into())),
            ("node", None) if plain(rest) => Ok(Self::Node(rest.into())),
            ("client", None) if plain(rest) => Ok(Self::Client(rest.into())),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod(namespace, name) => write!(f, "pod:{namespace}/{name}"),
            Self::Service(namespace, name) => write!(f, "svc:{namespace}/{name}"),
            Self::Node(name) => write!(f, "node:{name}"),
            Self::Client(name) => write!(f, "client:{name}"),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}

impl TryFrom<String> for Endpoint {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> Self {
        endpoint.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read_back() {
        for text in
            ["pod:shop/front", "svc:shop/front", "node:node1", "client:c2", "10.0.0.1", "fd00::1", "::1"]
        {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        assert_eq!("pod:a".parse::<Endpoint>().unwrap().to_string(), "pod:default/a");
    }

    #[test]
    fn anything_else_is_refused_with_the_grammar() {
        for text in [
            "",
            "pod:",
            "pod:/a",
            "pod:a/",
            "pod:a/b/c",
            "node:a/b",
            "service:a/b",
            "front",
            "10.0.0",
            "client:",
            "svc:a:80",
        ] {
            let error = text.parse::<Endpoint>().unwrap_err().to_string();
            assert!(error.contains("expected pod:NS/NAME"), "{text}: {error}");
        }
    }
}
