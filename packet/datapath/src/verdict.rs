//! What happens to a packet.

use crate::family::Family;
use crate::family::FlowEntry;
use crate::state::{State, note};
use tortie_abi::DropReason;
use tortie_abi::flow;
use tortie_abi::settings::{TUNNEL_NETWORK, tunnel_flags};

/// What comes next: the end of a packet's way through a hook, or another program.
///
/// The details are in the state ([`State::output`], [`State::reason`]) and not in here: the verifier refuses a
/// register that holds something on some paths only.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
// As wide as a reason: a result of one or the other is then the same bytes, and none of them undefined, which the verifier
// takes for whatever was there before.
#[repr(u16)]
pub enum Next {
    /// On to whoever comes next on this interface, in the end the host's stack (or, at to-workload, the pod).
    Pass = 1,
    /// Into the network namespace behind the veth `output`, at once (`bpf_redirect_peer`).
    Peer = 2,
    /// Out of the veth's host side `output` the ordinary way (`bpf_redirect`): peer redirection is off.
    Interface = 3,
    /// To a neighbour of this node (`bpf_redirect_neigh`): `output` indexes `next_hop`.
    Neighbour = 4,
    /// Back to whoever sent it: an answer that was made from the packet, for `reason`.
    Answer = 5,
    /// Out of the interface `output`, to the neighbour that the kernel's routes say.
    Routed = 6,
    /// Into this node's own stack, as if it came from loopback.
    Local = 7,
    /// Through the tunnel to the node that `output` of `next_hop` is.
    Tunnel = 8,
    /// Dropped for `reason`.
    Drop = 9,
    /// Ask the policy program in slot `output`, then call [`crate::hook::resume`].
    Policy = 10,
    /// Build an answer: call [`crate::hook::reply`].
    Reply = 11,
    /// An ICMP error: call [`crate::hook::related`].
    Related = 12,
    /// A flow begins: call [`crate::hook::open`].
    Open = 13,
    /// Something that few packets need comes first: call [`crate::hook::apart`].
    Apart = 14,
    /// Both ends allow it, without having been asked: call [`crate::hook::resume`].
    Admit = 15,
}

impl Next {
    /// The ways on that a byte stands for.
    #[inline(always)]
    pub const fn forward(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Pass,
            2 => Self::Peer,
            3 => Self::Interface,
            4 => Self::Neighbour,
            6 => Self::Routed,
            7 => Self::Local,
            8 => Self::Tunnel,
            _ => return None,
        })
    }

    /// The packet goes on, neither dropped nor answered: nothing is counted.
    #[inline(always)]
    pub const fn is_forward(self) -> bool {
        matches!(
            self,
            Self::Pass
                | Self::Peer
                | Self::Interface
                | Self::Neighbour
                | Self::Routed
                | Self::Local
                | Self::Tunnel
        )
    }
}

/// The end of a packet's way through a hook, with its details.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// [`Next::Pass`].
    Pass,
    /// [`Next::Peer`].
    Peer {
        /// Host side of the veth.
        ifindex: u32,
    },
    /// [`Next::Interface`].
    Interface {
        /// Host side of the veth.
        ifindex: u32,
    },
    /// [`Next::Neighbour`].
    Neighbour {
        /// Index into `next_hop`.
        slot: u32,
    },
    /// [`Next::Answer`].
    Answer,
    /// [`Next::Routed`].
    Routed {
        /// Interface.
        ifindex: u32,
    },
    /// [`Next::Local`].
    Local,
    /// [`Next::Tunnel`].
    Tunnel {
        /// Index into `next_hop`.
        slot: u32,
        /// Network identifier.
        network: u32,
    },
    /// [`Next::Drop`].
    Drop(DropReason),
}

impl<F: Family> State<F> {
    /// Network identifier of a packet that enters the tunnel.
    #[inline(always)]
    pub fn tunnel_network(&self) -> u32 {
        let noted = if self.note == note::THERE { tunnel_flags::NOTE } else { 0 };
        let flow_flags = self.flow.core().flags;
        // Where replies go is the business of whoever sent the request.
        let shared = flow_flags & (flow::flags::MAGLEV | flow::flags::REPLY) == flow::flags::MAGLEV;
        TUNNEL_NETWORK | noted | if shared { tunnel_flags::MAGLEV } else { 0 }
    }

    /// Network identifier of an answer to a packet out of the tunnel.
    #[inline(always)]
    pub fn answer_network(&self) -> u32 {
        let taken = self.reason == DropReason::SourcePortCollision as u16;
        TUNNEL_NETWORK | if taken { tunnel_flags::TAKEN } else { 0 }
    }

    /// The verdict that `next` is; `None`: the packet's way goes on.
    pub fn verdict(&self, next: Next) -> Option<Verdict> {
        Some(match next {
            Next::Pass => Verdict::Pass,
            Next::Peer => Verdict::Peer { ifindex: self.output },
            Next::Interface => Verdict::Interface { ifindex: self.output },
            Next::Neighbour => Verdict::Neighbour { slot: self.output },
            Next::Answer => Verdict::Answer,
            Next::Routed => Verdict::Routed { ifindex: self.output },
            Next::Local => Verdict::Local,
            Next::Tunnel => Verdict::Tunnel { slot: self.output, network: self.tunnel_network() },
            Next::Drop => Verdict::Drop(DropReason::from_word(self.reason).unwrap_or(DropReason::Internal)),
            Next::Policy | Next::Reply | Next::Related | Next::Open | Next::Apart | Next::Admit => {
                return None;
            }
        })
    }
}

/// A stage's result: go on with a value, or drop.
pub type Step<T> = Result<T, DropReason>;
