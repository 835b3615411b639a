//! Owns: reading and writing a header value in a byte slice. Does not: run on BPF, where no slice of a
//! packet exists. Invariant: out of range is `None`, never a panic, and a refused write changes nothing.

use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The value of type `T` that starts `offset` bytes into `bytes`, or `None` when it does not fit.
#[inline]
pub fn read_at<T: FromBytes>(bytes: &[u8], offset: usize) -> Option<T> {
    let tail = bytes.get(offset..)?;
    T::read_from_prefix(tail).ok().map(|(value, _)| value)
}

/// Writes `value` at `offset`; `None`, and nothing written, when it does not fit.
#[inline]
pub fn write_at<T: IntoBytes + Immutable>(bytes: &mut [u8], offset: usize, value: &T) -> Option<()> {
    let tail = bytes.get_mut(offset..)?;
    value.write_to_prefix(tail).ok()
}
