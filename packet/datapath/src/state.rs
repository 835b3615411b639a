//! What one packet carries from stage to stage, across tail calls.
//!
//! Lives in per-CPU scratch memory that holds the previous packet's bytes: [`State::begin`] sets every
//! field, and tests poison it first. Only integers and wire values, so that any bytes are a valid value.

use crate::family::{Family, FlowEntry, Spot};
use crate::seeded;
use crate::tuple::Tuple;
use tortie_abi::flow::FlowCore;
use tortie_abi::{Hook, Target, Tick};
use tortie_wire::Be16;
use tortie_wire::tcp::TcpFlags;

/// Bytes of the Ethernet header; where the IP header starts.
pub const IP_OFFSET: u32 = 14;

/// No endpoint: the packet did not come from a workload.
pub const NO_SLOT: u32 = u32::MAX;

/// What the IP header said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parsed<A> {
    /// Source address.
    pub source: A,
    /// Destination address.
    pub destination: A,
    /// Upper-layer protocol.
    pub protocol: u8,
    /// Time to live, hop limit.
    pub ttl: u8,
    /// [`fragment`].
    pub fragment: u8,
    /// The header forbids fragmentation (always, in IPv6).
    pub dont_fragment: u8,
    /// Bytes from the start of the IP header to the upper layer.
    pub header_bytes: u32,
    /// Bytes of the whole IP packet.
    pub total_bytes: u32,
    /// Identification of a fragmented packet.
    pub identification: u32,
}

/// Values of [`Parsed::fragment`].
pub mod fragment {
    /// Not a fragment.
    pub const NONE: u8 = 0;
    /// The first of several: has the transport header.
    pub const FIRST: u8 = 1;
    /// A later one: has no transport header.
    pub const LATER: u8 = 2;
}

/// What an answer is about ([`crate::hook::reply`]).
pub mod answer {
    /// TCP reset.
    pub const RESET: u8 = 1;
    /// ICMP port unreachable.
    pub const PORT_UNREACHABLE: u8 = 2;
    /// ICMP time exceeded.
    pub const TTL_EXCEEDED: u8 = 3;
    /// ICMP fragmentation needed, ICMPv6 packet too big.
    pub const TOO_BIG: u8 = 4;
}

/// Whether a note about the front end follows a packet into the tunnel ([`crate::stage::direct`]).
pub mod note {
    /// Not looked at yet.
    pub const UNDECIDED: u8 = 0;
    /// No.
    pub const NONE: u8 = 1;
    /// Yes.
    pub const THERE: u8 = 2;
}

/// Where a flow stands while both ends' policies are asked, one after the other. Each is followed by the
/// number after it (`hook/known.rs`).
pub mod phase {
    /// A known flow that policy need not be asked about.
    pub const CURRENT: u8 = 0;
    /// A new flow; the client's egress rules are to be asked.
    pub const NEW_EGRESS: u8 = 1;
    /// A new flow; the server's ingress rules are to be asked.
    pub const NEW_INGRESS: u8 = 2;
    /// A new flow that both ends allow.
    pub const NEW_ALLOWED: u8 = 3;
    /// A known flow under a new generation; the client's egress rules are to be asked.
    pub const AGAIN_EGRESS: u8 = 4;
    /// A known flow under a new generation; the server's ingress rules are to be asked.
    pub const AGAIN_INGRESS: u8 = 5;
    /// A known flow that both ends allow again.
    pub const AGAIN_ALLOWED: u8 = 6;
}

