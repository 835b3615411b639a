//! Header values: round trips, an independent parser's opinion, and any bytes at all.

use std::net::{Ipv4Addr, Ipv6Addr};

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use proptest::prelude::*;
use tortie_testkit::packet::{Extension, PacketBuilder, SRC_MAC, truncations};
use tortie_wire::arp::ArpPacket;
use tortie_wire::eth::{EthHeader, EtherType, VlanTag};
use tortie_wire::icmp4::Icmp4Header;
use tortie_wire::icmp6::Icmp6Header;
use tortie_wire::ip4::Ip4Header;
use tortie_wire::ip6::{ExtHeader, ExtKind, FragmentHeader, Ip6Header, NextHeader};
use tortie_wire::sctp::{ChunkHeader, ChunkType, SctpHeader};
use tortie_wire::tcp::{TcpFlags, TcpHeader};
use tortie_wire::udp::UdpHeader;
use tortie_wire::vxlan::VxlanHeader;
use tortie_wire::{Be16, Be32, Be64, IpProtocol, read_at, write_at};
use zerocopy::IntoBytes;

/// What a reader of an IP packet finds out with this crate alone; `None` where the bytes end too early or lie.
#[derive(Debug, PartialEq)]
struct Found {
    protocol: IpProtocol,
    transport: usize,
    ports: Option<(u16, u16)>,
    flags: Option<TcpFlags>,
}

fn read_frame(frame: &[u8]) -> Option<Found> {
    let ethernet: EthHeader = read_at(frame, 0)?;
    let (protocol, transport) = match ethernet.kind() {
        EtherType::Ipv4 => {
            let ip: Ip4Header = read_at(frame, EthHeader::LEN)?;
            (ip.version() == 4).then_some(())?;
            (ip.protocol, EthHeader::LEN + ip.header_len()?)
        }
        EtherType::Ipv6 => {
            let ip: Ip6Header = read_at(frame, EthHeader::LEN)?;
            (ip.version() == 6).then_some(())?;
            walk(frame, ip.next, EthHeader::LEN + Ip6Header::LEN)?
        }
        _ => return None,
    };
    frame.get(transport..)?;
    let ports = match protocol.has_ports() {
        true => {
            Some((read_at::<Be16>(frame, transport)?.get(), read_at::<Be16>(frame, transport + 2)?.get()))
        }
        false => None,
    };
    let flags = match protocol {
        IpProtocol::TCP => Some(read_at::<TcpHeader>(frame, transport)?.flags),
        _ => None,
    };
    Some(Found { protocol, transport, ports, flags })
}

fn walk(frame: &[u8], mut next: IpProtocol, mut at: usize) -> Option<(IpProtocol, usize)> {
    for _ in 0..16 {
        match NextHeader::of(next) {
            NextHeader::Transport(protocol) => return Some((protocol, at)),
            NextHeader::Opaque => return None,
            NextHeader::Extension(kind) => {
                let header: ExtHeader = read_at(frame, at)?;
                next = header.next;
                at += kind.byte_len(header.len);
            }
        }
    }
    None
}

const A4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const B4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
const A6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
const B6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2);

#[test]
fn the_transport_header_is_found_behind_ipv4_options_of_every_length() {
    for len in 0..=40 {
        let frame = PacketBuilder::ipv4(A4, B4).options(&vec![1; len]).tcp(1234, 80).build();
        let found = read_frame(&frame).unwrap();
        assert_eq!(found.transport, 14 + 20 + len.next_multiple_of(4));
        assert_eq!(found.ports, Some((1234, 80)), "{len} bytes of options");
        assert_eq!(found.flags, Some(TcpFlags::SYN));
    }
}

#[test]
fn an_ipv4_header_length_below_five_words_is_refused_and_the_others_are_bounded() {
    for version_ihl in 0..=u8::MAX {
        let len = Ip4Header { version_ihl, ..Default::default() }.header_len();
        match version_ihl & 0x0f {
            words @ 0..5 => assert_eq!(len, None, "{words} words"),
            words => assert_eq!(len, Some(usize::from(words) * 4)),
        }
    }
}

#[test]
fn a_tcp_header_length_below_five_words_is_refused_and_the_others_are_bounded() {
    for data_offset in 0..=u8::MAX {
        let len = TcpHeader { data_offset, ..Default::default() }.header_len();
        match data_offset >> 4 {
            0..5 => assert_eq!(len, None),
            words => assert_eq!(len, Some(usize::from(words) * 4)),
        }
    }
}

