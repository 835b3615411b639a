//! Owns: the life of a TCP flow, from its segments' flags. Does not: judge windows.
//! Invariant: a reset only ends a flow when its sequence number is plausible for its direction.

use crate::family::{Family, FlowEntry};
use crate::seeded;
use crate::stage::direct;
use crate::state::State;
use tortie_abi::flow::{self, State as Life, tcp_seen};
use tortie_wire::tcp::TcpFlags;

/// How far from the highest sequence number seen a reset may be, bytes.
const RESET_WINDOW: u32 = 1 << 20;

/// The entry's own memory of flags, with this packet's.
#[inline(always)]
pub const fn seen(before: u8, flags: TcpFlags) -> u8 {
    let mut seen = before;
    if flags.intersects(TcpFlags::SYN) {
        seen |= tcp_seen::SYN;
    }
    if flags.intersects(TcpFlags::FIN) {
        seen |= tcp_seen::FIN;
    }
    if flags.intersects(TcpFlags::RST) {
        seen |= tcp_seen::RST;
    }
    if flags.intersects(TcpFlags::ACK) {
        seen |= tcp_seen::ACK;
    }
    seen
}

/// Whether an entry needs more than counting: it is not plainly established, or the flags say so.
#[inline(always)]
pub const fn is_eventful(life: u8, flags: TcpFlags) -> bool {
    life != Life::Established as u8
        || flags.intersects(TcpFlags(TcpFlags::SYN.0 | TcpFlags::FIN.0 | TcpFlags::RST.0))
}

/// The state after this packet. `partner_seen`: the flags the other direction has shown.
#[inline(always)]
pub fn next_state<F: Family>(s: &State<F>, life: Life, partner_seen: u8) -> Life {
    let flags = s.tcp();
    let core = s.flow.core();
    let reply = core.flags & flow::flags::REPLY != 0;
    if flags.intersects(TcpFlags::RST) {
        return if is_plausible(s.sequence, core.sequence) { Life::Reset } else { life };
    }
    if flags.intersects(TcpFlags::FIN) && life != Life::Reset {
        // Of a server that answers by another way the end is not seen.
        let last = partner_seen & tcp_seen::FIN != 0 || direct::is_half_seen(core.flags);
        return if last { Life::Closed } else { furthest(life, Life::Closing) };
    }
    match life {
        Life::SynSent if reply && flags.is_answer() => Life::SynReceived,
        Life::SynReceived if !reply && flags.intersects(TcpFlags::ACK) => Life::Established,
        // Traffic after a reset that was not meant, or not believed by the other side.
        Life::Reset if !flags.intersects(TcpFlags::SYN) && core.tcp_seen & tcp_seen::RST == 0 => {
            Life::Established
        }
        other => other,
    }
}

#[inline(always)]
const fn furthest(now: Life, next: Life) -> Life {
    if matches!(now, Life::Closed) { now } else { next }
}

/// The direction's highest sequence number after a segment that ends at `end`. Only a near one counts, and no reset does,
/// so that nobody can prepare a reset with a guess. The first segment of a direction sets it.
#[inline(always)]
pub const fn highest(before: u32, life: u8, flags: TcpFlags, end: u32) -> u32 {
    let first = flags.intersects(TcpFlags::SYN) && life != Life::Established as u8;
    let ahead = end.wrapping_sub(before);
    if first || (ahead < RESET_WINDOW && !flags.intersects(TcpFlags::RST)) { end } else { before }
}

#[inline(always)]
const fn is_plausible(sequence: u32, highest: u32) -> bool {
    seeded::RESETS_BELIEVED || highest.wrapping_sub(sequence).wrapping_add(RESET_WINDOW) <= RESET_WINDOW << 1
}

/// Have both sides ended it, or one of them with a reset?
#[inline(always)]
pub const fn has_ended(life: u8) -> bool {
    life == Life::Closed as u8 || life == Life::Reset as u8
}

/// Is the flow over, so that a SYN with the same ends starts another?
#[inline(always)]
pub const fn is_over(life: u8) -> bool {
    has_ended(life) || life == Life::Closing as u8
}
