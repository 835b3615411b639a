//! IPv6.

use super::{Family, FlowEntry, V6};
use crate::kernel::Packet;
use crate::seeded;
use crate::state::{Parsed, fragment};
use crate::tuple::{Place, Tuple};
use crate::verdict::Step;
use tortie_abi::endpoint::{Endpoint, NextHop};
use tortie_abi::flow::{Counters, FlowCore};
use tortie_abi::service::{NO_NETNS, netns_words};
use tortie_abi::settings::Settings;
use tortie_abi::{DropReason, Tick, v6};
use tortie_wire::checksum::{Delta, Sum};
use tortie_wire::icmp6::{self, Icmp6Header};
use tortie_wire::ip6::{ExtHeader, ExtKind, FragmentHeader, Ip6Header, NextHeader};
use tortie_wire::proto::IpProtocol;
use tortie_wire::{Be16, Be32, Ip6, Mac};

/// Hop limit of packets that this node makes.
const OWN_HOP_LIMIT: u8 = 64;
/// Extension headers that are walked at most. RFC 8200 section 4.1 recommends an order of seven.
const MAX_EXTENSIONS: u32 = 7;
/// Bytes of extension headers that are walked at most.
const MAX_EXTENSION_BYTES: u32 = 1024;

impl FlowEntry for v6::Flow {
    type Addr = Ip6;
    #[inline(always)]
    fn new(core: FlowCore, nat_address: Ip6) -> Self {
        Self { counters: Counters { packets: 0, bytes: 0 }, core, nat_address, _zero: [0] }
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
    fn nat_address(&self) -> Ip6 {
        self.nat_address
    }
    #[inline(always)]
    fn set_nat_address(&mut self, address: Ip6) {
        self.nat_address = address;
    }
}

impl Family for V6 {
    type Addr = Ip6;
    type FlowKey = v6::FlowKey;
    type Flow = v6::Flow;
    type FlowPair = v6::FlowPair;
    type FrontendKey = v6::FrontendKey;
    type Backend = v6::Backend;
    type MemberKey = v6::MemberKey;
    type SourceRangeKey = v6::SourceRangeKey;
    type AffinityKey = v6::AffinityKey;
    type Affinity = v6::Affinity;
    type SocketKey = v6::SocketKey;
    type SocketLead = v6::SocketLead;
    type SocketPeer = v6::SocketPeer;
    type Note = v6::Note;
    type FragmentKey = v6::FragmentKey;

    const VERSION: u8 = 6;
    const ICMP: IpProtocol = IpProtocol::ICMPV6;
    const UNSPECIFIED: Ip6 = Ip6::UNSPECIFIED;
    const HEADER_BYTES: u32 = 40;
    const TUNNEL_BYTES: u32 = 40 + 8 + 8 + 14;
    const QUOTE_BYTES: u32 = 96;

    const ECHO_REQUEST: u8 = icmp6::ECHO_REQUEST;
    const PORT_UNREACHABLE: (u8, u8) = (icmp6::UNREACHABLE, icmp6::PORT_UNREACHABLE);
    const TTL_EXCEEDED: (u8, u8) = (icmp6::TIME_EXCEEDED, icmp6::HOP_LIMIT_EXCEEDED);
    const TOO_BIG: (u8, u8) = (icmp6::PACKET_TOO_BIG, 0);

    #[inline(always)]
    fn icmp_is_error(kind: u8) -> bool {
        Icmp6Header { kind, ..Icmp6Header::default() }.is_error()
    }

    #[inline(always)]
    fn icmp_is_echo(kind: u8) -> bool {
        Icmp6Header { kind, ..Icmp6Header::default() }.is_echo()
    }

    #[inline(always)]
    fn icmp_is_link_control(kind: u8, ip: &Parsed<Ip6>) -> bool {
        let header = Icmp6Header { kind, ..Icmp6Header::default() };
        if header.is_neighbour_discovery() {
            return ip.ttl == icmp6::ND_HOP_LIMIT;
        }
        let leads_nowhere = ip.source.is_link_local() || ip.source.is_unspecified();
        header.is_multicast_listener() && ip.ttl == icmp6::MLD_HOP_LIMIT && leads_nowhere
    }

