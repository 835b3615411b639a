//! The tc programs, as the loader finds them: each begins or continues a packet's state and calls its hook.

use crate::conclude::{follow, stray};
use crate::maps::Tables;
use crate::skb::Skb;
use crate::tables::Running;
use aya_ebpf::bindings::{__sk_buff, TC_ACT_SHOT, TC_ACT_UNSPEC};
use tortie_abi::Hook;
use tortie_datapath::kernel::Clock;
use tortie_datapath::state::NO_SLOT;
use tortie_datapath::{State, V4, V6, hook};

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

/// Starts a packet's way, or continues after a tail call: the state is where the last program left it, if that was one of this
/// object. No function with the hook as argument: that may become one in the object, too, with a stack of its own.
macro_rules! run {
    ($tc:ident, begin($hook:expr, $slot:expr), hook::$run:ident, $family:ty) => {{
        let Some(state) = scratch::<$family>() else { return TC_ACT_SHOT };
        state.begin($hook, $slot, $tc.now());
        let next = hook::$run($tc, state);
        follow($tc, state, next)
    }};
    ($tc:ident, hook::$run:ident, $family:ty) => {{
        let Some(state) = scratch::<$family>() else { return TC_ACT_SHOT };
        let next = if state.take_over() { hook::$run($tc, state) } else { stray($tc, state) };
        follow($tc, state, next)
    }};
}

program!(
    /// Packets leaving a pod, IPv4.
    from_workload4 |tc| run!(tc, begin(Hook::FromWorkload, tc.0.slot()), hook::from_workload, V4)
);
program!(
    /// Packets leaving a pod, IPv6.
    from_workload6 |tc| run!(tc, begin(Hook::FromWorkload, tc.0.slot()), hook::from_workload, V6)
);
program!(
    /// Packets leaving a pod that are neither IP nor ARP.
    from_workload_other |tc| run!(tc, begin(Hook::FromWorkload, tc.0.slot()), hook::other, V4)
);
program!(
    /// Packets from the host's stack to a pod, IPv4.
    to_workload4 |tc| run!(tc, begin(Hook::ToWorkload, tc.0.slot()), hook::to_workload, V4)
);
program!(
    /// Packets from the host's stack to a pod, IPv6.
    to_workload6 |tc| run!(tc, begin(Hook::ToWorkload, tc.0.slot()), hook::to_workload, V6)
);
program!(
    /// Packets from the host's stack to a pod that are neither IP nor ARP.
    to_workload_other |tc| run!(tc, begin(Hook::ToWorkload, tc.0.slot()), hook::other, V4)
);
program!(
    /// Packets from the network. Attached as it is, without a preamble.
    from_host_device |tc| match tc.0.ethertype() {
        0x0800 => run!(tc, begin(Hook::FromHostDevice, NO_SLOT), hook::from_host_device, V4),
        0x86dd => run!(tc, begin(Hook::FromHostDevice, NO_SLOT), hook::from_host_device, V6),
        0x8100 | 0x88a8 => run!(tc, begin(Hook::FromHostDevice, NO_SLOT), hook::tagged, V4),
        _ => TC_ACT_UNSPEC,
    }
);
program!(
    /// Packets that the node's stack sends through a data interface or loopback. Attached as it is.
    to_host_device |tc| match tc.0.ethertype() {
        0x0800 => run!(tc, begin(Hook::ToHostDevice, NO_SLOT), hook::to_host_device, V4),
        0x86dd => run!(tc, begin(Hook::ToHostDevice, NO_SLOT), hook::to_host_device, V6),
        _ => TC_ACT_UNSPEC,
    }
);
program!(
    /// Packets out of the tunnel. Attached as it is.
    from_tunnel |tc| match tc.0.ethertype() {
        0x0800 => run!(tc, begin(Hook::FromTunnel, NO_SLOT), hook::from_tunnel, V4),
        0x86dd => run!(tc, begin(Hook::FromTunnel, NO_SLOT), hook::from_tunnel, V6),
        0x0806 => TC_ACT_UNSPEC,
        _ => run!(tc, begin(Hook::FromTunnel, NO_SLOT), hook::other, V4),
    }
);
program!(
    /// A flow begins at a data interface, IPv4.
    open4 |tc| run!(tc, hook::open, V4)
);
program!(
    /// A flow begins at a data interface, IPv6.
    open6 |tc| run!(tc, hook::open, V6)
);
program!(
    /// What few packets need before they leave, IPv4.
    apart4 |tc| run!(tc, hook::apart, V4)
);
program!(
    /// What few packets need before they leave, IPv6.
    apart6 |tc| run!(tc, hook::apart, V6)
);
program!(
    /// After a policy program, IPv4.
    resume4 |tc| run!(tc, hook::resume, V4)
);
program!(
    /// After a policy program, IPv6.
    resume6 |tc| run!(tc, hook::resume, V6)
);
program!(
    /// Answers with a TCP reset or an ICMP error, IPv4.
    reply4 |tc| run!(tc, hook::reply, V4)
);
program!(
    /// Answers with a TCP reset or an ICMP error, IPv6.
    reply6 |tc| run!(tc, hook::reply, V6)
);
program!(
    /// ICMP errors about a flow, IPv4.
    related4 |tc| run!(tc, hook::related, V4)
);
program!(
    /// ICMP errors about a flow, IPv6.
    related6 |tc| run!(tc, hook::related, V6)
);

/// This CPU's state memory.
#[inline(always)]
fn scratch<F: Tables>() -> Option<&'static mut State<F>> {
    // SAFETY: a per-CPU array of integers, asked for once in each program. tc programs run with bottom halves
    // off, so that none starts on this CPU before this one has ended.
    unsafe { F::SCRATCH.element(0) }
}
