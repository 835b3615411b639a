//! The flow table's values: what one direction of a connection remembers.

use crate::{Target, Tick};
use tortie_wire::Be16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Packets and bytes of one direction. Only the CPU that handles the packet writes them; lost
/// increments under contention are accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Counters {
    /// Packets.
    pub packets: u64,
    /// Bytes from the IP header on.
    pub bytes: u64,
}

/// One direction of a flow without its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FlowCore {
    /// When the flow was created; the same in both directions.
    pub created: Tick,
    /// Last packet of this direction.
    pub last_seen: Tick,
    /// Where this direction's packets go.
    pub target: Target,
    /// Sum of the policy generations that admitted the flow: the client endpoint's egress and the
    /// server endpoint's ingress, 0 for an end without policy here. Generations are given out in the order of
    /// a ring whose sums do not overflow, so the sum is unequal after any change (`reconcile::generations`).
    pub generation: u32,
    /// With `nat_address`: the port that this direction's rewrite writes.
    pub nat_port: Be16,
    /// The other side's port after the rewrite ([`flags::PORT_MOVED`], [`flags::HAIRPIN`]).
    pub other_port: Be16,
    /// [`flags`].
    pub flags: u16,
    /// [`State`] of the flow; written in both directions at each transition. 0: there is no such direction.
    pub state: u8,
    /// TCP flags that this direction has shown ([`tcp_seen`]).
    pub tcp_seen: u8,
    /// TCP: the highest sequence number this direction has sent, plus what it occupied.
    pub sequence: u32,
}

impl FlowCore {
    /// Of no direction.
    pub const NONE: Self = Self {
        created: Tick(0),
        last_seen: Tick(0),
        target: Target::HOST,
        generation: 0,
        nat_port: Be16::ZERO,
        other_port: Be16::ZERO,
        flags: 0,
        state: 0,
        tcp_seen: 0,
        sequence: 0,
    };

    /// Is this a direction of a flow, and not the place for one?
    #[inline(always)]
    pub const fn is_there(&self) -> bool {
        self.state != 0
    }
}

/// Bits of [`FlowCore::flags`].
pub mod flags {
    /// This direction runs from the server to the client.
    pub const REPLY: u16 = 1 << 0;
    /// Rewrite the destination to `nat_address`, `nat_port` (requests of a Service flow).
    pub const NAT_DESTINATION: u16 = 1 << 1;
    /// Rewrite the source to `nat_address`, `nat_port` (replies of a Service flow).
    pub const NAT_SOURCE: u16 = 1 << 2;
    /// The client is its own back end. Requests also take the node's address as source, and replies
    /// go back to the packet's own source; the port is `other_port`.
    pub const HAIRPIN: u16 = 1 << 3;
    /// The client's port was replaced, because the translated tuple was taken: requests also take
    /// `other_port` as source port, replies as destination port.
    pub const PORT_MOVED: u16 = 1 << 4;
    /// The flow went through a Service.
    pub const SERVICE: u16 = 1 << 5;
    /// The client is the node itself: its egress met no workload policy.
    pub const FROM_HOST: u16 = 1 << 6;
    /// The client's egress generation is part of `generation` (the client is a workload here).
    pub const CLIENT_POLICY: u16 = 1 << 7;
    /// The server's ingress generation is part of `generation` (the server is a workload here).
    pub const SERVER_POLICY: u16 = 1 << 8;
    /// This direction's packets go through the tunnel to the node that the target names.
    pub const TUNNEL: u16 = 1 << 9;
    /// The other direction's packets do.
    pub const TUNNEL_BACK: u16 = 1 << 10;
    /// The client is the node itself, and the stack takes replies from loopback alone: it would refuse them from the
    /// interface they come in by, as forgeries.
    pub const LOOPBACK: u16 = 1 << 11;
    /// Replies need not come back this way (direct server return). Beside [`TUNNEL`] in a request: what opens the flow
    /// tells the other node the front end. In a reply: once no handshake is under way it leaves without the tunnel, with
    /// `nat_address` and `nat_port`, the front end's, as source; the other direction's key knows nothing of that.
    pub const DIRECT: u16 = 1 << 12;
    /// The back end was chosen by the Service's consistent-hash table, so that any node may lead the flow there.
    pub const MAGLEV: u16 = 1 << 13;

    /// What the flags of a request mean for its reply, but for [`REPLY`]: what was written into the destination comes back out
    /// of the source, and each end's tunnel is the other's. By shifts: the verifier would follow every branch.
    #[inline(always)]
    pub const fn turned(flags: u16) -> u16 {
        const LEFT: u16 = NAT_DESTINATION | TUNNEL;
        const RIGHT: u16 = NAT_SOURCE | TUNNEL_BACK;
        const _: () = assert!(LEFT << 1 == RIGHT);
        flags & !(LEFT | RIGHT) | (flags & LEFT) << 1 | (flags & RIGHT) >> 1
    }
}

/// Bits of [`FlowCore::tcp_seen`].
pub mod tcp_seen {
    /// SYN.
    pub const SYN: u8 = 1 << 0;
    /// FIN.
    pub const FIN: u8 = 1 << 1;
    /// RST.
    pub const RST: u8 = 1 << 2;
    /// ACK.
    pub const ACK: u8 = 1 << 3;
}

/// Where a flow is in its life; decides its time-out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// TCP: SYN seen, no answer yet. In the half-open table.
    SynSent = 1,
    /// TCP: SYN and SYN-ACK seen.
    SynReceived = 2,
    /// TCP: handshake complete, or a non-TCP flow that was answered.
    Established = 3,
    /// TCP: one side has sent FIN.
    Closing = 4,
    /// TCP: both sides have sent FIN.
    Closed = 5,
    /// TCP: a valid RST was seen.
    Reset = 6,
    /// Not TCP: nothing came back yet. In the half-open table.
    Unreplied = 7,
}

impl State {
    /// All states, for tables indexed by state.
    pub const ALL: [Self; 7] = [
        Self::SynSent,
        Self::SynReceived,
        Self::Established,
        Self::Closing,
        Self::Closed,
        Self::Reset,
        Self::Unreplied,
    ];

    /// The state of a stored byte, `None` for a value this version does not know.
    #[inline(always)]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::SynSent,
            2 => Self::SynReceived,
            3 => Self::Established,
            4 => Self::Closing,
            5 => Self::Closed,
            6 => Self::Reset,
            7 => Self::Unreplied,
            _ => return None,
        })
    }
}

const _: () = assert!(size_of::<FlowCore>() == 28 && align_of::<FlowCore>() == 4);
