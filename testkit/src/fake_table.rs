//! A stand-in for a kernel map, with the kernel's manners, and faults on demand.
//!
//! Owns: what a hash, an LRU hash, an array and a trie do when full, on create and replace, on look-up.
//! Does not: imitate per-CPU values or preallocation.
//! Invariant: it passes the contract ([`contract`]) that the real maps pass in `tests/progrun`.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use tortie_reconcile::{KernelError, Table, TableError};

pub mod contract;

const EIO: i32 = 5;
const E2BIG: i32 = 7;
const EEXIST: i32 = 17;
const ENOENT: i32 = 2;

/// Whether an element may or must exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Create or replace.
    Any,
    /// `EEXIST` when it exists.
    Create,
    /// `ENOENT` when it does not.
    Replace,
}

/// A map as the system call shows it; errors are error numbers.
pub trait RawMap<K, V> {
    /// Writes an element.
    fn update(&self, key: K, value: V, mode: Mode) -> Result<(), i32>;
    /// Removes an element; `ENOENT` when there is none.
    fn remove(&self, key: K) -> Result<(), i32>;
    /// Reads an element; in a trie, the longest match.
    fn lookup(&self, key: K) -> Result<Option<V>, i32>;
    /// How many there are.
    fn count(&self) -> usize;
}

/// What a map does when it is full, and how it finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `E2BIG` when full.
    Hash,
    /// Drops old elements when full.
    Lru,
    /// Every index exists; an element of default value is no element.
    Array,
    /// Longest prefix; `E2BIG` when full.
    Trie,
}

/// Prefix keys: needed for tries.
pub trait Prefix {
    /// Significant bits.
    fn length(&self) -> u32;
    /// This prefix contains the other's leading bits.
    fn contains(&self, other: &Self) -> bool;
}

/// Counts operations over several tables and makes some fail.
#[derive(Clone, Default)]
pub struct Faults {
    operations: Rc<Cell<usize>>,
    fail_at: Rc<Cell<Option<usize>>>,
    die_at: Rc<Cell<Option<usize>>>,
    #[allow(clippy::type_complexity, reason = "one observer, set once")]
    observer: Rc<RefCell<Option<Box<dyn Fn()>>>>,
}

impl Faults {
    /// Operation number `n` (from 0, counted from now) fails once with `EIO`.
    pub fn fail_at(&self, n: usize) {
        self.operations.set(0);
        self.fail_at.set(Some(n));
        self.die_at.set(None);
    }

    /// From operation number `n` on nothing reaches the kernel: the agent is dead.
    pub fn die_at(&self, n: usize) {
        self.operations.set(0);
        self.die_at.set(Some(n));
        self.fail_at.set(None);
    }

    /// No more faults; counts from 0 again.
    pub fn clear(&self) {
        self.operations.set(0);
        self.fail_at.set(None);
        self.die_at.set(None);
    }

    /// Operations since the last of the above.
    pub fn operations(&self) -> usize {
        self.operations.get()
    }

    /// Called after every operation that changed something.
    pub fn observe(&self, observer: impl Fn() + 'static) {
        *self.observer.borrow_mut() = Some(Box::new(observer));
    }

    /// One operation is about to happen.
    pub fn operation(&self) -> Result<(), i32> {
        let number = self.operations.get();
        self.operations.set(number + 1);
        let dead = self.die_at.get().is_some_and(|at| number >= at);
        if dead || self.fail_at.get() == Some(number) {
            return Err(EIO);
        }
        Ok(())
    }

    /// One operation has happened.
    pub fn happened(&self) {
        if let Some(observer) = &*self.observer.borrow() {
            observer();
        }
    }
}

/// The stand-in. Clones are the same table: what a test changes through one, others see.
pub struct FakeTable<K, V> {
    kind: Kind,
    max_entries: usize,
    contains: fn(&K, &K) -> bool,
    length: fn(&K) -> u32,
    /// Least recently used first.
    elements: Rc<RefCell<Vec<(K, V)>>>,
    faults: Faults,
}

impl<K, V> Clone for FakeTable<K, V> {
    fn clone(&self) -> Self {
        Self {
            kind: self.kind,
            max_entries: self.max_entries,
            contains: self.contains,
            length: self.length,
            elements: self.elements.clone(),
            faults: self.faults.clone(),
        }
    }
}

