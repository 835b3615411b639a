//! The packet builder against an independent parser.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use proptest::prelude::*;
use tortie_testkit::packet::*;
use tortie_wire::Mac;
use tortie_wire::sctp::ChunkType;
use tortie_wire::tcp::TcpFlags;

const A4: Ipv4Addr = Ipv4Addr::new(10, 65, 0, 1);
const B4: Ipv4Addr = Ipv4Addr::new(10, 65, 1, 2);
const A6: Ipv6Addr = Ipv6Addr::new(0xfd00, 65, 0, 0, 0, 0, 0, 1);
const B6: Ipv6Addr = Ipv6Addr::new(0xfd00, 65, 1, 0, 0, 0, 0, 2);

fn v4() -> PacketBuilder {
    PacketBuilder::ipv4(A4, B4)
}

fn v6() -> PacketBuilder {
    PacketBuilder::ipv6(A6, B6)
}

/// One of everything that has checksums.
fn one_of_each() -> Vec<(&'static str, PacketBuilder)> {
    let quoted4 = v4().udp(40_000, 53).payload(b"question").build_ip();
    let quoted6 = v6().tcp(40_000, 443).build_ip();
    vec![
        ("tcp4", v4().tcp(1024, 80).flags(TcpFlags::PSH | TcpFlags::ACK).ack(5).payload(b"odd")),
        ("tcp4 options", v4().options(&[0x94, 4, 0, 0]).tcp(1, 2).tcp_options(&[2, 4, 5, 0xb4, 1])),
        ("udp4", v4().udp(5353, 53).payload_len(100)),
        ("sctp4", v4().sctp(7, 8).chunk(ChunkType::Init, &[1; 17])),
        ("echo4", v4().echo_request(9, 1).payload_len(56)),
        ("unreachable4", v4().port_unreachable(&quoted4)),
        ("unreachable4, quote cut", v4().port_unreachable(&quoted4[..28])),
        ("tcp6", v6().tcp(1024, 80).window(1)),
        ("udp6", v6().udp(5353, 53).payload_len(99)),
        ("sctp6", v6().sctp(7, 8).verification_tag(0).chunk(ChunkType::Abort, &[])),
        ("echo6", v6().echo_reply(9, 1)),
        ("too big 6", v6().too_big(1280, &quoted6)),
        ("time exceeded 6", v6().time_exceeded(&quoted6)),
        (
            "udp6 behind extensions",
            v6().extension(Extension::HopByHop(1))
                .extension(Extension::Routing(2))
                .extension(Extension::Authentication(3))
                .extension(Extension::Destination(0))
                .udp(1, 2)
                .payload(b"deep"),
        ),
    ]
}

#[test]
fn everything_built_has_right_checksums() {
    for (name, builder) in one_of_each() {
        assert_eq!(verify_checksums(&builder.build()), Ok(()), "{name}");
        assert_eq!(verify_checksums(&builder.vlan(7).build()), Ok(()), "{name} with a VLAN tag");
    }
}

#[test]
fn a_wrong_transport_checksum_is_noticed() {
    for (name, builder) in one_of_each() {
        let error = verify_checksums(&builder.wrong_transport_checksum().build());
        assert!(error.as_ref().is_err_and(|e| e.contains("checksum is wrong")), "{name}: {error:?}");
    }
}

#[test]
fn a_wrong_ip_checksum_is_noticed_also_in_a_quoted_packet() {
    let wrong = v4().udp(1, 2).wrong_ip_checksum();
    assert!(verify_checksums(&wrong.build()).is_err());
    assert!(verify_checksums(&v4().time_exceeded(&wrong.build_ip()).build()).is_err());
    let wrong = v6().udp(1, 2).wrong_transport_checksum();
    assert!(verify_checksums(&v6().time_exceeded(&wrong.build_ip()).build()).is_err());
}

#[test]
fn udp_without_a_checksum_is_right_over_ipv4_only() {
    assert_eq!(verify_checksums(&v4().udp(1, 2).no_udp_checksum().build()), Ok(()));
    assert!(verify_checksums(&v6().udp(1, 2).no_udp_checksum().build()).is_err());
}

#[test]
fn a_cut_packet_is_not_right() {
    let frame = v4().tcp(1, 2).payload_len(20).build();
    for cut in truncations(&frame) {
        assert!(verify_checksums(cut).is_err(), "cut to {} bytes", cut.len());
    }
}

#[test]
fn any_flipped_bit_of_what_a_checksum_covers_is_noticed() {
    let frame = v4().tcp(1, 2).payload_len(3).build();
    for flipped in bit_flips(&frame[14..], usize::MAX) {
        assert!(verify_ip_checksums(&flipped).is_err(), "{flipped:02x?}");
    }
}

