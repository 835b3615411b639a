//! The record of a workload, as the programs read it.
//!
//! Owns: its fields. Does not: decide them, or write it.
//! Invariant: READY only with programs on the interface of this index and a basis for each direction.

use super::State;
use crate::delta::DeltaTracker;
use crate::policies::Policies;
use crate::slots::Use;
use std::net::IpAddr;
use tortie_abi::Target;
use tortie_abi::endpoint::{Endpoint, endpoint_flags};
use tortie_wire::{Ip4, Ip6, Mac};

/// A record of another slot that is READY, in the kernel, on this interface.
pub(super) fn others_ready(records: &DeltaTracker<u32, Endpoint>, ifindex: u32, slot: u32) -> bool {
    records.actual_entries().any(|(other, record)| {
        *other != slot && record.ifindex == ifindex && record.flags & endpoint_flags::READY != 0
    })
}

/// What names this use of a slot.
pub(super) fn target(used: Use) -> Target {
    Target::endpoint(used.slot, used.incarnation)
}

/// The record of a workload, as it should be by now.
pub(super) fn record(state: &State, ifindex: Option<u32>, policies: &Policies) -> Endpoint {
    let wanted = &state.wanted;
    let address4 = wanted.addresses.iter().find(|a| a.is_ipv4()).copied();
    let address6 = wanted.addresses.iter().find(|a| a.is_ipv6()).copied();
    let class = |address: Option<IpAddr>| address.map_or(0, |address| policies.class_of(address));
    let hooked =
        state.hooked.as_ref().is_some_and(|(name, i)| *name == wanted.interface && Some(*i) == ifindex);
    let ready = hooked && state.egress.basis.is_some() && state.ingress.basis.is_some();
    Endpoint {
        id: target(state.used),
        ifindex: ifindex.unwrap_or(0),
        egress_generation: state.egress.generation,
        ingress_generation: state.ingress.generation,
        egress_program: state.egress.program(),
        ingress_program: state.ingress.program(),
        class4: class(address4),
        class6: class(address6),
        flags: if ready { endpoint_flags::READY } else { 0 },
        mac: Mac(wanted.mac),
        host_mac: Mac(wanted.host_mac),
        _zero: 0,
        address4: match address4 {
            Some(IpAddr::V4(address)) => address.into(),
            _ => Ip4::default(),
        },
        address6: match address6 {
            Some(IpAddr::V6(address)) => address.into(),
            _ => Ip6::default(),
        },
    }
}
