//! From bytes in maps to rows that people and scripts read: names instead of numbers.
//!
//! Owns: one module for each list of the command line, the explanation of every drop reason, and event
//! decoding. Does not: read maps, print, or know where names come from.
//! Invariant: pure; a value that this version does not understand becomes a row that says so, never a panic.
#![forbid(unsafe_code)]

pub mod conntrack;
pub mod counters;
pub mod drops;
pub mod endpoints;
pub mod explain;
pub mod metrics;
pub mod names;
pub mod policy;
pub mod routes;
pub mod services;
pub mod snapshot;

pub use names::Names;
pub use snapshot::Snapshot;

use serde::Serialize;
use std::net::IpAddr;

/// An address and a port, as every list spells them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct AddressPort {
    /// Address.
    pub address: IpAddr,
    /// Port.
    pub port: u16,
}

/// Name of an IP protocol, `TCP`, or its number.
pub fn protocol_name(protocol: u8) -> String {
    match protocol {
        1 => "ICMP".to_owned(),
        6 => "TCP".to_owned(),
        17 => "UDP".to_owned(),
        58 => "ICMPv6".to_owned(),
        132 => "SCTP".to_owned(),
        136 => "UDPLite".to_owned(),
        other => other.to_string(),
    }
}
