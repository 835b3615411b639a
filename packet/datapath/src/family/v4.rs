//! IPv4.

use super::{Family, FlowEntry, V4};
use crate::kernel::Packet;
use crate::state::{Parsed, fragment};
use crate::tuple::{Place, Tuple};
use crate::verdict::Step;
use tortie_abi::endpoint::{Endpoint, NextHop};
use tortie_abi::flow::{Counters, FlowCore};
use tortie_abi::service::{NO_NETNS, netns_words};
use tortie_abi::settings::Settings;
use tortie_abi::{DropReason, Tick, v4};
use tortie_wire::checksum::{Delta, Sum};
use tortie_wire::icmp4::{self, Icmp4Header};
use tortie_wire::ip4::Ip4Header;
use tortie_wire::proto::IpProtocol;
use tortie_wire::{Be16, Be32, Ip4, Ip6, Mac};

/// Time to live of packets that this node makes.
const OWN_TTL: u8 = 64;

impl FlowEntry for v4::Flow {
    type Addr = Ip4;
    #[inline(always)]
    fn new(core: FlowCore, nat_address: Ip4) -> Self {
        Self { counters: Counters { packets: 0, bytes: 0 }, core, nat_address, _zero: [] }
    }
    #[inline(always)]
    fn counters(&mut self) -> &mut Counters {
        &mut self.counters
    }
    #[inline(always)]
    fn core(&self) -> &FlowCore {
        &self.core
    }
    #[inline(always)]
    fn core_mut(&mut self) -> &mut FlowCore {
        &mut self.core
    }
    #[inline(always)]
    fn nat_address(&self) -> Ip4 {
        self.nat_address
    }
    #[inline(always)]
    fn set_nat_address(&mut self, address: Ip4) {
        self.nat_address = address;
    }
}

impl Family for V4 {
    type Addr = Ip4;
    type FlowKey = v4::FlowKey;
    type Flow = v4::Flow;
    type FlowPair = v4::FlowPair;
    type FrontendKey = v4::FrontendKey;
    type Backend = v4::Backend;
    type MemberKey = v4::MemberKey;
    type SourceRangeKey = v4::SourceRangeKey;
    type AffinityKey = v4::AffinityKey;
    type Affinity = v4::Affinity;
    type SocketKey = v4::SocketKey;
    type SocketLead = v4::SocketLead;
    type SocketPeer = v4::SocketPeer;
    type Note = v4::Note;
    type FragmentKey = v4::FragmentKey;

    const VERSION: u8 = 4;
    const ICMP: IpProtocol = IpProtocol::ICMP;
    const UNSPECIFIED: Ip4 = Ip4::UNSPECIFIED;
    const HEADER_BYTES: u32 = 20;
    const TUNNEL_BYTES: u32 = 20 + 8 + 8 + 14;
    // RFC 792: the header with its options, and 64 bits.
    const QUOTE_BYTES: u32 = 68;

    const ECHO_REQUEST: u8 = icmp4::ECHO_REQUEST;
    const PORT_UNREACHABLE: (u8, u8) = (icmp4::UNREACHABLE, icmp4::PORT_UNREACHABLE);
    const TTL_EXCEEDED: (u8, u8) = (icmp4::TIME_EXCEEDED, icmp4::TTL_EXCEEDED);
    const TOO_BIG: (u8, u8) = (icmp4::UNREACHABLE, icmp4::FRAGMENTATION_NEEDED);

    #[inline(always)]
    fn icmp_is_error(kind: u8) -> bool {
        Icmp4Header { kind, ..Icmp4Header::default() }.is_error()
    }

    #[inline(always)]
    fn icmp_is_echo(kind: u8) -> bool {
        Icmp4Header { kind, ..Icmp4Header::default() }.is_echo()
    }

    #[inline(always)]
    fn icmp_is_link_control(_kind: u8, _ip: &Parsed<Ip4>) -> bool {
        false
    }

    #[inline(always)]
    fn icmp_is_from_router(kind: u8) -> bool {
        kind == icmp4::REDIRECT
    }

    #[inline(always)]
    fn flow_key(t: &Tuple<Ip4>) -> v4::FlowKey {
        v4::FlowKey {
            source: t.source,
            destination: t.destination,
            source_port: t.source_port,
            destination_port: t.destination_port,
            protocol: t.protocol,
            _zero: [0; 3],
        }
    }

    #[inline(always)]
    fn element(key: &v4::FlowKey) -> (v4::FlowKey, u32) {
        key.element()
    }

    #[inline(always)]
    fn way(pair: &mut v4::FlowPair, way: u32) -> &mut v4::Flow {
        pair.way(way)
    }

    #[inline(always)]
    fn reversed(key: &v4::FlowKey) -> v4::FlowKey {
        key.reversed()
    }

    #[inline(always)]
    fn directions(
        key: &v4::FlowKey,
        pair: &v4::FlowPair,
    ) -> impl Iterator<Item = (v4::FlowKey, v4::Flow)> + use<> {
        pair.directions(key)
    }

