//! Whether what is known of a kind is what the server has now.
//!
//! Owns: when it is behind, and since when it is not. Does not: follow.
//! Invariant: from a watch that broke off until it runs again, with what happened meanwhile, a kind is behind; that a watch has
//! been opened is not enough.

use super::follow::Signal;
use tokio::time::{Duration, Instant};

/// What happened while a kind could not be followed comes within this of when it is followed again.
const CATCH_UP: Duration = Duration::from_millis(250);

/// Of one kind.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Current {
    /// It is followed, from this moment with all that happened; `None`: it is not.
    from: Option<Instant>,
}

impl Current {
    /// What is said of the kind.
    pub fn hear(&mut self, signal: &Signal) {
        match signal {
            // Nothing is missing.
            Signal::Listed { .. } | Signal::NotServed { .. } => self.from = Some(Instant::now()),
            Signal::Going => self.from = self.from.or_else(|| Some(Instant::now() + CATCH_UP)),
            Signal::Trouble(_) | Signal::Behind => self.from = None,
            Signal::Listing | Signal::Is(_) | Signal::Gone(_) => {}
        }
    }

    /// Something may be missing.
    pub fn is_behind(&self) -> bool {
        self.from.is_none_or(|at| at > Instant::now())
    }

    /// When nothing is missing any more, if that is known.
    pub fn from(&self) -> Option<Instant> {
        self.from
    }
}
