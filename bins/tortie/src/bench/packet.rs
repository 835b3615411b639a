//! `bench packet`: the figures of the packet programs beside their targets.

use super::Item;
use crate::exit::Failure;
use std::path::Path;
use tortie_host::packet_bench::{BenchError, Figure, measure};
use tortie_host::{cgroup, socket_bench};

/// IPv6 may cost so much more.
const V6_FACTOR: f64 = 1.25;
/// What 20,000 Services may cost of what 10 do.
const FLAT: f64 = 1.1;
const START_MILLIS: f64 = 1000.0;
const IDLE_BYTES: f64 = 40e6;
const FLOW_PAIR_BYTES: [f64; 2] = [128.0, 208.0];

/// Nanoseconds that an IPv4 packet may cost.
fn target(name: &str) -> Option<f64> {
    Some(match name {
        "established-pod-pod" => 100.0,
        "established-service-request" | "established-service-reply" => 150.0,
        "new-pod-pod" => 900.0,
        "new-pod-vip" => 1100.0,
        "nodeport-local" | "nodeport-local-reply" => 150.0,
        "nodeport-remote-request" | "nodeport-remote-reply" => 250.0,
        "nodeport-backend-request" | "nodeport-backend-reply" => 250.0,
        "connect-miss" | "connect-miss-10" => 40.0,
        "connect-hit-10" | "connect-hit-20000" => 200.0,
        _ => return None,
    })
}

fn failed(error: BenchError) -> Failure {
    match error {
        BenchError::Kernel(_) | BenchError::Maps(_) => Failure::not_allowed(error),
        other => Failure::no(other),
    }
}

/// Measures the packet programs.
pub fn items() -> Result<Vec<Item>, Failure> {
    let figures = measure().map_err(failed)?;
    let mut items = vec![item(&figures.empty, "ns", None)];
    items.extend(figures.packets.iter().map(nanos));
    items.push(item(&figures.start_millis, "ms", Some(START_MILLIS)));
    items.push(exact("idle-kernel-memory", None, "bytes", figures.idle_bytes as f64, IDLE_BYTES));
    for ((family, bytes), target) in
        ["ipv4", "ipv6"].into_iter().zip(figures.flow_pair_bytes).zip(FLOW_PAIR_BYTES)
    {
        items.push(exact("flow-pair-bytes", Some(family), "bytes", bytes as f64, target));
    }
    Ok(items)
}

/// The figures of sockets.
pub const SOCKETS: [&str; 6] = [
    "connect-miss",
    "connect-miss-10",
    "connect-hit-10",
    "connect-hit-20000",
    "connect-miss-flatness",
    "connect-hit-flatness",
];

/// Measures the programs at `connect`.
pub fn socket_items(cgroup: Option<&Path>) -> Result<Vec<Item>, Failure> {
    let root = cgroup::find(cgroup).map_err(Failure::not_allowed)?;
    let figures = socket_bench::measure(&root).map_err(failed)?;
    let item = |figure: &Figure| match figure.name.ends_with("flatness") {
        true => item(figure, "ratio", Some(FLAT)),
        false => nanos(figure),
    };
    Ok(figures.iter().map(item).collect())
}

fn nanos(figure: &Figure) -> Item {
    let factor = if figure.family == Some(6) { V6_FACTOR } else { 1.0 };
    item(figure, "ns", target(figure.name).map(|target| target * factor))
}

fn item(figure: &Figure, unit: &'static str, target: Option<f64>) -> Item {
    let Figure { name, family, value, low, high, floor } = *figure;
    let family = family.map(|family| if family == 6 { "ipv6" } else { "ipv4" });
    let met = target.map(|target| value <= target);
    Item { name, family, unit, value, low, high, target, floor, met, ..Item::default() }
}

/// A figure that does not vary.
fn exact(
    name: &'static str,
    family: Option<&'static str>,
    unit: &'static str,
    value: f64,
    target: f64,
) -> Item {
    let (target, met) = (Some(target), Some(value <= target));
    Item { name, family, unit, value, low: value, high: value, target, met, ..Item::default() }
}