    #[inline(always)]
    fn tuple(key: &v4::FlowKey) -> Tuple<Ip4> {
        Tuple {
            source: key.source,
            destination: key.destination,
            source_port: key.source_port,
            destination_port: key.destination_port,
            protocol: key.protocol,
        }
    }

    #[inline(always)]
    fn frontend_key(t: &Tuple<Ip4>) -> v4::FrontendKey {
        v4::FrontendKey { address: t.destination, port: t.destination_port, protocol: t.protocol, _zero: 0 }
    }

    #[inline(always)]
    fn backend(backend: &v4::Backend) -> (Ip4, Be16) {
        (backend.address, backend.port)
    }

    #[inline(always)]
    fn member_key(service: u32, address: Ip4, port: Be16) -> v4::MemberKey {
        v4::MemberKey { service, address, port, _zero: 0 }
    }

    #[inline(always)]
    fn source_range_key(service: u32, client: Ip4) -> v4::SourceRangeKey {
        v4::SourceRangeKey::client(service, client)
    }

    #[inline(always)]
    fn affinity_key(client: Ip4, service: u32) -> v4::AffinityKey {
        v4::AffinityKey { client, service, netns: NO_NETNS }
    }

    #[inline(always)]
    fn affinity_key_of(netns: u64, service: u32) -> v4::AffinityKey {
        v4::AffinityKey { client: Ip4::UNSPECIFIED, service, netns: netns_words(netns) }
    }

    #[inline(always)]
    fn affinity(address: Ip4, port: Be16, last_use: Tick) -> v4::Affinity {
        v4::Affinity { address, port, _zero: 0, last_use }
    }

    #[inline(always)]
    fn remembered(affinity: &v4::Affinity) -> (Ip4, Be16, Tick) {
        (affinity.address, affinity.port, affinity.last_use)
    }

    #[inline(always)]
    fn socket_key(cookie: u64, address: Ip4, port: Be16, protocol: u8, side: u8) -> v4::SocketKey {
        v4::SocketKey { cookie, address, port, protocol, side, _zero: [] }
    }

    #[inline(always)]
    fn socket_lead(
        (service, service_port): Place<Ip4>,
        (backend, backend_port): Place<Ip4>,
    ) -> v4::SocketLead {
        v4::SocketLead { backend, service, backend_port, service_port }
    }

    #[inline(always)]
    fn lead(lead: &v4::SocketLead) -> (Place<Ip4>, Place<Ip4>) {
        ((lead.service, lead.service_port), (lead.backend, lead.backend_port))
    }

    #[inline(always)]
    fn socket_peer(address: Ip4, port: Be16, service: u32, now: Tick) -> v4::SocketPeer {
        v4::SocketPeer { address, port, _zero: 0, service, last_use: now }
    }

    #[inline(always)]
    fn peer(peer: &v4::SocketPeer) -> (Ip4, Be16, u32, Tick) {
        (peer.address, peer.port, peer.service, peer.last_use)
    }

    #[inline(always)]
    fn note(address: Ip4, port: Be16) -> v4::Note {
        v4::Note { address, port, balance: Sum::EMPTY.word32(address.0).word16(port).checksum() }
    }

    #[inline(always)]
    fn noted(note: &v4::Note) -> (Ip4, Be16) {
        (note.address, note.port)
    }

    #[inline(always)]
    fn fragment_key(t: &Tuple<Ip4>, identification: u32) -> v4::FragmentKey {
        v4::FragmentKey {
            source: t.source,
            destination: t.destination,
            identification,
            protocol: t.protocol,
            _zero: [0; 3],
        }
    }

    #[inline(always)]
    fn parse<K: Packet>(k: &K, offset: u32) -> Step<Parsed<Ip4>> {
        let header: Ip4Header = k.load(offset).ok_or(DropReason::IpTruncated)?;
        if header.version() != 4 {
            return Err(DropReason::IpVersion);
        }
        let parsed = read(&header).ok_or(DropReason::IpHeaderLength)?;
        let there = k.length().wrapping_sub(offset);
        let total = if parsed.total_bytes == 0 && k.is_aggregate() { there } else { parsed.total_bytes };
        if total < parsed.header_bytes {
            return Err(DropReason::IpHeaderLength);
        }
        if total > there {
            return Err(DropReason::IpTruncated);
        }
        Ok(Parsed { total_bytes: total, ..parsed })
    }

    #[inline(always)]
    fn parse_quoted<K: Packet>(k: &K, offset: u32) -> Step<Parsed<Ip4>> {
        let header: Ip4Header = k.load(offset).ok_or(DropReason::IpTruncated)?;
        if header.version() != 4 {
            return Err(DropReason::IpVersion);
        }
        read(&header).ok_or(DropReason::IpHeaderLength)
    }

    #[inline(always)]
    fn is_martian_source(a: &Ip4) -> bool {
        a.is_this_network() || a.is_loopback() || a.is_multicast() || a.is_reserved()
    }

