//! One scenario, many ways: the end state is the same and the guarantees hold at every step.

use super::build::{gone, id_of};
use super::driver::Driver;
use super::state::State;
use std::collections::BTreeMap;
use tortie_model::{Object, ObjectId};

/// A small generator of numbers, so that a failure repeats.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n.max(1) as u64) as usize
    }

    pub fn shuffled<T: Clone>(&mut self, items: &[T]) -> Vec<T> {
        let mut items = items.to_vec();
        (1..items.len()).rev().for_each(|i| items.swap(i, self.below(i + 1)));
        items
    }

    /// The same changes in another order; those of one object stay in theirs.
    fn interleaved(&mut self, changes: &[Object]) -> Vec<Object> {
        let mut queues: Vec<Vec<Object>> = by_object(changes).into_values().collect();
        queues.iter_mut().for_each(|queue| queue.reverse());
        let mut out = Vec::new();
        while !queues.is_empty() {
            let i = self.below(queues.len());
            match queues[i].pop() {
                Some(change) => out.push(change),
                None => _ = queues.swap_remove(i),
            }
        }
        out
    }
}

/// How changes are cut into batches.
#[derive(Clone, Copy, Debug)]
enum Batches {
    Each,
    All,
    Random(u64),
}

/// When the datastore is in sync.
#[derive(Clone, Copy, Debug)]
enum SyncAt {
    Start,
    Middle,
    End,
}

fn by_object(changes: &[Object]) -> BTreeMap<ObjectId, Vec<Object>> {
    let mut map: BTreeMap<ObjectId, Vec<Object>> = BTreeMap::new();
    changes.iter().for_each(|change| map.entry(id_of(change)).or_default().push(change.clone()));
    map
}

/// The last change of each object, where it is there at the end.
pub fn finals(changes: &[Object]) -> Vec<Object> {
    let last = by_object(changes).into_values().filter_map(|mut changes| changes.pop());
    last.filter(|change| gone(change).as_ref() != Some(change)).collect()
}

fn run(node: &str, changes: &[Object], batches: Batches, sync: SyncAt) -> Driver {
    let mut driver = Driver::before_sync(node);
    let mut random = Random::new(if let Batches::Random(seed) = batches { seed } else { 0 });
    if matches!(sync, SyncAt::Start) {
        driver.calc.in_sync();
    }
    for (i, change) in changes.iter().enumerate() {
        if matches!(sync, SyncAt::Middle) && i == changes.len() / 2 {
            driver.calc.in_sync();
        }
        driver.calc.apply(change);
        let flush = match batches {
            Batches::Each => true,
            Batches::All => false,
            Batches::Random(_) => random.below(3) == 0,
        };
        if flush {
            let said = driver.flush();
            assert!(!matches!(sync, SyncAt::End) || said.is_empty(), "said {said:?} before in sync");
        }
    }
    driver.calc.in_sync();
    driver.flush();
    assert_eq!(driver.flush(), [], "a flush without a change says nothing");
    driver
}

/// Expands a scenario on node `n1` and returns its end state.
pub fn expand(changes: &[Object]) -> State {
    expand_on("n1", changes, 24)
}

/// Expands a scenario with so many seeds.
pub fn expand_on(node: &str, changes: &[Object], seeds: u64) -> State {
    let expected = run(node, changes, Batches::Each, SyncAt::Start).state();
    let same = |what: &str, changes: &[Object], batches, sync| {
        let driver = run(node, changes, batches, sync);
        let state = driver.state();
        assert_eq!(state, expected, "{what}, {batches:?}, {sync:?}: {changes:#?}");
        driver
    };
    let last = finals(changes);
    let reversed: Vec<Object> = last.iter().rev().cloned().collect();
    let doubled: Vec<Object> = changes.iter().flat_map(|change| [change.clone(), change.clone()]).collect();
    let repeated: Vec<Object> = changes.iter().chain(&last).cloned().collect();
    for sync in [SyncAt::Start, SyncAt::Middle, SyncAt::End] {
        for batches in [Batches::Each, Batches::All, Batches::Random(1)] {
            same("as given", changes, batches, sync);
            same("final values only", &last, batches, sync);
            same("reversed", &reversed, batches, sync);
            same("doubled", &doubled, batches, sync);
            same("repeated", &repeated, batches, sync);
        }
    }
    for seed in 0..seeds {
        let mut random = Random::new(seed);
        let shuffled = random.shuffled(&last);
        same("shuffled", &shuffled, Batches::Each, SyncAt::Start);
        same("shuffled", &shuffled, Batches::Random(seed), SyncAt::Middle);
        let interleaved = random.interleaved(changes);
        same("interleaved", &interleaved, Batches::Each, SyncAt::Start);
        let driver = same("interleaved", &interleaved, Batches::Random(seed), SyncAt::Start);
        without_and_with(driver, &random.shuffled(&last), &expected, seed);
    }
    expected
}

/// Deletes and re-adds: one by one, in one batch, and everything.
fn without_and_with(mut driver: Driver, last: &[Object], expected: &State, seed: u64) {
    for object in last {
        let Some(removal) = gone(object) else { continue };
        driver.step(std::slice::from_ref(&removal));
        driver.step(std::slice::from_ref(object));
        assert_eq!(driver.state(), *expected, "seed {seed}: removed and added again: {object:?}");
        driver.apply(&[removal, object.clone()]);
        assert_eq!(driver.flush(), [], "seed {seed}: removed and added in one batch: {object:?}");
    }
    let removals: Vec<Object> = last.iter().filter_map(gone).collect();
    for removal in &removals {
        driver.step(std::slice::from_ref(removal));
    }
    let empty = driver.state();
    assert!(empty.endpoints.is_empty() && empty.routes.is_empty() && empty.services.is_empty(), "{empty:?}");
    assert!(empty.conflicts.is_empty() && empty.sets.is_empty(), "{empty:?}");
    driver.apply(last);
    driver.apply(&removals);
    assert_eq!(driver.flush(), [], "seed {seed}: added and removed in one batch");
    driver.step(last);
    assert_eq!(driver.state(), *expected, "seed {seed}: everything removed, everything added");
}
