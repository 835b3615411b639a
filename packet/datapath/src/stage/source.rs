//! Owns: who may send what. Invariant: no packet from a pod passes with another's source address,
//! whatever flow it would belong to; what stays on its link names nobody that it may invent.

use crate::family::Family;
use crate::kernel::Topology;
use crate::state::State;
use crate::verdict::Step;
use tortie_abi::settings::{TUNNEL_PORT, flags};
use tortie_abi::{DropReason, Target, route};
use tortie_wire::proto::IpProtocol;

/// The source must be an address of the endpoint the packet comes from.
#[inline(always)]
pub fn check_not_spoofed<F: Family, K: Topology<F>>(k: &K, s: &State<F>) -> Step<()> {
    let own = k.endpoint(s.slot, |e| (e.id, F::endpoint_address(e))).ok_or(DropReason::EndpointNotReady)?;
    let (id, first_address) = own;
    if id == Target::HOST {
        return Err(DropReason::EndpointNotReady);
    }
    if first_address == s.tuple.source && first_address != F::UNSPECIFIED {
        return Ok(());
    }
    match k.route(&s.tuple.source) {
        Some(r) if r.kind == route::Kind::LocalPod as u8 && r.target == id => Ok(()),
        _ => Err(DropReason::SourceSpoofed),
    }
}

/// The same for what stays on the link, where one may have no address yet, or the one that the Ethernet address gives: whoever asks
/// is remembered as a neighbour, in a table that all the node's links share. A pod speaks up before anybody knows its Ethernet
/// address.
#[inline(always)]
pub fn check_neighbour<F: Family, K: Topology<F>>(k: &K, s: &State<F>) -> Step<()> {
    let is_own = |mac| F::is_link_address_of(mac, &s.tuple.source);
    if s.tuple.source == F::UNSPECIFIED || k.endpoint(s.slot, |e| e.mac).is_some_and(is_own) {
        return Ok(());
    }
    check_not_spoofed(k, s)
}

/// Of a new flow, with its destination translated: tunnels are the nodes'. Where a pod's packet leaves with the address of its
/// node nobody could tell it from one of that node's own.
#[inline(always)]
pub fn check_not_encapsulated<F: Family, K: Topology<F>>(k: &K, s: &State<F>) -> Step<()> {
    let allowed = match IpProtocol(s.translated.protocol) {
        IpProtocol::UDP if s.translated.destination_port.get() == TUNNEL_PORT => flags::ALLOW_VXLAN,
        IpProtocol::IPIP => flags::ALLOW_IPIP,
        _ => return Ok(()),
    };
    let allows = k.settings(|c| c.flags & allowed != 0).ok_or(DropReason::Internal)?;
    if allows { Ok(()) } else { Err(DropReason::Encapsulated) }
}

/// Is the source an address of this node?
#[inline(always)]
pub fn is_own<F: Family, K: Topology<F>>(k: &K, s: &State<F>) -> Step<bool> {
    let first = k.settings(F::node_address).ok_or(DropReason::Internal)?;
    if first == s.tuple.source {
        return Ok(first != F::UNSPECIFIED);
    }
    Ok(matches!(k.route(&s.tuple.source), Some(r) if r.kind == route::Kind::Host as u8))
}

/// The source must not be one of this node's own addresses or pods: such a packet cannot come from outside.
#[inline(always)]
pub fn check_from_outside(source: Option<route::Route>) -> Step<()> {
    match source.and_then(|r| route::Kind::from_byte(r.kind)) {
        Some(route::Kind::LocalPod | route::Kind::Host) => Err(DropReason::SourceSpoofed),
        _ => Ok(()),
    }
}
