//! The kernel traits that are maps and helpers, for every kind of program.

use crate::map::{ANY, CREATE, EXISTS, Map};
use crate::maps::{ENDPOINT, NEXT_HOP, POLICY_IO, RULE_COUNTER, SETTINGS, Tables};
use aya_ebpf::helpers::bpf_loop;
use core::ffi::c_void;
use core::ptr;
use tortie_abi::endpoint::{Endpoint, NextHop};
use tortie_abi::policy::{NO_CLASS, PolicyIo};
use tortie_abi::route::Route;
use tortie_abi::service::{BackendKey, Frontend, MaglevKey, Member};
use tortie_abi::settings::Settings;
use tortie_datapath::kernel::{
    Flows, Fragments, Insert, Policies, Random, Searches, Services, Table, TableFull, Topology,
};
use tortie_datapath::stage::port::Search;

/// The running program, with its context `C`.
pub struct Running<C>(pub C);

impl<C> Random for Running<C> {
    #[cfg(not(feature = "test-io"))]
    #[inline(always)]
    fn random(&self) -> u32 {
        // SAFETY: a helper without arguments.
        unsafe { aya_ebpf::helpers::bpf_get_prandom_u32() }
    }

    #[cfg(feature = "test-io")]
    #[inline(always)]
    fn random(&self) -> u32 {
        crate::test_io::random()
    }
}

impl<C, F: Tables> Flows<F> for Running<C> {
    #[inline(always)]
    fn element<R>(&self, table: Table, key: &F::FlowKey, f: impl FnOnce(&mut F::FlowPair) -> R) -> Option<R> {
        flows::<F>(table).with(key, f)
    }

    #[inline(always)]
    fn insert(
        &self,
        table: Table,
        key: &F::FlowKey,
        fill: impl FnOnce(&mut F::FlowPair),
        meet: impl FnOnce(&mut F::FlowPair, &mut F::FlowPair) -> Insert,
    ) -> Insert {
        let table = flows::<F>(table);
        // SAFETY: a per-CPU array of integers, whose reference ends here: no other insertion begins in between.
        let Some(new) = (unsafe { F::NEW_FLOW.element(0) }) else { return Insert::Full };
        fill(new);
        match table.update(key, new, CREATE) {
            Ok(()) => Insert::Done,
            // Gone again meanwhile: as good as kept.
            Err(EXISTS) => table.with(key, |there| meet(there, new)).unwrap_or(Insert::Exists),
            Err(_) => Insert::Full,
        }
    }

    #[inline(always)]
    fn copy_to_main(&self, key: &F::FlowKey, pair: &F::FlowPair) -> Result<(), TableFull> {
        F::FLOW.update(key, pair, ANY).map_err(|_| TableFull)
    }

    #[inline(always)]
    fn delete(&self, table: Table, key: &F::FlowKey) {
        flows::<F>(table).remove(key);
    }
}

impl<C, F: Tables> Searches<F> for Running<C> {
    #[inline(always)]
    fn search(&self, times: u32, search: &mut Search<'_, F>) {
        // SAFETY: `look` is what the kernel calls, on this CPU and before the helper returns, with what is given here.
        unsafe { bpf_loop(times, look::<F> as *mut c_void, ptr::from_mut(search).cast(), 0) };
    }
}

/// One look; 1: there is no need for another.
extern "C" fn look<F: Tables>(number: u32, search: *mut c_void) -> i64 {
    // SAFETY: it is the search above, which nobody else has meanwhile.
    let search = unsafe { &mut *search.cast::<Search<'_, F>>() };
    search.look(&Running(()), number) as i64
}

#[inline(always)]
const fn flows<F: Tables>(table: Table) -> &'static Map<F::FlowKey, F::FlowPair> {
    match table {
        Table::Main => F::FLOW,
        Table::HalfOpen => F::HALF_OPEN,
    }
}

impl<C, F: Tables> Topology<F> for Running<C> {
    #[inline(always)]
    fn route(&self, address: &F::Addr) -> Option<Route> {
        F::ROUTE.get(&F::prefix_key(address))
    }

