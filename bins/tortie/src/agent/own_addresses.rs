//! The addresses of this node's interfaces: ports of the node are served at each of them.
//!
//! Invariant: addresses that mean something on one link or inside the node only are none of them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use tortie_model::Object;

/// What is known of them.
#[derive(Debug, Default)]
pub struct OwnAddresses {
    known: BTreeSet<(u32, IpNet)>,
}

impl OwnAddresses {
    /// All there are, by the index of their interface.
    pub fn all(&mut self, found: Vec<(u32, IpNet)>) {
        self.known = found.into_iter().filter(|(_, address)| is_global(address.addr())).collect();
    }

    /// One comes or goes; whether that changes anything.
    pub fn one(&mut self, ifindex: u32, address: IpNet, there: bool) -> bool {
        if !is_global(address.addr()) {
            return false;
        }
        let entry = (ifindex, address);
        if there { self.known.insert(entry) } else { self.known.remove(&entry) }
    }

    /// The interfaces that have an address, by index.
    pub fn interfaces_of(&self, address: IpAddr) -> impl Iterator<Item = u32> {
        self.known.iter().filter(move |(_, net)| net.addr() == address).map(|(index, _)| *index)
    }

    /// The interfaces that have addresses, by index.
    pub fn interfaces(&self) -> impl Iterator<Item = u32> {
        self.known.iter().map(|(index, _)| *index)
    }

    /// For the calculation.
    pub fn object(&self) -> Object {
        let addresses: BTreeSet<IpNet> = self.known.iter().map(|(_, address)| *address).collect();
        Object::OwnAddresses(addresses.into_iter().collect())
    }
}

fn is_global(address: IpAddr) -> bool {
    let local = match address {
        IpAddr::V4(a) => a.is_link_local() || a.is_broadcast(),
        IpAddr::V6(a) => a.is_unicast_link_local(),
    };
    !(local || address.is_loopback() || address.is_multicast() || address.is_unspecified())
}

/// The prefixes that addresses of this node are in, as its interfaces say. Lists every interface, pods' too.
pub fn prefixes(addresses: &[IpAddr]) -> Vec<IpNet> {
    let ip = |storage: Option<nix::sys::socket::SockaddrStorage>| {
        let storage = storage?;
        let v4 = storage.as_sockaddr_in().map(|it| IpAddr::from(it.ip()));
        v4.or_else(|| storage.as_sockaddr_in6().map(|it| IpAddr::from(it.ip())))
    };
    let masks: Vec<(IpAddr, IpAddr)> = nix::ifaddrs::getifaddrs()
        .into_iter()
        .flatten()
        .filter_map(|it| Some((ip(it.address)?, ip(it.netmask)?)))
        .collect();
    let prefix = |address: &IpAddr| {
        let (_, mask) = masks.iter().find(|(of, _)| of == address)?;
        IpNet::with_netmask(*address, *mask).ok()
    };
    addresses.iter().map(|address| prefix(address).unwrap_or(IpNet::from(*address))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(own: &OwnAddresses) -> Vec<String> {
        match own.object() {
            Object::OwnAddresses(all) => all.iter().map(ToString::to_string).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn addresses_come_and_go_and_one_on_two_interfaces_stays_until_both_have_lost_it() {
        let mut own = OwnAddresses::default();
        let ip = |text: &str| text.parse().unwrap();
        own.all(vec![
            (1, ip("127.0.0.1/8")),
            (2, ip("192.0.2.1/24")),
            (2, ip("fe80::1/64")),
            (3, ip("2001:db8::1/64")),
        ]);
        assert_eq!(addresses(&own), ["192.0.2.1/24", "2001:db8::1/64"]);
        assert!(own.one(3, ip("192.0.2.1/24"), true) && !own.one(3, ip("192.0.2.1/24"), true));
        assert!(own.one(2, ip("192.0.2.1/24"), false));
        assert_eq!(addresses(&own), ["192.0.2.1/24", "2001:db8::1/64"]);
        assert!(own.one(3, ip("192.0.2.1/24"), false));
        assert_eq!(addresses(&own), ["2001:db8::1/64"]);
        assert!(!own.one(2, ip("169.254.1.1/16"), true));
    }
}
