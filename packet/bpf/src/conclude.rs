//! From what the packet logic says to what the kernel does: the only place with return codes, tail calls,
//! drop counters and events.

use crate::map::{ANY, Programs};
use crate::maps::{COUNTER, ENDPOINT, EVENT, EVENT_LOST, NEXT_HOP, POLICY, SETTINGS, STAGE, Tables};
use crate::skb::Tc;
use aya_ebpf::bindings::{
    BPF_F_INGRESS, BPF_F_TUNINFO_IPV6, BPF_F_ZERO_CSUM_TX, TC_ACT_SHOT, TC_ACT_UNSPEC, bpf_redir_neigh,
    bpf_redir_neigh__bindgen_ty_1, bpf_tunnel_key,
};
use aya_ebpf::helpers::generated::{
    bpf_ktime_get_coarse_ns, bpf_redirect_neigh, bpf_redirect_peer, bpf_skb_set_tunnel_key,
};
use aya_ebpf::helpers::{bpf_redirect, bpf_skb_vlan_pop};
use tortie_abi::counter::{Counter, CounterKey};
use tortie_abi::event::{Event, Kind, Refusal};
use tortie_abi::{DropReason, Hook, Tick};
use tortie_datapath::kernel::Packet;
use tortie_datapath::state::{IP_OFFSET, NO_SLOT};
use tortie_datapath::{Family, Next, State};
use tortie_wire::{Be16, Ip6};
use zerocopy::{Immutable, IntoBytes};

/// The loopback interface is in every network namespace, with this index.
const LOOPBACK: u32 = 1;
/// Time to live of the outer header.
const TUNNEL_TTL: u8 = 64;

/// Does what comes next; the return code of the program.
#[inline(always)]
pub fn follow<F: Tables>(tc: &Tc, s: &mut State<F>, next: Next) -> i32 {
    match next {
        Next::Policy => {
            tail_call(tc, s, &POLICY, s.output);
            s.reason = DropReason::PolicyNotReady as u16;
        }
        Next::Reply => {
            tail_call(tc, s, &STAGE, F::REPLY);
            s.reason = DropReason::TailCall as u16;
        }
        Next::Related => {
            tail_call(tc, s, &STAGE, F::RELATED);
            s.reason = DropReason::TailCall as u16;
        }
        Next::Open => {
            tail_call(tc, s, &STAGE, F::OPEN);
            s.reason = DropReason::TailCall as u16;
        }
        Next::Apart => {
            tail_call(tc, s, &STAGE, F::APART);
            s.reason = DropReason::TailCall as u16;
        }
        Next::Admit => {
            tail_call(tc, s, &STAGE, F::RESUME);
            s.reason = DropReason::TailCall as u16;
        }
        _ => {}
    }
    conclude(tc, s, next)
}

/// Returns only when the slot is empty.
#[inline(always)]
fn tail_call<F: Family>(tc: &Tc, s: &mut State<F>, programs: &Programs, slot: u32) {
    // SAFETY: a field of what we alone refer to. Volatile: whoever is called reads it, which the compiler cannot know.
    unsafe { core::ptr::write_volatile(&raw mut s.awaits, 1) };
    // SAFETY: the context of this program.
    unsafe { programs.tail_call(tc.0.as_ptr(), slot) };
    s.awaits = 0;
}

/// A packet that a program of another object has begun, which is the last thing that is known about it: its way ends here. It is
/// counted where it is, by the interface and its direction.
#[inline(always)]
pub fn stray<F: Family>(tc: &Tc, s: &mut State<F>) -> Next {
    s.begin(place(tc), NO_SLOT, Tick(0));
    s.reason = DropReason::Internal as u16;
    Next::Drop
}

#[inline(always)]
fn place(tc: &Tc) -> Hook {
    let ifindex = tc.ifindex();
    let arrives = tc.0.ingress_ifindex() == ifindex;
    // Elsewhere than on workloads' interfaces no preamble has said a slot, and any number may be there.
    if ENDPOINT.with(&tc.0.slot(), |endpoint| endpoint.ifindex) == Some(ifindex) {
        return if arrives { Hook::FromWorkload } else { Hook::ToWorkload };
    }
    if SETTINGS.with(&0, |settings| settings.tunnel_ifindex) == Some(ifindex) {
        return Hook::FromTunnel;
    }
    if arrives { Hook::FromHostDevice } else { Hook::ToHostDevice }
}