#[test]
fn extension_header_lengths_are_those_of_their_rfcs() {
    for len in 0..=u8::MAX {
        let n = usize::from(len);
        for kind in [ExtKind::HopByHop, ExtKind::Routing, ExtKind::Destination] {
            assert_eq!(kind.byte_len(len), (n + 1) * 8);
        }
        assert_eq!(ExtKind::Authentication.byte_len(len), (n + 2) * 4);
        assert_eq!(ExtKind::Fragment.byte_len(len), 8);
    }
    assert_eq!(ExtKind::HopByHop.byte_len(u8::MAX), ExtHeader::MAX_BYTE_LEN);
}

#[test]
fn every_next_header_value_is_sorted_as_rfc_8200_says() {
    for number in 0..=u8::MAX {
        let is = NextHeader::of(IpProtocol(number));
        match number {
            0 | 43 | 44 | 51 | 60 => assert!(matches!(is, NextHeader::Extension(_)), "{number}"),
            50 | 59 => assert_eq!(is, NextHeader::Opaque, "{number}"),
            _ => assert_eq!(is, NextHeader::Transport(IpProtocol(number))),
        }
    }
}

#[test]
fn encrypted_and_empty_ipv6_packets_have_no_transport_header() {
    for protocol in [50, 59] {
        let packet = PacketBuilder::ipv6(A6, B6).extension(Extension::HopByHop(0)).protocol(protocol);
        assert_eq!(read_frame(&packet.payload_len(40).build()), None);
    }
}

#[test]
fn truncation_at_every_byte_finds_nothing_wrong_and_never_panics() {
    let deep = PacketBuilder::ipv6(A6, B6)
        .extension(Extension::HopByHop(3))
        .extension(Extension::Routing(1))
        .extension(Extension::Authentication(4))
        .extension(Extension::Destination(2));
    let packets = [
        PacketBuilder::ipv4(A4, B4).options(&[1; 20]).tcp(1, 2).build(),
        deep.clone().udp(3, 4).build(),
        deep.clone().sctp(5, 6).build(),
        deep.tcp(7, 8).build(),
    ];
    for frame in packets {
        let whole = read_frame(&frame).unwrap();
        for cut in truncations(&frame) {
            if let Some(found) = read_frame(cut) {
                assert_eq!(found, whole, "cut to {} bytes", cut.len());
            }
        }
    }
}

#[test]
fn a_write_that_does_not_fit_changes_nothing() {
    let mut bytes = [7; 10];
    assert_eq!(write_at(&mut bytes, 7, &Be32::new(1)), None);
    assert_eq!(write_at(&mut bytes, usize::MAX, &Be16::new(1)), None);
    assert_eq!(bytes, [7; 10]);
    assert_eq!(write_at(&mut bytes, 6, &Be32::new(1)), Some(()));
    assert_eq!(bytes, [7, 7, 7, 7, 7, 7, 0, 0, 0, 1]);
}

#[test]
fn tcp_flags_tell_opening_answer_and_nonsense() {
    use TcpFlags as F;
    for bits in 0..=u8::MAX {
        let flags = F(bits);
        let has = |flag: F| bits & flag.0 != 0;
        assert_eq!(flags.is_opening(), has(F::SYN) && !has(F::ACK) && !has(F::RST), "{bits:#x}");
        assert_eq!(flags.is_answer(), has(F::SYN) && has(F::ACK) && !has(F::RST), "{bits:#x}");
        assert!(!(flags.is_opening() && flags.is_answer()));
    }
    // Every combination, with the flags that may come with any.
    let good = [F::SYN, F::SYN | F::ACK, F::RST, F::RST | F::ACK, F::FIN | F::ACK, F::ACK];
    for bits in 0..=u8::MAX {
        let steering = F(bits & (F::SYN | F::FIN | F::RST | F::ACK).0);
        assert_eq!(F(bits).is_bogus(), !good.contains(&steering), "{bits:#010b}");
    }
}

#[test]
fn sets_of_tcp_flags_contain_all_or_intersect_in_some() {
    use TcpFlags as F;
    let both = F::SYN | F::ACK;
    assert!(both.contains(F::SYN) && both.contains(both) && !F::SYN.contains(both));
    assert!(F::SYN.intersects(both) && !F::FIN.intersects(both) && !F(0).intersects(both));
}

