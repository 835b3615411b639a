//! The policies of a world: sets, the classes of their members, and lists that use them.
//!
//! Owns: rules. Does not: know pods or Services. Invariant: all worlds have the same.

use super::address;
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use tortie_policy::classes::{ClassChange, ClassId, Classes};
use tortie_policy::form::{
    Action, Clause, Direction, Family, Icmp, List, Origin, PortRange, Protocol, Rule, SetId,
};

/// The pods of a set, and a prefix with a hole.
const PODS_SET: SetId = SetId(1);
const NET_SET: SetId = SetId(2);
const HOLE_SET: SetId = SetId(3);

/// The classes of addresses, and which addresses and prefixes have them.
pub(super) fn classes() -> (Classes, BTreeMap<IpAddr, ClassId>, BTreeMap<IpNet, ClassId>) {
    let mut classes = Classes::new();
    let net = |of: [u8; 4], length: u8, v6: bool| {
        let length = if v6 { [64, 128][usize::from(length == 32)] } else { length };
        IpNet::new(address(of, v6), length).expect("a length of the family").trunc()
    };
    for (set, members) in [
        (PODS_SET, vec![([10, 0, 0, 1], 32), ([10, 0, 0, 3], 32), ([10, 0, 1, 5], 32)]),
        (NET_SET, vec![([203, 0, 113, 0], 24), ([10, 0, 1, 0], 24)]),
        (HOLE_SET, vec![([203, 0, 113, 5], 32)]),
    ] {
        classes.create(set);
        let members: Vec<IpNet> = members
            .iter()
            .flat_map(|(of, length)| [net(*of, *length, false), net(*of, *length, true)])
            .collect();
        classes.update(set, &members, &[]);
    }
    let (mut addresses, mut prefixes) = (BTreeMap::new(), BTreeMap::new());
    for change in classes.take_changes().entries {
        match change {
            ClassChange::Address { address, class } => class.map(|class| addresses.insert(address, class)),
            ClassChange::Prefix { net, class } => class.map(|class| prefixes.insert(net, class)),
        };
    }
    (classes, addresses, prefixes)
}

/// The lists by slot of `policy`.
pub(super) fn lists() -> BTreeMap<u32, List> {
    let ports = |ranges: &[(u16, u16)]| {
        ranges.iter().map(|(first, last)| PortRange { first: *first, last: *last }).collect::<Vec<_>>()
    };
    let plain = rule(Action::Allow, Protocol::Any);
    let tcp = || rule(Action::Allow, Protocol::Is(6));
    let udp = || rule(Action::Allow, Protocol::Is(17));
    let list = |direction, rules| List { direction, policies: Vec::new(), rules, default: Action::Deny };
    BTreeMap::from([
        (
            1,
            list(
                Direction::Egress,
                vec![
                    Rule { destination_ports: ports(&[(80, 80), (8080, 8090)]), ..tcp() },
                    Rule { remote: any_of(NET_SET, Some(HOLE_SET)), ..plain.clone() },
                    Rule { destination_ports: ports(&[(5353, 5353)]), ..udp() },
                    Rule {
                        icmp: Some(Icmp { icmp_type: 8, code: None, negated: false }),
                        ..rule(Action::Allow, Protocol::Is(1))
                    },
                ],
            ),
        ),
        (
            2,
            list(
                Direction::Ingress,
                vec![
                    Rule { source_ports: ports(&[(1003, 1003)]), ..rule(Action::Deny, Protocol::Is(6)) },
                    Rule { remote: any_of(PODS_SET, None), ..tcp() },
                    Rule { family: Some(Family::V4), ..udp() },
                    Rule { remote: any_of(NET_SET, None), ..rule(Action::Allow, Protocol::Is(132)) },
                    rule(Action::Allow, Protocol::Is(58)),
                ],
            ),
        ),
        (3, list(Direction::Ingress, Vec::new())),
        (
            4,
            List {
                default: Action::Allow,
                ..list(Direction::Ingress, vec![rule(Action::Deny, Protocol::Is(132))])
            },
        ),
    ])
}

fn any_of(set: SetId, except: Option<SetId>) -> Vec<Clause> {
    let of = |set, negated| Clause { sets: vec![set], negated };
    [of(set, false)].into_iter().chain(except.map(|set| of(set, true))).collect()
}

fn rule(action: Action, protocol: Protocol) -> Rule {
    let origin = Arc::new(Origin {
        tier: "default".into(),
        policy: "NetworkPolicy test/p".into(),
        rule: 0,
        ..Origin::default()
    });
    Rule {
        action,
        family: None,
        protocol,
        remote: Vec::new(),
        destination_ports: Vec::new(),
        not_destination_ports: Vec::new(),
        source_ports: Vec::new(),
        not_source_ports: Vec::new(),
        icmp: None,
        origin,
    }
}