/// Ends the program.
#[inline(always)]
fn conclude<F: Tables>(tc: &Tc, s: &mut State<F>, end: Next) -> i32 {
    #[cfg(feature = "test-io")]
    crate::test_io::record(s, end);
    if !end.is_forward() {
        count(tc, s);
    }
    match end {
        // Not "accept": other programs on the interface have their turn.
        Next::Pass => TC_ACT_UNSPEC,
        // SAFETY: a helper without pointers.
        Next::Peer => unsafe { bpf_redirect_peer(s.output, 0) as i32 },
        // SAFETY: a helper without pointers.
        Next::Interface => unsafe { bpf_redirect(s.output, 0) as i32 },
        Next::Neighbour => neighbour::<F>(s.output),
        // What was on its way out came from the stack, and is answered into it.
        Next::Answer if s.is_at(Hook::ToHostDevice) => into_stack(tc.ifindex()),
        Next::Answer if s.is_at(Hook::FromTunnel) => {
            tunnel::<F>(tc, s.reply_target.slot(), s.answer_network())
        }
        // SAFETY: a helper without pointers.
        Next::Answer => unsafe { bpf_redirect(tc.ifindex(), 0) as i32 },
        // SAFETY: without a next hop the kernel asks its routes.
        Next::Routed => unsafe { bpf_redirect_neigh(s.output, core::ptr::null_mut(), 0, 0) as i32 },
        Next::Local => into_stack(LOOPBACK),
        Next::Tunnel => tunnel::<F>(tc, s.output, s.tunnel_network()),
        // The last six could not be followed.
        Next::Drop | Next::Policy | Next::Reply | Next::Related | Next::Open | Next::Apart | Next::Admit => {
            TC_ACT_SHOT
        }
    }
}

/// As if it arrived at the interface.
#[inline(always)]
fn into_stack(ifindex: u32) -> i32 {
    // SAFETY: a helper without pointers.
    unsafe { bpf_redirect(ifindex, BPF_F_INGRESS as u64) as i32 }
}

/// Out of the interface that leads to the next hop, with its link-layer address from the neighbour table.
#[inline(always)]
fn neighbour<F: Tables>(slot: u32) -> i32 {
    let found = NEXT_HOP.with(&slot, |n| (n.ifindex, F::widen(&F::next_hop_address(n))));
    // The logic has read this record just before.
    let Some((ifindex, address)) = found else { return TC_ACT_SHOT };
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

/// Into the tunnel, whose device builds the outer headers.
#[inline(always)]
fn tunnel<F: Tables>(tc: &Tc, slot: u32, network: u32) -> i32 {
    // The helper takes an IPv4 address in the order of this machine, and an IPv6 address in the network's.
    let words = |Ip6([w0, w1, w2, w3])| {
        let first = if F::VERSION == 4 { w0.get() } else { w0.raw() };
        [first, w1.raw(), w2.raw(), w3.raw()]
    };
    // SAFETY: integers all the way down.
    let mut key: bpf_tunnel_key = unsafe { core::mem::zeroed() };
    let node = NEXT_HOP.with(&slot, |n| key.__bindgen_anon_1.remote_ipv6 = words(n.node));
    // By this address the other node knows who sends; the route there may prefer another of this node's.
    let own = SETTINGS.with(&0, |s| {
        key.__bindgen_anon_3.local_ipv6 = words(F::widen(&F::node_address(s)));
        s.tunnel_ifindex
    });
    let (Some(()), Some(ifindex)) = (node, own) else { return TC_ACT_SHOT };
    // A tag that says how urgent the frame is would travel inside, where there is no room for it.
    if tc.has_vlan_tag() {
        // SAFETY: a helper on our context; packet pointers are never kept.
        unsafe { bpf_skb_vlan_pop(tc.0.as_ptr().cast()) };
    }
    key.tunnel_id = network;
    key.tunnel_ttl = TUNNEL_TTL;
    // Over IPv6 a checksum is due; over IPv4 the one inside is enough (RFC 7348 section 5).
    let flags = if F::VERSION == 6 { BPF_F_TUNINFO_IPV6 } else { BPF_F_ZERO_CSUM_TX } as u64;
    // SAFETY: a helper on our context, which reads as many bytes as it is told there are.
    if unsafe {
        bpf_skb_set_tunnel_key(tc.0.as_ptr().cast(), &raw mut key, size_of::<bpf_tunnel_key>() as u32, flags)
    } != 0
    {
        return TC_ACT_SHOT;
    }
    // SAFETY: a helper without pointers.
    unsafe { bpf_redirect(ifindex, 0) as i32 }
}

/// Counts a drop by interface, hook and reason, and tells user space about it.
#[inline(always)]
fn count<F: Family>(tc: &Tc, s: &State<F>) {
    let reason = s.reason;
    let understood = s.ip.total_bytes != 0;
    let length = if understood { s.ip.total_bytes } else { tc.length().saturating_sub(IP_OFFSET) };
    let key = CounterKey { ifindex: tc.ifindex(), hook: s.hook, reason };
    add(&key, length);
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
    tell(&event);
}

/// Counts a system call that was refused, and tells user space about it.
#[inline(always)]
pub fn tell_refused(refusal: &Refusal) {
    add(&CounterKey { ifindex: 0, hook: refusal.hook, reason: refusal.reason }, 0);
    tell(refusal);
}

#[inline(always)]
fn tell<T: IntoBytes + Immutable>(record: &T) {
    if !EVENT.push(record) {
        EVENT_LOST.with(&0, |lost| *lost = lost.wrapping_add(1));
    }
}

#[inline(always)]
fn add(key: &CounterKey, bytes: u32) {
    let known = COUNTER.with(key, |counter| {
        // Per CPU: no other CPU writes it. A system call may be interrupted here, which loses a count.
        counter.packets = counter.packets.wrapping_add(1);
        counter.bytes = counter.bytes.wrapping_add(bytes as u64);
    });
    if known.is_none() {
        // When there is no room the event is still sent.
        let _ = COUNTER.update(key, &Counter { packets: 1, bytes: bytes as u64 }, ANY);
    }
}
