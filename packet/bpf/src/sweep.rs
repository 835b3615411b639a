//! Expiry: iterator programs over the flow tables, which remove in the kernel what is over.
//!
//! Reading the iterator's file runs the program on one entry after the other. Every [`SLICE`] entries it
//! writes a byte, so that a reader who asks for one byte at a time sets the pace.

use crate::maps::{SWEEP, Tables};
use crate::tables::{Running, add};
#[cfg(feature = "test-io")]
use crate::test_io::now;
#[cfg(not(feature = "test-io"))]
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::helpers::bpf_seq_write;
use core::ffi::c_void;
use core::ptr;
#[cfg(not(feature = "test-io"))]
use tortie_abi::Tick;
use tortie_abi::flow::flags;
use tortie_datapath::family::{FlowEntry as _, Spot};
use tortie_datapath::hook::sweep::{Fate, examine};
use tortie_datapath::kernel::{Flows, Table};
use tortie_datapath::stage::table;
use tortie_datapath::{V4, V6};

/// `struct bpf_iter_meta`.
#[repr(C)]
struct Meta {
    seq: *mut c_void,
    session: u64,
    number: u64,
}

/// `struct bpf_iter__bpf_map_elem`.
#[repr(C)]
pub struct Element {
    meta: *mut Meta,
    map: *mut c_void,
    key: *mut c_void,
    value: *mut c_void,
}

/// Entries between two bytes of output; a power of two.
const SLICE: u64 = 1024;

macro_rules! program {
    ($(#[$doc:meta])* $name:ident, $family:ty, $table:expr) => {
        $(#[$doc])*
        #[unsafe(no_mangle)]
        #[unsafe(link_section = "iter/bpf_map_elem")]
        pub extern "C" fn $name(context: *const Element) -> i32 {
            // SAFETY: this is the entry point: the kernel passes a valid context.
            sweep::<$family>(unsafe { &*context }, $table);
            0
        }
    };
}

program!(
    /// Sweeps `flow4`.
    sweep_flow4, V4, Table::Main
);
program!(
    /// Sweeps `flow6`.
    sweep_flow6, V6, Table::Main
);
program!(
    /// Sweeps `half_open4`.
    sweep_half4, V4, Table::HalfOpen
);
program!(
    /// Sweeps `half_open6`.
    sweep_half6, V6, Table::HalfOpen
);

#[inline(always)]
fn sweep<F: Tables>(element: &Element, table: Table) {
    let (key, value) = (element.key.cast::<F::FlowKey>(), element.value.cast::<F::FlowPair>());
    if key.is_null() || value.is_null() {
        return;
    }
    // SAFETY: not null, so they are an element's; the kernel has checked when the iterator was made that the
    // map's keys and values are at least as long as what is read here. Any bytes are a key and a value. The element may
    // be removed meanwhile: what is then read decides about a key that has no entry any more.
    let (mut key, pair) = unsafe { (ptr::read(key), &mut *value) };
    if !F::way(pair, 0).core().is_there() && !F::way(pair, 1).core().is_there() {
        // Whoever took the last entry out saw the other's still there.
        Flows::<F>::delete(&Running(()), table, &key);
    }
    for way in 0..2 {
        entry::<F>(table, &key, F::way(pair, way));
        key = F::reversed(&key);
    }
    pace(element);
}

#[inline(always)]
fn entry<F: Tables>(table: Table, key: &F::FlowKey, entry: &F::Flow) {
    if !entry.core().is_there() {
        return;
    }
    let k = Running(());
    let (fate, partner) = examine::<F, _>(&k, table, key, entry, now());
    let remove = |key: &F::FlowKey| table::remove::<F, _>(&k, table, &Spot::of(key)) as u64;
    let removed = match fate {
        Fate::Keep => 0,
        Fate::Orphaned => remove(key),
        Fate::Expired | Fate::Stale => remove(key).wrapping_add(remove(&partner)),
    };
    let forward = entry.core().flags & flags::REPLY == 0;
    report::<F>(table, forward, fate, removed);
}

/// Iterators may not use the coarse clock.
#[cfg(not(feature = "test-io"))]
#[inline(always)]
fn now() -> Tick {
    // SAFETY: a helper without arguments.
    Tick::from_nanos(unsafe { bpf_ktime_get_ns() })
}

#[inline(always)]
fn report<F: Tables>(table: Table, forward: bool, fate: Fate, removed: u64) {
    SWEEP.with(&F::SWEEP, |sweep| {
        add(&mut sweep.seen, 1);
        match table {
            Table::Main => add(&mut sweep.established, forward as u64),
            Table::HalfOpen => add(&mut sweep.half_open, forward as u64),
        }
        match fate {
            Fate::Keep => {}
            Fate::Expired => add(&mut sweep.expired, removed),
            Fate::Stale => add(&mut sweep.stale, removed),
            Fate::Orphaned => add(&mut sweep.orphaned, removed),
        }
    });
}

#[inline(always)]
fn pace(element: &Element) {
    // SAFETY: the kernel's own record, valid while the program runs on this element.
    let (seq, number) = unsafe { ((*element.meta).seq, (*element.meta).number) };
    if number & SLICE.wrapping_sub(1) == SLICE.wrapping_sub(1) {
        let mark = 0_u8;
        // SAFETY: one byte of ours; a full buffer is the reader's to empty.
        unsafe { bpf_seq_write(seq.cast(), ptr::from_ref(&mark).cast(), 1) };
    }
}
