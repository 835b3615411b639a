//! Sentences about the meaning of rules.

use super::*;
use crate::form::{Direction, Origin};
use std::sync::Arc;

fn any(action: Action) -> Rule {
    Rule {
        action,
        family: None,
        protocol: Protocol::Any,
        remote: Vec::new(),
        destination_ports: Vec::new(),
        not_destination_ports: Vec::new(),
        source_ports: Vec::new(),
        not_source_ports: Vec::new(),
        icmp: None,
        origin: Arc::new(Origin {
            tier: "default".into(),
            policy: "test".into(),
            rule: 0,
            ..Origin::default()
        }),
    }
}

fn tcp(port: u16) -> Packet {
    Packet {
        family: Family::V4,
        protocol: 6,
        source_port: 40_000,
        destination_port: port,
        icmp_type: 0,
        icmp_code: 0,
    }
}

fn ping() -> Packet {
    Packet { protocol: 1, source_port: 0, destination_port: 0, icmp_type: 8, ..tcp(0) }
}

fn ports(first: u16, last: u16) -> Vec<PortRange> {
    vec![PortRange { first, last }]
}

fn holds(rule: &Rule, packet: &Packet) -> bool {
    matches(rule, &|set| set == SetId(1), packet)
}

#[test]
fn the_first_matching_rule_decides_and_the_default_ends_the_list() {
    let deny_22 = Rule { destination_ports: ports(22, 22), ..any(Action::Deny) };
    let allow_low = Rule { destination_ports: ports(0, 1023), ..any(Action::Allow) };
    let list = List {
        direction: Direction::Ingress,
        policies: Vec::new(),
        rules: vec![deny_22, allow_low],
        default: Action::Deny,
    };
    let decide = |port| evaluate(&list, &|_| false, &tcp(port));
    assert_eq!(decide(22), Decision { action: Action::Deny, rule: Some(0) });
    assert_eq!(decide(80), Decision { action: Action::Allow, rule: Some(1) });
    assert_eq!(decide(8080), Decision { action: Action::Deny, rule: None });
}

#[test]
fn every_clause_must_hold_and_any_set_of_a_clause_is_enough() {
    let clause = |sets: &[u32], negated| Clause { sets: sets.iter().map(|s| SetId(*s)).collect(), negated };
    let with = |remote| Rule { remote, ..any(Action::Allow) };
    assert!(holds(&with(vec![clause(&[5, 1], false)]), &tcp(1)));
    assert!(!holds(&with(vec![clause(&[1], false), clause(&[5], false)]), &tcp(1)));
    assert!(!holds(&with(vec![clause(&[5, 1], true)]), &tcp(1)));
    assert!(holds(&with(vec![clause(&[1], false), clause(&[5], true)]), &tcp(1)));
}

#[test]
fn a_rule_with_ports_never_matches_a_protocol_without_and_an_excluded_port_never_holds_it_back() {
    let low = Rule { destination_ports: ports(0, 1023), ..any(Action::Allow) };
    assert!(holds(&low, &tcp(0)) && !holds(&low, &ping()));
    let not_low = Rule { not_destination_ports: ports(0, 1023), ..any(Action::Allow) };
    assert!(!holds(&not_low, &tcp(1023)) && holds(&not_low, &tcp(1024)) && holds(&not_low, &ping()));
    let from_low = Rule { source_ports: ports(0, 1023), ..any(Action::Allow) };
    assert!(!holds(&from_low, &tcp(80)) && !holds(&from_low, &ping()));
}

#[test]
fn icmp_conditions_apply_to_icmp_alone_even_when_negated() {
    let icmp =
        |code, negated| Rule { icmp: Some(Icmp { icmp_type: 8, code, negated }), ..any(Action::Allow) };
    assert!(holds(&icmp(None, false), &ping()) && holds(&icmp(Some(0), false), &ping()));
    assert!(!holds(&icmp(Some(1), false), &ping()) && holds(&icmp(Some(1), true), &ping()));
    assert!(!holds(&icmp(None, true), &ping()) && !holds(&icmp(None, true), &tcp(80)));
}

#[test]
fn family_and_protocol_restrict() {
    let v6 = Rule { family: Some(Family::V6), ..any(Action::Allow) };
    assert!(!holds(&v6, &tcp(80)) && holds(&v6, &Packet { family: Family::V6, ..tcp(80) }));
    let not_tcp = Rule { protocol: Protocol::Not(6), ..any(Action::Allow) };
    assert!(!holds(&not_tcp, &tcp(80)) && holds(&not_tcp, &ping()));
}

#[test]
fn an_address_is_in_a_set_when_any_member_contains_it() {
    let member = |text: &str| text.parse::<Member>().unwrap();
    let members = Members {
        sets: [
            (SetId(1), vec![member("10.0.0.0/8"), member("fd00::1/128")]),
            (SetId(2), vec![member("10.1.0.0/16")]),
            (SetId(3), vec![member("::/0")]),
        ]
        .into(),
    };
    let of = |text: &str| members.of(text.parse().unwrap());
    assert_eq!(of("10.1.2.3"), [SetId(1), SetId(2)]);
    assert_eq!(of("10.2.0.0"), [SetId(1)]);
    assert_eq!(of("fd00::1"), [SetId(1), SetId(3)]);
    assert_eq!(of("11.0.0.0"), []);
}
