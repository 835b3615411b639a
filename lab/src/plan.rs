//! What a laboratory looks like: nodes, outside machines, addresses.
//!
//! Owns: the addressing scheme, from the options of `lab up`.
//! Does not: build anything.
//! Invariant: the same options give the same addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, bad};

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl Family {
    /// The family of an address.
    pub fn of(address: &IpAddr) -> Self {
        if address.is_ipv4() { Self::Ipv4 } else { Self::Ipv6 }
    }

    /// As Kubernetes spells it in `ipFamilies`.
    pub fn kubernetes(self) -> &'static str {
        match self {
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
        }
    }
}

impl FromStr for Family {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "ipv4" => Ok(Self::Ipv4),
            "ipv6" => Ok(Self::Ipv6),
            _ => Err(bad!("family {text:?}: expected ipv4 or ipv6")),
        }
    }
}

/// Which families a laboratory has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Families {
    /// Both.
    Dual,
    /// IPv4 only.
    Ipv4,
    /// IPv6 only.
    Ipv6,
}

impl Families {
    /// Whether it has this one.
    pub fn has(self, family: Family) -> bool {
        match self {
            Self::Dual => true,
            Self::Ipv4 => family == Family::Ipv4,
            Self::Ipv6 => family == Family::Ipv6,
        }
    }

    /// The families in order of preference.
    pub fn list(self) -> Vec<Family> {
        [Family::Ipv4, Family::Ipv6].into_iter().filter(|family| self.has(*family)).collect()
    }

    fn keep<T>(self, v4: T, v6: T) -> Vec<T> {
        match self {
            Self::Dual => vec![v4, v6],
            Self::Ipv4 => vec![v4],
            Self::Ipv6 => vec![v6],
        }
    }
}

/// What forwards the pods' packets on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dataplane {
    /// `tortie agent`, with BPF.
    Bpf,
    /// Nothing but the kernel's routing, wired by the laboratory: no Services, no policy. The baseline that
    /// measurements are compared with.
    Plain,
}

/// A node of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// `node1`, `node2`, …
    pub name: String,
    /// 1, 2, …
    pub index: u8,
    /// What forwards its pods' packets.
    pub dataplane: Dataplane,
    /// Its addresses on the underlay, with the subnet's length.
    pub addresses: Vec<IpNet>,
    /// Where its pods' addresses come from.
    pub pod_cidrs: Vec<IpNet>,
}

/// A machine outside the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Client {
    /// `c1`, `c2`.
    pub name: String,
    /// Its addresses, with the subnet's length.
    pub addresses: Vec<IpNet>,
    /// The router's addresses on its subnet.
    pub gateways: Vec<IpNet>,
}

/// Everything that `lab up` decides before it builds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// Which families there are.
    pub families: Families,
    /// MTU of the underlay and of the pods.
    pub mtu_bytes: u32,
    /// The nodes.
    pub nodes: Vec<Node>,
    /// The machines outside.
    pub clients: Vec<Client>,
    /// The router's addresses on the underlay.
    pub gateways: Vec<IpNet>,
    /// The addresses of the machine with the control plane, where there is one.
    pub api: Vec<IpNet>,
    /// Where every pod's address comes from.
    pub pod_cidrs: Vec<IpNet>,
    /// Where ClusterIPs come from.
    pub service_cidrs: Vec<IpNet>,
}

/// More nodes than this do not fit the addressing.
pub const MAX_NODES: u8 = 200;

impl Plan {
    /// A plan with one data plane for each node.
    pub fn new(families: Families, mtu_bytes: u32, dataplanes: &[Dataplane]) -> Result<Self> {
        let count = u8::try_from(dataplanes.len()).ok().filter(|count| (1..=MAX_NODES).contains(count));
        let count = count.ok_or_else(|| bad!("--nodes {}: expected 1 to {MAX_NODES}", dataplanes.len()))?;
        if !(1280..=65_535).contains(&mtu_bytes) {
            return Err(bad!("--mtu {mtu_bytes}: expected 1280 to 65535 (IPv6 needs 1280)"));
        }
        let nodes = (1..=count)
            .zip(dataplanes)
            .map(|(index, dataplane)| Node {
                name: format!("node{index}"),
                index,
                dataplane: *dataplane,
                addresses: families
                    .keep(v4(10, 240, 0, index, 24), v6([0xfd00, 0x240], u16::from(index), 64)),
                pod_cidrs: families.keep(v4(10, 244, index, 0, 24), v6([0xfd00, 0x244], 0, 64).at(index)),
            })
            .collect();
        let client = |name: &str, a: u8, b: u8, c: u8, v6net: u16| Client {
            name: name.to_owned(),
            addresses: families.keep(v4(a, b, c, 10, 24), v6([0x2001, 0xdb8], 0x10, 64).at16(v6net)),
            gateways: families.keep(v4(a, b, c, 254, 24), v6([0x2001, 0xdb8], 0xfe, 64).at16(v6net)),
        };
        Ok(Self {
            families,
            mtu_bytes,
            nodes,
            clients: vec![client("c1", 192, 0, 2, 1), client("c2", 198, 51, 100, 2)],
            gateways: families.keep(v4(10, 240, 0, 254, 24), v6([0xfd00, 0x240], 0xfe, 64)),
            api: families.keep(v4(10, 240, 0, 250, 24), v6([0xfd00, 0x240], 0xfa, 64)),
            pod_cidrs: families.keep(v4(10, 244, 0, 0, 16), v6([0xfd00, 0x244], 0, 32)),
            service_cidrs: families.keep(v4(10, 96, 0, 0, 16), v6([0xfd00, 0x96], 0, 112)),
        })
    }

