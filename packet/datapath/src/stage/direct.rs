//! Owns: direct server return: the front end's way to the node of the back end, and the moment from which that node
//! answers the client itself. Does not: choose the back end, or know of any other node.
//! Invariant: a node answers under the address of a front end only when a node of the cluster has named it; until a
//! TCP handshake is over its packets pass the node that was asked, which so learns that the server has answered.

use crate::family::{Family, FlowEntry};
use crate::kernel::{Flows, Packet, Table, Topology, Ways};
use crate::seeded;
use crate::stage::table;
use crate::state::{IP_OFFSET, State, fragment, note};
use crate::verdict::Step;
use tortie_abi::flow::{State as Life, flags as flow};
use tortie_abi::settings::flags;
use tortie_abi::{DropReason, Target};
use tortie_wire::proto::IpProtocol;

/// Whether the back end of a new flow, on another node, answers the client itself.
#[inline(always)]
pub fn is_wanted<F: Family, K: Topology<F>>(k: &K, s: &State<F>) -> Step<bool> {
    let on = k.settings(|c| c.flags & flags::DIRECT_RETURN != 0).ok_or(DropReason::Internal)?;
    let protocol = IpProtocol(s.tuple.protocol);
    // The sum over a whole SCTP packet cannot be told to leave the note out.
    let fits = protocol == IpProtocol::TCP || protocol == IpProtocol::UDP;
    Ok(on && fits && !k.has_opted_out(&s.tuple.source))
}

/// Does this packet open the flow, so that the other node is told the front end, or is it the reply from which on the
/// tunnel is not needed? Both are done apart ([`crate::hook::apart`]), once.
#[inline(always)]
pub fn is_due<F: Family>(s: &State<F>) -> bool {
    let core = s.flow.core();
    if core.flags & (flow::DIRECT | flow::TUNNEL) != flow::DIRECT | flow::TUNNEL || s.note != note::UNDECIDED
    {
        return false;
    }
    let opening = core.state == Life::SynSent as u8 || core.state == Life::Unreplied as u8;
    let handshake = opening || core.state == Life::SynReceived as u8;
    if core.flags & flow::REPLY != 0 { !handshake } else { opening }
}

/// What [`is_due`] has found.
#[inline(always)]
pub fn settle<F: Family, K: Packet + Flows<F> + Topology<F> + Ways<F>>(k: &K, s: &mut State<F>) -> Step<()> {
    s.note = note::NONE;
    if is_half_seen(s.flow.core().flags) {
        return tell(k, s);
    }
    turn(k, s);
    Ok(())
}

/// Puts the note behind a packet that is about to enter the tunnel. Without room for it the answers come back through
/// here.
#[inline(always)]
fn tell<F: Family, K: Packet + Topology<F>>(k: &K, s: &mut State<F>) -> Step<()> {
    let slot = s.flow.core().target.slot();
    let mtu_bytes = k.next_hop(slot, |n| n.mtu_bytes).ok_or(DropReason::Internal)?;
    let whole = s.ip.fragment == fragment::NONE && k.segment_bytes() == 0;
    let note_bytes = size_of::<F::Note>() as u32;
    if !whole || s.ip.total_bytes.wrapping_add(note_bytes) > mtu_bytes.saturating_sub(F::TUNNEL_BYTES) {
        return Ok(());
    }
    let end = IP_OFFSET.wrapping_add(s.ip.total_bytes);
    // What a sender has put behind its packet goes.
    k.resize(end.wrapping_add(note_bytes)).ok_or(DropReason::RewriteFailed)?;
    k.store(end, F::note(s.tuple.destination, s.tuple.destination_port)).ok_or(DropReason::RewriteFailed)?;
    s.note = note::THERE;
    Ok(())
}

/// Reads the note behind a packet out of the tunnel, and takes it off.
#[inline(always)]
pub fn hear<F: Family, K: Packet>(k: &K, s: &mut State<F>) -> Step<()> {
    let end = IP_OFFSET.wrapping_add(s.ip.total_bytes);
    let note: F::Note = k.load(end).ok_or(DropReason::TunnelSource)?;
    k.resize(end).ok_or(DropReason::RewriteFailed)?;
    (s.front, s.front_port) = F::noted(&note);
    s.flow_flags |= flow::DIRECT;
    Ok(())
}

/// A reply that has gone through the tunnel so far leaves directly from now on. Without a way to the client it stays in
/// the tunnel for good.
#[inline(always)]
fn turn<F: Family, K: Flows<F> + Ways<F>>(k: &K, s: &mut State<F>) {
    let way = k.way_out(&F::UNSPECIFIED, &s.tuple.destination);
    let core = s.flow.core_mut();
    match way {
        Some(ifindex) => {
            core.flags = core.flags & !flow::TUNNEL | flow::NAT_SOURCE;
            core.target = Target::device(ifindex);
        }
        None => core.flags &= !flow::DIRECT,
    }
    let (flags, target) = (core.flags, core.target);
    let _ = table::entry(k, Table::Main, &s.own, |entry| {
        let core = entry.core_mut();
        (core.flags, core.target) = (flags, target);
    });
}

/// Is the other direction's key the packet's own tuple turned around, whatever is rewritten?
#[inline(always)]
pub const fn is_keyed_plainly(flow_flags: u16) -> bool {
    flow_flags & (flow::DIRECT | flow::REPLY) == flow::DIRECT | flow::REPLY && !seeded::DIRECT_MISKEYED
}

/// Is this the request's direction of a flow whose answers go another way?
#[inline(always)]
pub const fn is_half_seen(flow_flags: u16) -> bool {
    flow_flags & (flow::DIRECT | flow::REPLY) == flow::DIRECT
}

/// [`flow::DIRECT`] means something to the direction that goes through the tunnel.
#[inline(always)]
pub const fn of_direction(flow_flags: u16) -> u16 {
    // By a shift: the verifier would follow both branches.
    let into_tunnel = (flow_flags & flow::TUNNEL) << 3;
    const _: () = assert!(flow::TUNNEL << 3 == flow::DIRECT);
    flow_flags & (!flow::DIRECT | into_tunnel)
}
