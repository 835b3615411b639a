//! Owns: what a flow entry does to addresses and ports. Does not: decide whether.
//! Invariant: the key of the other direction is the translated tuple turned around ([`far_end`] has the exception).

use crate::family::{Family, FlowEntry, Spot};
use crate::kernel::{ChecksumKind, Packet, Topology};
use crate::seeded;
use crate::stage::direct;
use crate::state::{IP_OFFSET, State, fragment};
use crate::tuple::Tuple;
use crate::verdict::Step;
use tortie_abi::DropReason;
use tortie_abi::flow::flags;
use tortie_wire::Be32;
use tortie_wire::checksum::Delta;
use tortie_wire::crc32c::PortChange;
use tortie_wire::proto::IpProtocol;
use tortie_wire::sctp::SctpHeader;
use tortie_wire::tcp::TcpHeader;
use tortie_wire::udp::UdpHeader;
use tortie_wire::{icmp4::Icmp4Header, icmp6::Icmp6Header};

const REWRITES: u16 = flags::NAT_DESTINATION | flags::NAT_SOURCE | flags::HAIRPIN | flags::PORT_MOVED;

/// Does packets of this entry change at all?
#[inline(always)]
pub fn rewrites<F: Family>(flow: &F::Flow) -> bool {
    flow.core().flags & REWRITES != 0
}

/// Turns a packet's tuple into what the entry's rewrite makes of it. In place: whole tuples in registers would
/// be more than there are.
#[inline(always)]
pub fn translate<F: Family, K: Topology<F>>(k: &K, tuple: &mut Tuple<F::Addr>, flow: &F::Flow) -> Step<()> {
    let core = flow.core();
    if core.flags & REWRITES == 0 {
        return Ok(());
    }
    let reply = core.flags & flags::REPLY != 0;
    if core.flags & flags::HAIRPIN != 0 {
        if reply {
            tuple.destination = tuple.source;
        } else {
            tuple.source = k.settings(F::node_address).ok_or(DropReason::Internal)?;
        }
    }
    if core.flags & (flags::HAIRPIN | flags::PORT_MOVED) != 0 {
        if reply {
            tuple.destination_port = core.other_port;
        } else {
            tuple.source_port = core.other_port;
        }
    }
    if core.flags & flags::NAT_DESTINATION != 0 {
        tuple.destination = flow.nat_address();
        tuple.destination_port = core.nat_port;
    }
    if core.flags & flags::NAT_SOURCE != 0 {
        if seeded::REPLY_SWAPPED {
            tuple.destination = flow.nat_address();
            return Ok(());
        }
        tuple.source = flow.nat_address();
        tuple.source_port = core.nat_port;
    }
    // A query's one identifier stands for both ports.
    if tuple.protocol == F::ICMP.0 {
        if reply {
            tuple.source_port = tuple.destination_port;
        } else {
            tuple.destination_port = tuple.source_port;
        }
    }
    Ok(())
}

/// Is the other direction's key that of this entry turned around?
#[inline(always)]
pub fn is_keyed_plainly<F: Family>(flow: &F::Flow) -> bool {
    !rewrites::<F>(flow) || direct::is_keyed_plainly(flow.core().flags)
}

/// Turns a packet's tuple into the other end of its flow: turned around, the key of the other direction.
#[inline(always)]
pub fn far_end<F: Family, K: Topology<F>>(k: &K, tuple: &mut Tuple<F::Addr>, flow: &F::Flow) -> Step<()> {
    if is_keyed_plainly::<F>(flow) { Ok(()) } else { translate::<F, K>(k, tuple, flow) }
}

/// Sets `s.rewritten`, and `s.partner`, where the other direction's entry is.
#[inline(always)]
pub fn find_partner<F: Family, K: Topology<F>>(k: &K, s: &mut State<F>) -> Step<()> {
    s.rewritten = s.tuple;
    far_end::<F, K>(k, &mut s.rewritten, &s.flow)?;
    s.partner = Spot::of(&F::flow_key(&s.rewritten.reversed()));
    Ok(())
}

/// Writes the flow's rewrite into the packet.
#[inline(always)]
pub fn rewrite<F: Family, K: Packet + Topology<F>>(k: &K, s: &mut State<F>) -> Step<()> {
    if !rewrites::<F>(&s.flow) {
        return Ok(());
    }
    s.rewritten = s.tuple;
    translate::<F, K>(k, &mut s.rewritten, &s.flow)?;
    store::<F, K>(k, s).ok_or(DropReason::RewriteFailed)
}