#[test]
fn the_protocols_with_ports_are_these_four() {
    for number in 0..=u8::MAX {
        assert_eq!(IpProtocol(number).has_ports(), [6, 17, 132, 136].contains(&number), "{number}");
    }
}

#[test]
fn only_arp_for_ipv4_over_ethernet_is_taken_for_it() {
    let frame = tortie_testkit::packet::arp_request(SRC_MAC, A4, B4);
    let arp: ArpPacket = read_at(&frame, 14).unwrap();
    assert!(arp.is_ipv4_over_ethernet());
    assert_eq!((arp.sender().into(), arp.target().into()), (A4, B4));
    for wrong in [
        ArpPacket { hardware: Be16::new(6), ..arp },
        ArpPacket { protocol: EtherType::IPV6, ..arp },
        ArpPacket { hardware_len: 8, ..arp },
        ArpPacket { protocol_len: 16, ..arp },
    ] {
        assert!(!wrong.is_ipv4_over_ethernet(), "{wrong:?}");
    }
}

#[test]
fn a_vlan_tag_tells_its_network_without_the_priority() {
    let frame = PacketBuilder::ipv4(A4, B4).vlan(0xe123).udp(1, 2).build();
    let tag: VlanTag = read_at(&frame, 14).unwrap();
    assert_eq!((tag.id(), EtherType::from_be(tag.ethertype)), (0x123, EtherType::Ipv4));
}

#[test]
fn the_word_that_changes_with_the_ttl_is_the_one_in_the_header() {
    let frame = PacketBuilder::ipv4(A4, B4).ttl(9).tcp(1, 2).build();
    let header: Ip4Header = read_at(&frame, 14).unwrap();
    assert_eq!(header.ttl_word(), read_at(&frame, 14 + Ip4Header::TTL_OFFSET).unwrap());
}

#[test]
fn only_a_whole_packet_in_one_fragment_is_atomic() {
    for (bits, atomic) in [(0x0000, true), (0x0006, true), (0x0001, false), (0x0008, false), (0x0009, false)]
    {
        let header = FragmentHeader { offset_more: Be16::new(bits), ..Default::default() };
        assert_eq!(header.is_atomic(), atomic, "{bits:#06x}");
    }
}

#[test]
fn each_kind_of_ipv4_fragment_is_told_apart() {
    for (bits, dont, fragment, later) in [
        (0x0000, false, false, false),
        (0x4000, true, false, false),
        (0x8000, false, false, false),
        (0x2000, false, true, false),
        (0x2001, false, true, true),
        (0x0001, false, true, true),
        (0x1fff, false, true, true),
    ] {
        let header = Ip4Header { flags_fragment: Be16::new(bits), ..Default::default() };
        let told = (header.dont_fragment(), header.is_fragment(), header.is_later_fragment());
        assert_eq!(told, (dont, fragment, later), "{bits:#06x}");
    }
}

#[test]
fn a_vxlan_header_tells_its_network_only_when_it_says_that_it_has_one() {
    assert_eq!(VxlanHeader::new(0xca_11c0).as_bytes(), [8, 0, 0, 0, 0xca, 0x11, 0xc0, 0]);
    assert_eq!(VxlanHeader::new(0xca_11c0).vni(), Some(0xca_11c0));
    assert_eq!(VxlanHeader { flags: Be32::ZERO, ..VxlanHeader::new(5) }.vni(), None);
}

#[test]
fn chunk_and_ether_types_keep_every_value() {
    for kind in 0..=u8::MAX {
        assert_eq!(ChunkType::from_u8(kind).to_u8(), kind);
        assert_eq!(ChunkHeader { kind, ..Default::default() }.chunk_type(), ChunkType::from_u8(kind));
    }
    for field in 0..=u16::MAX {
        assert_eq!(EtherType::from_be(Be16::new(field)).to_be(), Be16::new(field));
    }
}

