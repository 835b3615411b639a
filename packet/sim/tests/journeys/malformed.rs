//! Broken packets: each with its own reason.

use crate::{Family, assert_dropped, assert_lands, both, shop};
use tortie_abi::DropReason;
use tortie_sim::world::Landed;
use tortie_testkit::packet::{Extension, PacketBuilder, bit_flips, truncations};
use tortie_wire::tcp::TcpFlags;

#[test]
fn every_broken_header_has_its_reason() {
    let (world, a, b, _) = shop();
    let v4 = || PacketBuilder::ipv4(a.v4, b.v4).udp(1, 2);
    let cases = [
        (v4().patch_ip(0, &[0x44]).build(), DropReason::IpHeaderLength),
        (v4().patch_ip(0, &[0x55]).build(), DropReason::IpVersion),
        (v4().patch_ip(2, &[0xff, 0xff]).build(), DropReason::IpTruncated),
        (v4().patch_ip(2, &[0, 10]).build(), DropReason::IpHeaderLength),
        (v4().patch_transport(4, &[0, 4]).build(), DropReason::TransportTruncated),
        (v4().patch_transport(4, &[0x7f, 4]).build(), DropReason::TransportTruncated),
        (
            PacketBuilder::ipv4(a.v4, b.v4).tcp(1, 2).flags(TcpFlags::SYN.union(TcpFlags::FIN)).build(),
            DropReason::TcpFlags,
        ),
        (
            PacketBuilder::ipv4(a.v4, b.v4)
                .tcp(1, 2)
                .flags(TcpFlags::SYN)
                .patch_transport(12, &[0x40])
                .build(),
            DropReason::TransportTruncated,
        ),
        (PacketBuilder::ipv4("127.0.0.1".parse().unwrap(), b.v4).udp(1, 2).build(), DropReason::Martian),
        (PacketBuilder::ipv4("224.0.0.1".parse().unwrap(), b.v4).udp(1, 2).build(), DropReason::Martian),
        (PacketBuilder::ipv6("::1".parse().unwrap(), b.v6).udp(1, 2).build(), DropReason::Martian),
    ];
    for (frame, reason) in cases {
        assert_dropped(&world.send(&a, frame), reason);
    }
    let mut strange = PacketBuilder::ipv4(a.v4, b.v4).udp(1, 2).build();
    strange[12] = 0x88;
    strange[13] = 0xcc;
    assert_dropped(&world.send(&a, strange), DropReason::UnknownEthertype);
    assert_dropped(&world.send(&a, vec![0; 10]), DropReason::FrameTooShort);
}

#[test]
fn options_and_extension_headers_are_stepped_over() {
    let (world, a, b, _) = shop();
    for words in 1..=10 {
        let frame = PacketBuilder::ipv4(a.v4, b.v4).options(&vec![1; words * 4]).udp(1, 2).build();
        assert_lands(&world.send(&a, frame), "b");
    }
    let chain = PacketBuilder::ipv6(a.v6, b.v6)
        .extension(Extension::HopByHop(0))
        .extension(Extension::Destination(1))
        .udp(1, 2)
        .build();
    assert_lands(&world.send(&a, chain), "b");
}

#[test]
fn a_cut_or_flipped_packet_never_panics_and_never_gets_a_wrong_source() {
    both(|f| {
        let (world, a, b, _) = shop();
        let frame = crate::tcp(f.of(&a), 40000, f.of(&b), 80, TcpFlags::SYN);
        for cut in truncations(&frame) {
            let landed = world.send(&a, cut.to_vec()).landed;
            assert!(!matches!(landed, Landed::Pod(_)) || cut.len() == frame.len(), "{} bytes", cut.len());
        }
        for flipped in bit_flips(&frame, frame.len()) {
            let _ = world.send(&a, flipped);
        }
    });
}

#[test]
fn what_is_broken_but_not_for_a_pod_is_the_hosts_business() {
    let (world, _, _, _) = shop();
    let f = Family::V4;
    let frame = PacketBuilder::ip(f.outside(), f.node(0)).udp(1, 2).patch_transport(4, &[0, 4]).build();
    assert_eq!(world.arrive(0, frame).landed, Landed::Host(0));
}
