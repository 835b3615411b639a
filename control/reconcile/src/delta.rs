//! What should be in a table against what is: the difference, kept as it arises.
//!
//! Owns: both sides of one table, the keys that differ and why writing them failed.
//! Does not: write.
//! Invariant: a key is pending exactly while its two sides differ.

use crate::queue::Queue;
use crate::table::{Table, TableError};
use foldhash::{HashMap, HashMapExt as _};
use std::collections::BTreeMap;
use std::hash::Hash;
use std::mem::take;
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

/// What is known of a key.
#[derive(Clone, Copy, Debug)]
enum Entry<V> {
    /// Both sides have this.
    Settled(V),
    /// They differ; this is its number among those that do.
    Pending(u32),
}

#[derive(Clone, Copy, Debug)]
struct Sides<V> {
    desired: Option<V>,
    actual: Option<V>,
}

/// The two sides of one table. What is settled, which is nearly everything nearly always, is kept once.
#[derive(Clone, Debug)]
pub struct DeltaTracker<K, V> {
    entries: HashMap<K, Entry<V>>,
    /// In the order they arose.
    pending: Queue<(K, Sides<V>)>,
    /// By number.
    failures: BTreeMap<u32, Failure>,
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
    /// Front ends and members of Services that were removed: flows may lead by them that are over now.
    pub withdrawn: usize,
}

impl std::ops::AddAssign for Written {
    fn add_assign(&mut self, other: Self) {
        self.done += other.done;
        self.failed += other.failed;
        self.withdrawn += other.withdrawn;
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
        Self { entries: HashMap::new(), pending: Queue::new(), failures: BTreeMap::new() }
    }

    /// `key` should have this value; `None`: should not exist.
    pub fn want(&mut self, key: K, value: Option<V>) {
        self.change(key, |sides| sides.desired = value);
    }

    /// The table was read: this is all there is.
    pub fn found(&mut self, entries: impl IntoIterator<Item = (K, V)>) {
        let mut actual: HashMap<K, V> = entries.into_iter().collect();
        for key in self.entries.keys().copied().collect::<Vec<_>>() {
            let found = actual.remove(&key);
            self.change(key, |sides| sides.actual = found);
        }
        for (key, value) in actual {
            self.change(key, |sides| sides.actual = Some(value));
        }
    }

    fn change(&mut self, key: K, change: impl FnOnce(&mut Sides<V>)) {
        let entry = self.entries.get(&key).copied();
        let mut sides = self.sides(entry);
        change(&mut sides);
        let number = match entry {
            Some(Entry::Pending(number)) => Some(number),
            _ => None,
        };
        if sides.desired == sides.actual {
            return self.settle(key, number, sides.desired);
        }
        match number.and_then(|number| self.pending.get_mut(number)) {
            Some(place) => place.1 = sides,
            None => self.begin(key, sides),
        }
        // A new wish deserves a new attempt at once, except where the table is known to be full.
        if let Some(number) = number
            && self.failures.get(&number).is_some_and(|failure| failure.error != TableError::Full)
        {
            self.failures.remove(&number);
        }
    }

    /// The sides differ from now on.
    fn begin(&mut self, key: K, sides: Sides<V>) {
        if self.pending.is_sparse() {
            let (entries, mut failures) = (&mut self.entries, take(&mut self.failures));
            let renumbered = &mut self.failures;
            self.pending.close_up(|before, now, (key, _)| {
                entries.insert(*key, Entry::Pending(now));
                renumbered.extend(failures.remove(&before).map(|failure| (now, failure)));
            });
        }
        let number = self.pending.push((key, sides));
        self.entries.insert(key, Entry::Pending(number));
    }

    /// Both sides have this from now on.
    fn settle(&mut self, key: K, number: Option<u32>, value: Option<V>) {
        if let Some(number) = number {
            self.pending.remove(number);
            self.failures.remove(&number);
        }
        match value {
            Some(value) => self.entries.insert(key, Entry::Settled(value)),
            None => self.entries.remove(&key),
        };
    }

    fn sides(&self, entry: Option<Entry<V>>) -> Sides<V> {
        match entry {
            None => Sides { desired: None, actual: None },
            Some(Entry::Settled(value)) => Sides { desired: Some(value), actual: Some(value) },
            Some(Entry::Pending(number)) => match self.pending.get(number) {
                Some((_, sides)) => *sides,
                None => Sides { desired: None, actual: None },
            },
        }
    }

    /// What should be there.
    pub fn desired(&self, key: &K) -> Option<&V> {
        match self.entries.get(key)? {
            Entry::Settled(value) => Some(value),
            Entry::Pending(number) => self.pending.get(*number)?.1.desired.as_ref(),
        }
    }

