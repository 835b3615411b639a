//! Counters and histograms that are kept as things happen.
//!
//! Owns: what only the one who does it can count. Does not: know what comes from maps or from facts.
//! Invariant: names, labels and help are those of the catalogue.

use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry};
use tortie_observe::metrics::{self as catalogue, Metric};

use crate::agent::devices::Devices;

/// From 50 µs, which a change of one route takes, to 30 s.
const SECONDS: [f64; 18] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0, 30.0,
];
/// What the CNI plugin may be answered; anything else is `other`.
const RESULTS: [&str; 6] = ["ok", "timeout", "unknownPod", "kernel", "notReady", "badRequest"];

/// All of them; clones count together.
#[derive(Clone)]
pub struct Live {
    /// Where they are gathered from.
    pub registry: Registry,
    /// Times that everything was read from the datastore.
    pub resyncs_started: IntCounter,
    /// Changes taken in, by kind.
    pub store_changes: IntCounterVec,
    /// Working out what follows.
    pub calc_seconds: Histogram,
    /// What followed.
    pub calc_output: IntCounter,
    /// Writing it.
    pub apply_seconds: Histogram,
    /// What was refused.
    pub apply_failures: IntCounter,
    /// What was written.
    pub table_writes: IntCounter,
    /// Comparisons with the kernel.
    pub kernel_resyncs: IntCounterVec,
    /// Those that failed.
    pub kernel_read_failures: IntCounter,
    /// Programs that somebody took away.
    pub links_lost: IntCounterVec,
    /// Looking for them.
    pub link_check_seconds: Histogram,
    cni_requests: IntCounterVec,
    cni_seconds: HistogramVec,
}

struct Maker(Registry);

impl Maker {
    fn keep<C: prometheus::core::Collector + Clone + 'static>(&self, made: C) -> prometheus::Result<C> {
        self.0.register(Box::new(made.clone()))?;
        Ok(made)
    }

    fn counter(&self, metric: &Metric) -> prometheus::Result<IntCounter> {
        self.keep(IntCounter::new(metric.name, metric.help)?)
    }

    fn counters(&self, metric: &Metric) -> prometheus::Result<IntCounterVec> {
        self.keep(IntCounterVec::new(Opts::new(metric.name, metric.help), metric.labels)?)
    }

    fn histogram(&self, metric: &Metric) -> prometheus::Result<Histogram> {
        self.keep(Histogram::with_opts(buckets(metric))?)
    }

    fn histograms(&self, metric: &Metric) -> prometheus::Result<HistogramVec> {
        self.keep(HistogramVec::new(buckets(metric), metric.labels)?)
    }
}

fn buckets(metric: &Metric) -> HistogramOpts {
    HistogramOpts::new(metric.name, metric.help).buckets(SECONDS.to_vec())
}

impl Live {
    /// All at zero.
    pub fn new() -> prometheus::Result<Self> {
        let make = Maker(Registry::new());
        let live = Self {
            resyncs_started: make.counter(&catalogue::RESYNCS_STARTED)?,
            store_changes: make.counters(&catalogue::STORE_CHANGES)?,
            calc_seconds: make.histogram(&catalogue::CALC_SECONDS)?,
            calc_output: make.counter(&catalogue::CALC_OUTPUT)?,
            apply_seconds: make.histogram(&catalogue::APPLY_SECONDS)?,
            apply_failures: make.counter(&catalogue::APPLY_FAILURES)?,
            table_writes: make.counter(&catalogue::TABLE_WRITES)?,
            kernel_resyncs: make.counters(&catalogue::KERNEL_RESYNCS)?,
            kernel_read_failures: make.counter(&catalogue::KERNEL_READ_FAILURES)?,
            links_lost: make.counters(&catalogue::LINKS_LOST)?,
            link_check_seconds: make.histogram(&catalogue::LINK_CHECK_SECONDS)?,
            cni_requests: make.counters(&catalogue::CNI_REQUESTS)?,
            cni_seconds: make.histograms(&catalogue::CNI_SECONDS)?,
            registry: make.0,
        };
        // What may never happen is there from the start, so that a first time is a rate too.
        for kind in Devices::KINDS {
            live.links_lost.with_label_values(&[kind]);
        }
        for trigger in ["timer", "request"] {
            live.kernel_resyncs.with_label_values(&[trigger]);
        }
        for verb in ["endpointReady", "endpointGone"] {
            live.cni_seconds.with_label_values(&[verb]);
            for result in RESULTS {
                live.cni_requests.with_label_values(&[verb, result]);
            }
        }
        Ok(live)
    }

    /// The CNI plugin was answered.
    pub fn cni(&self, verb: &str, code: Option<&str>, took: Duration) {
        let result = match code {
            None => "ok",
            Some(code) => RESULTS.into_iter().find(|known| *known == code).unwrap_or("other"),
        };
        self.cni_requests.with_label_values(&[verb, result]).inc();
        self.cni_seconds.with_label_values(&[verb]).observe(took.as_secs_f64());
    }
}
