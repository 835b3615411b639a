//! Any bytes as any header at any offset: reading never panics, and writing back changes nothing; a checksum
//! updated for a changed word equals the one computed anew.

use tortie_wire::arp::ArpPacket;
use tortie_wire::checksum::{Delta, Sum};
use tortie_wire::eth::{EthHeader, VlanTag};
use tortie_wire::icmp4::Icmp4Header;
use tortie_wire::icmp6::Icmp6Header;
use tortie_wire::ip4::Ip4Header;
use tortie_wire::ip6::{ExtHeader, FragmentHeader, Ip6Header, NextHeader};
use tortie_wire::sctp::{ChunkHeader, SctpHeader};
use tortie_wire::tcp::TcpHeader;
use tortie_wire::udp::UdpHeader;
use tortie_wire::vxlan::VxlanHeader;
use tortie_wire::{Be16, read_at, write_at};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Checks one input.
pub fn check(bytes: &[u8]) {
    for offset in 0..=bytes.len() {
        every_header(bytes, offset);
    }
    updated_checksum_is_right(bytes);
}

fn every_header(bytes: &[u8], offset: usize) {
    survives::<EthHeader>(bytes, offset);
    survives::<VlanTag>(bytes, offset);
    survives::<ArpPacket>(bytes, offset);
    survives::<FragmentHeader>(bytes, offset);
    survives::<TcpHeader>(bytes, offset);
    survives::<UdpHeader>(bytes, offset);
    survives::<SctpHeader>(bytes, offset);
    survives::<ChunkHeader>(bytes, offset);
    survives::<Icmp4Header>(bytes, offset);
    survives::<Icmp6Header>(bytes, offset);
    survives::<VxlanHeader>(bytes, offset);
    if let Some(ip) = survives::<Ip4Header>(bytes, offset) {
        let length = ip.header_len();
        assert!(
            length.is_none_or(|length| (20..=60).contains(&length)),
            "an IPv4 header of {length:?} bytes"
        );
    }
    if let Some(ip) = survives::<Ip6Header>(bytes, offset) {
        extension_headers_advance(bytes, ip, offset.saturating_add(Ip6Header::LEN));
    }
}

/// Reads a header; writing it back must leave the bytes as they were.
fn survives<T: FromBytes + IntoBytes + Immutable>(bytes: &[u8], offset: usize) -> Option<T> {
    let header: T = read_at(bytes, offset)?;
    let mut written = bytes.to_vec();
    assert!(write_at(&mut written, offset, &header).is_some(), "read at {offset} but not written there");
    assert_eq!(written, bytes, "read at {offset} and written back");
    Some(header)
}

fn extension_headers_advance(bytes: &[u8], ip: Ip6Header, mut at: usize) {
    let mut next = ip.next;
    while let NextHeader::Extension(kind) = NextHeader::of(next) {
        let Some(header) = read_at::<ExtHeader>(bytes, at) else { return };
        let length = kind.byte_len(header.len);
        assert!(length >= 8, "an extension header of {length} bytes would loop for ever");
        at = at.saturating_add(length);
        next = header.next;
    }
}

/// The first four bytes choose a word of the rest and its new value.
fn updated_checksum_is_right(bytes: &[u8]) {
    let [place, high_place, high, low, covered @ ..] = bytes else { return };
    let words = covered.len() / 2;
    if words == 0 {
        return;
    }
    let at = usize::from(u16::from_le_bytes([*place, *high_place])) % words * 2;
    let new = Be16::from_bytes([*high, *low]);
    let mut changed = covered.to_vec();
    let old: Option<Be16> = read_at(covered, at);
    let (Some(old), Some(())) = (old, write_at(&mut changed, at, &new)) else {
        panic!("word {at} of {} bytes is out of reach", covered.len())
    };
    let before = Sum::EMPTY.bytes(covered).checksum();
    let updated = Delta::NONE.word16(old, new).apply(before);
    if changed.iter().all(|byte| *byte == 0) {
        // Ones' complement has two zeros and the update may give the other one. No header is all zeros.
        return;
    }
    let anew = Sum::EMPTY.bytes(&changed);
    let valid = anew.word16(updated).is_valid();
    assert!(valid, "{updated:?} after the update, {:?} computed anew", anew.checksum());
}