    /// What is there, as far as is known.
    pub fn actual(&self, key: &K) -> Option<&V> {
        match self.entries.get(key)? {
            Entry::Settled(value) => Some(value),
            Entry::Pending(number) => self.pending.get(*number)?.1.actual.as_ref(),
        }
    }

    /// Everything that is there, as far as is known, in no order.
    pub fn actual_entries(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.keys().filter_map(|key| Some((key, self.actual(key)?)))
    }

    /// Everything that should be there, in no order.
    pub fn desired_entries(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.keys().filter_map(|key| Some((key, self.desired(key)?)))
    }

    /// How many keys differ.
    pub fn pending_count(&self) -> usize {
        self.pending.len()
    }

    /// The key's two sides are equal.
    pub fn is_settled(&self, key: &K) -> bool {
        !matches!(self.entries.get(key), Some(Entry::Pending(_)))
    }

    /// Pending keys in the order they arose, with the last failure.
    pub fn pending(&self) -> impl Iterator<Item = (&K, Option<&Failure>)> {
        self.pending.iter().map(|(number, (key, _))| (key, self.failures.get(&number)))
    }

    /// When the next failed key may be tried again.
    pub fn next_retry(&self) -> Option<Now> {
        self.failures.values().map(|failure| failure.retry_at).min()
    }

    /// The numbers of one part's keys that may be written now.
    fn due(&self, part: Part, now: Now, mut admit: impl FnMut(&K, Option<&V>) -> bool) -> Vec<u32> {
        let mut numbers = Vec::new();
        for (number, (key, sides)) in self.pending.iter() {
            let wanted = sides.desired.as_ref();
            let in_part = wanted.is_some() == (part == Part::Upserts);
            let may_be_tried = || self.failures.get(&number).is_none_or(|failure| failure.retry_at <= now);
            if in_part && may_be_tried() && admit(key, wanted) {
                numbers.push(number);
            }
        }
        numbers
    }

    /// It was written as desired.
    fn done(&mut self, number: u32) {
        if let Some(&(key, sides)) = self.pending.get(number) {
            self.settle(key, Some(number), sides.desired);
        }
    }

    /// It could not be written.
    fn failed(&mut self, number: u32, error: TableError, now: Now) {
        let attempts = self.failures.get(&number).map_or(0, |f| f.attempts).saturating_add(1);
        let factor = 1u32 << attempts.saturating_sub(1).min(16);
        let wait = FIRST_RETRY.saturating_mul(factor).min(LAST_RETRY);
        self.failures.insert(number, Failure { error, attempts, retry_at: now.saturating_add(wait) });
    }

    /// Writes the due keys of one part that `admit` lets through.
    pub fn apply<T: Table<K, V> + ?Sized>(
        &mut self,
        table: &mut T,
        part: Part,
        now: Now,
        admit: impl FnMut(&K, Option<&V>) -> bool,
    ) -> Written {
        let due = self.due(part, now, admit);
        if due.is_empty() {
            return Written::default();
        }
        let places = due.iter().filter_map(|number| self.pending.get(*number));
        let failures = match part {
            Part::Upserts => {
                let entries: Vec<(K, V)> =
                    places.filter_map(|(key, sides)| Some((*key, sides.desired?))).collect();
                table.upsert(&entries)
            }
            Part::Deletes => table.delete(&places.map(|(key, _)| *key).collect::<Vec<_>>()),
        };
        let failed: HashMap<usize, TableError> = failures.into_iter().collect();
        let done = due.len() - failed.len().min(due.len());
        let written = Written { done, failed: failed.len(), ..Written::default() };
        for (index, number) in due.into_iter().enumerate() {
            match failed.get(&index) {
                None => self.done(number),
                Some(error) => self.failed(number, error.clone(), now),
            }
        }
        written
    }

