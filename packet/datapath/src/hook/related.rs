//! ICMP errors: they belong to the flow whose packet they quote, and are translated like it, inside too. From a pod they are
//! about packets to that pod.

use super::finish;
use crate::family::{Family, FlowEntry, Spot};
use crate::kernel::{ChecksumKind, Kernel};
use crate::stage::{exit, nat, policy, route, table};
use crate::state::{IP_OFFSET, State};
use crate::tuple::Tuple;
use crate::verdict::{Next, Step};
use tortie_abi::DropReason;
use tortie_abi::Hook;
use tortie_abi::flow::flags;
use tortie_abi::route::Kind;
use tortie_wire::Be16;
use tortie_wire::checksum::Delta;
use tortie_wire::icmp4::Icmp4Header;
use tortie_wire::proto::IpProtocol;
use tortie_wire::tcp::TcpHeader;
use tortie_wire::udp::UdpHeader;

/// An ICMP error at any hook.
#[inline(always)]
pub fn related<F: Family, K: Kernel<F>>(k: &K, s: &mut State<F>) -> Next {
    let step = translate(k, s);
    finish(s, step)
}

/// Where things are inside the error.
#[derive(Clone, Copy)]
struct Quote {
    ip_offset: u32,
    transport_offset: u32,
}

#[inline(always)]
fn translate<F: Family, K: Kernel<F>>(k: &K, s: &mut State<F>) -> Step<Next> {
    let quote = read_quote(k, s)?;
    // A pod, whose source has been checked, has a say about what was sent to it, and not about what others have with each other.
    if s.is_at(Hook::FromWorkload) && s.translated.destination != s.tuple.source {
        return Err(DropReason::IcmpUnrelated);
    }
    // The error goes to whom the quoted packet came from: it travels with the other direction.
    s.rewritten = s.translated.reversed();
    s.partner = Spot::of(&F::flow_key(&s.rewritten));
    if !find(k, s) {
        return unrelated(k, s);
    }
    if !policy::is_current(k, s)? {
        return Err(DropReason::IcmpUnrelated);
    }
    nat::translate::<F, K>(k, &mut s.rewritten, &s.flow)?;
    s.rewritten = s.rewritten.reversed();
    let source = outer_source(s);
    if s.flow.core().flags & (flags::NAT_DESTINATION | flags::NAT_SOURCE) != 0 {
        write(k, s, &quote, &source).ok_or(DropReason::RewriteFailed)?;
    }
    s.tuple.source = source;
    s.tuple.destination = s.rewritten.source;
    // Addresses are done: what is left is the way out.
    s.flow.core_mut().flags &=
        flags::REPLY | flags::CLIENT_POLICY | flags::SERVER_POLICY | flags::LOOPBACK | flags::TUNNEL;
    exit::leave(k, s)
}

/// Copies the entry at `s.partner` to `s.flow`; whether there is one.
#[inline(always)]
fn find<F: Family, K: Kernel<F>>(k: &K, s: &mut State<F>) -> bool {
    let flow = &mut s.flow;
    table::anywhere(k, &s.partner, |entry| *flow = *entry).is_some()
}

/// To the host itself an error may mean something; to a pod, only its own flows'.
#[inline(always)]
fn unrelated<F: Family, K: Kernel<F>>(k: &K, s: &State<F>) -> Step<Next> {
    if s.is_at(Hook::ToHostDevice) {
        return Ok(Next::Pass);
    }
    let kind = route::kind(k, &s.tuple.destination);
    if s.is_at(Hook::FromHostDevice) && kind != Some(Kind::LocalPod) {
        return route::to_host(k, s, kind);
    }
    Err(DropReason::IcmpUnrelated)
}