    #[inline(always)]
    fn icmp_is_from_router(kind: u8) -> bool {
        Icmp6Header { kind, ..Icmp6Header::default() }.is_from_router()
    }

    #[inline(always)]
    fn flow_key(t: &Tuple<Ip6>) -> v6::FlowKey {
        v6::FlowKey {
            source: t.source,
            destination: t.destination,
            source_port: t.source_port,
            destination_port: t.destination_port,
            protocol: t.protocol,
            _zero: [0; 3],
        }
    }

    #[inline(always)]
    fn element(key: &v6::FlowKey) -> (v6::FlowKey, u32) {
        key.element()
    }

    #[inline(always)]
    fn way(pair: &mut v6::FlowPair, way: u32) -> &mut v6::Flow {
        pair.way(way)
    }

    #[inline(always)]
    fn reversed(key: &v6::FlowKey) -> v6::FlowKey {
        key.reversed()
    }

    #[inline(always)]
    fn directions(
        key: &v6::FlowKey,
        pair: &v6::FlowPair,
    ) -> impl Iterator<Item = (v6::FlowKey, v6::Flow)> + use<> {
        pair.directions(key)
    }

    #[inline(always)]
    fn tuple(key: &v6::FlowKey) -> Tuple<Ip6> {
        Tuple {
            source: key.source,
            destination: key.destination,
            source_port: key.source_port,
            destination_port: key.destination_port,
            protocol: key.protocol,
        }
    }

    #[inline(always)]
    fn frontend_key(t: &Tuple<Ip6>) -> v6::FrontendKey {
        v6::FrontendKey { address: t.destination, port: t.destination_port, protocol: t.protocol, _zero: 0 }
    }

    #[inline(always)]
    fn backend(backend: &v6::Backend) -> (Ip6, Be16) {
        (backend.address, backend.port)
    }

    #[inline(always)]
    fn member_key(service: u32, address: Ip6, port: Be16) -> v6::MemberKey {
        v6::MemberKey { service, address, port, _zero: 0 }
    }

    #[inline(always)]
    fn source_range_key(service: u32, client: Ip6) -> v6::SourceRangeKey {
        v6::SourceRangeKey::client(service, client)
    }

    #[inline(always)]
    fn affinity_key(client: Ip6, service: u32) -> v6::AffinityKey {
        v6::AffinityKey { client, service, netns: NO_NETNS }
    }

    #[inline(always)]
    fn affinity_key_of(netns: u64, service: u32) -> v6::AffinityKey {
        v6::AffinityKey { client: Ip6::UNSPECIFIED, service, netns: netns_words(netns) }
    }

    #[inline(always)]
    fn affinity(address: Ip6, port: Be16, last_use: Tick) -> v6::Affinity {
        v6::Affinity { address, port, _zero: 0, last_use }
    }

    #[inline(always)]
    fn remembered(affinity: &v6::Affinity) -> (Ip6, Be16, Tick) {
        (affinity.address, affinity.port, affinity.last_use)
    }

    #[inline(always)]
    fn socket_key(cookie: u64, address: Ip6, port: Be16, protocol: u8, side: u8) -> v6::SocketKey {
        v6::SocketKey { cookie, address, port, protocol, side, _zero: [0] }
    }

    #[inline(always)]
    fn socket_lead(
        (service, service_port): Place<Ip6>,
        (backend, backend_port): Place<Ip6>,
    ) -> v6::SocketLead {
        v6::SocketLead { backend, service, backend_port, service_port }
    }

    #[inline(always)]
    fn lead(lead: &v6::SocketLead) -> (Place<Ip6>, Place<Ip6>) {
        ((lead.service, lead.service_port), (lead.backend, lead.backend_port))
    }

    #[inline(always)]
    fn socket_peer(address: Ip6, port: Be16, service: u32, now: Tick) -> v6::SocketPeer {
        v6::SocketPeer { address, port, _zero: 0, service, last_use: now }
    }