#[test]
fn errors_and_echoes_are_told_apart_in_both_families() {
    for kind in 0..=u8::MAX {
        let v4 = Icmp4Header { kind, ..Default::default() };
        assert_eq!(v4.is_error(), [3, 4, 5, 11, 12].contains(&kind), "{kind}");
        assert_eq!(v4.is_echo(), [0, 8].contains(&kind), "{kind}");
        let v6 = Icmp6Header { kind, ..Default::default() };
        assert_eq!(v6.is_error(), (1..=4).contains(&kind), "{kind}");
        assert_eq!(v6.is_echo(), [128, 129].contains(&kind), "{kind}");
        assert_eq!(v6.is_neighbour_discovery(), (133..=137).contains(&kind), "{kind}");
        assert_eq!(v6.is_from_router(), [134, 137].contains(&kind), "{kind}");
        assert_eq!(v6.is_multicast_listener(), [130, 131, 132, 143].contains(&kind), "{kind}");
    }
}

fn extension() -> impl Strategy<Value = Extension> {
    prop_oneof![
        (0u8..8).prop_map(Extension::Destination),
        (0u8..8).prop_map(Extension::Routing),
        (0u8..8).prop_map(Extension::Authentication),
        any::<u32>().prop_map(|id| Extension::Fragment { offset: 0, more: false, id }),
    ]
}

/// Any bytes are a value, and the value is those bytes.
fn round_trip<T: zerocopy::FromBytes + IntoBytes + zerocopy::Immutable>(bytes: &[u8], offset: usize) {
    let read: Option<T> = read_at(bytes, offset);
    match bytes.get(offset..).and_then(|tail| tail.get(..size_of::<T>())) {
        Some(expected) => assert_eq!(read.unwrap().as_bytes(), expected),
        None => assert!(read.is_none()),
    }
}

