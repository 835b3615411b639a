//! Expiry of flows: what a sweep reports.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Value of the array `sweep`, one element for each family (0: IPv4, 1: IPv6). The programs add;
/// user space resets before a sweep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Sweep {
    /// Entries looked at.
    pub seen: u64,
    /// Flows in the main table, each counted at its client's direction.
    pub established: u64,
    /// Flows in the half-open table.
    pub half_open: u64,
    /// Entries removed, both directions counted.
    pub expired: u64,
    /// Entries removed because their endpoint or next hop is gone.
    pub stale: u64,
    /// Entries without their other direction, removed.
    pub orphaned: u64,
    /// Said by user space before a sweep: not 0 puts in doubt which devices lead to clients outside
    /// ([`crate::Target::doubted`]), as routes have changed.
    pub doubt: u64,
}

const _: () = assert!(size_of::<Sweep>() == 56);
