//! The monotonic clock that the programs use too.

use nix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// Time since boot without suspension: `CLOCK_MONOTONIC`.
pub fn monotonic() -> Duration {
    // The clock always exists; zero would only make everything due.
    clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default()
}
