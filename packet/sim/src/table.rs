//! Map semantics: keys are bytes, as in the kernel.

use std::collections::{BTreeMap, HashMap};

/// Why an update was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// `-E2BIG`: no room for a new key.
    Full,
    /// `-EEXIST`: the key is there (`BPF_NOEXIST`).
    Exists,
}

/// `BPF_MAP_TYPE_HASH`.
#[derive(Clone, Debug)]
pub struct Hash<V> {
    max_entries: usize,
    entries: HashMap<Vec<u8>, V>,
}

impl<V> Hash<V> {
    /// An empty table.
    pub fn new(max_entries: u32) -> Self {
        Self { max_entries: max_entries as usize, entries: HashMap::new() }
    }

    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Option<&V> {
        self.entries.get(key)
    }

    /// The value of a key.
    pub fn get_mut(&mut self, key: &[u8]) -> Option<&mut V> {
        self.entries.get_mut(key)
    }

    /// `BPF_ANY`, or `BPF_NOEXIST` unless `replace`.
    pub fn insert(&mut self, key: &[u8], value: V, replace: bool) -> Result<(), Refused> {
        if self.entries.contains_key(key) {
            if !replace {
                return Err(Refused::Exists);
            }
        } else if self.entries.len() >= self.max_entries {
            return Err(Refused::Full);
        }
        self.entries.insert(key.to_vec(), value);
        Ok(())
    }

    /// Whether the key was there.
    pub fn remove(&mut self, key: &[u8]) -> bool {
        self.entries.remove(key).is_some()
    }

    /// All entries, by key.
    pub fn sorted(&self) -> BTreeMap<&[u8], &V> {
        self.entries.iter().map(|(k, v)| (k.as_slice(), v)).collect()
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has no entries.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.entries.clear();
    }
}

/// `BPF_MAP_TYPE_LRU_HASH`. Evicts the entry that was used longest ago; the kernel approximates that.
#[derive(Clone, Debug)]
pub struct Lru<V> {
    max_entries: usize,
    clock: u64,
    entries: HashMap<Vec<u8>, (u64, V)>,
    by_use: BTreeMap<u64, Vec<u8>>,
}

impl<V> Lru<V> {
    /// An empty table.
    pub fn new(max_entries: u32) -> Self {
        Self { max_entries: max_entries as usize, clock: 0, entries: HashMap::new(), by_use: BTreeMap::new() }
    }

    /// The value of a key; counts as a use.
    pub fn get_mut(&mut self, key: &[u8]) -> Option<&mut V> {
        self.clock += 1;
        let (used, value) = self.entries.get_mut(key)?;
        self.by_use.remove(used);
        *used = self.clock;
        self.by_use.insert(self.clock, key.to_vec());
        Some(value)
    }

    /// `BPF_ANY`, or `BPF_NOEXIST` unless `replace`. Never full.
    pub fn insert(&mut self, key: &[u8], value: V, replace: bool) -> Result<(), Refused> {
        if self.entries.contains_key(key) {
            if !replace {
                return Err(Refused::Exists);
            }
            self.remove(key);
        } else if self.entries.len() >= self.max_entries
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.entries.remove(&oldest);
        }
        self.clock += 1;
        self.by_use.insert(self.clock, key.to_vec());
        self.entries.insert(key.to_vec(), (self.clock, value));
        Ok(())
    }

    /// Whether the key was there.
    pub fn remove(&mut self, key: &[u8]) -> bool {
        let Some((used, _)) = self.entries.remove(key) else { return false };
        self.by_use.remove(&used);
        true
    }

    /// All entries, by key.
    pub fn sorted(&self) -> BTreeMap<&[u8], &V> {
        self.entries.iter().map(|(k, (_, v))| (k.as_slice(), v)).collect()
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has no entries.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.by_use.clear();
    }
}

/// `BPF_MAP_TYPE_LPM_TRIE`. A second insert of one prefix replaces the first.
#[derive(Clone, Debug)]
pub struct Lpm<V> {
    max_entries: usize,
    by_length: BTreeMap<u32, HashMap<Vec<u8>, V>>,
}

impl<V> Lpm<V> {
    /// An empty table.
    pub fn new(max_entries: u32) -> Self {
        Self { max_entries: max_entries as usize, by_length: BTreeMap::new() }
    }

    /// Inserts or replaces a prefix; bits beyond `length` do not matter.
    pub fn insert(&mut self, address: &[u8], length: u32, value: V) -> Result<(), Refused> {
        let prefix = masked(address, length);
        let there = self.by_length.get(&length).is_some_and(|m| m.contains_key(&prefix));
        if !there && self.len() >= self.max_entries {
            return Err(Refused::Full);
        }
        self.by_length.entry(length).or_default().insert(prefix, value);
        Ok(())
    }

    /// The value of the longest prefix that covers `address`.
    pub fn get(&self, address: &[u8]) -> Option<&V> {
        self.by_length.iter().rev().find_map(|(length, m)| m.get(&masked(address, *length)))
    }

    /// Whether exactly this prefix was there.
    pub fn remove(&mut self, address: &[u8], length: u32) -> bool {
        self.by_length.get_mut(&length).is_some_and(|m| m.remove(&masked(address, length)).is_some())
    }

    /// Number of prefixes.
    pub fn len(&self) -> usize {
        self.by_length.values().map(HashMap::len).sum()
    }

    /// Whether it has no prefixes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.by_length.clear();
    }
}

fn masked(address: &[u8], length: u32) -> Vec<u8> {
    let mut left = length;
    address
        .iter()
        .map(|byte| {
            let bits = left.min(8);
            left -= bits;
            byte & u8::MAX.checked_shl(8 - bits).unwrap_or(0)
        })
        .collect()
}
