//! One table of the kernel, as the reconciler sees it.

use std::fmt;

/// A table that user space fills: a BPF map, or a stand-in with the same manners.
///
/// The contract, checked by the test kit against every implementation:
/// - an upsert creates or replaces; a delete of a missing key succeeds;
/// - one element that fails does not stop its siblings; the failures come back by index;
/// - a full table refuses new keys with [`TableError::Full`] and still replaces existing ones;
/// - `list` gives every element once.
pub trait Table<K, V> {
    /// Everything that is in it.
    fn list(&mut self) -> Result<Vec<(K, V)>, TableError>;

    /// Creates or replaces; gives back what failed, by index into `entries`.
    fn upsert(&mut self, entries: &[(K, V)]) -> Vec<(usize, TableError)>;

    /// Removes; gives back what failed, by index into `keys`.
    fn delete(&mut self, keys: &[K]) -> Vec<(usize, TableError)>;
}

impl<K, V, T: Table<K, V> + ?Sized> Table<K, V> for Box<T> {
    fn list(&mut self) -> Result<Vec<(K, V)>, TableError> {
        (**self).list()
    }

    fn upsert(&mut self, entries: &[(K, V)]) -> Vec<(usize, TableError)> {
        (**self).upsert(entries)
    }

    fn delete(&mut self, keys: &[K]) -> Vec<(usize, TableError)> {
        (**self).delete(keys)
    }
}

/// Why an element could not be written or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// No room for another key.
    #[error("the table is full; raise its size or remove entries")]
    Full,
    /// The index is beyond the array's end.
    #[error("no such slot")]
    OutOfRange,
    /// Everything else.
    #[error("{0}")]
    Kernel(KernelError),
}

/// The operating system's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelError {
    /// What was tried.
    pub operation: &'static str,
    /// The error number.
    pub errno: i32,
    /// What it means.
    pub text: String,
}

impl fmt::Display for KernelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.operation, self.text)
    }
}
