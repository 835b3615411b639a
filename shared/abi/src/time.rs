//! Time inside map values: coarse, 32 bits, monotonic since boot.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A moment: monotonic nanoseconds since boot shifted right by [`Tick::SHIFT`] (16.8 ms a tick).
/// Wraps after 834 days; differences are taken with wrapping arithmetic and stay below half of that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Tick(pub u32);

impl Tick {
    /// Nanoseconds are shifted right by this to give ticks.
    pub const SHIFT: u32 = 24;

    /// The tick of a `CLOCK_MONOTONIC` reading.
    #[inline(always)]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self((nanos >> Self::SHIFT) as u32)
    }

    /// Ticks from `earlier` to `self`; 0 when `earlier` is in the future.
    #[inline(always)]
    pub const fn since(self, earlier: Self) -> u32 {
        let d = self.0.wrapping_sub(earlier.0);
        if d > u32::MAX >> 1 { 0 } else { d }
    }

    /// Ticks of a duration in milliseconds, rounded up, at most half the range.
    pub const fn ticks_of_millis(millis: u64) -> u32 {
        let t = (millis.saturating_mul(1_000_000) >> Self::SHIFT).saturating_add(1);
        if t > (u32::MAX >> 1) as u64 { u32::MAX >> 1 } else { t as u32 }
    }

    /// Milliseconds of a number of ticks.
    pub const fn millis_of_ticks(ticks: u32) -> u64 {
        ((ticks as u64) << Self::SHIFT) / 1_000_000
    }
}
