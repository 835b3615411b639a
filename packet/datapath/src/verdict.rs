//! What happens to a packet.

use tortie_abi::DropReason;
use tortie_wire::Ip6;

/// The end of a packet's way through a hook.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// On to whoever comes next on this interface, in the end the host's stack (or, at
    /// to-workload, the pod).
    Pass,
    /// Into the network namespace behind this veth, at once (`bpf_redirect_peer`).
    Peer {
        /// Host side of the veth.
        ifindex: u32,
    },
    /// Out of this veth's host side the ordinary way (`bpf_redirect`): peer redirection is switched off.
    Interface {
        /// Host side of the veth.
        ifindex: u32,
    },
    /// To a neighbour of this node (`bpf_redirect_neigh`).
    Neighbour {
        /// Index into `next_hop`.
        slot: u32,
        /// Interface that leads there.
        ifindex: u32,
        /// The neighbour's address; IPv4 in the first word, the rest 0.
        address: Ip6,
    },
    /// Back out of the interface it came from: an answer that was made from the packet.
    Answer,
    /// Dropped.
    Drop(DropReason),
}

/// What comes next: the end, or another program.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The end.
    Verdict(Verdict),
    /// Ask the policy program in this slot, then call [`crate::hook::resume`].
    Policy(u32),
    /// Build an answer: call [`crate::hook::reply`].
    Reply,
    /// An ICMP error: call [`crate::hook::related`].
    Related,
}

impl From<Verdict> for Next {
    #[inline(always)]
    fn from(verdict: Verdict) -> Self {
        Self::Verdict(verdict)
    }
}

impl Next {
    /// Drops for `reason`.
    #[inline(always)]
    pub const fn drop(reason: DropReason) -> Self {
        Self::Verdict(Verdict::Drop(reason))
    }
}

/// A stage's result: go on with a value, or drop.
pub type Step<T> = Result<T, DropReason>;
