//! Memory that the process has and does not use.
//!
//! Owns: giving it back. Does not: measure.

/// What the allocator keeps of freed memory goes back to the kernel: after a start or a full comparison that is several
/// times what stays. Costs a millisecond or two for each 50 MB, and the other threads wait for it where they allocate.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim takes a size and touches nothing but free memory, under the allocator's own locks.
    unsafe {
        libc::malloc_trim(0);
    }
}
