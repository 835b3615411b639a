//! Samples computed from map entries.
//!
//! Invariant: what can be counted is there from the start, with zero, so that the first drop is a rate too.

use super::{
    CONNTRACK_USED, DROPPED_BYTES, DROPPED_PACKETS, FLOWS, FLOWS_REMOVED, MAP_BYTES, MAP_ENTRIES, MAP_MAX,
    Metric,
};
use std::collections::BTreeMap;
use tortie_abi::counter::{Counter, CounterKey};
use tortie_abi::sweep::Sweep;
use tortie_abi::{DropReason, Hook};

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Of what.
    pub metric: &'static Metric,
    /// Values of its labels, in their order.
    pub labels: Vec<String>,
    /// How much.
    pub value: f64,
}

impl Sample {
    /// A value; as many labels as the metric has.
    pub fn new(metric: &'static Metric, labels: &[&str], value: f64) -> Self {
        debug_assert_eq!(metric.labels.len(), labels.len(), "{}", metric.name);
        Self { metric, labels: labels.iter().map(|label| (*label).to_owned()).collect(), value }
    }
}

/// Drops by hook and reason, summed over interfaces. What a newer program counts is under `unknown`.
pub fn drops(counters: &[(CounterKey, Counter)]) -> Vec<Sample> {
    let mut sums: BTreeMap<(&str, &str), Counter> = BTreeMap::new();
    for hook in Hook::ALL {
        for reason in DropReason::ALL {
            sums.insert((hook.name(), reason.name()), Counter::default());
        }
    }
    for (key, counter) in counters {
        let hook = Hook::from_word(key.hook).map_or("unknown", Hook::name);
        let reason = DropReason::from_word(key.reason).map_or("unknown", DropReason::name);
        let sum = sums.entry((hook, reason)).or_default();
        sum.packets = sum.packets.saturating_add(counter.packets);
        sum.bytes = sum.bytes.saturating_add(counter.bytes);
    }
    let both = sums.into_iter().flat_map(|((hook, reason), sum)| {
        [
            Sample::new(&DROPPED_PACKETS, &[hook, reason], sum.packets as f64),
            Sample::new(&DROPPED_BYTES, &[hook, reason], sum.bytes as f64),
        ]
    });
    both.collect()
}

/// How full a map is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    /// Map.
    pub map: &'static str,
    /// Entries; `None` for arrays, which are always full.
    pub entries: Option<u64>,
    /// The most it holds.
    pub max_entries: u64,
    /// Kernel memory.
    pub memory_bytes: Option<u64>,
}

/// Entries, capacity and memory of maps. Arrays are always full: only their memory is told.
pub fn fills(fills: &[Fill]) -> Vec<Sample> {
    let mut samples = Vec::new();
    for fill in fills {
        if let Some(entries) = fill.entries {
            samples.push(Sample::new(&MAP_ENTRIES, &[fill.map], entries as f64));
            samples.push(Sample::new(&MAP_MAX, &[fill.map], fill.max_entries as f64));
        }
        if let Some(bytes) = fill.memory_bytes {
            samples.push(Sample::new(&MAP_BYTES, &[fill.map], bytes as f64));
        }
    }
    samples
}

/// What sweeps saw the last time and removed altogether, by family: IPv4, IPv6.
pub fn sweeps(last: &[Sweep; 2], total: &[Sweep; 2]) -> Vec<Sample> {
    let seen: u64 = last.iter().map(|sweep| sweep.seen).sum();
    let mut samples = vec![Sample::new(&CONNTRACK_USED, &["total"], seen as f64)];
    for (family, sweep) in ["ipv4", "ipv6"].into_iter().zip(last) {
        for (state, flows) in [("established", sweep.established), ("half-open", sweep.half_open)] {
            samples.push(Sample::new(&FLOWS, &[family, state], flows as f64));
        }
    }
    for (family, sweep) in ["ipv4", "ipv6"].into_iter().zip(total) {
        let causes = [("expired", sweep.expired), ("stale", sweep.stale), ("orphaned", sweep.orphaned)];
        for (cause, count) in causes {
            samples.push(Sample::new(&FLOWS_REMOVED, &[family, cause], count as f64));
        }
    }
    samples
}