/// Reads the quoted packet's ends into `s.translated`.
#[inline(always)]
fn read_quote<F: Family, K: Kernel<F>>(k: &K, s: &mut State<F>) -> Step<Quote> {
    let ip_offset = s.transport_offset.wrapping_add(Icmp4Header::LEN as u32);
    let ip = F::parse_quoted(k, ip_offset).map_err(|_| DropReason::IcmpUnrelated)?;
    let transport_offset = ip_offset.wrapping_add(ip.header_bytes);
    let tuple = &mut s.translated;
    *tuple = Tuple {
        source: ip.source,
        destination: ip.destination,
        source_port: Be16::ZERO,
        destination_port: Be16::ZERO,
        protocol: ip.protocol,
    };
    let protocol = IpProtocol(ip.protocol);
    if protocol.has_ports() {
        let [source, destination]: [Be16; 2] = k.load(transport_offset).ok_or(DropReason::IcmpUnrelated)?;
        tuple.source_port = source;
        tuple.destination_port = destination;
    } else if protocol == F::ICMP {
        let header: Icmp4Header = k.load(transport_offset).ok_or(DropReason::IcmpUnrelated)?;
        // An error about an error is never sent (RFC 1122 section 3.2.2, RFC 4443 section 2.4).
        if !F::icmp_is_echo(header.kind) {
            return Err(DropReason::IcmpUnrelated);
        }
        tuple.source_port = header.echo_id();
        tuple.destination_port = header.echo_id();
    }
    Ok(Quote { ip_offset, transport_offset })
}

/// The error's own source: it changes only when the quoted destination itself speaks, a router keeps its
/// name. Its destination is the quoted source.
#[inline(always)]
fn outer_source<F: Family>(s: &State<F>) -> F::Addr {
    if s.tuple.source == s.translated.destination { s.rewritten.destination } else { s.tuple.source }
}

/// The quoted transport's own checksum follows its addresses and ports, as far as the quote reaches. Gives
/// what that changes in the error's checksum.
#[inline(always)]
fn write_quoted_checksum<F: Family, K: Kernel<F>>(
    k: &K,
    s: &State<F>,
    quote: &Quote,
    ports: Delta,
) -> Option<Delta> {
    let (old, new) = (&s.translated, &s.rewritten);
    let (offset, udp) = match IpProtocol(old.protocol) {
        IpProtocol::TCP => (TcpHeader::CHECKSUM_OFFSET, false),
        IpProtocol::UDP => (UdpHeader::CHECKSUM_OFFSET, true),
        _ => return Some(Delta::NONE),
    };
    let at = quote.transport_offset.wrapping_add(offset as u32);
    let Some(before) = k.load::<Be16>(at) else { return Some(Delta::NONE) };
    let delta = F::address_delta(ports, &old.source, &new.source);
    let delta = F::address_delta(delta, &old.destination, &new.destination);
    let after = if udp { delta.apply_udp(before) } else { delta.apply(before) };
    k.store(at, after)?;
    Some(Delta::NONE.word16(before, after))
}

/// Rewrites the quoted packet (`s.translated` becomes `s.rewritten`), the outer header, and the error's
/// checksum, which covers the quote.
#[inline(always)]
fn write<F: Family, K: Kernel<F>>(k: &K, s: &State<F>, quote: &Quote, source: &F::Addr) -> Option<()> {
    let (old, new) = (&s.translated, &s.rewritten);
    // An IPv4 header's checksum makes up for its addresses, so only IPv6's count.
    let mut delta = Delta::NONE;
    if F::VERSION == 6 {
        delta = F::address_delta(delta, &old.source, &new.source);
        delta = F::address_delta(delta, &old.destination, &new.destination);
    }
    F::store_addresses(k, quote.ip_offset, (&old.source, &old.destination), (&new.source, &new.destination))?;
    if IpProtocol(old.protocol).has_ports() {
        k.store(quote.transport_offset, [new.source_port, new.destination_port])?;
        let ports = Delta::NONE
            .word16(old.source_port, new.source_port)
            .word16(old.destination_port, new.destination_port);
        delta = delta.and(ports).and(write_quoted_checksum::<F, K>(k, s, quote, ports)?);
    }
    let checksum = s.transport_offset.wrapping_add(Icmp4Header::CHECKSUM_OFFSET as u32);
    if F::VERSION == 6 {
        let addresses = F::address_delta(Delta::NONE, &s.tuple.source, source);
        let addresses = F::address_delta(addresses, &s.tuple.destination, &new.source);
        k.update_checksum(checksum, addresses, ChecksumKind::PseudoHeader { udp: false })?;
    }
    k.update_checksum(checksum, delta, ChecksumKind::Payload { udp: false })?;
    F::store_addresses(k, IP_OFFSET, (&s.tuple.source, &s.tuple.destination), (source, &new.source))
}
