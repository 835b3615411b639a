//! Owns: reading headers into the state. Does not: judge who sent the packet.
//! Invariant: after `transport`, the tuple is what the flow tables know the packet by.

use crate::family::Family;
use crate::kernel::{Fragments, Packet};
use crate::state::{IP_OFFSET, State, fragment};
use crate::verdict::Step;
use tortie_abi::DropReason;
use tortie_wire::Be16;
use tortie_wire::icmp4::Icmp4Header;
use tortie_wire::proto::IpProtocol;
use tortie_wire::sctp::SctpHeader;
use tortie_wire::tcp::{TcpFlags, TcpHeader};
use tortie_wire::udp::UdpHeader;

/// The IP header and, in IPv6, its extension headers.
#[inline(always)]
pub fn ip<F: Family, K: Packet>(k: &K, s: &mut State<F>) -> Step<()> {
    s.ip = F::parse(k, IP_OFFSET)?;
    s.tuple.source = s.ip.source;
    s.tuple.destination = s.ip.destination;
    s.tuple.protocol = s.ip.protocol;
    s.transport_offset = IP_OFFSET.wrapping_add(s.ip.header_bytes);
    Ok(())
}

/// Addresses that may not be on a wire.
#[inline(always)]
pub fn refuse_martians<F: Family>(s: &State<F>) -> Step<()> {
    if F::is_martian_source(&s.tuple.source) || F::is_martian_destination(&s.tuple.destination) {
        return Err(DropReason::Martian);
    }
    Ok(())
}

/// Ports, TCP flags, ICMP type; of a later fragment, the ports that its first one had.
#[inline(always)]
pub fn transport<F: Family, K: Packet + Fragments<F>>(k: &K, s: &mut State<F>) -> Step<()> {
    if headers(k, s)? {
        learn_ports(k, s);
    }
    Ok(())
}

/// The same for a packet whose source has yet to be checked: whether there is something for [`learn_ports`] then.
#[inline(always)]
pub fn headers<F: Family, K: Packet + Fragments<F>>(k: &K, s: &mut State<F>) -> Step<bool> {
    if s.ip.fragment == fragment::LATER {
        later_fragment(k, s)?;
        return Ok(false);
    }
    let there = s.ip.total_bytes.wrapping_sub(s.ip.header_bytes);
    match IpProtocol(s.ip.protocol) {
        IpProtocol::TCP => tcp(k, s, there)?,
        IpProtocol::UDP => udp(k, s, there)?,
        IpProtocol::SCTP => sctp(k, s, there)?,
        protocol if protocol == F::ICMP => icmp(k, s, there)?,
        _ => return Ok(false),
    }
    Ok(s.ip.fragment == fragment::FIRST)
}

#[inline(always)]
fn tcp<F: Family, K: Packet>(k: &K, s: &mut State<F>, there: u32) -> Step<()> {
    let header: TcpHeader = k.load(s.transport_offset).ok_or(DropReason::TransportTruncated)?;
    let header_bytes = header.header_len().ok_or(DropReason::TransportTruncated)? as u32;
    if header_bytes > there {
        return Err(DropReason::TransportTruncated);
    }
    if header.flags.is_bogus() {
        return Err(DropReason::TcpFlags);
    }
    s.tuple.source_port = header.src_port;
    s.tuple.destination_port = header.dst_port;
    s.tcp_flags = header.flags.0;
    s.sequence = header.seq.get();
    let occupies =
        header.flags.intersects(TcpFlags::SYN) as u32 | header.flags.intersects(TcpFlags::FIN) as u32;
    s.sequence_end = s.sequence.wrapping_add(there.wrapping_sub(header_bytes)).wrapping_add(occupies);
    Ok(())
}

#[inline(always)]
fn udp<F: Family, K: Packet>(k: &K, s: &mut State<F>, there: u32) -> Step<()> {
    let header: UdpHeader = k.load(s.transport_offset).ok_or(DropReason::TransportTruncated)?;
    let length = header.len.get() as u32;
    let whole = s.ip.fragment == fragment::NONE && !k.is_aggregate();
    if there < UdpHeader::LEN as u32 || length < UdpHeader::LEN as u32 || (whole && length > there) {
        return Err(DropReason::TransportTruncated);
    }
    s.tuple.source_port = header.src_port;
    s.tuple.destination_port = header.dst_port;
    Ok(())
}

