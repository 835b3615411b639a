//! What filters and `show` take: a name that cannot exist is bad input, not an empty answer.

use std::collections::BTreeSet;
use std::net::IpAddr;

use clap::builder::PossibleValuesParser;
use tortie_observe::{conntrack, counters, endpoints, protocol_name, routes};

/// States of flows.
pub fn state() -> PossibleValuesParser {
    PossibleValuesParser::new(conntrack::states())
}

/// Kinds of routes.
pub fn kind() -> PossibleValuesParser {
    PossibleValuesParser::new(routes::kinds())
}

/// Reasons of drops.
pub fn reason() -> PossibleValuesParser {
    PossibleValuesParser::new(counters::reasons())
}

/// The name of a protocol as lists have it, from a name in any case or a number.
pub fn protocol(text: &str) -> Result<String, String> {
    let mut known = (0..=u8::MAX).map(|number| (number.to_string(), protocol_name(number)));
    let found = known.find(|(number, name)| text == number || text.eq_ignore_ascii_case(name));
    found
        .map(|(_, name)| name)
        .ok_or_else(|| "use tcp, udp, sctp, icmp, icmpv6 or a number up to 255".to_owned())
}

/// The name of an object in a namespace.
pub fn namespaced(text: &str) -> Result<String, String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => Ok(text.to_owned()),
        _ => Err("use NAMESPACE/NAME".to_owned()),
    }
}

/// One thing by any of its names.
#[derive(Debug)]
pub struct Meant {
    names: BTreeSet<String>,
    addresses: BTreeSet<IpAddr>,
}

impl Meant {
    /// A pod of this node is meant by its name, its interface and each of its addresses.
    pub fn by(name: &str, endpoints: &[endpoints::Row]) -> Self {
        let mut meant =
            Self { names: [name.to_owned()].into(), addresses: name.parse().into_iter().collect() };
        for row in endpoints {
            let full = row.namespace.as_ref().map(|namespace| format!("{namespace}/{}", row.name));
            let address = name.parse().is_ok_and(|address| row.addresses.contains(&address));
            if address || row.interface == name || full.as_deref() == Some(name) {
                meant.names.extend(full);
                meant.names.insert(row.interface.clone());
                meant.addresses.extend(&row.addresses);
            }
        }
        meant
    }

    /// Whether a name is one of its names.
    pub fn is_called(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Whether an address is one of its addresses, or an address with a port is what was asked for.
    pub fn is_at(&self, address: IpAddr, port: u16) -> bool {
        self.addresses.contains(&address)
            || self.names.contains(&std::net::SocketAddr::new(address, port).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_known_by_name_and_number() {
        for (text, name) in [("tcp", "TCP"), ("6", "TCP"), ("Icmpv6", "ICMPv6"), ("47", "47")] {
            assert_eq!(protocol(text).as_deref(), Ok(name));
        }
        assert!(protocol("foo").is_err() && protocol("256").is_err());
    }

    #[test]
    fn a_name_of_an_object_has_two_parts() {
        assert!(namespaced("shop/web").is_ok());
        assert!(["web", "/web", "shop/"].into_iter().all(|text| namespaced(text).is_err()));
    }
}
