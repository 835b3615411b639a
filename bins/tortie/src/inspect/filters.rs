//! What filters and `show` take: a name that cannot exist is bad input, not an empty answer.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use clap::builder::PossibleValuesParser;
use ipnet::IpNet;
use tortie_observe::{conntrack, counters, endpoints, protocol_name, routes, services};

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

/// An address of a node, with or without a port. Its node ports are in the kernel under no address of their own.
#[derive(Debug)]
pub struct AtNode {
    address: IpAddr,
    port: Option<u16>,
}

impl AtNode {
    /// A node's address is one that a route says to be its own.
    pub fn by(name: &str, routes: &[routes::Row]) -> Option<Self> {
        let (address, port) = match name.parse::<SocketAddr>() {
            Ok(socket) => (socket.ip(), Some(socket.port())),
            Err(_) => (name.parse().ok()?, None),
        };
        let host = IpNet::from(address).to_string();
        let is_its = |row: &routes::Row| matches!(row.kind, "host" | "remote-host") && row.prefix == host;
        routes.iter().any(is_its).then_some(Self { address, port })
    }

    /// Whether a front end is a port of every node, and the one asked for.
    pub fn is_served_by(&self, frontend: &services::FrontendRow) -> bool {
        frontend.address.is_unspecified()
            && frontend.address.is_ipv4() == self.address.is_ipv4()
            && self.port.is_none_or(|port| port == frontend.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nodes_address_means_the_node_ports_of_its_family() {
        let route = |prefix: &str, kind| routes::Row {
            prefix: prefix.into(),
            kind,
            node: None,
            next_hop: None,
            interface: None,
            endpoint: None,
            flags: Vec::new(),
        };
        let routes = [
            route("10.240.0.1/32", "host"),
            route("10.244.2.0/24", "remote-pod"),
            route("fd00::1/128", "remote-host"),
        ];
        let frontend = |address: &str, port| services::FrontendRow {
            address: address.parse().unwrap(),
            port,
            scope: "node-port",
            untranslated: false,
        };
        let served = |name: &str| {
            let at = AtNode::by(name, &routes)?;
            let all = [
                frontend("0.0.0.0", 30080),
                frontend("0.0.0.0", 30081),
                frontend("::", 30080),
                frontend("10.96.0.1", 80),
            ];
            Some(all.iter().filter(|it| at.is_served_by(it)).count())
        };
        assert_eq!((served("10.240.0.1"), served("10.240.0.1:30081")), (Some(2), Some(1)));
        assert_eq!((served("fd00::1"), served("[fd00::1]:30081")), (Some(1), Some(0)));
        assert_eq!((served("10.244.2.0"), served("10.244.2.0/24"), served("shop/web")), (None, None, None));
    }

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
