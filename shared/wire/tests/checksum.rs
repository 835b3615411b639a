//! Checksums against a plain reference and an independent crate.

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use tortie_testkit::packet::{DST_MAC, PacketBuilder, SRC_MAC};
use tortie_wire::checksum::{Delta, Sum};
use tortie_wire::crc32c::PortChange;
use tortie_wire::{Be16, Be32, Ip4, Ip6, IpProtocol};

/// RFC 1071 word by word, on numbers in host order.
fn reference(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for word in bytes.chunks(2) {
        sum += u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[test]
fn the_example_of_rfc_1071_gives_its_sum() {
    let sum = Sum::EMPTY.bytes(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
    assert_eq!(sum.checksum().get(), !0xddf2);
}

#[test]
fn the_example_of_rfc_1624_gives_its_result() {
    // Section 4: HC = 0xdd2f, m = 0x5555, m' = 0x3285; equation 3 gives 0x0000, equation 2 would give 0xffff.
    let updated = Delta::NONE.word16(Be16::new(0x5555), Be16::new(0x3285)).apply(Be16::new(0xdd2f));
    assert_eq!(updated.get(), 0x0000);
}

#[test]
fn a_udp_checksum_is_never_stored_as_zero() {
    let sum = Sum::EMPTY.word16(Be16::new(0xffff));
    assert_eq!((sum.checksum().get(), sum.udp_checksum().get()), (0, 0xffff));
    let to_zero = Delta::NONE.word16(Be16::new(0x5555), Be16::new(0x3285));
    assert_eq!(to_zero.apply_udp(Be16::new(0xdd2f)).get(), 0xffff);
}

#[test]
fn a_udp_packet_without_checksum_stays_without() {
    let delta = Delta::NONE.word16(Be16::new(1), Be16::new(2));
    assert_eq!(delta.apply_udp(Be16::ZERO), Be16::ZERO);
}

#[test]
fn summing_a_great_many_large_words_loses_nothing() {
    let mut sum = Sum::EMPTY;
    for _ in 0..100_000 {
        sum = sum.word32(Be32::new(u32::MAX)).word16(Be16::new(u16::MAX));
    }
    assert_eq!(sum.checksum().get(), 0);
}

#[test]
fn folding_is_right_where_carries_make_carries() {
    for full in 0..6 {
        for last in (0..=0x2_0000u32).chain(0xfffe_0000..=u32::MAX) {
            let mut sum = Sum::EMPTY.word32(Be32::from_raw(last));
            let mut halves = u64::from(last >> 16) + u64::from(last & 0xffff);
            for _ in 0..full {
                sum = sum.word32(Be32::from_raw(u32::MAX));
                halves += 2 * 0xffff;
            }
            let folded = match halves {
                0 => 0,
                n if n.is_multiple_of(0xffff) => 0xffff,
                n => (n % 0xffff) as u16,
            };
            assert_eq!(sum.checksum().raw(), !folded, "{full} full words and {last:#x}");
        }
    }
}

fn ip4() -> impl Strategy<Value = Ip4> {
    any::<u32>().prop_map(|n| Ipv4Addr::from(n).into())
}

fn ip6() -> impl Strategy<Value = Ip6> {
    any::<u128>().prop_map(|n| Ipv6Addr::from(n).into())
}

/// Words where carries and the two zeros of ones' complement are near.
fn edgy() -> impl Strategy<Value = u16> {
    prop_oneof![Just(0), Just(1), Just(0xfffe), Just(0xffff), any::<u16>()]
}

proptest! {
    #[test]
    fn a_sum_of_bytes_equals_the_reference(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        prop_assert_eq!(Sum::EMPTY.bytes(&bytes).checksum().get(), reference(&bytes));
    }

    #[test]
    fn pieces_sum_to_the_whole(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        cut in 0usize..100,
    ) {
        let (a, b) = bytes.split_at((cut * 2).min(bytes.len() & !1));
        prop_assert_eq!(Sum::EMPTY.bytes(a).bytes(b).checksum(), Sum::EMPTY.bytes(&bytes).checksum());
    }

    #[test]
    fn what_carries_its_checksum_is_valid_and_one_flipped_bit_is_not(
        bytes in prop::collection::vec(any::<u8>(), 2..200),
        bit in any::<prop::sample::Index>(),
    ) {
        let mut bytes = bytes;
        if bytes.len() % 2 == 1 {
            bytes.push(0);
        }
        bytes[..2].fill(0);
        let checksum = Sum::EMPTY.bytes(&bytes).checksum();
        bytes[..2].copy_from_slice(&checksum.to_bytes());
        prop_assert!(Sum::EMPTY.bytes(&bytes).is_valid());
        let bit = bit.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(!Sum::EMPTY.bytes(&bytes).is_valid());
    }

    #[test]
    fn pseudo_headers_equal_an_independent_crate(
        (src4, dst4) in (ip4(), ip4()),
        (src6, dst6) in (ip6(), ip6()),
        payload in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let header = etherparse::UdpHeader {
            source_port: 1, destination_port: 2, length: 8 + payload.len() as u16, checksum: 0,
        };
        let bytes = [&header.to_bytes()[..], &payload].concat();
        let len = bytes.len();
        let ours = Sum::pseudo_v4(src4, dst4, IpProtocol::UDP, len as u16).bytes(&bytes).udp_checksum();
        let theirs = header.calc_checksum_ipv4_raw(src4.octets(), dst4.octets(), &payload).unwrap();
        prop_assert_eq!(ours.get(), theirs);
        let ours = Sum::pseudo_v6(src6, dst6, IpProtocol::UDP, len as u32).bytes(&bytes).udp_checksum();
        let theirs = header.calc_checksum_ipv6_raw(src6.octets(), dst6.octets(), &payload).unwrap();
        prop_assert_eq!(ours.get(), theirs);
    }

    #[test]
    fn an_incremental_update_of_words_equals_a_full_computation(
        words in prop::collection::vec(edgy(), 1..40),
        changes in prop::collection::vec((any::<prop::sample::Index>(), edgy()), 1..8),
    ) {
        // As in every real header, one word is never zero.
        let mut words = words;
        words.push(0x4500);
        let sum = |words: &[u16]| words.iter().fold(Sum::EMPTY, |sum, w| sum.word16(Be16::new(*w)));
        let before = sum(&words).checksum();
        let mut delta = Delta::NONE;
        for (index, new) in &changes {
            let index = index.index(words.len() - 1);
            delta = delta.word16(Be16::new(words[index]), Be16::new(*new));
            words[index] = *new;
        }
        prop_assert_eq!(delta.apply(before), sum(&words).checksum());
        prop_assert_eq!(delta.apply_udp(sum(&words).udp_checksum()).is_zero(), false);
    }

    #[test]
    fn a_translated_ipv4_packet_has_the_checksum_of_a_new_one(
        (src, dst, new_dst) in (ip4(), ip4(), ip4()),
        (port, new_port) in any::<(u16, u16)>(),
        payload in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let full = |dst: Ip4, port: u16| {
            let sum = Sum::pseudo_v4(src, dst, IpProtocol::UDP, payload.len() as u16 + 2);
            sum.word16(Be16::new(port)).bytes(&payload).udp_checksum()
        };
        let delta = Delta::NONE.ip4(dst, new_dst).word16(port.into(), new_port.into());
        prop_assert_eq!(delta.apply_udp(full(dst, port)), full(new_dst, new_port));
    }

    #[test]
    fn a_translated_ipv6_packet_has_the_checksum_of_a_new_one_and_translating_back_restores_it(
        (src, dst, new_dst) in (ip6(), ip6(), ip6()),
        (port, new_port) in any::<(u16, u16)>(),
        payload in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let full = |dst: Ip6, port: u16| {
            let sum = Sum::pseudo_v6(src, dst, IpProtocol::TCP, payload.len() as u32 + 2);
            sum.word16(Be16::new(port)).bytes(&payload).checksum()
        };
        let there = Delta::NONE.ip6(dst, new_dst).and(Delta::NONE.word16(port.into(), new_port.into()));
        let back = Delta::NONE.ip6(new_dst, dst).word16(new_port.into(), port.into());
        prop_assert_eq!(there.apply(full(dst, port)), full(new_dst, new_port));
        prop_assert_eq!(back.apply(there.apply(full(dst, port))), full(dst, port));
    }

    #[test]
    fn the_kernels_way_of_applying_a_difference_gives_the_same(
        (old, new) in (ip4(), ip4()),
        data in edgy(),
    ) {
        // csum_replace_by_diff: fold(diff + ~checksum), complemented.
        let before = Sum::EMPTY.word16(Be16::new(data)).word32(old.0).word16(Be16::new(0x4500)).checksum();
        let delta = Delta::NONE.ip4(old, new);
        let mut sum = u64::from(delta.to_kernel()) + u64::from(!before.raw());
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        prop_assert_eq!(Be16::from_raw(!(sum as u16)), delta.apply(before));
    }
}

/// SCTP's header and so many bytes behind it, with a checksum of the test kit's.
fn sctp(ports: (u16, u16), payload: usize) -> Vec<u8> {
    let (from, to) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
    let builder = PacketBuilder::ip(from.into(), to.into()).mac(SRC_MAC, DST_MAC).sctp(ports.0, ports.1);
    builder.payload_len(payload).build().split_off(34)
}

proptest! {
    #[test]
    fn sctps_checksum_follows_its_ports_at_every_length(
        old in any::<(u16, u16)>(), new in any::<(u16, u16)>(), payload in 0usize..9000,
    ) {
        let (before, after) = (sctp(old, payload), sctp(new, payload));
        let ports = |(a, b): (u16, u16)| [Be16::new(a), Be16::new(b)];
        let change = PortChange::new(ports(old), ports(new), before.len() as u16);
        let checksum = |packet: &[u8]| Be32::from_bytes(packet[8..12].try_into().unwrap());
        prop_assert_eq!(change.apply(checksum(&before)), checksum(&after));
        prop_assert_eq!(change.apply(Be32::ZERO), Be32::ZERO, "nobody has computed it yet");
    }
}
