//! Services: front ends and the keys of their back ends.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Value of `frontend`. Back ends are `backend[{service, 0 .. backends}]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Frontend {
    /// Id of the Service port in this family; never 0.
    pub service: u32,
    /// Back ends in use; 0: refuse with a reset or port unreachable.
    pub backends: u32,
    /// How many of them, the first ones, are on this node.
    pub local_backends: u32,
    /// [`flags`].
    pub flags: u32,
}

/// Bits of [`Frontend::flags`].
pub mod flags {
    /// Only back ends on this node may be chosen (`internalTrafficPolicy: Local`).
    pub const INTERNAL_LOCAL: u32 = 1 << 0;
}

/// Key of `backend`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BackendKey {
    /// [`Frontend::service`].
    pub service: u32,
    /// From 0; back ends on this node first.
    pub ordinal: u32,
}

const _: () = assert!(size_of::<Frontend>() == 16 && size_of::<BackendKey>() == 8);
