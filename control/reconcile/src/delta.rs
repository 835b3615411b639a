//! What should be in a table against what is: the difference, kept as it arises.
//!
//! Owns: both sides of one table, the keys that differ and why writing them failed.
//! Does not: write.
//! Invariant: a key is pending exactly while its two sides differ.

use crate::table::{Table, TableError};
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::time::Duration;

/// A moment on a monotonic clock, given by the caller.
pub type Now = Duration;

const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// A write that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The last answer.
    pub error: TableError,
    /// How often in a row.
    pub attempts: u32,
    /// Not before this.
    pub retry_at: Now,
}

#[derive(Clone, Debug)]
struct Pending {
    sequence: u64,
    failure: Option<Failure>,
}

/// The two sides of one table.
#[derive(Clone, Debug)]
pub struct DeltaTracker<K, V> {
    desired: HashMap<K, V>,
    actual: HashMap<K, V>,
    pending: HashMap<K, Pending>,
    order: BTreeMap<u64, K>,
    next_sequence: u64,
}

/// Which pending keys a step writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Keys to create or replace.
    Upserts,
    /// Keys to remove.
    Deletes,
}

/// What one application did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Elements written or removed.
    pub done: usize,
    /// Elements that failed.
    pub failed: usize,
}

impl std::ops::AddAssign for Written {
    fn add_assign(&mut self, other: Self) {
        self.done += other.done;
        self.failed += other.failed;
    }
}

impl<K: Copy + Eq + Hash, V: Copy + PartialEq> Default for DeltaTracker<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Copy + Eq + Hash, V: Copy + PartialEq> DeltaTracker<K, V> {
    /// Both sides empty.
    pub fn new() -> Self {
        Self {
            desired: HashMap::new(),
            actual: HashMap::new(),
            pending: HashMap::new(),
            order: BTreeMap::new(),
            next_sequence: 0,
        }
    }

    /// `key` should have this value; `None`: should not exist.
    pub fn want(&mut self, key: K, value: Option<V>) {
        match value {
            Some(value) => self.desired.insert(key, value),
            None => self.desired.remove(&key),
        };
        self.compare(key);
    }

    /// The table was read: this is all there is.
    pub fn found(&mut self, entries: impl IntoIterator<Item = (K, V)>) {
        let before = std::mem::replace(&mut self.actual, entries.into_iter().collect());
        let keys: Vec<K> =
            before.keys().chain(self.actual.keys()).chain(self.desired.keys()).copied().collect();
        for key in keys {
            self.compare(key);
        }
    }

    fn compare(&mut self, key: K) {
        if self.desired.get(&key) == self.actual.get(&key) {
            if let Some(pending) = self.pending.remove(&key) {
                self.order.remove(&pending.sequence);
            }
        } else if let Some(pending) = self.pending.get_mut(&key) {
            // A new wish deserves a new attempt at once, except where the table is known to be full.
            if pending.failure.as_ref().is_some_and(|f| f.error != TableError::Full) {
                pending.failure = None;
            }
        } else {
            let sequence = self.next_sequence;
            self.next_sequence += 1;
            self.pending.insert(key, Pending { sequence, failure: None });
            self.order.insert(sequence, key);
        }
    }

    /// What should be there.
    pub fn desired(&self, key: &K) -> Option<&V> {
        self.desired.get(key)
    }

    /// What is there, as far as is known.
    pub fn actual(&self, key: &K) -> Option<&V> {
        self.actual.get(key)
    }

    /// Everything that is there, as far as is known, in no order.
    pub fn actual_entries(&self) -> impl Iterator<Item = (&K, &V)> {
        self.actual.iter()
    }

    /// Everything that should be there, in no order.
    pub fn desired_entries(&self) -> impl Iterator<Item = (&K, &V)> {
        self.desired.iter()
    }

    /// How many keys differ.
    pub fn pending_count(&self) -> usize {
        self.pending.len()
    }

    /// The key's two sides are equal.
    pub fn is_settled(&self, key: &K) -> bool {
        !self.pending.contains_key(key)
    }

    /// Pending keys in the order they arose, with the last failure.
    pub fn pending(&self) -> impl Iterator<Item = (&K, Option<&Failure>)> {
        self.order.values().map(|key| (key, self.pending.get(key).and_then(|p| p.failure.as_ref())))
    }

    /// When the next failed key may be tried again.
    pub fn next_retry(&self) -> Option<Now> {
        self.pending.values().filter_map(|p| p.failure.as_ref().map(|f| f.retry_at)).min()
    }

    /// The keys of one part that may be written now.
    pub fn due(&self, part: Part, now: Now, mut admit: impl FnMut(&K, Option<&V>) -> bool) -> Vec<K> {
        let mut keys = Vec::new();
        for (key, failure) in self.pending() {
            let wanted = self.desired.get(key);
            let in_part = wanted.is_some() == (part == Part::Upserts);
            if in_part && failure.is_none_or(|f| f.retry_at <= now) && admit(key, wanted) {
                keys.push(*key);
            }
        }
        keys
    }

    /// The key was written as desired.
    pub fn done(&mut self, key: K) {
        match self.desired.get(&key) {
            Some(value) => self.actual.insert(key, *value),
            None => self.actual.remove(&key),
        };
        self.compare(key);
    }

    /// The key could not be written.
    pub fn failed(&mut self, key: K, error: TableError, now: Now) {
        if let Some(pending) = self.pending.get_mut(&key) {
            let attempts = pending.failure.as_ref().map_or(0, |f| f.attempts).saturating_add(1);
            let factor = 1u32 << attempts.saturating_sub(1).min(16);
            let wait = FIRST_RETRY.saturating_mul(factor).min(LAST_RETRY);
            pending.failure = Some(Failure { error, attempts, retry_at: now.saturating_add(wait) });
        }
    }

    /// Writes the due keys of one part that `admit` lets through.
    pub fn apply<T: Table<K, V> + ?Sized>(
        &mut self,
        table: &mut T,
        part: Part,
        now: Now,
        admit: impl FnMut(&K, Option<&V>) -> bool,
    ) -> Written {
        let keys = self.due(part, now, admit);
        if keys.is_empty() {
            return Written::default();
        }
        let failures = match part {
            Part::Upserts => {
                let entries: Vec<(K, V)> =
                    keys.iter().filter_map(|k| self.desired.get(k).map(|v| (*k, *v))).collect();
                table.upsert(&entries)
            }
            Part::Deletes => table.delete(&keys),
        };
        let failed: HashMap<usize, TableError> = failures.into_iter().collect();
        let written = Written { done: keys.len() - failed.len().min(keys.len()), failed: failed.len() };
        for (index, key) in keys.into_iter().enumerate() {
            match failed.get(&index) {
                None => self.done(key),
                Some(error) => self.failed(key, error.clone(), now),
            }
        }
        written
    }

    /// Room was made: keys that failed because the table was full may be tried at once.
    pub fn retry_full(&mut self) {
        for pending in self.pending.values_mut() {
            if pending.failure.as_ref().is_some_and(|f| f.error == TableError::Full) {
                pending.failure = None;
            }
        }
    }
}
