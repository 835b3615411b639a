//! Names of everything the laboratory makes.
//!
//! Owns: the prefix `tl-<lab>-`, and short stable hashes where the kernel allows only 15 characters.
//! Does not: create what it names.
//! Invariant: every name starts with the laboratory's prefix, so that a stale one can be swept up.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, bad};

/// The name of a laboratory: lower-case letters, digits and inner hyphens, at most 24 characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LabName(String);

impl FromStr for LabName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let inner = text.chars().all(|c| plain(c) || c == '-');
        let ends = text.starts_with(plain) && text.ends_with(plain);
        if inner && ends && text.len() <= 24 {
            return Ok(Self(text.to_owned()));
        }
        Err(bad!("--name {text:?}: use 1 to 24 lower-case letters, digits and inner hyphens"))
    }
}

impl TryFrom<String> for LabName {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<LabName> for String {
    fn from(name: LabName) -> Self {
        name.0
    }
}

impl fmt::Display for LabName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What every name of every laboratory starts with.
pub const ANY_PREFIX: &str = "tl-";

impl LabName {
    /// `tl-<lab>-`.
    pub fn prefix(&self) -> String {
        format!("{ANY_PREFIX}{}-", self.0)
    }

    /// The network namespace of a node, the router or an outside machine.
    pub fn machine(&self, machine: &str) -> String {
        format!("{}{machine}", self.prefix())
    }

    /// The network namespace of a pod. A dot separates, because a namespace's name has none.
    pub fn pod(&self, namespace: &str, name: &str) -> String {
        let full = format!("{}p-{namespace}.{name}", self.prefix());
        if full.len() <= 200 {
            return full;
        }
        format!("{}p-{namespace}.{:016x}", self.prefix(), hash(name.as_bytes()))
    }
}

/// FNV-1a: the same on every machine and in every version, which addresses and names derived from it need.
pub fn hash(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lab_name_is_short_and_plain() {
        for good in ["lab", "e2e-1", "a", "0"] {
            assert!(good.parse::<LabName>().is_ok(), "{good}");
        }
        for wrong in ["", "-a", "a-", "A", "a_b", "a/b", "..", "abcdefghijklmnopqrstuvwxyz"] {
            assert!(wrong.parse::<LabName>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn two_pods_never_share_a_namespace_name() {
        let lab: LabName = "x".parse().unwrap();
        assert_ne!(lab.pod("a-b", "c"), lab.pod("a", "b-c"));
        let long = |last| lab.pod("default", &format!("{}{last}", "p".repeat(240)));
        assert_ne!(long('a'), long('b'));
        assert!(long('a').len() < 250);
    }
}
