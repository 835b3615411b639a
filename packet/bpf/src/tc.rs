//! The tc programs, as the loader finds them: each begins or continues a packet's state and calls its hook.

use crate::conclude::follow;
use crate::maps::Tables;
use crate::skb::{Skb, Tc};
use crate::tables::Running;
use aya_ebpf::bindings::{__sk_buff, TC_ACT_SHOT, TC_ACT_UNSPEC};
use tortie_abi::Hook;
use tortie_datapath::kernel::Clock;
use tortie_datapath::state::NO_SLOT;
use tortie_datapath::{Next, State, V4, V6, hook};

macro_rules! program {
    ($(#[$doc:meta])* $name:ident |$tc:ident| $run:expr) => {
        $(#[$doc])*
        #[unsafe(no_mangle)]
        #[unsafe(link_section = "classifier")]
        pub extern "C" fn $name(context: *mut __sk_buff) -> i32 {
            // SAFETY: this is the entry point: the kernel passes a valid context.
            let $tc = &Running(unsafe { Skb::new(context) });
            $run
        }
    };
}

program!(
    /// Packets leaving a pod, IPv4.
    from_workload4 |tc| begin(tc, Hook::FromWorkload, tc.0.slot(), |s: &mut State<V4>| hook::from_workload(tc, s))
);
program!(
    /// Packets leaving a pod, IPv6.
    from_workload6 |tc| begin(tc, Hook::FromWorkload, tc.0.slot(), |s: &mut State<V6>| hook::from_workload(tc, s))
);
program!(
    /// Packets leaving a pod that are neither IP nor ARP.
    from_workload_other |tc| begin(tc, Hook::FromWorkload, tc.0.slot(), |s: &mut State<V4>| hook::other(tc, s))
);
program!(
    /// Packets from the host's stack to a pod, IPv4.
    to_workload4 |tc| begin(tc, Hook::ToWorkload, tc.0.slot(), |s: &mut State<V4>| hook::to_workload(tc, s))
);
program!(
    /// Packets from the host's stack to a pod, IPv6.
    to_workload6 |tc| begin(tc, Hook::ToWorkload, tc.0.slot(), |s: &mut State<V6>| hook::to_workload(tc, s))
);
program!(
    /// Packets from the host's stack to a pod that are neither IP nor ARP.
    to_workload_other |tc| begin(tc, Hook::ToWorkload, tc.0.slot(), |s: &mut State<V4>| hook::other(tc, s))
);
program!(
    /// Packets from the network. Attached as it is, without a preamble.
    from_host_device |tc| match tc.0.ethertype() {
        0x0800 => begin(tc, Hook::FromHostDevice, NO_SLOT, |s: &mut State<V4>| hook::from_host_device(tc, s)),
        0x86dd => begin(tc, Hook::FromHostDevice, NO_SLOT, |s: &mut State<V6>| hook::from_host_device(tc, s)),
        _ => TC_ACT_UNSPEC,
    }
);
program!(
    /// Packets that the node's stack sends through a data interface or loopback. Attached as it is.
    to_host_device |tc| match tc.0.ethertype() {
        0x0800 => begin(tc, Hook::ToHostDevice, NO_SLOT, |s: &mut State<V4>| hook::to_host_device(tc, s)),
        0x86dd => begin(tc, Hook::ToHostDevice, NO_SLOT, |s: &mut State<V6>| hook::to_host_device(tc, s)),
        _ => TC_ACT_UNSPEC,
    }
);
program!(
    /// Packets out of the tunnel. Attached as it is.
    from_tunnel |tc| match tc.0.ethertype() {
        0x0800 => begin(tc, Hook::FromTunnel, NO_SLOT, |s: &mut State<V4>| hook::from_tunnel(tc, s)),
        0x86dd => begin(tc, Hook::FromTunnel, NO_SLOT, |s: &mut State<V6>| hook::from_tunnel(tc, s)),
        0x0806 => TC_ACT_UNSPEC,
        _ => begin(tc, Hook::FromTunnel, NO_SLOT, |s: &mut State<V4>| hook::other(tc, s)),
    }
);
program!(
    /// A flow begins at a data interface, IPv4.
    open4 |tc| go_on(tc, |s: &mut State<V4>| hook::open(tc, s))
);
program!(
    /// A flow begins at a data interface, IPv6.
    open6 |tc| go_on(tc, |s: &mut State<V6>| hook::open(tc, s))
);
program!(
    /// What few packets need before they leave, IPv4.
    apart4 |tc| go_on(tc, |s: &mut State<V4>| hook::apart(tc, s))
);
program!(
    /// What few packets need before they leave, IPv6.
    apart6 |tc| go_on(tc, |s: &mut State<V6>| hook::apart(tc, s))
);
program!(
    /// After a policy program, IPv4.
    resume4 |tc| go_on(tc, |s: &mut State<V4>| hook::resume(tc, s))
);
program!(
    /// After a policy program, IPv6.
    resume6 |tc| go_on(tc, |s: &mut State<V6>| hook::resume(tc, s))
);
program!(
    /// Answers with a TCP reset or an ICMP error, IPv4.
    reply4 |tc| go_on(tc, |s: &mut State<V4>| hook::reply(tc, s))
);
program!(
    /// Answers with a TCP reset or an ICMP error, IPv6.
    reply6 |tc| go_on(tc, |s: &mut State<V6>| hook::reply(tc, s))
);
program!(
    /// ICMP errors about a flow, IPv4.
    related4 |tc| go_on(tc, |s: &mut State<V4>| hook::related(tc, s))
);
program!(
    /// ICMP errors about a flow, IPv6.
    related6 |tc| go_on(tc, |s: &mut State<V6>| hook::related(tc, s))
);

/// Starts a packet's way.
#[inline(always)]
fn begin<F: Tables>(tc: &Tc, hook: Hook, slot: u32, run: impl FnOnce(&mut State<F>) -> Next) -> i32 {
    let Some(state) = scratch::<F>() else { return TC_ACT_SHOT };
    state.begin(hook, slot, tc.now());
    let next = run(state);
    follow(tc, state, next)
}

/// Continues after a tail call: the state is where the last program left it.
#[inline(always)]
fn go_on<F: Tables>(tc: &Tc, run: impl FnOnce(&mut State<F>) -> Next) -> i32 {
    let Some(state) = scratch::<F>() else { return TC_ACT_SHOT };
    let next = run(state);
    follow(tc, state, next)
}

/// This CPU's state memory.
#[inline(always)]
fn scratch<F: Tables>() -> Option<&'static mut State<F>> {
    // SAFETY: a per-CPU array of integers, asked for once in each program. tc programs run with bottom halves
    // off, so that none starts on this CPU before this one has ended.
    unsafe { F::SCRATCH.element(0) }
}
