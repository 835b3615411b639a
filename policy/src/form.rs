//! The normalised form: ordered rules of one endpoint and direction, tiers already flattened.
//!
//! "Remote" is the other end: the destination of an egress list, the source of an ingress list. The
//! local end is known when a list is made, so no rule asks about it.

use ipnet::IpNet;
use std::sync::Arc;

/// Identity of a set of addresses. Given out by `control/calc`, stable while the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SetId(pub u32);

/// Which traffic a list is about, seen from the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// Traffic to the endpoint.
    Ingress,
    /// Traffic from the endpoint.
    Egress,
}

/// What a matching rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// Let the packet through.
    Allow,
    /// Refuse it.
    Deny,
}

/// An inclusive range of ports, in host byte order; `first <= last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortRange {
    /// Lowest port.
    pub first: u16,
    /// Highest port.
    pub last: u16,
}

/// The remote address is in one of `sets`; with `negated`, in none of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Clause {
    /// Not empty.
    pub sets: Vec<SetId>,
    /// Turns the clause around.
    pub negated: bool,
}

/// A condition on the IP protocol number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// Every protocol.
    Any,
    /// This one.
    Is(u8),
    /// Every other.
    Not(u8),
}

/// A condition on ICMP type and code. Implies that the protocol is ICMP or ICMPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Icmp {
    /// Type.
    pub icmp_type: u8,
    /// Code; `None`: every code.
    pub code: Option<u8>,
    /// Every type and code but these.
    pub negated: bool,
}

/// Restricts a rule to one address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// What a rule asks for, in the words of its policy; for people only, nothing is decided by it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Matches {
    /// One of these on the other side; empty: everybody.
    pub peers: Vec<String>,
    /// One of these ports; empty: every protocol and port.
    pub ports: Vec<String>,
}

/// Where a rule came from: what people see in `drops`, `policy list` and `why`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    /// Tier, `default` for Kubernetes policies.
    pub tier: String,
    /// Kind and name of the policy, `NetworkPolicy default/allow-front`.
    pub policy: String,
    /// Which rule of it, from 0, in the order the user wrote them.
    pub rule: u32,
    /// What it asks for.
    pub matches: Matches,
}

/// One rule: all conditions hold → `action`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rule {
    /// What it does.
    pub action: Action,
    /// Only this family; `None`: both.
    pub family: Option<Family>,
    /// Protocol.
    pub protocol: Protocol,
    /// All clauses must hold; empty: every address.
    pub remote: Vec<Clause>,
    /// Destination port is in one of these; empty: every port. Non-empty implies a protocol with
    /// ports (TCP, UDP, SCTP, UDP-Lite, DCCP).
    pub destination_ports: Vec<PortRange>,
    /// Destination port is in none of these.
    pub not_destination_ports: Vec<PortRange>,
    /// As `destination_ports`, for the source port.
    pub source_ports: Vec<PortRange>,
    /// Source port is in none of these.
    pub not_source_ports: Vec<PortRange>,
    /// ICMP type and code.
    pub icmp: Option<Icmp>,
    /// Where it came from.
    pub origin: Arc<Origin>,
}

/// The rules of one endpoint and direction: the first that matches decides, else `default`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct List {
    /// Direction.
    pub direction: Direction,
    /// Whose rules these are, as [`Origin::policy`] names them, and who has none but isolates; for people.
    pub policies: Vec<String>,
    /// In order.
    pub rules: Vec<Rule>,
    /// The verdict when no rule matches.
    pub default: Action,
}

/// A member of a set; a single address is a full-length prefix.
pub type Member = IpNet;
