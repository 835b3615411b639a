//! What is measured: the list of all metrics, and samples of those that come from maps.
//!
//! Owns: names, types, labels and help of every metric that the agent exports, and what is computed from map
//! entries. Does not: read maps, keep counters, or write the exposition.
//! Invariant: every value of a label is from a list that the code or the node's configuration bounds; no
//! address, pod or policy is ever a label.

mod catalogue;
mod sample;

pub use catalogue::*;
pub use sample::{Fill, Sample, drops, fills, sweeps};

/// What Prometheus is told about a metric's kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows while the agent runs.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Observations in buckets.
    Histogram,
}

impl Kind {
    /// As the exposition spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Name.
    pub name: &'static str,
    /// Kind.
    pub kind: Kind,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// One sentence.
    pub help: &'static str,
}

impl Metric {
    /// Names that a query may use: a histogram has three.
    pub fn series(&self) -> Vec<String> {
        match self.kind {
            Kind::Counter | Kind::Gauge => vec![self.name.to_owned()],
            Kind::Histogram => {
                ["bucket", "count", "sum"].iter().map(|part| format!("{}_{part}", self.name)).collect()
            }
        }
    }
}

/// The table of docs/metrics.md.
pub fn markdown() -> String {
    let mut text = "| name | type | labels | meaning |\n|---|---|---|---|\n".to_owned();
    for metric in ALL {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let row = [
            format!("`{}`", metric.name),
            metric.kind.name().to_owned(),
            labels.join(", "),
            metric.help.to_owned(),
        ];
        text.push_str(&format!("| {} |\n", row.join(" | ")));
    }
    text
}
