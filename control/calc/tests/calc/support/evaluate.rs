//! What a data plane that holds these sets and lists would answer.

use super::checker::Folded;
use std::net::IpAddr;
use tortie_intent::Rules;
use tortie_model::WorkloadId;
use tortie_policy::evaluate::{Packet, evaluate};
use tortie_policy::form::{Action, Direction, Family};

/// Whether an endpoint's rules let a new connection through.
pub fn admits(
    folded: &Folded,
    endpoint: &WorkloadId,
    direction: Direction,
    remote: IpAddr,
    protocol: u8,
    destination_port: u16,
) -> bool {
    let endpoint = &folded.endpoints[endpoint];
    let rules = match direction {
        Direction::Ingress => endpoint.ingress,
        Direction::Egress => endpoint.egress,
    };
    let list = match rules {
        Rules::Unknown => return false,
        Rules::AllowAll => return true,
        Rules::List(list) => &folded.lists[&list],
    };
    let packet = Packet {
        family: if remote.is_ipv6() { Family::V6 } else { Family::V4 },
        protocol,
        source_port: 40_000,
        destination_port,
        icmp_type: 0,
        icmp_code: 0,
    };
    let in_set = |set| folded.sets[&set].iter().any(|member| member.contains(&remote));
    evaluate(list, &in_set, &packet).action == Action::Allow
}
