//! Owns: the last step, out of the hook. Invariant: nothing is forwarded to an endpoint or next hop that
//! is not the one the flow was made for, or whose programs are not in force.

use crate::family::{Family, FlowEntry};
use crate::kernel::{Packet, Topology};
use crate::stage::{direct, nat};
use crate::state::{IP_OFFSET, State, answer};
use crate::verdict::{Next, Step};
use tortie_abi::endpoint::endpoint_flags;
use tortie_abi::flow::flags as flow;
use tortie_abi::settings::flags;
use tortie_abi::target::TargetKind;
use tortie_abi::{DropReason, Hook};
use tortie_wire::Mac;
use tortie_wire::proto::IpProtocol;

/// The loopback interface is in every network namespace, with this index.
pub const LOOPBACK: u32 = 1;

/// Bytes of a TCP header with a time stamp.
const TRANSPORT_BYTES: u32 = 32;
/// Bytes of a TCP header without options, and of a UDP header.
const LEAST_TCP_BYTES: u32 = 20;
const UDP_BYTES: u32 = 8;
/// In place of the size of pieces: each has a size of its own (SCTP; the kernel's `GSO_BY_FRAGS`).
const BY_FRAGMENTS: u32 = 0xffff;

/// Rewrites the packet as its flow says and sends it on its way.
#[inline(always)]
pub fn leave<F: Family, K: Packet + Topology<F>>(k: &K, s: &mut State<F>) -> Step<Next> {
    if nat::is_sum_due(s) {
        return Ok(Next::Apart);
    }
    let next = way(k, s)?;
    if next == Next::Reply || next == Next::Apart { Ok(next) } else { go(k, s, next) }
}

/// The same, of a packet that [`Next::Apart`] was said of. One whose checksum is due stops once more, with its way known:
/// an answer would quote it as it came.
#[inline(always)]
pub fn leave_settled<F: Family, K: Packet + Topology<F>>(k: &K, s: &mut State<F>) -> Step<Next> {
    let next = way(k, s)?;
    if next == Next::Reply || next == Next::Apart {
        return Ok(next);
    }
    if nat::is_sum_due(s) {
        s.next = next as u8;
        return Ok(Next::Apart);
    }
    go(k, s, next)
}

/// Goes on where [`leave_settled`] has stopped.
#[inline(always)]
pub fn leave_summed<F: Family, K: Packet + Topology<F>>(k: &K, s: &mut State<F>) -> Step<Next> {
    let next = Next::forward(s.next).ok_or(DropReason::Internal)?;
    nat::sum(k, s)?;
    go(k, s, next)
}

#[inline(always)]
fn go<F: Family, K: Packet + Topology<F>>(k: &K, s: &mut State<F>, next: Next) -> Step<Next> {
    nat::rewrite(k, s)?;
    if !matches!(next, Next::Pass | Next::Local) && is_routed(s) {
        F::decrement_ttl(k, IP_OFFSET).ok_or(DropReason::RewriteFailed)?;
    }
    Ok(next)
}

/// Is it this node's programs that route the packet? What the stack sends is its own, or it has routed it already.
#[inline(always)]
fn is_routed<F: Family>(s: &State<F>) -> bool {
    !s.is_at(Hook::ToHostDevice)
}

/// May the packet go no further than here?
#[inline(always)]
fn is_spent<F: Family>(s: &State<F>) -> bool {
    s.ip.ttl <= 1 && is_routed(s)
}

/// Which way out, before the rewrite.
#[inline(always)]
fn way<F: Family, K: Packet + Topology<F>>(k: &K, s: &mut State<F>) -> Step<Next> {
    if s.is_at(Hook::ToWorkload) {
        check_own(k, s)?;
        return Ok(Next::Pass);
    }
    if direct::is_due(s) || s.flow.core().target.is_in_doubt() {
        return Ok(Next::Apart);
    }
    match s.flow.core().target.kind() {
        TargetKind::Host => to_host(k, s),
        TargetKind::Endpoint => to_endpoint(k, s),
        TargetKind::NextHop => to_next_hop(k, s),
        TargetKind::Device => to_device(k, s),
    }
}

/// At to-workload the packet is already on its way into the pod: it must be this one's.
#[inline(always)]
fn check_own<F: Family, K: Topology<F>>(k: &K, s: &State<F>) -> Step<()> {
    let id = k.endpoint(s.slot, |e| e.id).ok_or(DropReason::Internal)?;
    if id == s.flow.core().target { Ok(()) } else { Err(DropReason::TargetGone) }
}

/// Tells to-workload and to-host-device that this packet has been judged for the interface it is sent out of. A packet that
/// goes to the host's stack never gets the mark: the stack may send it to an endpoint that was not asked.
#[inline(always)]
pub fn mark_seen<F: Family, K: Packet + Topology<F>>(k: &K) -> Step<()> {
    let seen = k.settings(|c| c.mark_seen).ok_or(DropReason::Internal)?;
    k.set_mark(k.mark() | seen);
    Ok(())
}

/// Has one of our own programs judged this packet before?
#[inline(always)]
pub fn is_seen<F: Family, K: Packet + Topology<F>>(k: &K) -> Step<bool> {
    let seen = k.settings(|c| c.mark_seen).ok_or(DropReason::Internal)?;
    Ok(seen != 0 && k.mark() & seen == seen)
}

