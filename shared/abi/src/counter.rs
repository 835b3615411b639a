//! Counters of drops by interface and hook, and of rules.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Key of `counter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CounterKey {
    /// Interface of the hook.
    pub ifindex: u32,
    /// [`crate::Hook`].
    pub hook: u16,
    /// [`crate::DropReason`].
    pub reason: u16,
}

/// Value of `counter` (one per CPU) and of `rule_counter` (shared, atomic).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Counter {
    /// Packets; for rules: flows that the rule decided.
    pub packets: u64,
    /// Bytes from the IP header on.
    pub bytes: u64,
}

const _: () = assert!(size_of::<CounterKey>() == 8 && size_of::<Counter>() == 16);
