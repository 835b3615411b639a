//! Answers that the node makes out of the packet it refuses: TCP resets and ICMP errors.

use super::finish;
use crate::family::Family;
use crate::kernel::{Kernel, Packet};
use crate::stage::exit;
use crate::state::{IP_OFFSET, State, answer, fragment};
use crate::verdict::{Next, Step};
use tortie_abi::target::TargetKind;
use tortie_abi::{DropReason, Hook};
use tortie_wire::checksum::Sum;
use tortie_wire::eth::EthHeader;
use tortie_wire::icmp4::Icmp4Header;
use tortie_wire::proto::IpProtocol;
use tortie_wire::tcp::{TcpFlags, TcpHeader};
use tortie_wire::{Be16, Be32};

/// The longest quote of both families; a multiple of 16.
const MAX_QUOTE_BYTES: u32 = 96;

/// Turns the packet into the answer that `s.answer` names, and sends it back.
#[inline(always)]
pub fn reply<F: Family, K: Kernel<F>>(k: &K, s: &mut State<F>) -> Next {
    let step = answered(k, s);
    finish(s, step)
}

#[inline(always)]
fn answered<F: Family, K: Kernel<F>>(k: &K, s: &mut State<F>) -> Step<Next> {
    let reason = DropReason::from_word(s.reason).unwrap_or(DropReason::Internal);
    // The host's stack gets no answers from us, and nobody answers a later fragment, an error, or a group.
    if s.is_at(Hook::ToWorkload) || s.ip.fragment == fragment::LATER || F::is_group(&s.tuple.destination) {
        return Err(reason);
    }
    // The way back into the tunnel is the node that the packet came from.
    if s.is_at(Hook::FromTunnel) && s.reply_target.kind() != TargetKind::NextHop {
        return Err(reason);
    }
    let built = match s.answer {
        answer::RESET if s.tcp().intersects(TcpFlags::RST) => return Err(reason),
        answer::RESET => reset(k, s),
        answer::PORT_UNREACHABLE => icmp_error(k, s, F::PORT_UNREACHABLE, 0),
        answer::TTL_EXCEEDED => icmp_error(k, s, F::TTL_EXCEEDED, 0),
        answer::TOO_BIG => icmp_error(k, s, F::TOO_BIG, s.mtu_bytes),
        _ => return Err(DropReason::Internal),
    };
    built.ok_or(DropReason::ReplyFailed)?;
    swap_macs(k).ok_or(DropReason::ReplyFailed)?;
    exit::mark_seen(k)?;
    Ok(Next::Answer)
}

#[inline(always)]
fn swap_macs<K: Packet>(k: &K) -> Option<()> {
    let header: EthHeader = k.load(0)?;
    k.store(0, EthHeader { dst: header.src, src: header.dst, ethertype: header.ethertype })
}

/// RFC 9293 section 3.10.7.1: what a closed port answers.
#[inline(always)]
fn reset<F: Family, K: Kernel<F>>(k: &K, s: &State<F>) -> Option<()> {
    let segment: TcpHeader = k.load(s.transport_offset)?;
    let acknowledged = segment.flags.intersects(TcpFlags::ACK);
    let (seq, ack, flags) = if acknowledged {
        (segment.ack, Be32::ZERO, TcpFlags::RST)
    } else {
        (Be32::ZERO, Be32::new(s.sequence_end), TcpFlags::RST.union(TcpFlags::ACK))
    };
    let mut header = TcpHeader {
        src_port: s.tuple.destination_port,
        dst_port: s.tuple.source_port,
        seq,
        ack,
        data_offset: 5 << 4,
        flags,
        window: Be16::ZERO,
        checksum: Be16::ZERO,
        urgent: Be16::ZERO,
    };
    let length = TcpHeader::LEN as u16;
    let (source, destination) = (s.tuple.destination, s.tuple.source);
    header.checksum = F::pseudo_header(&source, &destination, IpProtocol::TCP, length)
        .word16(header.src_port)
        .word16(header.dst_port)
        .word32(seq)
        .word32(ack)
        .word16(Be16::from_bytes([header.data_offset, flags.0]))
        .checksum();
    let transport_offset = IP_OFFSET.wrapping_add(F::HEADER_BYTES);
    k.resize(transport_offset.wrapping_add(TcpHeader::LEN as u32))?;
    F::store_header(k, IP_OFFSET, &source, &destination, IpProtocol::TCP, length)?;
    k.store(transport_offset, header)
}

/// RFC 792, RFC 4443: the error quotes the start of the packet. The quote moves down word by word, from
/// its end, behind the new headers.
#[inline(always)]
fn icmp_error<F: Family, K: Kernel<F>>(
    k: &K,
    s: &State<F>,
    (kind, code): (u8, u8),
    mtu_bytes: u32,
) -> Option<()> {
    let quoted = quote_bytes(s) & !3;
    let headers = F::HEADER_BYTES.wrapping_add(Icmp4Header::LEN as u32);
    let start = IP_OFFSET.wrapping_add(headers);
    k.resize(start.wrapping_add(quoted))?;
    let length = quoted.wrapping_add(Icmp4Header::LEN as u32) as u16;
    let (source, destination) = (s.answer_source, s.tuple.source);
    let pseudo =
        if F::VERSION == 6 { F::pseudo_header(&source, &destination, F::ICMP, length) } else { Sum::EMPTY };
    let sum = move_quote(k, quoted, start, pseudo)?;
    let rest = Be32::new(mtu_bytes);
    let checksum = sum.word16(Be16::from_bytes([kind, code])).word32(rest).checksum();
    F::store_header(k, IP_OFFSET, &source, &destination, F::ICMP, length)?;
    k.store(IP_OFFSET.wrapping_add(F::HEADER_BYTES), Icmp4Header { kind, code, checksum, rest })
}

/// Moves `quoted` bytes (a multiple of 4) from the IP header on down to `start`, from their end, and adds
/// them up. In pieces of 16: each step has two outcomes, and the verifier follows every combination.
#[inline(always)]
fn move_quote<K: Packet>(k: &K, quoted: u32, start: u32, sum: Sum) -> Option<Sum> {
    let mut sum = sum;
    if quoted & 4 != 0 {
        let [word] = move_words::<1, K>(k, quoted & !7, start)?;
        sum = sum.word32(word);
    }
    if quoted & 8 != 0 {
        let [a, b] = move_words::<2, K>(k, quoted & !15, start)?;
        sum = sum.word32(a).word32(b);
    }
    let mut at = MAX_QUOTE_BYTES;
    while at != 0 {
        at = at.wrapping_sub(16);
        if at.wrapping_add(16) <= quoted {
            let [a, b, c, d] = move_words::<4, K>(k, at, start)?;
            sum = sum.word32(a).word32(b).word32(c).word32(d);
        }
    }
    Some(sum)
}

#[inline(always)]
fn move_words<const N: usize, K: Packet>(k: &K, at: u32, start: u32) -> Option<[Be32; N]> {
    let words: [Be32; N] = k.load(IP_OFFSET.wrapping_add(at))?;
    k.store(start.wrapping_add(at), words)?;
    Some(words)
}

/// All of the packet up to the family's bound, in IPv4 its header and 64 bits.
#[inline(always)]
fn quote_bytes<F: Family>(s: &State<F>) -> u32 {
    let wanted = if F::VERSION == 4 { s.ip.header_bytes.wrapping_add(8) } else { F::QUOTE_BYTES };
    wanted.min(s.ip.total_bytes).min(F::QUOTE_BYTES)
}
