//! The catalogue of metrics: well-named, bounded, and the same as its documentation.

use std::collections::BTreeSet;
use std::path::Path;

use tortie_abi::counter::{Counter, CounterKey};
use tortie_abi::sweep::Sweep;
use tortie_abi::{DropReason, Hook};
use tortie_observe::metrics::{self, Fill, Kind, Metric, Sample};

fn value(samples: &[Sample], metric: &Metric, labels: &[&str]) -> Option<f64> {
    let found = samples.iter().find(|s| s.metric.name == metric.name && s.labels == labels);
    found.map(|sample| sample.value)
}

#[test]
fn names_are_unique_and_follow_the_conventions_unless_calico_gave_them() {
    let mut seen = BTreeSet::new();
    for metric in metrics::ALL {
        let name = metric.name;
        assert!(seen.insert(name), "{name} twice");
        assert!(name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_'), "{name}");
        let ours = name.starts_with("tortie_");
        assert!(ours || name.starts_with("felix_") || name.starts_with("process_"), "{name}");
        if ours {
            assert_eq!(metric.kind == Kind::Counter, name.ends_with("_total"), "{name}");
            assert_eq!(
                metric.kind == Kind::Histogram,
                name.ends_with("_seconds") && metric.kind != Kind::Gauge,
                "{name}"
            );
            for unit in ["millis", "micros", "nanos", "kilobytes", "percent"] {
                assert!(!name.contains(unit), "{name}: base units only");
            }
        }
        assert!(metric.help.ends_with('.') && !metric.help.contains('|'), "{name}: {}", metric.help);
        assert!(
            metric.labels.iter().all(|label| !["le", "quantile", "node", "pod", "namespace"].contains(label))
        );
    }
    for metric in metrics::ALL {
        for other in metrics::ALL.iter().filter(|other| other.name != metric.name) {
            assert!(
                !metric.series().contains(&other.name.to_owned()),
                "{} is a series of {}",
                other.name,
                metric.name
            );
        }
    }
}

#[test]
fn the_documentation_lists_exactly_the_metrics_that_there_are() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
    let text = std::fs::read_to_string(&path).expect("docs/metrics.md");
    let table: String = text
        .lines()
        .skip_while(|line| !line.starts_with("| name | type |"))
        .take_while(|line| line.starts_with('|'))
        .flat_map(|line| [line, "\n"])
        .collect();
    assert_eq!(table, metrics::markdown(), "put this table into docs/metrics.md:\n{}", metrics::markdown());
}

#[test]
fn drops_are_summed_over_interfaces_and_every_reason_is_there_before_the_first() {
    let (hook, reason) = (Hook::FromWorkload, DropReason::PolicyEgress);
    let key = |ifindex, reason| CounterKey { ifindex, hook: hook as u16, reason };
    let counters = [
        (key(3, reason as u16), Counter { packets: 2, bytes: 100 }),
        (key(4, reason as u16), Counter { packets: 5, bytes: 1 }),
        (key(4, 9999), Counter { packets: 1, bytes: 1 }),
    ];
    let samples = metrics::drops(&counters);
    let packets = |reason| value(&samples, &metrics::DROPPED_PACKETS, &[hook.name(), reason]);
    assert_eq!(packets(reason.name()), Some(7.0));
    assert_eq!(value(&samples, &metrics::DROPPED_BYTES, &[hook.name(), reason.name()]), Some(101.0));
    assert_eq!(packets("unknown"), Some(1.0), "a reason of a newer program is not lost");
    assert_eq!(packets(DropReason::Martian.name()), Some(0.0));
    assert_eq!(samples.len(), 2 * (Hook::ALL.len() * DropReason::ALL.len() + 1));
}

#[test]
fn arrays_have_no_fill() {
    let fill = |map, entries| Fill { map, entries, max_entries: 100, memory_bytes: Some(7) };
    let fills = [fill("flow4", Some(10)), fill("half_open6", Some(3)), fill("settings", None)];
    let samples = metrics::fills(&fills);
    assert_eq!(value(&samples, &metrics::MAP_ENTRIES, &["flow4"]), Some(10.0));
    assert_eq!(value(&samples, &metrics::MAP_MAX, &["flow4"]), Some(100.0));
    assert_eq!(value(&samples, &metrics::MAP_ENTRIES, &["settings"]), None);
    assert_eq!(value(&samples, &metrics::MAP_BYTES, &["settings"]), Some(7.0));
}

#[test]
fn a_sweep_tells_what_it_saw_and_all_sweeps_what_they_removed() {
    let last = [
        Sweep { seen: 3, established: 2, ..Sweep::default() },
        Sweep { seen: 4, half_open: 1, ..Sweep::default() },
    ];
    let total =
        [Sweep { expired: 5, stale: 6, ..Sweep::default() }, Sweep { orphaned: 7, ..Sweep::default() }];
    let samples = metrics::sweeps(&last, &total);
    assert_eq!(value(&samples, &metrics::CONNTRACK_USED, &["total"]), Some(7.0));
    assert_eq!(value(&samples, &metrics::FLOWS, &["ipv4", "established"]), Some(2.0));
    assert_eq!(value(&samples, &metrics::FLOWS, &["ipv4", "half-open"]), Some(0.0));
    assert_eq!(value(&samples, &metrics::FLOWS, &["ipv6", "half-open"]), Some(1.0));
    assert_eq!(value(&samples, &metrics::FLOWS_REMOVED, &["ipv4", "stale"]), Some(6.0));
    assert_eq!(value(&samples, &metrics::FLOWS_REMOVED, &["ipv6", "orphaned"]), Some(7.0));
}