    #[inline(always)]
    fn peer(peer: &v6::SocketPeer) -> (Ip6, Be16, u32, Tick) {
        (peer.address, peer.port, peer.service, peer.last_use)
    }

    #[inline(always)]
    fn note(address: Ip6, port: Be16) -> v6::Note {
        let Ip6([a, b, c, d]) = address;
        v6::Note {
            address,
            port,
            balance: Sum::EMPTY.word32(a).word32(b).word32(c).word32(d).word16(port).checksum(),
        }
    }

    #[inline(always)]
    fn noted(note: &v6::Note) -> (Ip6, Be16) {
        (note.address, note.port)
    }

    #[inline(always)]
    fn fragment_key(t: &Tuple<Ip6>, identification: u32) -> v6::FragmentKey {
        v6::FragmentKey {
            source: t.source,
            destination: t.destination,
            identification,
            protocol: t.protocol,
            _zero: [0; 3],
        }
    }

    #[inline(always)]
    fn parse<K: Packet>(k: &K, offset: u32) -> Step<Parsed<Ip6>> {
        let header: Ip6Header = k.load(offset).ok_or(DropReason::IpTruncated)?;
        if header.version() != 6 {
            return Err(DropReason::IpVersion);
        }
        let there = k.length().wrapping_sub(offset);
        let payload = header.payload_len.get() as u32;
        let total =
            if payload == 0 && k.is_aggregate() { there } else { payload.wrapping_add(Self::HEADER_BYTES) };
        if total > there {
            return Err(DropReason::IpTruncated);
        }
        let parsed = walk(k, offset, &header)?;
        if parsed.header_bytes > total {
            return Err(DropReason::ExtensionHeaders);
        }
        Ok(Parsed { total_bytes: total, ..parsed })
    }

    #[inline(always)]
    fn parse_quoted<K: Packet>(k: &K, offset: u32) -> Step<Parsed<Ip6>> {
        let header: Ip6Header = k.load(offset).ok_or(DropReason::IpTruncated)?;
        if header.version() != 6 {
            return Err(DropReason::IpVersion);
        }
        walk(k, offset, &header)
    }

    #[inline(always)]
    fn is_martian_source(a: &Ip6) -> bool {
        a.is_unspecified() || a.is_loopback() || a.is_multicast() || a.is_v4_mapped()
    }

    #[inline(always)]
    fn is_martian_destination(a: &Ip6) -> bool {
        a.is_unspecified() || a.is_loopback() || a.is_v4_mapped()
    }

    #[inline(always)]
    fn is_at_self(a: &Ip6) -> bool {
        // Both at once: the verifier would follow every word of each.
        let Ip6([a, b, c, last]) = *a;
        a == Be32::ZERO && b == Be32::ZERO && c == Be32::ZERO && last.get() <= 1
    }

    #[inline(always)]
    fn is_group(a: &Ip6) -> bool {
        a.is_multicast()
    }

    #[inline(always)]
    fn is_for_neighbours(a: &Ip6) -> bool {
        a.is_multicast() || a.is_link_local()
    }

    #[inline(always)]
    fn is_link_scope(a: &Ip6) -> bool {
        a.is_link_local() || a.is_link_scope_multicast()
    }

    #[inline(always)]
    fn is_link_address_of(mac: Mac, a: &Ip6) -> bool {
        *a == Ip6::link_local_of(mac) || mac == Mac::ZERO && a.is_link_local()
    }

    #[inline(always)]
    fn widen(a: &Ip6) -> Ip6 {
        *a
    }

    #[inline(always)]
    fn narrow(address: &Ip6) -> Ip6 {
        *address
    }

    #[inline(always)]
    fn endpoint_address(e: &Endpoint) -> Ip6 {
        e.address6
    }

    #[inline(always)]
    fn endpoint_class(e: &Endpoint) -> u32 {
        e.class6
    }

    #[inline(always)]
    fn next_hop_address(n: &NextHop) -> Ip6 {
        n.address6
    }

    #[inline(always)]
    fn node_address(s: &Settings) -> Ip6 {
        s.node_address6
    }