#[inline(always)]
fn sctp<F: Family, K: Packet>(k: &K, s: &mut State<F>, there: u32) -> Step<()> {
    let header: SctpHeader = k.load(s.transport_offset).ok_or(DropReason::TransportTruncated)?;
    if there < SctpHeader::LEN as u32 {
        return Err(DropReason::TransportTruncated);
    }
    s.tuple.source_port = header.src_port;
    s.tuple.destination_port = header.dst_port;
    Ok(())
}

/// Both families' ICMP headers have the same shape.
#[inline(always)]
fn icmp<F: Family, K: Packet>(k: &K, s: &mut State<F>, there: u32) -> Step<()> {
    let header: Icmp4Header = k.load(s.transport_offset).ok_or(DropReason::TransportTruncated)?;
    if there < Icmp4Header::LEN as u32 {
        return Err(DropReason::TransportTruncated);
    }
    s.icmp_type = header.kind;
    s.icmp_code = header.code;
    if F::icmp_is_echo(header.kind) {
        s.tuple.source_port = header.echo_id();
        s.tuple.destination_port = header.echo_id();
    }
    Ok(())
}

/// What the fragments after this first one are told.
#[inline(always)]
pub fn learn_ports<F: Family, K: Fragments<F>>(k: &K, s: &State<F>) {
    let [a, b] = s.tuple.source_port.to_bytes();
    let [c, d] = s.tuple.destination_port.to_bytes();
    k.learn_ports(&F::fragment_key(&s.tuple, s.ip.identification), [a, b, c, d]);
}

#[inline(always)]
fn later_fragment<F: Family, K: Fragments<F>>(k: &K, s: &mut State<F>) -> Step<()> {
    let key = F::fragment_key(&s.tuple, s.ip.identification);
    let protocol = IpProtocol(s.ip.protocol);
    match k.ports(&key) {
        Some([a, b, c, d]) => {
            s.tuple.source_port = Be16::from_bytes([a, b]);
            s.tuple.destination_port = Be16::from_bytes([c, d]);
            // Known by its first fragment, which was judged as a packet with a header.
            s.tcp_flags = TcpFlags::ACK.0;
            s.icmp_type = F::ECHO_REQUEST;
            Ok(())
        }
        None if protocol.has_ports() || protocol == F::ICMP => Err(DropReason::FragmentWithoutFirst),
        None => Ok(()),
    }
}

/// An ICMP error, whose quoted packet says what it is about.
#[inline(always)]
pub fn is_icmp_error<F: Family>(s: &State<F>) -> bool {
    is_icmp(s) && s.ip.fragment != fragment::LATER && F::icmp_is_error(s.icmp_type)
}

/// Neighbour discovery and multicast listener messages, straight from whoever is on the link, and whole (RFC 6980).
#[inline(always)]
pub fn is_link_control<F: Family>(s: &State<F>) -> bool {
    is_icmp(s) && s.ip.fragment == fragment::NONE && F::icmp_is_link_control(s.icmp_type, &s.ip)
}

/// A message that only a router may send.
#[inline(always)]
pub fn is_from_router<F: Family>(s: &State<F>) -> bool {
    is_icmp(s) && s.ip.fragment != fragment::LATER && F::icmp_is_from_router(s.icmp_type)
}

#[inline(always)]
fn is_icmp<F: Family>(s: &State<F>) -> bool {
    s.ip.protocol == F::ICMP.0
}

/// Is this a segment in the middle of a connection, sent by the client if its server is here?
#[inline(always)]
pub fn continues<F: Family>(s: &State<F>) -> bool {
    let flags = s.tcp();
    s.ip.protocol == IpProtocol::TCP.0
        && flags.intersects(TcpFlags(TcpFlags::ACK.0 | TcpFlags::RST.0))
        && !flags.intersects(TcpFlags::SYN)
}

/// May this packet open a flow? TCP: a SYN. ICMP: an echo request. Others: any packet.
#[inline(always)]
pub fn opens<F: Family>(s: &State<F>) -> bool {
    match IpProtocol(s.ip.protocol) {
        IpProtocol::TCP => s.tcp().is_opening(),
        protocol if protocol == F::ICMP => !F::icmp_is_echo(s.icmp_type) || s.icmp_type == F::ECHO_REQUEST,
        _ => true,
    }
}
