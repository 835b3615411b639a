//! Expiry: programs that walk the flow tables and remove in the kernel what is over.
//!
//! User space runs them. They are raw tracepoint programs because of all kinds that can be run without a packet
//! (`BPF_PROG_TEST_RUN`) these need nothing of the kernel's own types, which a kernel that is locked down withholds, and
//! leave interrupts and other tasks alone meanwhile.

use crate::maps::{SWEEP, Tables};
use crate::tables::{Running, add};
#[cfg(feature = "test-io")]
use crate::test_io::now;
#[cfg(not(feature = "test-io"))]
use aya_ebpf::helpers::bpf_ktime_get_ns;
use core::ffi::c_void;
use core::ptr;
#[cfg(not(feature = "test-io"))]
use tortie_abi::Tick;
use tortie_abi::flow::flags;
use tortie_datapath::family::{FlowEntry as _, Spot};
use tortie_datapath::hook::sweep::{Fate, doubt, examine};
use tortie_datapath::kernel::{Flows, Table};
use tortie_datapath::stage::table;
use tortie_datapath::{V4, V6};

macro_rules! program {
    ($(#[$doc:meta])* $name:ident, $each:ident, $family:ty, $map:ident, $table:expr) => {
        $(#[$doc])*
        #[unsafe(no_mangle)]
        #[unsafe(link_section = "raw_tp/sweep")]
        pub extern "C" fn $name(_: *const c_void) -> i32 {
            <$family as Tables>::$map.for_each($each);
            0
        }

        extern "C" fn $each(_: *mut c_void, key: *const c_void, value: *mut c_void, _: *mut c_void) -> i64 {
            // SAFETY: the kernel calls this with an element of the map above: its key and its value.
            unsafe { sweep::<$family>(key, value, $table) };
            0
        }
    };
}

program!(
    /// Sweeps `flow4`.
    sweep_flow4, each_flow4, V4, FLOW, Table::Main
);
program!(
    /// Sweeps `flow6`.
    sweep_flow6, each_flow6, V6, FLOW, Table::Main
);
program!(
    /// Sweeps `half_open4`.
    sweep_half4, each_half4, V4, HALF_OPEN, Table::HalfOpen
);
program!(
    /// Sweeps `half_open6`.
    sweep_half6, each_half6, V6, HALF_OPEN, Table::HalfOpen
);

/// # Safety
///
/// They are the key and the value of an element of the family's table.
#[inline(always)]
unsafe fn sweep<F: Tables>(key: *const c_void, value: *mut c_void, table: Table) {
    // SAFETY: they are an element's, and any bytes are a key and a value. The element may be removed meanwhile: what is
    // then read decides about a key that has no entry any more.
    let (mut key, pair) = unsafe { (ptr::read(key.cast::<F::FlowKey>()), &mut *value.cast::<F::FlowPair>()) };
    if !F::way(pair, 0).core().is_there() && !F::way(pair, 1).core().is_there() {
        // Whoever took the last entry out saw the other's still there.
        Flows::<F>::delete(&Running(()), table, &key);
    }
    for way in 0..2 {
        entry::<F>(table, &key, F::way(pair, way));
        key = F::reversed(&key);
    }
}

#[inline(always)]
fn entry<F: Tables>(table: Table, key: &F::FlowKey, entry: &mut F::Flow) {
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
    // Last: what follows a branch the verifier follows twice. A target that a packet writes meanwhile it has just asked for.
    if matches!(fate, Fate::Keep) {
        doubt(entry.core_mut(), || SWEEP.with(&F::SWEEP, |sweep| sweep.doubt != 0).unwrap_or(false));
    }
}

/// Tracing programs may not use the coarse clock.
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