    /// The node of that name.
    pub fn node(&self, name: &str) -> Result<&Node> {
        self.nodes.iter().find(|node| node.name == name).ok_or_else(|| {
            bad!("there is no node {name:?}; there are {}", join(self.nodes.iter().map(|node| &node.name)))
        })
    }

    /// The outside machine of that name.
    pub fn client(&self, name: &str) -> Result<&Client> {
        self.clients.iter().find(|client| client.name == name).ok_or_else(|| {
            bad!(
                "there is no client {name:?}; there are {}",
                join(self.clients.iter().map(|client| &client.name))
            )
        })
    }
}

/// The address of that family among several.
pub fn of_family(addresses: &[IpNet], family: Family) -> Option<IpAddr> {
    addresses.iter().map(IpNet::addr).find(|address| Family::of(address) == family)
}

fn join<'a>(names: impl Iterator<Item = &'a String>) -> String {
    names.map(String::as_str).collect::<Vec<_>>().join(", ")
}

fn v4(a: u8, b: u8, c: u8, d: u8, length: u8) -> IpNet {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length).into()
}

fn v6(start: [u16; 2], last: u16, length: u8) -> IpNet {
    Ipv6Net::new_assert(Ipv6Addr::new(start[0], start[1], 0, 0, 0, 0, 0, last), length).into()
}

/// Sets the third group of an IPv6 network, which tells the nodes and the outside subnets apart.
trait Numbered {
    fn at(self, index: u8) -> IpNet;
    fn at16(self, index: u16) -> IpNet;
}

impl Numbered for IpNet {
    fn at(self, index: u8) -> IpNet {
        // The same digits as in the IPv4 network, so that 10.244.12.0/24 and fd00:244:12::/64 go together.
        let digits =
            u16::from(index / 100) * 0x100 + u16::from(index / 10 % 10) * 0x10 + u16::from(index % 10);
        self.at16(digits)
    }

    fn at16(self, index: u16) -> IpNet {
        match self {
            IpNet::V4(_) => self,
            IpNet::V6(net) => {
                let [a, b, _, d, e, f, g, h] = net.addr().segments();
                Ipv6Net::new_assert(Ipv6Addr::new(a, b, index, d, e, f, g, h), net.prefix_len()).into()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(nets: &[IpNet]) -> Vec<String> {
        nets.iter().map(IpNet::to_string).collect()
    }

    #[test]
    fn addresses_of_both_families_carry_the_same_number() {
        let plan = Plan::new(Families::Dual, 1500, &[Dataplane::Bpf; 12]).unwrap();
        let last = plan.nodes.last().unwrap();
        assert_eq!(text(&last.addresses), ["10.240.0.12/24", "fd00:240::c/64"]);
        assert_eq!(text(&last.pod_cidrs), ["10.244.12.0/24", "fd00:244:12::/64"]);
        assert_eq!(text(&plan.clients[1].addresses), ["198.51.100.10/24", "2001:db8:2::10/64"]);
        assert_eq!(text(&plan.service_cidrs), ["10.96.0.0/16", "fd00:96::/112"]);
    }

    #[test]
    fn a_single_family_has_no_address_of_the_other() {
        let plan = Plan::new(Families::Ipv6, 1500, &[Dataplane::Plain]).unwrap();
        assert_eq!(text(&plan.nodes[0].addresses), ["fd00:240::1/64"]);
        assert_eq!(of_family(&plan.nodes[0].addresses, Family::Ipv4), None);
    }

    #[test]
    fn impossible_sizes_are_refused_by_name() {
        for (mtu, nodes) in [(100, 1), (1500, 0), (1500, 201)] {
            assert!(Plan::new(Families::Dual, mtu, &vec![Dataplane::Bpf; nodes]).is_err());
        }
        let plan = Plan::new(Families::Dual, 1500, &[Dataplane::Bpf; 2]).unwrap();
        assert!(plan.node("node3").unwrap_err().to_string().contains("node1, node2"));
    }
}
