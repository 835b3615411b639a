//! Owns: what a flow entry does to addresses and ports. Does not: decide whether.
//! Invariant: the key of the other direction is the translated tuple turned around.

use crate::family::{Family, FlowEntry};
use crate::kernel::{ChecksumKind, Packet, Topology};
use crate::state::{IP_OFFSET, State, fragment};
use crate::tuple::Tuple;
use crate::verdict::Step;
use tortie_abi::DropReason;
use tortie_abi::flow::flags;
use tortie_wire::Be16;
use tortie_wire::checksum::Delta;
use tortie_wire::proto::IpProtocol;
use tortie_wire::tcp::TcpHeader;
use tortie_wire::udp::UdpHeader;
use tortie_wire::{icmp4::Icmp4Header, icmp6::Icmp6Header};

const REWRITES: u16 = flags::NAT_DESTINATION | flags::NAT_SOURCE | flags::HAIRPIN | flags::PORT_MOVED;

/// Does packets of this entry change at all?
#[inline(always)]
pub fn rewrites<F: Family>(flow: &F::Flow) -> bool {
    flow.core().flags & REWRITES != 0
}

/// The tuple after the entry's rewrite. `node`: this node's address, the client's stand-in in a hairpin.
#[inline(always)]
pub fn translate<F: Family>(tuple: &Tuple<F::Addr>, flow: &F::Flow, node: F::Addr) -> Tuple<F::Addr> {
    let core = flow.core();
    let mut new = *tuple;
    if core.flags & flags::NAT_DESTINATION != 0 {
        new.destination = flow.nat_address();
        new.destination_port = core.nat_port;
    }
    if core.flags & flags::NAT_SOURCE != 0 {
        new.source = flow.nat_address();
        new.source_port = core.nat_port;
    }
    let reply = core.flags & flags::REPLY != 0;
    if core.flags & flags::HAIRPIN != 0 {
        if reply {
            new.destination = tuple.source;
        } else {
            new.source = node;
        }
    }
    if core.flags & (flags::HAIRPIN | flags::PORT_MOVED) != 0 {
        if reply {
            new.destination_port = core.other_port;
        } else {
            new.source_port = core.other_port;
        }
    }
    new
}

/// As [`translate`], with the node's address looked up when a hairpin needs it.
#[inline(always)]
pub fn translated<F: Family, K: Topology<F>>(
    k: &K,
    tuple: &Tuple<F::Addr>,
    flow: &F::Flow,
) -> Step<Tuple<F::Addr>> {
    if flow.core().flags & REWRITES == 0 {
        return Ok(*tuple);
    }
    let mut node = F::UNSPECIFIED;
    if flow.core().flags & flags::HAIRPIN != 0 {
        node = k.settings(F::node_address).ok_or(DropReason::Internal)?;
    }
    Ok(translate::<F>(tuple, flow, node))
}

/// The key of the other direction's entry.
#[inline(always)]
pub fn partner<F: Family, K: Topology<F>>(k: &K, tuple: &Tuple<F::Addr>, flow: &F::Flow) -> Step<F::FlowKey> {
    Ok(F::flow_key(&translated(k, tuple, flow)?.reversed()))
}

/// Writes the flow's rewrite into the packet.
#[inline(always)]
pub fn rewrite<F: Family, K: Packet + Topology<F>>(k: &K, s: &State<F>) -> Step<()> {
    if !rewrites::<F>(&s.flow) {
        return Ok(());
    }
    let new = translated(k, &s.tuple, &s.flow)?;
    store::<F, K>(k, s, &new).ok_or(DropReason::RewriteFailed)
}

#[inline(always)]
fn store<F: Family, K: Packet>(k: &K, s: &State<F>, new: &Tuple<F::Addr>) -> Option<()> {
    let old = &s.tuple;
    if s.ip.fragment != fragment::LATER {
        store_transport::<F, K>(k, s, new)?;
    }
    F::store_addresses(k, IP_OFFSET, (&old.source, &old.destination), (&new.source, &new.destination))
}

#[inline(always)]
fn store_transport<F: Family, K: Packet>(k: &K, s: &State<F>, new: &Tuple<F::Addr>) -> Option<()> {
    let old = &s.tuple;
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
        // SCTP's checksum does not cover addresses, and a CRC over the whole packet cannot follow a port.
        IpProtocol::SCTP
            if old.source_port == new.source_port && old.destination_port == new.destination_port =>
        {
            Some(())
        }
        IpProtocol::SCTP => None,
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
    k.update_checksum(at, ports, ChecksumKind::Payload { udp })
}

/// The new client port of a flow whose translated tuple is taken.
#[inline(always)]
pub fn moved_port(random: u32, first: u16, last: u16) -> Be16 {
    let span = (last.saturating_sub(first) as u64).wrapping_add(1);
    let offset = ((random as u64).wrapping_mul(span) >> 32) as u16;
    Be16::new(first.wrapping_add(offset))
}