/// What leaves through a data interface for a back end of this very node has to turn round, what comes out of the
/// tunnel is addressed to nobody's link, and some replies reach the stack through loopback; everything else is on its
/// way to it.
#[inline(always)]
fn to_host<F: Family, K: Packet>(k: &K, s: &State<F>) -> Step<Next> {
    let flags = s.flow.core().flags;
    let request = flags & flow::REPLY == 0;
    let turns = if s.is_at(Hook::ToHostDevice) {
        request && k.ifindex() != LOOPBACK
    } else if s.is_at(Hook::FromTunnel) {
        request
    } else {
        !request && flags & flow::LOOPBACK != 0
    };
    if !turns {
        return Ok(Next::Pass);
    }
    // Loopback takes what is addressed to its own address, which is zero.
    store_macs(k, [Mac([0; 6]); 2])?;
    Ok(Next::Local)
}

/// Back to a client outside. What the stack sends there by itself goes its way.
#[inline(always)]
fn to_device<F: Family, K: Packet + Topology<F>>(k: &K, s: &mut State<F>) -> Step<Next> {
    let ifindex = s.flow.core().target.ifindex();
    if s.is_at(Hook::ToHostDevice) && k.ifindex() == ifindex {
        return Ok(Next::Pass);
    }
    if is_spent(s) {
        return ttl_exceeded(k, s);
    }
    s.output = ifindex;
    mark_seen(k)?;
    Ok(Next::Routed)
}

#[inline(always)]
fn to_endpoint<F: Family, K: Packet + Topology<F>>(k: &K, s: &mut State<F>) -> Step<Next> {
    let target = s.flow.core().target;
    let (id, ready, ifindex, macs) = k
        .endpoint(target.slot(), |e| (e.id, e.flags & endpoint_flags::READY, e.ifindex, [e.mac, e.host_mac]))
        .ok_or(DropReason::Internal)?;
    if id != target {
        return Err(DropReason::TargetGone);
    }
    if ready == 0 {
        return Err(DropReason::EndpointNotReady);
    }
    if is_spent(s) {
        return ttl_exceeded(k, s);
    }
    store_macs(k, macs)?;
    s.output = ifindex;
    // A packet that is on its way out can only be sent on, not be taken in by somebody.
    let leaving = s.is_at(Hook::ToHostDevice);
    if leaving || k.settings(|c| c.flags & flags::NO_REDIRECT_PEER != 0).ok_or(DropReason::Internal)? {
        mark_seen(k)?;
        return Ok(Next::Interface);
    }
    Ok(Next::Peer)
}

#[inline(always)]
fn store_macs<K: Packet>(k: &K, macs: [Mac; 2]) -> Step<()> {
    k.store(0, macs).ok_or(DropReason::RewriteFailed)
}

#[inline(always)]
fn to_next_hop<F: Family, K: Packet + Topology<F>>(k: &K, s: &mut State<F>) -> Step<Next> {
    let target = s.flow.core().target;
    let slot = target.slot();
    let (id, mtu_bytes) = k.next_hop(slot, |n| (n.id, n.mtu_bytes)).ok_or(DropReason::Internal)?;
    if id != target {
        return Err(DropReason::TargetGone);
    }
    if is_spent(s) {
        return ttl_exceeded(k, s);
    }
    let tunnel = s.flow.core().flags & flow::TUNNEL != 0;
    let mtu_bytes = if tunnel { mtu_bytes.saturating_sub(F::TUNNEL_BYTES) } else { mtu_bytes };
    if is_too_big(k, s, mtu_bytes, tunnel) {
        return too_big(k, s, mtu_bytes);
    }
    s.output = slot;
    mark_seen(k)?;
    Ok(if tunnel { Next::Tunnel } else { Next::Neighbour })
}

/// A buffer that stands for many packets is cut before it leaves, into pieces of the sender's size: those that were cut for the
/// wire do not fit into the tunnel, and those of a sender that knows a larger wire do not fit into this one. Into the tunnel,
/// what may be fragmented is, as a packet of the tunnel.
#[inline(always)]
fn is_too_big<F: Family, K: Packet>(k: &K, s: &State<F>, mtu_bytes: u32, tunnel: bool) -> bool {
    let segment = k.segment_bytes();
    // How long a header is is not known here. Into the tunnel a fragment costs more than a piece that is a little smaller;
    // elsewhere what fits must pass.
    let transport = match (tunnel, s.tuple.protocol == IpProtocol::TCP.0) {
        (true, _) => TRANSPORT_BYTES,
        (false, true) => LEAST_TCP_BYTES,
        (false, false) => UDP_BYTES,
    };
    let longest = match segment {
        0 => s.ip.total_bytes,
        BY_FRAGMENTS => 0,
        _ => s.ip.header_bytes.wrapping_add(transport).wrapping_add(segment),
    };
    longest > mtu_bytes && (!tunnel || s.ip.dont_fragment != 0)
}

/// A router would answer; so does the node.
#[inline(always)]
fn ttl_exceeded<F: Family, K: Topology<F>>(k: &K, s: &mut State<F>) -> Step<Next> {
    s.reason = DropReason::TtlExceeded as u16;
    s.answer = answer::TTL_EXCEEDED;
    s.answer_source = k.settings(F::error_source).ok_or(DropReason::Internal)?;
    Ok(Next::Reply)
}

/// Without permission to fragment, the sender is told; with it, the host's stack fragments.
#[inline(always)]
fn too_big<F: Family, K: Packet + Topology<F>>(k: &K, s: &mut State<F>, mtu_bytes: u32) -> Step<Next> {
    if s.ip.dont_fragment == 0 {
        return Ok(Next::Pass);
    }
    s.reason = DropReason::TooBig as u16;
    s.answer = answer::TOO_BIG;
    s.mtu_bytes = mtu_bytes;
    // The host's own stack believes nobody outside who has the host's address.
    s.answer_source = if s.is_at(Hook::ToHostDevice) {
        s.tuple.destination
    } else {
        k.settings(F::error_source).ok_or(DropReason::Internal)?
    };
    Ok(Next::Reply)
}
