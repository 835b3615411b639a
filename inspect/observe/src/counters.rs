//! `counters list`: drops by interface, hook and reason.

use crate::{Names, Snapshot, explain};
use serde::Serialize;
use tortie_abi::{DropReason, Hook};

/// One counter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// Interface.
    pub interface: String,
    /// Its number, which outlives it.
    pub ifindex: u32,
    /// Hook.
    pub hook: String,
    /// Reason.
    pub reason: String,
    /// Packets.
    pub packets: u64,
    /// Bytes from the IP header on.
    pub bytes: u64,
    /// What it means and what to look at.
    pub explanation: &'static str,
}

/// All counters, sorted by interface, hook and reason.
pub fn rows(snapshot: &Snapshot, names: &Names) -> Vec<Row> {
    let row = |(key, counter): &(tortie_abi::counter::CounterKey, tortie_abi::counter::Counter)| Row {
        interface: names.interface(key.ifindex),
        ifindex: key.ifindex,
        hook: hook_name(key.hook),
        reason: reason_name(key.reason),
        packets: counter.packets,
        bytes: counter.bytes,
        explanation: DropReason::from_word(key.reason).map_or("unknown to this version", explain::reason),
    };
    let mut rows: Vec<Row> = snapshot.counters.iter().map(row).collect();
    rows.sort();
    rows
}

/// The name of a stored hook.
pub fn hook_name(hook: u16) -> String {
    Hook::from_word(hook).map_or_else(|| format!("hook-{hook}"), |h| h.name().to_owned())
}

/// The names of all reasons.
pub fn reasons() -> impl Iterator<Item = &'static str> {
    DropReason::ALL.iter().map(|reason| reason.name())
}

/// The name of a stored reason.
pub fn reason_name(reason: u16) -> String {
    DropReason::from_word(reason).map_or_else(|| format!("reason-{reason}"), |r| r.name().to_owned())
}