    #[inline(always)]
    fn endpoint<R>(&self, slot: u32, f: impl FnOnce(&Endpoint) -> R) -> Option<R> {
        ENDPOINT.with(&slot, |endpoint| f(endpoint))
    }

    #[inline(always)]
    fn next_hop<R>(&self, slot: u32, f: impl FnOnce(&NextHop) -> R) -> Option<R> {
        NEXT_HOP.with(&slot, |next_hop| f(next_hop))
    }

    #[inline(always)]
    fn has_opted_out(&self, client: &F::Addr) -> bool {
        F::OPT_OUT.with(&F::prefix_key(client), |_| ()).is_some()
    }

    #[inline(always)]
    fn settings<R>(&self, f: impl FnOnce(&Settings) -> R) -> Option<R> {
        SETTINGS.with(&0, |settings| f(settings))
    }
}

impl<C, F: Tables> Services<F> for Running<C> {
    #[inline(always)]
    fn frontend(&self, key: &F::FrontendKey) -> Option<Frontend> {
        F::FRONTEND.get(key)
    }

    #[inline(always)]
    fn backend(&self, key: &BackendKey) -> Option<F::Backend> {
        F::BACKEND.get(key)
    }

    #[inline(always)]
    fn maglev(&self, key: &MaglevKey, within: u32) -> Option<F::Backend> {
        F::maglev(key, within)
    }

    #[inline(always)]
    fn member(&self, key: &F::MemberKey) -> Option<Member> {
        F::MEMBER.get(key)
    }

    #[inline(always)]
    fn is_admitted(&self, key: &F::SourceRangeKey) -> bool {
        F::SOURCE_RANGE.with(key, |_| ()).is_some()
    }

    #[inline(always)]
    fn affinity(&self, key: &F::AffinityKey) -> Option<F::Affinity> {
        F::AFFINITY.get(key)
    }

    #[inline(always)]
    fn remember(&self, key: &F::AffinityKey, affinity: &F::Affinity) {
        // A full table evicts; another error means that the next connection may go elsewhere.
        let _ = F::AFFINITY.update(key, affinity, ANY);
    }
}

impl<C, F: Tables> Policies<F> for Running<C> {
    #[inline(always)]
    fn class_of(&self, address: &F::Addr) -> u32 {
        let exact = F::CLASS_ADDR.get(&F::address_key(address));
        exact.or_else(|| F::CLASS_NET.get(&F::prefix_key(address))).unwrap_or(NO_CLASS)
    }

    #[inline(always)]
    fn policy_io<R>(&self, f: impl FnOnce(&mut PolicyIo) -> R) -> Option<R> {
        POLICY_IO.with(&0, f)
    }

    #[inline(always)]
    fn count_rule(&self, rule: u32, bytes: u32) {
        RULE_COUNTER.with(&rule, |counter| {
            add(&mut counter.packets, 1);
            add(&mut counter.bytes, bytes as u64);
        });
    }
}

impl<C, F: Tables> Fragments<F> for Running<C> {
    #[inline(always)]
    fn learn_ports(&self, key: &F::FragmentKey, ports: [u8; 4]) {
        // A full table evicts; another error means that the later fragments are dropped and counted.
        let _ = F::FRAGMENT.update(key, &ports, ANY);
    }

    #[inline(always)]
    fn ports(&self, key: &F::FragmentKey) -> Option<[u8; 4]> {
        F::FRAGMENT.get(key)
    }
}

/// Adds to a counter that other CPUs add to as well: an instruction, since `core` has no such operation on
/// this target.
#[inline(always)]
pub fn add(counter: &mut u64, more: u64) {
    // SAFETY: valid and aligned, since it is a reference; nothing but the counter changes.
    unsafe {
        core::arch::asm!(
            "lock *(u64 *)({counter} + 0) += {more}",
            counter = in(reg) ptr::from_mut(counter),
            more = in(reg) more,
            options(nostack),
        );
    }
}
