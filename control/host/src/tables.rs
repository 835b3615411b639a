//! Kernel maps as the reconciler's tables.
//!
//! Owns: batches, and the translation of error numbers. Does not: keep copies.
//! Invariant: [`BpfTable`] passes the contract that the stand-in passes (`tests/progrun/tests/tables.rs`).

use crate::bpf::{Map, Update};
use std::io;
use std::marker::PhantomData;
use tortie_reconcile::{KernelError, Table, TableError};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Elements written by one system call.
const BATCH: usize = 4096;
const ARRAY: u32 = 2;
const LPM_TRIE: u32 = 11;

/// A hash table, trie or array of plain values. In an array, an element of zeroes is no element.
#[derive(Debug)]
pub struct BpfTable<K, V> {
    map: Map,
    /// Nobody has written it yet: reading a large hash table takes milliseconds even then.
    is_new: bool,
    types: PhantomData<(K, V)>,
}

/// An error of the system in the reconciler's words.
pub fn table_error(operation: &'static str, error: &io::Error) -> TableError {
    match error.raw_os_error() {
        Some(libc::E2BIG | libc::ENOSPC) => TableError::Full,
        errno => {
            TableError::Kernel(KernelError { operation, errno: errno.unwrap_or(0), text: error.to_string() })
        }
    }
}

impl<K, V> BpfTable<K, V>
where
    K: Copy + FromBytes + IntoBytes + Immutable,
    V: Copy + FromBytes + IntoBytes + Immutable,
{
    /// Over a map; `EINVAL` when keys and values have other sizes.
    pub fn new(map: Map) -> io::Result<Self> {
        let info = map.info();
        if info.key_bytes as usize != size_of::<K>() || map.value_stride() != size_of::<V>() {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        Ok(Self { map, is_new: false, types: PhantomData })
    }

    /// Over a map that was just made, and that nobody but this table writes until it is read for the first time.
    pub fn of_new(map: Map) -> io::Result<Self> {
        Ok(Self { is_new: true, ..Self::new(map)? })
    }

    fn is_array(&self) -> bool {
        self.map.info().kind == ARRAY
    }

    fn error(&self, operation: &'static str, error: &io::Error) -> TableError {
        if self.is_array() && error.raw_os_error() == Some(libc::E2BIG) {
            return TableError::OutOfRange;
        }
        table_error(operation, error)
    }

    /// Writes the elements from `start` on that one system call takes; gives back how many it took.
    fn write_batch(&self, entries: &[(K, V)]) -> Result<(), (usize, io::Error)> {
        let mut keys = Vec::with_capacity(entries.len() * size_of::<K>());
        let mut values = Vec::with_capacity(entries.len() * size_of::<V>());
        for (key, value) in entries {
            keys.extend_from_slice(key.as_bytes());
            values.extend_from_slice(value.as_bytes());
        }
        self.map.update_batch(&keys, &values)
    }

    fn decode(&self, keys: &[u8], values: &[u8], entries: &mut Vec<(K, V)>) {
        let pairs = keys.chunks_exact(size_of::<K>()).zip(values.chunks_exact(size_of::<V>()));
        for (key, value) in pairs {
            if self.is_array() && value.iter().all(|byte| *byte == 0) {
                continue;
            }
            if let (Ok(key), Ok(value)) = (K::read_from_bytes(key), V::read_from_bytes(value)) {
                entries.push((key, value));
            }
        }
    }

    /// Tries have no batched reading on older kernels, and need none.
    fn list_one_by_one(&self, entries: &mut Vec<(K, V)>) -> io::Result<()> {
        let mut key = vec![0; size_of::<K>()];
        let mut value = vec![0; size_of::<V>()];
        let mut previous: Option<Vec<u8>> = None;
        while self.map.next_key(previous.as_deref(), &mut key)? {
            if self.map.lookup(&key, &mut value)? {
                self.decode(&key, &value, entries);
            }
            previous = Some(key.clone());
        }
        Ok(())
    }
}

impl<K, V> Table<K, V> for BpfTable<K, V>
where
    K: Copy + FromBytes + IntoBytes + Immutable,
    V: Copy + FromBytes + IntoBytes + Immutable,
{
    fn list(&mut self) -> Result<Vec<(K, V)>, TableError> {
        let mut entries = Vec::new();
        if std::mem::take(&mut self.is_new) {
            return Ok(entries);
        }
        let result = match self.map.info().kind {
            LPM_TRIE => self.list_one_by_one(&mut entries),
            _ => self.map.read_batches(|keys, values| self.decode(keys, values, &mut entries)),
        };
        match result {
            Ok(()) => Ok(entries),
            Err(error) => Err(self.error("reading the map", &error)),
        }
    }

    fn upsert(&mut self, entries: &[(K, V)]) -> Vec<(usize, TableError)> {
        self.is_new = false;
        let mut failures = Vec::new();
        let mut start = 0;
        while start < entries.len() {
            let end = entries.len().min(start.saturating_add(BATCH));
            let batch = entries.get(start..end).unwrap_or_default();
            match self.write_batch(batch) {
                Ok(()) => start = end,
                Err((written, error)) => {
                    // The one it stopped at is tried alone: it fails with its own reason, or not at all.
                    let at = start.saturating_add(written);
                    if let Some((key, value)) = entries.get(at)
                        && let Err(alone) = self.map.update(key.as_bytes(), value.as_bytes(), Update::Any)
                    {
                        tracing::debug!(%error, "a batch stopped");
                        failures.push((at, self.error("writing the map", &alone)));
                    }
                    start = at.saturating_add(1);
                }
            }
        }
        failures
    }

    fn delete(&mut self, keys: &[K]) -> Vec<(usize, TableError)> {
        let mut failures = Vec::new();
        let zeroes = vec![0; size_of::<V>()];
        for (index, key) in keys.iter().enumerate() {
            let result = match self.is_array() {
                true => self.map.update(key.as_bytes(), &zeroes, Update::Any).map(|()| true),
                false => self.map.delete(key.as_bytes()),
            };
            if let Err(error) = result {
                failures.push((index, self.error("removing from the map", &error)));
            }
        }
        failures
    }
}
