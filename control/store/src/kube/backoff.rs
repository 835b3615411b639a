//! How long to wait before asking again.
//!
//! Owns: the growing, jittered delay. Does not: wait.
//! Invariant: many agents that lost their server at one moment do not come back at one moment.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::Duration;

/// A delay that doubles with each failure in a row.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first }
    }

    /// Between half of the delay and all of it.
    pub fn next(&mut self) -> Duration {
        let most = self.next;
        self.next = (most * 2).min(self.longest);
        let half = most / 2;
        half + Duration::from_millis(random(u64::try_from(half.as_millis()).unwrap_or(u64::MAX)))
    }

    /// It works again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

/// The pauses of one that asks again and again. A server that is away says nothing of how long one that refuses is to be
/// left alone, so that the two are waited for separately.
#[derive(Debug)]
pub(super) struct Pauses {
    away: Backoff,
    refused: Backoff,
    hurried: bool,
}

impl Pauses {
    pub fn new(first: Duration, longest: Duration) -> Self {
        let backoff = || Backoff::new(first, longest);
        Self { away: backoff(), refused: backoff(), hurried: false }
    }

    /// How long to wait after a failure.
    pub fn after_failure(&mut self, away: bool) -> Duration {
        if away { self.away.next() } else { self.refused.next() }
    }

    /// The last pause was cut short. The next one is waited out: servers that answer now and then are not asked in a circle.
    pub fn was_hurried(&self) -> bool {
        self.hurried
    }

    /// See [`Pauses::was_hurried`].
    pub fn set_hurried(&mut self, hurried: bool) {
        self.hurried = hurried;
    }

    /// It works again.
    pub fn reset(&mut self) {
        self.away.reset();
        self.refused.reset();
        self.hurried = false;
    }
}

/// Below `limit`, or 0. Good enough to spread load.
pub(super) fn random(limit: u64) -> u64 {
    RandomState::new().build_hasher().finish().checked_rem(limit).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_grows_to_half_a_minute_and_starts_anew_after_success() {
        const FIRST: Duration = Duration::from_millis(200);
        const LONGEST: Duration = Duration::from_secs(30);
        let mut backoff = Backoff::new(FIRST, LONGEST);
        let delays: Vec<_> = (0..12).map(|_| backoff.next()).collect();
        assert!(delays[0] >= FIRST / 2 && delays[0] <= FIRST, "{delays:?}");
        assert!(delays[11] >= LONGEST / 2 && delays[11] <= LONGEST, "{delays:?}");
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }
}