/// Has SCTP's checksum yet to follow the rewrite? That is done apart ([`crate::hook::apart`]).
#[inline(always)]
pub fn is_sum_due<F: Family>(s: &State<F>) -> bool {
    s.tuple.protocol == IpProtocol::SCTP.0 && rewrites::<F>(&s.flow)
}

/// SCTP's checksum, which covers the whole packet and no addresses, becomes that of the ports that [`rewrite`] writes. Of a
/// packet in pieces nobody knows here how long it is.
#[inline(always)]
pub fn sum<F: Family, K: Packet + Topology<F>>(k: &K, s: &mut State<F>) -> Step<()> {
    if s.ip.fragment == fragment::LATER {
        return Ok(());
    }
    s.rewritten = s.tuple;
    translate::<F, K>(k, &mut s.rewritten, &s.flow)?;
    let old = [s.tuple.source_port, s.tuple.destination_port];
    let new = [s.rewritten.source_port, s.rewritten.destination_port];
    if old == new || seeded::CHECKSUM_FORGOTTEN {
        return Ok(());
    }
    if s.ip.fragment != fragment::NONE {
        return Err(DropReason::RewriteFailed);
    }
    let at = s.transport_offset.wrapping_add(SctpHeader::CHECKSUM_OFFSET as u32);
    let packet_bytes = s.ip.total_bytes.wrapping_sub(s.ip.header_bytes) as u16;
    let before: Be32 = k.load(at).ok_or(DropReason::RewriteFailed)?;
    let after = PortChange::new(old, new, packet_bytes).apply(before);
    k.store(at, after).ok_or(DropReason::RewriteFailed)
}

#[inline(always)]
fn store<F: Family, K: Packet>(k: &K, s: &State<F>) -> Option<()> {
    let (old, new) = (&s.tuple, &s.rewritten);
    if s.ip.fragment != fragment::LATER {
        store_transport::<F, K>(k, s)?;
    }
    F::store_addresses(k, IP_OFFSET, (&old.source, &old.destination), (&new.source, &new.destination))
}

#[inline(always)]
fn store_transport<F: Family, K: Packet>(k: &K, s: &State<F>) -> Option<()> {
    let (old, new) = (&s.tuple, &s.rewritten);
    let at = |offset: usize| s.transport_offset.wrapping_add(offset as u32);
    let addresses = F::address_delta(Delta::NONE, &old.source, &new.source);
    let addresses = F::address_delta(addresses, &old.destination, &new.destination);
    let ports = Delta::NONE
        .word16(old.source_port, new.source_port)
        .word16(old.destination_port, new.destination_port);
    match IpProtocol(s.tuple.protocol) {
        IpProtocol::TCP => {
            k.store(s.transport_offset, [new.source_port, new.destination_port])?;
            update(k, at(TcpHeader::CHECKSUM_OFFSET), addresses, ports, false)
        }
        IpProtocol::UDP => {
            k.store(s.transport_offset, [new.source_port, new.destination_port])?;
            update(k, at(UdpHeader::CHECKSUM_OFFSET), addresses, ports, true)
        }
        // Summed before ([`sum`]).
        IpProtocol::SCTP => k.store(s.transport_offset, [new.source_port, new.destination_port]),
        IpProtocol::ICMP => {
            let delta = Delta::NONE.word16(old.source_port, new.source_port);
            k.store(at(Icmp4Header::ECHO_ID_OFFSET), new.source_port)?;
            k.update_checksum(at(Icmp4Header::CHECKSUM_OFFSET), delta, ChecksumKind::Payload { udp: false })
        }
        IpProtocol::ICMPV6 => {
            let id = Delta::NONE.word16(old.source_port, new.source_port);
            k.store(at(Icmp6Header::ECHO_ID_OFFSET), new.source_port)?;
            update(k, at(Icmp6Header::CHECKSUM_OFFSET), addresses, id, false)
        }
        _ => Some(()),
    }
}

#[inline(always)]
fn update<K: Packet>(k: &K, at: u32, addresses: Delta, ports: Delta, udp: bool) -> Option<()> {
    k.update_checksum(at, addresses, ChecksumKind::PseudoHeader { udp })?;
    if seeded::CHECKSUM_FORGOTTEN {
        return Some(());
    }
    k.update_checksum(at, ports, ChecksumKind::Payload { udp })
}