proptest! {
    #[test]
    fn any_bytes_at_any_place_round_trip_through_every_header(
        bytes in prop::collection::vec(any::<u8>(), 0..64),
        offset in 0usize..70,
    ) {
        round_trip::<EthHeader>(&bytes, offset);
        round_trip::<VlanTag>(&bytes, offset);
        round_trip::<ArpPacket>(&bytes, offset);
        round_trip::<Ip4Header>(&bytes, offset);
        round_trip::<Ip6Header>(&bytes, offset);
        round_trip::<FragmentHeader>(&bytes, offset);
        round_trip::<TcpHeader>(&bytes, offset);
        round_trip::<UdpHeader>(&bytes, offset);
        round_trip::<SctpHeader>(&bytes, offset);
        round_trip::<Icmp4Header>(&bytes, offset);
        round_trip::<Icmp6Header>(&bytes, offset);
        round_trip::<VxlanHeader>(&bytes, offset);
    }

    #[test]
    fn any_bytes_at_all_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), v6 in any::<bool>()) {
        let mut bytes = bytes;
        if bytes.len() > 15 {
            bytes[12..14].copy_from_slice(if v6 { &[0x86, 0xdd] } else { &[0x08, 0x00] });
            bytes[14] = if v6 { 0x60 } else { 0x40 | (bytes[14] & 0x0f) };
        }
        if let Some(found) = read_frame(&bytes) {
            prop_assert!(found.transport <= bytes.len());
        }
    }

    #[test]
    fn integers_keep_their_value_and_their_wire_order(a in any::<u16>(), b in any::<u32>(), c in any::<u64>()) {
        prop_assert_eq!((Be16::new(a).get(), Be16::new(a).to_bytes()), (a, a.to_be_bytes()));
        prop_assert_eq!((Be32::new(b).get(), Be32::new(b).to_bytes()), (b, b.to_be_bytes()));
        prop_assert_eq!((Be64::new(c).get(), Be64::new(c).to_bytes()), (c, c.to_be_bytes()));
        prop_assert_eq!(Be16::from_bytes(a.to_be_bytes()), Be16::from(a));
        prop_assert_eq!(Be32::from_raw(Be32::new(b).raw()), Be32::new(b));
    }

    #[test]
    fn a_chain_of_extension_headers_of_any_lengths_leads_to_the_transport_header(
        hop_by_hop in prop::option::of(0u8..8),
        extensions in prop::collection::vec(extension(), 0..8),
        ports in any::<(u16, u16)>(),
    ) {
        let mut builder = PacketBuilder::ipv6(A6, B6);
        if let Some(units) = hop_by_hop {
            builder = builder.extension(Extension::HopByHop(units));
        }
        for extension in extensions {
            builder = builder.extension(extension);
        }
        let builder = builder.tcp(ports.0, ports.1);
        let found = read_frame(&builder.build()).unwrap();
        prop_assert_eq!(found.transport, builder.transport_offset());
        prop_assert_eq!(found.ports, Some(ports));
    }

    #[test]
    fn fields_mean_what_an_independent_parser_says(
        tos in any::<u8>(),
        ttl in any::<u8>(),
        id in any::<u16>(),
        offset in 0u16..8192,
        (more, label) in (any::<bool>(), 0u32..1 << 20),
    ) {
        let frame = PacketBuilder::ipv4(A4, B4).tos(tos).ttl(ttl).id(id).fragment(offset * 8, more).udp(1, 2).build();
        let ours: Ip4Header = read_at(&frame, 14).unwrap();
        let parsed = etherparse::Ipv4HeaderSlice::from_slice(&frame[14..]).unwrap();
        prop_assert_eq!(ours.fragment_offset(), parsed.fragments_offset().byte_offset());
        prop_assert_eq!(ours.more_fragments(), parsed.more_fragments());
        prop_assert_eq!(ours.dont_fragment(), parsed.dont_fragment());
        prop_assert_eq!(ours.is_fragment(), parsed.is_fragmenting_payload());
        prop_assert_eq!((ours.id.get(), ours.ttl, ours.total_len.get()), (id, ttl, parsed.total_len()));
        prop_assert_eq!((ours.src.into(), ours.dst.into()), (parsed.source_addr(), parsed.destination_addr()));

        let frame = PacketBuilder::ipv6(A6, B6).tos(tos).ttl(ttl).flow_label(label).tcp(1, 2).build();
        let ours: Ip6Header = read_at(&frame, 14).unwrap();
        let parsed = SlicedPacket::from_ethernet(&frame).unwrap();
        let Some(NetSlice::Ipv6(theirs)) = parsed.net else { panic!("not IPv6") };
        prop_assert_eq!(ours.traffic_class(), theirs.header().traffic_class());
        prop_assert_eq!(ours.flow_label(), theirs.header().flow_label().value());
        prop_assert_eq!((ours.hop_limit, ours.payload_len.get()), (ttl, theirs.header().payload_length()));
        prop_assert!(matches!(parsed.transport, Some(TransportSlice::Tcp(_))));
    }

    #[test]
    fn fields_of_a_fragment_header_mean_what_an_independent_parser_says(bits in any::<u16>(), id in any::<u32>()) {
        let ours =
            FragmentHeader { next: IpProtocol::UDP, reserved: 0, offset_more: Be16::new(bits), id: Be32::new(id) };
        let parsed = etherparse::Ipv6FragmentHeader::from_slice(ours.as_bytes()).unwrap().0;
        prop_assert_eq!(ours.offset(), parsed.fragment_offset.byte_offset());
        prop_assert_eq!(ours.more_fragments(), parsed.more_fragments);
        prop_assert_eq!(ours.is_atomic(), !parsed.is_fragmenting_payload());
        prop_assert_eq!(ours.id.get(), parsed.identification);
    }

    #[test]
    fn echo_and_error_fields_are_where_the_rfcs_put_them(id in any::<u16>(), seq in any::<u16>(), mtu in any::<u32>()) {
        let frame = PacketBuilder::ipv4(A4, B4).echo_request(id, seq).build();
        let header: Icmp4Header = read_at(&frame, 34).unwrap();
        prop_assert_eq!((header.echo_id().get(), header.echo_sequence().get()), (id, seq));
        prop_assert_eq!(Icmp4Header::echo_rest(Be16::new(id), Be16::new(seq)), header.rest);
        prop_assert_eq!(read_at::<Be16>(&frame, 34 + Icmp4Header::ECHO_ID_OFFSET).unwrap().get(), id);
        let frame = PacketBuilder::ipv6(A6, B6).echo_reply(id, seq).build();
        let header: Icmp6Header = read_at(&frame, 54).unwrap();
        prop_assert_eq!((header.echo_id().get(), header.echo_sequence().get()), (id, seq));
        let frame = PacketBuilder::ipv6(A6, B6).too_big(mtu, &[]).build();
        prop_assert_eq!(read_at::<Icmp6Header>(&frame, 54).unwrap().next_hop_mtu(), mtu);
        let frame = PacketBuilder::ipv4(A4, B4).too_big(mtu & 0xffff, &[]).build();
        prop_assert_eq!(u32::from(read_at::<Icmp4Header>(&frame, 34).unwrap().next_hop_mtu()), mtu & 0xffff);
    }
}
