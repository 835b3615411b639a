//! What is not as desired, and why: what `status` shows and `wait` waits for.

use crate::delta::{DeltaTracker, Failure, Now};
use std::fmt::Debug;
use std::hash::Hash;
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LAST: Duration = Duration::from_secs(30);
/// Keys of one table that are named one by one.
const NAMED: usize = 8;

/// When to try again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// The last answer.
    pub error: String,
    /// How often in a row.
    pub attempts: u32,
    /// Not before this.
    pub at: Now,
}

impl Retry {
    /// After a failure that most likely comes again and takes long to find out.
    pub fn seldom(before: Option<Self>, error: String, now: Now) -> Self {
        Self { at: now.saturating_add(LAST), ..Self::after(before, error, now) }
    }

    /// After another failure.
    pub fn after(before: Option<Self>, error: String, now: Now) -> Self {
        let attempts = before.map_or(0, |retry| retry.attempts).saturating_add(1);
        let wait = FIRST.saturating_mul(1 << attempts.saturating_sub(1).min(16)).min(LAST);
        Self { error, attempts, at: now.saturating_add(wait) }
    }
}

/// One thing that is not as desired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dirty {
    /// Which, by its name.
    pub object: String,
    /// Why; empty: it has not been tried yet.
    pub reason: String,
    /// How often it has failed in a row.
    pub attempts: u32,
}

impl Dirty {
    /// Not tried yet.
    pub fn waiting(object: impl Into<String>) -> Self {
        Self { object: object.into(), reason: String::new(), attempts: 0 }
    }

    /// Tried, and failed.
    pub fn failed(object: impl Into<String>, retry: &Retry) -> Self {
        Self { object: object.into(), reason: retry.error.clone(), attempts: retry.attempts }
    }

    /// The pending keys of a table, the first few by name.
    pub fn of_tracker<K, V>(table: &'static str, tracker: &DeltaTracker<K, V>) -> Vec<Self>
    where
        K: Copy + Eq + Hash + Debug,
        V: Copy + PartialEq,
    {
        let one = |(key, failure): (&K, Option<&Failure>)| Self {
            object: format!("{table} {key:?}"),
            reason: failure.map_or_else(String::new, |f| f.error.to_string()),
            attempts: failure.map_or(0, |f| f.attempts),
        };
        let mut dirty: Vec<Self> = tracker.pending().take(NAMED).map(one).collect();
        let more = tracker.pending_count().saturating_sub(NAMED);
        if more > 0 {
            dirty.push(Self::waiting(format!("{table}: {more} more")));
        }
        dirty
    }
}
