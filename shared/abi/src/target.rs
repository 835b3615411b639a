//! Where a flow's packets go: a small id that is checked against the record it names.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The output of a flow direction: `kind` (2 bits), `incarnation` (14 bits), `slot` (16 bits).
///
/// The slot indexes `endpoint` or `next_hop`; the record there holds the whole id, and a flow whose
/// target differs from the record is stale: its endpoint is gone, and the slot may serve another. A device
/// is named by its interface index, which takes the place of both (29 bits, below one that says that it is in doubt).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Target(pub u32);

/// What a [`Target`] names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetKind {
    /// The host's own network stack.
    Host,
    /// A workload on this node: `slot` indexes `endpoint`.
    Endpoint,
    /// Another node: `slot` indexes `next_hop`.
    NextHop,
    /// Out of an interface of this node, whose neighbour the kernel's routes say: the way back to a client
    /// outside the cluster is the interface that it came in by. Only programs write it, into flows.
    Device,
}

impl Target {
    /// The host's own network stack.
    pub const HOST: Self = Self(0);
    const KIND_SHIFT: u32 = 30;
    const INCARNATION_SHIFT: u32 = 16;
    /// Of a device: routes have changed since it was chosen.
    const DOUBT: u32 = 1 << (Self::KIND_SHIFT - 1);
    const DEVICE_MASK: u32 = Self::DOUBT - 1;
    /// Incarnations count from 1 to this, then start again.
    pub const MAX_INCARNATION: u16 = (1 << 14) - 1;

    /// A workload on this node.
    pub const fn endpoint(slot: u16, incarnation: u16) -> Self {
        Self::of(1, slot, incarnation)
    }

    /// Another node.
    pub const fn next_hop(slot: u16, incarnation: u16) -> Self {
        Self::of(2, slot, incarnation)
    }

    /// The interface `ifindex`.
    #[inline(always)]
    pub const fn device(ifindex: u32) -> Self {
        Self((3 << Self::KIND_SHIFT) | (ifindex & Self::DEVICE_MASK))
    }

    const fn of(kind: u32, slot: u16, incarnation: u16) -> Self {
        let incarnation = (incarnation & Self::MAX_INCARNATION) as u32;
        Self((kind << Self::KIND_SHIFT) | (incarnation << Self::INCARNATION_SHIFT) | slot as u32)
    }

    /// What it names.
    #[inline(always)]
    pub const fn kind(self) -> TargetKind {
        match self.0 >> Self::KIND_SHIFT {
            0 => TargetKind::Host,
            1 => TargetKind::Endpoint,
            2 => TargetKind::NextHop,
            _ => TargetKind::Device,
        }
    }

    /// Index into the map of its kind.
    #[inline(always)]
    pub const fn slot(self) -> u32 {
        self.0 & 0xffff
    }

    /// Index of the interface that a device is.
    #[inline(always)]
    pub const fn ifindex(self) -> u32 {
        self.0 & Self::DEVICE_MASK
    }

    /// A device that may lead nowhere by now; others as they are.
    #[inline(always)]
    pub const fn doubted(self) -> Self {
        if matches!(self.kind(), TargetKind::Device) { Self(self.0 | Self::DOUBT) } else { self }
    }

    /// Is it a device that may lead nowhere by now?
    #[inline(always)]
    pub const fn is_in_doubt(self) -> bool {
        const BITS: u32 = 3 << Target::KIND_SHIFT | Target::DOUBT;
        self.0 & BITS == BITS
    }

    /// Which use of the slot this is.
    pub const fn incarnation(self) -> u16 {
        ((self.0 >> Self::INCARNATION_SHIFT) as u16) & Self::MAX_INCARNATION
    }
}
