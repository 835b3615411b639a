//! The one longest-prefix map of addresses the node knows: whose is it, and which way?

use crate::Target;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Value of `route`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Route {
    /// Where packets go.
    pub target: Target,
    /// [`Kind`].
    pub kind: u8,
    /// [`flags`].
    pub flags: u8,
    /// Zero.
    pub _zero: u16,
}

/// What an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A pod on this node; `target` is its endpoint.
    LocalPod = 1,
    /// Pods on another node; `target` is a next hop, or the host stack where there is none.
    RemotePod = 2,
    /// An address of this node.
    Host = 3,
    /// An address of another node; `target` as for `RemotePod`.
    RemoteHost = 4,
    /// Inside a pool, nobody's yet.
    Pool = 5,
    /// Where this node's pods have their addresses from, and none of those it knows: the host may know more, and what it
    /// would give back to the network is dropped.
    Blackhole = 6,
    /// In a range that Services have their addresses from, and none of theirs.
    Services = 7,
}

impl Kind {
    /// The kind of a stored byte, `None` for a value this version does not know.
    #[inline(always)]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::LocalPod,
            2 => Self::RemotePod,
            3 => Self::Host,
            4 => Self::RemoteHost,
            5 => Self::Pool,
            6 => Self::Blackhole,
            7 => Self::Services,
            _ => return None,
        })
    }
}

/// Bits of [`Route::flags`].
pub mod flags {
    /// The pool masquerades what leaves it.
    pub const NAT_OUTGOING: u8 = 1 << 0;
    /// Inside an address pool.
    pub const IN_POOL: u8 = 1 << 1;
}

const _: () = assert!(size_of::<Route>() == 8);
