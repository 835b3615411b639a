//! Owns: the oracle that says whether a frame's checksums are right. Does not: use our header types or our
//! sums; parsing and summing are etherparse's, so that one mistake cannot hide another.
//! Invariant: every checksum that can be checked is; what cannot be (fragments, encrypted or cut payloads) passes.

use std::net::IpAddr;

use etherparse::checksum::Sum16BitWords;
use etherparse::err::ip::LaxHeaderSliceError;
use etherparse::{IpNumber, LaxIpSlice, NetSlice, SlicedPacket};

use super::CRC32C;

/// Are all checksums of this Ethernet frame right, those of packets quoted in ICMP errors included? Frames that
/// hold no IP pass.
pub fn verify_checksums(frame: &[u8]) -> Result<(), String> {
    let ethernet = etherparse::Ethernet2Slice::from_slice_without_fcs(frame)
        .map_err(|error| format!("ethernet: {error}"))?;
    let mut payload = ethernet.payload();
    while let etherparse::EtherType::VLAN_TAGGED_FRAME | etherparse::EtherType::PROVIDER_BRIDGING =
        payload.ether_type
    {
        let tag = etherparse::SingleVlanSlice::from_slice(payload.payload)
            .map_err(|error| format!("vlan: {error}"))?;
        payload = tag.payload();
    }
    match payload.ether_type {
        etherparse::EtherType::IPV4 | etherparse::EtherType::IPV6 => verify_ip_checksums(payload.payload),
        _ => Ok(()),
    }
}

/// The same for a packet without an Ethernet header.
pub fn verify_ip_checksums(packet: &[u8]) -> Result<(), String> {
    verify(packet, false)
}

/// `quoted`: a packet inside an ICMP error, which may be cut anywhere.
fn verify(packet: &[u8], quoted: bool) -> Result<(), String> {
    let (ip, stopped) = match LaxIpSlice::from_slice(packet) {
        Ok(sliced) => sliced,
        Err(LaxHeaderSliceError::Len(_)) if quoted => return Ok(()),
        Err(error) => return Err(format!("ip: {error}")),
    };
    if let LaxIpSlice::Ipv4(v4) = &ip
        && sum(Sum16BitWords::new(), v4.header().slice()) != 0
    {
        return Err(format!("ipv4 header checksum {:#06x} is wrong", v4.header().header_checksum()));
    }
    let payload = ip.payload();
    if payload.fragmented || (quoted && (stopped.is_some() || payload.incomplete)) {
        return Ok(());
    }
    if stopped.is_some() || payload.incomplete {
        return Err("the packet is shorter than its headers say".into());
    }
    if !quoted && let Some(difference) = whole_packet_parse_differs(packet, payload.payload) {
        return Err(difference);
    }
    transport(&ip, payload.ip_number, payload.payload)
}

/// The strict parser must agree with the lax one on where the payload is.
fn whole_packet_parse_differs(packet: &[u8], payload: &[u8]) -> Option<String> {
    match SlicedPacket::from_ip(packet) {
        Ok(SlicedPacket { net: Some(NetSlice::Ipv4(v4)), .. }) if v4.payload().payload == payload => None,
        Ok(SlicedPacket { net: Some(NetSlice::Ipv6(v6)), .. }) if v6.payload().payload == payload => None,
        Ok(_) => Some("the payload's place is ambiguous".into()),
        Err(error) => Some(format!("transport: {error}")),
    }
}

fn transport(ip: &LaxIpSlice<'_>, protocol: IpNumber, bytes: &[u8]) -> Result<(), String> {
    let checked = match protocol {
        IpNumber::ICMP => (sum(Sum16BitWords::new(), bytes) == 0).then_some(()).ok_or("icmp"),
        IpNumber::UDP if udp_without_checksum(bytes) => {
            if ip.ipv6().is_some() {
                Err("udp without a checksum over IPv6:")
            } else {
                Ok(())
            }
        }
        IpNumber::TCP => (sum(pseudo(ip, protocol, bytes), bytes) == 0).then_some(()).ok_or("tcp"),
        IpNumber::UDP => (sum(pseudo(ip, protocol, bytes), bytes) == 0).then_some(()).ok_or("udp"),
        IpNumber::IPV6_ICMP => (sum(pseudo(ip, protocol, bytes), bytes) == 0).then_some(()).ok_or("icmpv6"),
        IpNumber::SCTP => sctp_is_right(bytes).then_some(()).ok_or("sctp"),
        _ => Ok(()),
    };
    checked.map_err(|name| format!("{name} checksum is wrong"))?;
    match quote(protocol, bytes) {
        Some(inner) => verify(inner, true).map_err(|error| format!("quoted packet: {error}")),
        None => Ok(()),
    }
}

/// The packet quoted in an ICMP error (RFC 792, RFC 4443 section 2.1).
fn quote(protocol: IpNumber, bytes: &[u8]) -> Option<&[u8]> {
    let error = match protocol {
        IpNumber::ICMP => matches!(bytes.first(), Some(3 | 4 | 5 | 11 | 12)),
        IpNumber::IPV6_ICMP => matches!(bytes.first(), Some(1..=4)),
        _ => false,
    };
    if error { bytes.get(8..) } else { None }
}

fn sum(start: Sum16BitWords, bytes: &[u8]) -> u16 {
    start.add_slice(bytes).ones_complement()
}

fn pseudo(ip: &LaxIpSlice<'_>, protocol: IpNumber, bytes: &[u8]) -> Sum16BitWords {
    let mut sum = Sum16BitWords::new();
    let mut add = |address| match address {
        IpAddr::V4(v4) => sum = sum.add_4bytes(v4.octets()),
        IpAddr::V6(v6) => sum = sum.add_16bytes(v6.octets()),
    };
    add(ip.source_addr());
    add(ip.destination_addr());
    sum.add_4bytes((bytes.len() as u32).to_be_bytes()).add_2bytes([0, protocol.0])
}

fn udp_without_checksum(bytes: &[u8]) -> bool {
    bytes.get(6..8) == Some(&[0, 0])
}

fn sctp_is_right(bytes: &[u8]) -> bool {
    let Some(stored) = bytes.get(8..12) else { return false };
    let mut zeroed = bytes.to_vec();
    zeroed[8..12].fill(0);
    CRC32C.checksum(&zeroed).to_le_bytes() == stored
}