/// One packet's state.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct State<F: Family> {
    /// Both ends as the packet came.
    pub tuple: Tuple<F::Addr>,
    /// Both ends after service translation: what policy sees, in the flow's own direction
    /// (client to server), also when this packet is a reply.
    pub translated: Tuple<F::Addr>,
    /// The IP header.
    pub ip: Parsed<F::Addr>,
    /// The flow entry that this packet met, or the one to be created.
    pub flow: F::Flow,
    /// Both ends as the flow's rewrite makes them. Here and not on the stack, which is small; so are `own` and `partner`.
    pub rewritten: Tuple<F::Addr>,
    /// Where the flow's entry of this direction is, or would be, once it was looked for.
    pub own: Spot<F>,
    /// Where the other direction's is, once it is needed.
    pub partner: Spot<F>,
    /// The generation that the flow will have.
    pub generation: u32,
    /// Offset of the transport header in the frame.
    pub transport_offset: u32,
    /// TCP sequence number.
    pub sequence: u32,
    /// TCP sequence number after this segment.
    pub sequence_end: u32,
    /// TCP acknowledgment number of a packet that a flow is taken up with in its middle, else 0.
    pub acknowledged: u32,
    /// Endpoint slot of the workload that the packet leaves or enters, [`NO_SLOT`] on other hooks.
    pub slot: u32,
    /// Endpoint slot of the client workload on this node, or [`NO_SLOT`].
    pub client_slot: u32,
    /// Endpoint slot of the server workload on this node, or [`NO_SLOT`].
    pub server_slot: u32,
    /// Where a new flow's packets go.
    pub target: Target,
    /// Where a new flow's replies go.
    pub reply_target: Target,
    /// Now.
    pub now: Tick,
    /// Where to: an interface, a slot of `next_hop` or of `policy` ([`crate::verdict::Next`]).
    pub output: u32,
    /// The rule that decided last.
    pub rule: u32,
    /// MTU to be reported by [`answer::TOO_BIG`], bytes.
    pub mtu_bytes: u32,
    /// Source of an answer, chosen by whoever asked for it.
    pub answer_source: F::Addr,
    /// Whom answers of a new flow come from, as the client sees it: whom it has asked, here or, by a note, at another node.
    pub front: F::Addr,
    /// Flags of the flow to be created ([`tortie_abi::flow::flags`]).
    pub flow_flags: u16,
    /// [`Hook`] as its number.
    pub hook: u16,
    /// Why the packet is dropped or answered ([`tortie_abi::DropReason`] as its number).
    pub reason: u16,
    /// Port that a moved client port becomes.
    pub other_port: Be16,
    /// Port of `front`.
    pub front_port: Be16,
    /// TCP flags.
    pub tcp_flags: u8,
    /// ICMP type.
    pub icmp_type: u8,
    /// ICMP code.
    pub icmp_code: u8,
    /// [`phase`].
    pub phase: u8,
    /// [`answer`].
    pub answer: u8,
    /// [`note`].
    pub note: u8,
    /// What a packet that waits for its checksum does next ([`crate::verdict::Next::forward`]); 0: it does not wait.
    pub next: u8,
    /// Not 0: the program that goes on with this packet has been called, and has not begun.
    pub awaits: u8,
    /// Not 0: in the main table is the element of a flow between these ends that is over.
    pub vacant: u8,
}

impl<F: Family> State<F> {
    /// Makes it ready for a new packet at `hook`. Sets every field.
    #[inline(always)]
    pub fn begin(&mut self, hook: Hook, slot: u32, now: Tick) {
        let nowhere = Tuple {
            source: F::UNSPECIFIED,
            destination: F::UNSPECIFIED,
            source_port: Be16::ZERO,
            destination_port: Be16::ZERO,
            protocol: 0,
        };
        self.tuple = nowhere;
        self.translated = nowhere;
        self.ip = Parsed {
            source: F::UNSPECIFIED,
            destination: F::UNSPECIFIED,
            protocol: 0,
            ttl: 0,
            fragment: fragment::NONE,
            dont_fragment: 0,
            header_bytes: 0,
            total_bytes: 0,
            identification: 0,
        };
        self.flow = empty_flow::<F>(now);
        self.rewritten = nowhere;
        self.own = Spot { element: F::flow_key(&nowhere), way: 0 };
        self.partner = self.own;
        self.generation = 0;
        self.transport_offset = 0;
        self.sequence = 0;
        self.sequence_end = 0;
        self.acknowledged = 0;
        self.slot = slot;
        self.client_slot = NO_SLOT;
        self.server_slot = NO_SLOT;
        self.target = Target::HOST;
        self.reply_target = Target::HOST;
        self.now = now;
        self.output = 0;
        self.rule = 0;
        self.mtu_bytes = 0;
        self.answer_source = F::UNSPECIFIED;
        if !seeded::STALE_FIELD {
            self.flow_flags = 0;
        }
        self.hook = hook as u16;
        self.reason = 0;
        self.front = F::UNSPECIFIED;
        self.front_port = Be16::ZERO;
        self.other_port = Be16::ZERO;
        self.tcp_flags = 0;
        self.icmp_type = 0;
        self.icmp_code = 0;
        self.phase = 0;
        self.answer = 0;
        self.note = note::UNDECIDED;
        self.next = 0;
        self.awaits = 0;
        self.vacant = 0;
    }

    /// A program goes on with a packet. `false`: this is not that packet's state. While programs are exchanged for those of another
    /// object, one may be called by a program of the other, whose states are elsewhere; here is what the last packet left.
    #[inline(always)]
    pub const fn take_over(&mut self) -> bool {
        core::mem::replace(&mut self.awaits, 0) != 0
    }

    /// TCP flags as a set.
    #[inline(always)]
    pub const fn tcp(&self) -> TcpFlags {
        TcpFlags(self.tcp_flags)
    }

    /// Is this packet at `hook`?
    #[inline(always)]
    pub const fn is_at(&self, hook: Hook) -> bool {
        self.hook == hook as u16
    }
}

#[inline(always)]
fn empty_flow<F: Family>(now: Tick) -> F::Flow {
    F::Flow::new(FlowCore { created: now, last_seen: now, ..FlowCore::NONE }, F::UNSPECIFIED)
}
