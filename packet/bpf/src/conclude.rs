//! From what the packet logic says to what the kernel does: the only place with return codes, tail calls,
//! drop counters and events.

use crate::map::ANY;
use crate::maps::{COUNTER, EVENT, EVENT_LOST, POLICY, STAGE, Tables};
use crate::skb::Tc;
use aya_ebpf::bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC, bpf_redir_neigh, bpf_redir_neigh__bindgen_ty_1};
use aya_ebpf::helpers::bpf_redirect;
use aya_ebpf::helpers::generated::{bpf_ktime_get_coarse_ns, bpf_redirect_neigh, bpf_redirect_peer};
use tortie_abi::DropReason;
use tortie_abi::counter::{Counter, CounterKey};
use tortie_abi::event::{Event, Kind};
use tortie_datapath::kernel::Packet;
use tortie_datapath::state::IP_OFFSET;
use tortie_datapath::{Family, Next, State, Verdict};
use tortie_wire::{Be16, Ip6};

/// Does what comes next; the return code of the program.
#[inline(always)]
pub fn follow<F: Tables>(tc: &Tc, s: &State<F>, next: Next) -> i32 {
    let verdict = match next {
        Next::Verdict(verdict) => verdict,
        Next::Policy(slot) => {
            tail_call(tc, &POLICY, slot);
            Verdict::Drop(DropReason::PolicyNotReady)
        }
        Next::Reply => {
            tail_call(tc, &STAGE, F::REPLY);
            Verdict::Drop(DropReason::TailCall)
        }
        Next::Related => {
            tail_call(tc, &STAGE, F::RELATED);
            Verdict::Drop(DropReason::TailCall)
        }
    };
    conclude(tc, s, verdict)
}

/// Returns only when the slot is empty.
#[inline(always)]
fn tail_call(tc: &Tc, programs: &crate::map::Programs, slot: u32) {
    // SAFETY: the context of this program.
    unsafe { programs.tail_call(tc.0.as_ptr(), slot) };
}

/// Ends the program.
#[inline(always)]
fn conclude<F: Tables>(tc: &Tc, s: &State<F>, verdict: Verdict) -> i32 {
    #[cfg(feature = "test-io")]
    crate::test_io::record(&verdict);
    match verdict {
        // Not "accept": other programs on the interface have their turn.
        Verdict::Pass => TC_ACT_UNSPEC,
        // SAFETY: a helper without pointers.
        Verdict::Peer { ifindex } => unsafe { bpf_redirect_peer(ifindex, 0) as i32 },
        // SAFETY: a helper without pointers.
        Verdict::Interface { ifindex } => unsafe { bpf_redirect(ifindex, 0) as i32 },
        Verdict::Neighbour { ifindex, address, .. } => neighbour::<F>(ifindex, address),
        Verdict::Answer => {
            count(tc, s, s.reason);
            // SAFETY: a helper without pointers.
            unsafe { bpf_redirect(tc.ifindex(), 0) as i32 }
        }
        Verdict::Drop(reason) => {
            count(tc, s, reason as u16);
            TC_ACT_SHOT
        }
    }
}

/// Out of the interface that leads to the next hop, with its link-layer address from the neighbour table.
#[inline(always)]
fn neighbour<F: Tables>(ifindex: u32, address: Ip6) -> i32 {
    let Ip6([w0, w1, w2, w3]) = address;
    let mut next_hop = bpf_redir_neigh {
        nh_family: F::ADDRESS_FAMILY,
        __bindgen_anon_1: bpf_redir_neigh__bindgen_ty_1 { ipv6_nh: [w0.raw(), w1.raw(), w2.raw(), w3.raw()] },
    };
    // SAFETY: the helper reads as many bytes as it is told there are.
    let code =
        unsafe { bpf_redirect_neigh(ifindex, &raw mut next_hop, size_of::<bpf_redir_neigh>() as i32, 0) };
    code as i32
}

/// Counts a drop by interface, hook and reason, and tells user space about it.
#[inline(always)]
fn count<F: Family>(tc: &Tc, s: &State<F>, reason: u16) {
    let understood = s.ip.total_bytes != 0;
    let length = if understood { s.ip.total_bytes } else { tc.length().saturating_sub(IP_OFFSET) };
    let key = CounterKey { ifindex: tc.ifindex(), hook: s.hook, reason };
    let known = COUNTER.with(&key, |counter| {
        // Per CPU: nobody else writes it.
        counter.packets = counter.packets.wrapping_add(1);
        counter.bytes = counter.bytes.wrapping_add(length as u64);
    });
    if known.is_none() {
        // When there is no room the event is still sent.
        let _ = COUNTER.update(&key, &Counter { packets: 1, bytes: length as u64 }, ANY);
    }
    let icmp = s.tuple.protocol == F::ICMP.0;
    let event = Event {
        // SAFETY: a helper without arguments.
        time_nanos: unsafe { bpf_ktime_get_coarse_ns() },
        kind: Kind::Drop as u16,
        hook: s.hook,
        reason,
        protocol: s.ip.protocol,
        family: if understood { F::VERSION } else { 0 },
        ifindex: key.ifindex,
        rule: s.rule,
        source: F::widen(&s.ip.source),
        destination: F::widen(&s.ip.destination),
        source_port: if icmp { Be16::from_bytes([s.icmp_type, s.icmp_code]) } else { s.tuple.source_port },
        destination_port: s.tuple.destination_port,
        length,
    };
    if !EVENT.push(&event) {
        EVENT_LOST.with(&0, |lost| *lost = lost.wrapping_add(1));
    }
}