    /// Room was made: keys that failed because the table was full may be tried at once.
    pub fn retry_full(&mut self) {
        self.failures.retain(|_, failure| failure.error != TableError::Full);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEYS: u8 = 6;

    #[derive(Clone, Debug)]
    enum Step {
        Want(u8, Option<u8>),
        Found(std::collections::HashMap<u8, u8>),
        Done(u8),
        Failed(u8, bool),
        RetryFull,
    }

    fn step() -> impl Strategy<Value = Step> {
        let (key, value) = (0..KEYS, 0u8..3);
        let table = proptest::collection::hash_map(key.clone(), value.clone(), 0..6);
        prop_oneof![
            8 => (key.clone(), proptest::option::of(value)).prop_map(|(key, value)| Step::Want(key, value)),
            1 => table.prop_map(Step::Found),
            6 => key.clone().prop_map(Step::Done),
            3 => (key, any::<bool>()).prop_map(|(key, full)| Step::Failed(key, full)),
            1 => Just(Step::RetryFull),
        ]
    }

    /// Both sides as they are said, and what differs in the order in which it came to do so.
    #[derive(Default)]
    struct Plain {
        desired: BTreeMap<u8, u8>,
        actual: BTreeMap<u8, u8>,
        pending: Vec<(u8, Option<TableError>)>,
    }

    impl Plain {
        fn compare(&mut self, key: u8) {
            let place = self.pending.iter().position(|(its, _)| *its == key);
            if self.desired.get(&key) == self.actual.get(&key) {
                place.map(|place| self.pending.remove(place));
            } else if let Some((_, failure)) = place.and_then(|place| self.pending.get_mut(place)) {
                *failure = failure.take().filter(|error| *error == TableError::Full);
            } else {
                self.pending.push((key, None));
            }
        }

        fn set(side: &mut BTreeMap<u8, u8>, key: u8, value: Option<u8>) {
            match value {
                Some(value) => side.insert(key, value),
                None => side.remove(&key),
            };
        }

        fn apply(&mut self, step: &Step) {
            match step {
                Step::Want(key, value) => Self::set(&mut self.desired, *key, *value),
                Step::Done(key) => Self::set(&mut self.actual, *key, self.desired.get(key).copied()),
                Step::Found(table) => self.actual = table.iter().map(|(key, value)| (*key, *value)).collect(),
                Step::Failed(key, full) => {
                    let failed = self.pending.iter_mut().filter(|(its, _)| its == key);
                    failed.for_each(|(_, failure)| *failure = Some(error(*full)));
                }
                Step::RetryFull => {
                    let full =
                        self.pending.iter_mut().filter(|(_, failure)| *failure == Some(TableError::Full));
                    full.for_each(|(_, failure)| *failure = None);
                }
            }
            match step {
                Step::Want(key, _) | Step::Done(key) => self.compare(*key),
                Step::Found(_) => (0..=KEYS).for_each(|key| self.compare(key)),
                Step::Failed(..) | Step::RetryFull => {}
            }
        }
    }

    fn error(full: bool) -> TableError {
        if full { TableError::Full } else { TableError::OutOfRange }
    }

    fn apply(tracker: &mut DeltaTracker<u8, u8>, step: &Step) {
        match step.clone() {
            Step::Want(key, value) => tracker.want(key, value),
            Step::Found(table) => tracker.found(table),
            Step::Done(key) => number(tracker, key).into_iter().for_each(|number| tracker.done(number)),
            Step::Failed(key, full) => {
                number(tracker, key)
                    .into_iter()
                    .for_each(|number| tracker.failed(number, error(full), Now::ZERO));
            }
            Step::RetryFull => tracker.retry_full(),
        }
    }

    fn number(tracker: &DeltaTracker<u8, u8>, key: u8) -> Option<u32> {
        tracker.pending.iter().find(|(_, (its, _))| *its == key).map(|(number, _)| number)
    }

    proptest! {
        #[test]
        fn both_sides_and_what_differs_are_as_they_were_said(
            steps in proptest::collection::vec(step(), 1..60),
        ) {
            let (mut tracker, mut plain) = (DeltaTracker::new(), Plain::default());
            // Keeps its place, so that those of the others leave holes until they close up.
            let always = Step::Want(KEYS, Some(0));
            apply(&mut tracker, &always);
            plain.apply(&always);
            let mut is_ordered = true;
            for step in &steps {
                apply(&mut tracker, step);
                plain.apply(step);
                for key in 0..KEYS {
                    prop_assert_eq!(tracker.desired(&key), plain.desired.get(&key), "{:?}", step);
                    prop_assert_eq!(tracker.actual(&key), plain.actual.get(&key), "{:?}", step);
                }
                let sorted = |entries: Vec<(&u8, &u8)>| {
                    entries.into_iter().map(|(key, value)| (*key, *value)).collect::<BTreeMap<_, _>>()
                };
                prop_assert_eq!(&sorted(tracker.actual_entries().collect()), &plain.actual);
                prop_assert_eq!(&sorted(tracker.desired_entries().collect()), &plain.desired);
                let said = |(key, failure): (&u8, Option<&Failure>)| (*key, failure.map(|f| f.error.clone()));
                let (mut found, mut wanted) = (tracker.pending().map(said).collect::<Vec<_>>(), plain.pending.clone());
                // What a table that is read brings has no order of its own.
                is_ordered &= !matches!(step, Step::Found(_));
                if !is_ordered {
                    found.sort_by_key(|(key, _)| *key);
                    wanted.sort_by_key(|(key, _)| *key);
                }
                prop_assert_eq!(found, wanted, "{:?}", step);
            }
        }
    }
}