    #[inline(always)]
    fn error_source(s: &Settings) -> Ip6 {
        s.node_address6
    }

    #[inline(always)]
    fn address_delta(delta: Delta, old: &Ip6, new: &Ip6) -> Delta {
        delta.ip6(*old, *new)
    }

    #[inline(always)]
    fn store_addresses<K: Packet>(k: &K, offset: u32, _old: (&Ip6, &Ip6), new: (&Ip6, &Ip6)) -> Option<()> {
        k.store(offset.wrapping_add(Ip6Header::SRC_OFFSET as u32), *new.0)?;
        k.store(offset.wrapping_add(Ip6Header::DST_OFFSET as u32), *new.1)
    }

    #[inline(always)]
    fn decrement_ttl<K: Packet>(k: &K, offset: u32) -> Option<()> {
        let at = offset.wrapping_add(Ip6Header::HOP_LIMIT_OFFSET as u32);
        let hops: u8 = k.load(at)?;
        let less = if seeded::HOP_LIMIT_KEPT { 0 } else { 1 };
        k.store(at, hops.wrapping_sub(less))
    }

    #[inline(always)]
    fn pseudo_header(source: &Ip6, destination: &Ip6, protocol: IpProtocol, length: u16) -> Sum {
        Sum::pseudo_v6(*source, *destination, protocol, length as u32)
    }

    #[inline(always)]
    fn store_header<K: Packet>(
        k: &K,
        offset: u32,
        source: &Ip6,
        destination: &Ip6,
        protocol: IpProtocol,
        length: u16,
    ) -> Option<()> {
        let header = Ip6Header {
            version_class_flow: Ip6Header::VERSION_6,
            payload_len: Be16::new(length),
            next: protocol,
            hop_limit: OWN_HOP_LIMIT,
            src: *source,
            dst: *destination,
        };
        k.store(offset, header)
    }
}

/// Steps over the extension headers up to the transport header or a later fragment.
#[inline(always)]
fn walk<K: Packet>(k: &K, offset: u32, header: &Ip6Header) -> Step<Parsed<Ip6>> {
    let mut parsed = Parsed {
        source: header.src,
        destination: header.dst,
        protocol: header.next.0,
        ttl: header.hop_limit,
        fragment: fragment::NONE,
        dont_fragment: 1,
        header_bytes: V6::HEADER_BYTES,
        total_bytes: 0,
        identification: 0,
    };
    let mut extensions: u32 = 0;
    while extensions < MAX_EXTENSIONS {
        let NextHeader::Extension(kind) = NextHeader::of(IpProtocol(parsed.protocol)) else {
            return Ok(parsed);
        };
        if parsed.header_bytes > MAX_EXTENSION_BYTES {
            return Err(DropReason::ExtensionHeaders);
        }
        let at = offset.wrapping_add(parsed.header_bytes);
        if kind == ExtKind::Fragment {
            let extension: FragmentHeader = k.load(at).ok_or(DropReason::ExtensionHeaders)?;
            parsed.protocol = extension.next.0;
            parsed.header_bytes = parsed.header_bytes.wrapping_add(FragmentHeader::LEN as u32);
            if extension.offset() != 0 {
                parsed.fragment = fragment::LATER;
                parsed.identification = extension.id.get();
                return Ok(parsed);
            }
            if extension.more_fragments() {
                parsed.fragment = fragment::FIRST;
                parsed.identification = extension.id.get();
            }
        } else {
            let extension: ExtHeader = k.load(at).ok_or(DropReason::ExtensionHeaders)?;
            parsed.protocol = extension.next.0;
            parsed.header_bytes = parsed.header_bytes.wrapping_add(kind.byte_len(extension.len) as u32);
        }
        extensions = extensions.wrapping_add(1);
    }
    match NextHeader::of(IpProtocol(parsed.protocol)) {
        NextHeader::Extension(_) => Err(DropReason::ExtensionHeaders),
        NextHeader::Opaque | NextHeader::Transport(_) => Ok(parsed),
    }
}