    #[inline(always)]
    fn is_martian_destination(a: &Ip4) -> bool {
        a.is_this_network() || a.is_loopback()
    }

    #[inline(always)]
    fn is_at_self(a: &Ip4) -> bool {
        a.is_loopback() || *a == Self::UNSPECIFIED
    }

    #[inline(always)]
    fn is_group(a: &Ip4) -> bool {
        a.is_multicast() || a.is_broadcast()
    }

    #[inline(always)]
    fn is_for_neighbours(a: &Ip4) -> bool {
        Self::is_group(a)
    }

    #[inline(always)]
    fn is_link_scope(a: &Ip4) -> bool {
        a.is_link_local() || a.is_broadcast()
    }

    #[inline(always)]
    fn is_link_address_of(_mac: Mac, _a: &Ip4) -> bool {
        false
    }

    #[inline(always)]
    fn widen(a: &Ip4) -> Ip6 {
        Ip6([a.0, Be32::ZERO, Be32::ZERO, Be32::ZERO])
    }

    #[inline(always)]
    fn narrow(address: &Ip6) -> Ip4 {
        let Ip6([first, ..]) = *address;
        Ip4(first)
    }

    #[inline(always)]
    fn endpoint_address(e: &Endpoint) -> Ip4 {
        e.address4
    }

    #[inline(always)]
    fn endpoint_class(e: &Endpoint) -> u32 {
        e.class4
    }

    #[inline(always)]
    fn next_hop_address(n: &NextHop) -> Ip4 {
        n.address4
    }

    #[inline(always)]
    fn node_address(s: &Settings) -> Ip4 {
        s.node_address4
    }

    #[inline(always)]
    fn error_source(s: &Settings) -> Ip4 {
        if s.gateway4.is_unspecified() { s.node_address4 } else { s.gateway4 }
    }

    #[inline(always)]
    fn address_delta(delta: Delta, old: &Ip4, new: &Ip4) -> Delta {
        delta.ip4(*old, *new)
    }

    #[inline(always)]
    fn store_addresses<K: Packet>(k: &K, offset: u32, old: (&Ip4, &Ip4), new: (&Ip4, &Ip4)) -> Option<()> {
        let at = |field: usize| offset.wrapping_add(field as u32);
        let checksum: Be16 = k.load(at(Ip4Header::CHECKSUM_OFFSET))?;
        let delta = Delta::NONE.ip4(*old.0, *new.0).ip4(*old.1, *new.1);
        k.store(at(Ip4Header::CHECKSUM_OFFSET), delta.apply(checksum))?;
        k.store(at(Ip4Header::SRC_OFFSET), [*new.0, *new.1])
    }

    #[inline(always)]
    fn decrement_ttl<K: Packet>(k: &K, offset: u32) -> Option<()> {
        // Time to live and protocol are one word of the checksum, and its neighbour is the checksum.
        let at = offset.wrapping_add(Ip4Header::TTL_OFFSET as u32);
        let [old, checksum]: [Be16; 2] = k.load(at)?;
        let new = Be16::new(old.get().wrapping_sub(0x0100));
        k.store(at, [new, Delta::NONE.word16(old, new).apply(checksum)])
    }

    #[inline(always)]
    fn pseudo_header(source: &Ip4, destination: &Ip4, protocol: IpProtocol, length: u16) -> Sum {
        Sum::pseudo_v4(*source, *destination, protocol, length)
    }

    #[inline(always)]
    fn store_header<K: Packet>(
        k: &K,
        offset: u32,
        source: &Ip4,
        destination: &Ip4,
        protocol: IpProtocol,
        length: u16,
    ) -> Option<()> {
        let total = Be16::new(length.wrapping_add(Self::HEADER_BYTES as u16));
        let sum = Sum::EMPTY
            .word16(Be16::new(0x4500))
            .word16(total)
            .word16(Be16::new(u16::from_be_bytes([OWN_TTL, protocol.0])))
            .word32(source.0)
            .word32(destination.0);
        let header = Ip4Header {
            version_ihl: 0x45,
            tos: 0,
            total_len: total,
            id: Be16::ZERO,
            flags_fragment: Be16::ZERO,
            ttl: OWN_TTL,
            protocol,
            checksum: sum.checksum(),
            src: *source,
            dst: *destination,
        };
        k.store(offset, header)
    }
}

/// What a header says by itself; `None` when its length field is below 20 bytes.
#[inline(always)]
fn read(header: &Ip4Header) -> Option<Parsed<Ip4>> {
    let header_bytes = header.header_len()? as u32;
    let fragment = if header.is_later_fragment() {
        fragment::LATER
    } else if header.more_fragments() {
        fragment::FIRST
    } else {
        fragment::NONE
    };
    Some(Parsed {
        source: header.src,
        destination: header.dst,
        protocol: header.protocol.0,
        ttl: header.ttl,
        fragment,
        dont_fragment: header.dont_fragment() as u8,
        header_bytes,
        total_bytes: header.total_len.get() as u32,
        identification: header.id.get() as u32,
    })
}