#[test]
fn fragments_put_together_are_the_packet() {
    let deep = v6().extension(Extension::HopByHop(0)).extension(Extension::Destination(1));
    // Ethernet and IP headers, then what stays before the fragment header, and that one.
    for (name, builder, before_whole, before_piece) in [
        ("v4", v4().udp(1, 2).payload_len(3000), 14 + 20, 14 + 20),
        ("v6", deep.udp(1, 2).payload_len(3000), 14 + 40 + 8, 14 + 40 + 8 + 8),
    ] {
        let fragments = builder.build_fragments(1200);
        assert_eq!(fragments.len(), 3, "{name}");
        let mut together: Vec<u8> = Vec::new();
        for (i, fragment) in fragments.iter().enumerate() {
            assert_eq!(verify_checksums(fragment), Ok(()), "{name} {i}");
            let parsed = SlicedPacket::from_ethernet(fragment).unwrap();
            assert!(parsed.is_ip_payload_fragmented(), "{name} {i}");
            let (offset, more) = place_of(parsed.net.as_ref().unwrap());
            assert_eq!((offset, more), (i * 1200, i < 2), "{name} {i}");
            together.extend(&fragment[before_piece..]);
        }
        assert_eq!(together, builder.build()[before_whole..], "{name}");
    }
}

fn place_of(net: &NetSlice<'_>) -> (usize, bool) {
    match net {
        NetSlice::Ipv4(v4) => {
            (v4.header().fragments_offset().byte_offset().into(), v4.header().more_fragments())
        }
        NetSlice::Ipv6(v6) => v6
            .extensions()
            .clone()
            .into_iter()
            .find_map(|extension| match extension {
                etherparse::Ipv6ExtensionSlice::Fragment(fragment) => {
                    Some((fragment.fragment_offset().byte_offset().into(), fragment.more_fragments()))
                }
                _ => None,
            })
            .expect("a fragment header"),
        NetSlice::Arp(_) => panic!("ARP"),
    }
}

#[test]
fn neighbour_discovery_and_arp_are_what_an_independent_parser_reads() {
    let (a, b) = (Mac([2, 0, 0, 0, 0, 0xa]), Mac([2, 0, 0, 0, 0, 0xb]));
    for frame in [arp_request(a, A4, B4), arp_reply(a, A4, b, B4)] {
        let parsed = SlicedPacket::from_ethernet(&frame).unwrap();
        let NetSlice::Arp(arp) = parsed.net.unwrap() else { panic!("not ARP") };
        assert_eq!(
            (arp.sender_protocol_addr(), arp.target_protocol_addr()),
            (&A4.octets()[..], &B4.octets()[..])
        );
    }
    for frame in [
        neighbour_solicitation(a, A6, B6),
        neighbour_advertisement(b, B6, a, A6),
        router_advertisement(a, A6),
    ] {
        assert_eq!(verify_checksums(&frame), Ok(()));
        let parsed = SlicedPacket::from_ethernet(&frame).unwrap();
        assert!(matches!(parsed.transport, Some(TransportSlice::Icmpv6(_))));
    }
}

#[test]
fn patches_land_where_their_header_starts() {
    let builder = v6().extension(Extension::Destination(2)).udp(1, 2);
    let frame = builder.clone().patch_transport(0, &[0xab, 0xcd]).patch_ip(7, &[1]).build();
    assert_eq!(frame[builder.transport_offset()..][..2], [0xab, 0xcd]);
    assert_eq!(frame[builder.ip_offset() + 7], 1);
}

proptest! {
    #[test]
    fn random_packets_have_right_checksums_and_survive_the_independent_parser(
        v6 in any::<bool>(),
        src in any::<u128>(),
        dst in any::<u128>(),
        ports in any::<(u16, u16)>(),
        kind in 0..4,
        options in prop::collection::vec(any::<u8>(), 0..=40),
        payload in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let addresses: (IpAddr, IpAddr) = if v6 {
            (Ipv6Addr::from(src).into(), Ipv6Addr::from(dst).into())
        } else {
            (Ipv4Addr::from(src as u32).into(), Ipv4Addr::from(dst as u32).into())
        };
        let builder = PacketBuilder::ip(addresses.0, addresses.1);
        let builder = if v6 { builder } else { builder.options(&options) };
        let builder = match kind {
            0 => builder.tcp(ports.0, ports.1).tcp_options(&options),
            1 => builder.udp(ports.0, ports.1),
            2 => builder.sctp(ports.0, ports.1),
            _ => builder.echo_request(ports.0, ports.1),
        }
        .payload(&payload);
        let frame = builder.build();
        prop_assert_eq!(verify_checksums(&frame), Ok(()));
        let parsed = SlicedPacket::from_ethernet(&frame).unwrap();
        let seen = match parsed.net.unwrap() {
            NetSlice::Ipv4(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
            NetSlice::Ipv6(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
            NetSlice::Arp(_) => panic!("ARP"),
        };
        prop_assert_eq!(seen, addresses);
    }
}
