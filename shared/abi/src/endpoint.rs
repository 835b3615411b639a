//! Local workloads and other nodes: the records that a [`Target`] names.

use crate::Target;
use tortie_wire::{Ip4, Ip6, Mac};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A workload on this node. Value of the array `endpoint`, indexed by slot; all zero is an empty slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Endpoint {
    /// The whole id of this use of the slot; a flow with another target is stale.
    pub id: Target,
    /// Host side of the veth.
    pub ifindex: u32,
    /// Generation of the egress policy in force; 0: none yet, everything is denied.
    pub egress_generation: u32,
    /// Generation of the ingress policy in force; 0: none yet, everything is denied.
    pub ingress_generation: u32,
    /// Slot of the egress program in `policy`; [`NO_PROGRAM`]: no policy selects it, allow.
    pub egress_program: u32,
    /// Slot of the ingress program in `policy`; [`NO_PROGRAM`]: no policy selects it, allow.
    pub ingress_program: u32,
    /// Policy class of its own IPv4 address ([`crate::policy`]).
    pub class4: u32,
    /// Policy class of its own IPv6 address.
    pub class6: u32,
    /// [`endpoint_flags`].
    pub flags: u16,
    /// Pod side of the veth.
    pub mac: Mac,
    /// Host side of the veth.
    pub host_mac: Mac,
    /// Zero.
    pub _zero: u16,
    /// First IPv4 address, or zero. Others are found through `route`.
    pub address4: Ip4,
    /// First IPv6 address, or zero.
    pub address6: Ip6,
}

/// In [`Endpoint::egress_program`] and [`Endpoint::ingress_program`]: no policy, allow.
pub const NO_PROGRAM: u32 = u32::MAX;

/// Bits of [`Endpoint::flags`].
pub mod endpoint_flags {
    /// Programs and policy are in force: packets may be forwarded to it.
    pub const READY: u16 = 1 << 0;
}

/// Another node, in one family. Value of the array `next_hop`, indexed by slot; all zero is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct NextHop {
    /// The whole id of this use of the slot.
    pub id: Target,
    /// Interface that leads there.
    pub ifindex: u32,
    /// Largest IP packet, in bytes, that fits.
    pub mtu_bytes: u32,
    /// Neighbour's IPv4 address, or zero when this is an IPv6 next hop.
    pub address4: Ip4,
    /// Neighbour's IPv6 address, or zero when this is an IPv4 next hop.
    pub address6: Ip6,
    /// The node's own address, to which the neighbour leads: the other end of the tunnel. IPv4 in the first word,
    /// the rest zero.
    pub node: Ip6,
}

const _: () = assert!(size_of::<Endpoint>() == 68);
const _: () = assert!(size_of::<NextHop>() == 48);