impl<K: Copy + PartialEq, V: Copy + PartialEq> FakeTable<K, V> {
    /// A hash, LRU hash or array.
    pub fn new(kind: Kind, max_entries: usize, faults: &Faults) -> Self {
        Self {
            kind,
            max_entries,
            contains: |a, b| a == b,
            length: |_| 0,
            elements: Rc::default(),
            faults: faults.clone(),
        }
    }

    /// A trie.
    pub fn trie(max_entries: usize, faults: &Faults) -> Self
    where
        K: Prefix,
    {
        Self {
            contains: |a, b| a.contains(b),
            length: Prefix::length,
            ..Self::new(Kind::Trie, max_entries, faults)
        }
    }

    /// Everything in it, in no order.
    pub fn elements(&self) -> Vec<(K, V)> {
        self.elements.borrow().clone()
    }

    /// The element of exactly this key.
    pub fn get(&self, key: K) -> Option<V> {
        self.elements.borrow().iter().find(|(k, _)| *k == key).map(|(_, v)| *v)
    }

    /// Behind everybody's back: no fault, no count.
    pub fn tamper(&self, change: impl FnOnce(&mut Vec<(K, V)>)) {
        change(&mut self.elements.borrow_mut());
    }

    fn write(&self, key: K, value: V, mode: Mode) -> Result<(), i32> {
        let mut elements = self.elements.borrow_mut();
        let place = elements.iter().position(|(k, _)| *k == key);
        match (place, mode) {
            (Some(_), Mode::Create) => return Err(EEXIST),
            (None, Mode::Replace) => return Err(ENOENT),
            (Some(place), _) => {
                elements.remove(place);
            }
            (None, _) if elements.len() < self.max_entries || self.kind == Kind::Array => {}
            (None, _) if self.kind == Kind::Lru => {
                elements.remove(0);
            }
            (None, _) => return Err(E2BIG),
        }
        elements.push((key, value));
        Ok(())
    }

    fn erase(&self, key: K) -> Result<(), i32> {
        let mut elements = self.elements.borrow_mut();
        let place = elements.iter().position(|(k, _)| *k == key).ok_or(ENOENT)?;
        elements.remove(place);
        Ok(())
    }
}

impl<K: Copy + PartialEq, V: Copy + PartialEq> RawMap<K, V> for FakeTable<K, V> {
    fn update(&self, key: K, value: V, mode: Mode) -> Result<(), i32> {
        self.faults.operation()?;
        self.write(key, value, mode)?;
        self.faults.happened();
        Ok(())
    }

    fn remove(&self, key: K) -> Result<(), i32> {
        self.faults.operation()?;
        self.erase(key)?;
        self.faults.happened();
        Ok(())
    }

    fn lookup(&self, key: K) -> Result<Option<V>, i32> {
        let mut elements = self.elements.borrow_mut();
        let matching = elements.iter().enumerate().filter(|(_, (k, _))| (self.contains)(k, &key));
        let Some((place, _)) = matching.max_by_key(|(_, (k, _))| (self.length)(k)) else { return Ok(None) };
        let element = elements[place];
        if self.kind == Kind::Lru {
            // A look-up is a use.
            elements.remove(place);
            elements.push(element);
        }
        Ok(Some(element.1))
    }

    fn count(&self) -> usize {
        self.elements.borrow().len()
    }
}

/// An error number in the reconciler's words.
pub fn table_error(errno: i32) -> TableError {
    match errno {
        E2BIG => TableError::Full,
        errno => TableError::Kernel(KernelError {
            operation: "a fault on demand",
            errno,
            text: format!("error {errno}"),
        }),
    }
}

impl<K: Copy + PartialEq, V: Copy + PartialEq> Table<K, V> for FakeTable<K, V> {
    fn list(&mut self) -> Result<Vec<(K, V)>, TableError> {
        Ok(self.elements())
    }

    fn upsert(&mut self, entries: &[(K, V)]) -> Vec<(usize, TableError)> {
        let one = |(index, (key, value)): (usize, &(K, V))| {
            self.update(*key, *value, Mode::Any).err().map(|errno| (index, table_error(errno)))
        };
        entries.iter().enumerate().filter_map(one).collect()
    }

    fn delete(&mut self, keys: &[K]) -> Vec<(usize, TableError)> {
        let one = |(index, key): (usize, &K)| match self.remove(*key) {
            Ok(()) | Err(ENOENT) => None,
            Err(errno) => Some((index, table_error(errno))),
        };
        keys.iter().enumerate().filter_map(one).collect()
    }
}
