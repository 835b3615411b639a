//! `bench packet`: the figures of the packet programs beside their targets.

use super::Item;
use crate::exit::Failure;
use tortie_host::packet_bench::{BenchError, Figure, measure};

/// IPv6 may cost so much more.
const V6_FACTOR: f64 = 1.25;
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
        _ => return None,
    })
}

/// Measures.
pub fn items() -> Result<Vec<Item>, Failure> {
    let figures = measure().map_err(|error| match error {
        BenchError::Kernel(_) | BenchError::Maps(_) => Failure::not_allowed(error),
        other => Failure::no(other),
    })?;
    let mut items = vec![item(&figures.empty, "ns", None)];
    for figure in &figures.packets {
        let factor = if figure.family == Some(6) { V6_FACTOR } else { 1.0 };
        items.push(item(figure, "ns", target(figure.name).map(|target| target * factor)));
    }
    items.push(item(&figures.start_millis, "ms", Some(START_MILLIS)));
    items.push(exact("idle-kernel-memory", None, "bytes", figures.idle_bytes as f64, IDLE_BYTES));
    for ((family, bytes), target) in
        ["ipv4", "ipv6"].into_iter().zip(figures.flow_pair_bytes).zip(FLOW_PAIR_BYTES)
    {
        items.push(exact("flow-pair-bytes", Some(family), "bytes", bytes as f64, target));
    }
    Ok(items)
}

fn item(figure: &Figure, unit: &'static str, target: Option<f64>) -> Item {
    let Figure { name, family, value, low, high, floor } = *figure;
    let family = family.map(|family| if family == 6 { "ipv6" } else { "ipv4" });
    Item { name, family, unit, value, low, high, target, floor, met: target.map(|target| value <= target) }
}

/// A figure that does not vary.
fn exact(
    name: &'static str,
    family: Option<&'static str>,
    unit: &'static str,
    value: f64,
    target: f64,
) -> Item {
    Item {
        name,
        family,
        unit,
        value,
        low: value,
        high: value,
        target: Some(target),
        floor: None,
        met: Some(value <= target),
    }
}
