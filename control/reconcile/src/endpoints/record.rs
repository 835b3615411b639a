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
use tortie_intent::Endpoint as Wanted;
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

/// Whether a record that is in the kernel is this workload's, on the interface of this index: the index is given once,
/// and nobody else has the addresses there.
pub(super) fn is_of(record: &Endpoint, wanted: &Wanted, ifindex: u32) -> bool {
    record.ifindex == ifindex
        && (record.mac, record.host_mac) == (Mac(wanted.mac), Mac(wanted.host_mac))
        && (record.address4, record.address6) == addresses(wanted)
}

/// The first address of each family.
fn addresses(wanted: &Wanted) -> (Ip4, Ip6) {
    let v4 = wanted.addresses.iter().find_map(|address| match address {
        IpAddr::V4(address) => Some((*address).into()),
        IpAddr::V6(_) => None,
    });
    let v6 = wanted.addresses.iter().find_map(|address| match address {
        IpAddr::V6(address) => Some((*address).into()),
        IpAddr::V4(_) => None,
    });
    (v4.unwrap_or_default(), v6.unwrap_or_default())
}

/// The record of a workload, as it should be by now.
pub(super) fn record(state: &State, ifindex: Option<u32>, policies: &Policies) -> Endpoint {
    let wanted = &state.wanted;
    let class = |v6: bool| {
        let address = wanted.addresses.iter().find(|address| address.is_ipv6() == v6);
        address.map_or(0, |address| policies.class_of(*address))
    };
    let (address4, address6) = addresses(wanted);
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
        class4: class(false),
        class6: class(true),
        flags: if ready { endpoint_flags::READY } else { 0 },
        mac: Mac(wanted.mac),
        host_mac: Mac(wanted.host_mac),
        _zero: 0,
        address4,
        address6,
    }
}
