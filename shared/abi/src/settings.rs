//! What the agent tells the programs: one record, read by every packet that needs it.

use tortie_wire::{Ip4, Ip6};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Value of the array `settings`, element 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Settings {
    /// Time-outs in ticks by [`crate::flow::State`] as index for TCP; element 0 is unused.
    pub tcp_timeouts: [u32; 8],
    /// UDP, no answer yet.
    pub udp_unreplied: u32,
    /// UDP, answered.
    pub udp: u32,
    /// ICMP and ICMPv6 echo.
    pub icmp: u32,
    /// Every other protocol.
    pub other: u32,
    /// Mark bit on packets that a program has handled ("seen").
    pub mark_seen: u32,
    /// Bits of the mark that belong to us.
    pub mark_mask: u32,
    /// [`flags`].
    pub flags: u32,
    /// First port of the range for source-port collisions.
    pub port_range_first: u16,
    /// Last port of that range.
    pub port_range_last: u16,
    /// First port of the range for flows that leave under the node's address.
    pub nat_range_first: u16,
    /// Last port of that range.
    pub nat_range_last: u16,
    /// The node's own IPv4 address, or zero.
    pub node_address4: Ip4,
    /// The node's own IPv6 address, or zero.
    pub node_address6: Ip6,
    /// Address that answers pods' IPv4 gateway, used as source of ICMP errors; zero: the node's.
    pub gateway4: Ip4,
    /// Interface of the tunnel that leads clients outside to back ends on other nodes; 0: there is none.
    pub tunnel_ifindex: u32,
    /// The kernel's number (cookie) of the node's own network namespace, its low half first; zero: not known.
    pub host_netns: [u32; 2],
}

/// Network identifier of the tunnel (VXLAN), to which [`tunnel_flags`] are added.
pub const TUNNEL_NETWORK: u32 = 0x00ca_11c0;

/// What a network identifier says about a packet in the tunnel, added to [`TUNNEL_NETWORK`].
pub mod tunnel_flags {
    /// It ends with a note of the front end that was asked.
    pub const NOTE: u32 = 1 << 0;
    /// It is a request that any node may lead to its back end: answers go to the one that did it last.
    pub const MAGLEV: u32 = 1 << 1;
    /// It answers a connection whose ends another one has, which came in at another node: that it begin from another port.
    pub const TAKEN: u32 = 1 << 2;
    /// All of them.
    pub const ALL: u32 = NOTE | MAGLEV | TAKEN;
}

const _: () = assert!(TUNNEL_NETWORK & tunnel_flags::ALL == 0);

/// UDP port of the tunnel.
pub const TUNNEL_PORT: u16 = 4789;

/// Bits of [`Settings::flags`].
pub mod flags {
    /// `defaultEndpointToHostAction: Drop`: what a pod sends to the node itself is dropped, unless it
    /// is a reply.
    pub const DROP_TO_HOST: u32 = 1 << 0;
    /// `bpfRedirectToPeer: Disabled`.
    pub const NO_REDIRECT_PEER: u32 = 1 << 1;
    /// `bpfConnectTimeLoadBalancing: TCP` or `Enabled`: TCP sockets are connected to a back end.
    pub const CONNECT_TCP: u32 = 1 << 2;
    /// `bpfConnectTimeLoadBalancing: Enabled`: UDP sockets send to a back end.
    pub const CONNECT_UDP: u32 = 1 << 3;
    /// `bpfExternalServiceMode: DSR`: back ends on other nodes answer clients outside directly.
    pub const DIRECT_RETURN: u32 = 1 << 4;
    /// `serviceLoopPrevention: Drop`: what goes to an address of Services that none of them has is dropped.
    pub const DROP_TO_SERVICES: u32 = 1 << 5;
    /// `serviceLoopPrevention: Reject`: its sender is told.
    pub const REJECT_TO_SERVICES: u32 = 1 << 6;
    /// `allowVXLANPacketsFromWorkloads`: pods may send to the port of tunnels.
    pub const ALLOW_VXLAN: u32 = 1 << 7;
    /// `allowIPIPPacketsFromWorkloads`: pods may send IP in IP.
    pub const ALLOW_IPIP: u32 = 1 << 8;
}

const _: () = assert!(size_of::<Settings>() == 104);
