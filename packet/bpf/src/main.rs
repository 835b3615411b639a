//! The packet programs: what the kernel runs.
//!
//! Owns: entry points ([`tc`], [`cgroup`], [`sweep`]), maps ([`maps`]), the kernel traits on helpers and maps
//! ([`skb`], [`tables`]), verdict to return code ([`conclude`]). Does not: decide anything about policy,
//! services or routes; `tortie-datapath` does. Invariant: the only unsafe packet code, each block with
//! the fact it relies on; no panic path (the object is scanned).
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![deny(clippy::panic, clippy::undocumented_unsafe_blocks, unsafe_op_in_unsafe_fn)]

mod cgroup;
mod conclude;
mod map;
mod maps;
mod places;
mod skb;
mod sweep;
mod tables;
mod tc;
#[cfg(feature = "test-io")]
mod test_io;

/// Helpers for the kernel's GPL-only functions are used, so the object says that it is compatible.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Nothing here can panic; without a handler there is no program.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
