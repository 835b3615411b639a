//! `/metrics`.
//!
//! Owns: when what is read. Does not: compute samples from entries; `observe` does.
//! Invariant: maps are read by a thread of their own, by one scrape at a time, and large ones not more often
//! than [`FRESH`]; the main loop is never asked.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use prometheus::TextEncoder;
use tortie_observe::metrics::{self, Fill, Sample};

use super::component::{Component, Facts};
use super::live::Live;
use super::vitals::Vitals;
use super::{families, health, process};
use crate::inspect::{fill, read};

/// How old a count of entries may be.
const FRESH: Duration = Duration::from_secs(5);

/// Everything that metrics are made from.
pub struct Scrape {
    vitals: Arc<Vitals>,
    live: Live,
    bpffs: PathBuf,
    process: AtomicBool,
    fills: Mutex<Option<(Instant, Vec<Fill>)>>,
}

impl Scrape {
    /// Of the agent with these vitals and pins.
    pub fn new(vitals: Arc<Vitals>, live: Live, bpffs: &Path) -> Self {
        let process = AtomicBool::new(true);
        Self { vitals, live, bpffs: bpffs.to_owned(), process, fills: Mutex::default() }
    }

    /// Whether the process is told about too.
    pub fn set_process(&self, on: bool) {
        self.process.store(on, Ordering::Relaxed);
    }

    /// The exposition.
    pub async fn text(self: &Arc<Self>) -> anyhow::Result<String> {
        let start = Instant::now();
        let components = health::look(&self.vitals).await;
        let scrape = self.clone();
        let read = tokio::task::spawn_blocking(move || scrape.read_kernel());
        let mut samples = read.await.context("reading maps")?;
        samples.extend(self.read_memory(&components));
        samples.push(Sample::new(&metrics::SCRAPE_SECONDS, &[], start.elapsed().as_secs_f64()));
        let mut all = families::families(samples)?;
        all.extend(self.live.registry.gather());
        all.sort_by(|a, b| a.name().cmp(b.name()));
        Ok(TextEncoder::new().encode_to_string(&all)?)
    }

    /// What is in maps. Before there are any, nothing.
    fn read_kernel(&self) -> Vec<Sample> {
        let mut samples = Vec::new();
        if self.vitals.facts().kernel.is_none() {
            return samples;
        }
        match read::drop_counters(&self.bpffs) {
            Ok(counters) => samples.extend(metrics::drops(&counters)),
            Err(error) => tracing::warn!(%error, "metrics without drops"),
        }
        match read::lost_events(&self.bpffs) {
            Ok(lost) => samples.push(Sample::new(&metrics::DROP_EVENTS_LOST, &[], lost as f64)),
            Err(error) => tracing::warn!(%error, "metrics without lost events"),
        }
        let fills = self.fills();
        samples.extend(metrics::fills(&fills));
        let size = fills.iter().find(|fill| fill.map == "flow4").map(|fill| fill.max_entries as f64);
        samples.extend(size.map(|size| Sample::new(&metrics::CONNTRACK_SIZE, &[], size)));
        samples
    }

    /// How full maps are. Those who ask at the same time share one reading.
    fn fills(&self) -> Vec<Fill> {
        let mut kept = self.fills.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, fills)) = &*kept
            && at.elapsed() < FRESH
        {
            return fills.clone();
        }
        let fills = fill::all(&self.bpffs);
        *kept = Some((Instant::now(), fills.clone()));
        fills
    }

    fn read_memory(&self, components: &[Component]) -> Vec<Sample> {
        let mut samples = Vec::new();
        for Component { name, live, ready, .. } in components {
            samples.push(Sample::new(&metrics::COMPONENT_LIVE, &[name], f64::from(*live)));
            samples.push(Sample::new(&metrics::COMPONENT_READY, &[name], f64::from(*ready)));
        }
        samples.push(Sample::new(&metrics::LOOP_AGE, &[], self.vitals.idle().as_secs_f64()));
        samples.extend(facts(&self.vitals.facts()));
        let connected = self.vitals.store().is_none_or(|standing| standing.trouble.is_none());
        samples.push(Sample::new(&metrics::STORE_CONNECTED, &[], f64::from(connected)));
        if let Some(report) = self.vitals.sweeps() {
            samples.extend(metrics::sweeps(&report.families, &report.total));
            samples.push(Sample::new(&metrics::CONNTRACK_SWEEPS, &[], report.sweeps as f64));
            let nanos = report.busy.as_nanos() as f64;
            samples.push(Sample::new(&metrics::CONNTRACK_SWEEP_DURATION, &[], nanos));
        }
        if self.process.load(Ordering::Relaxed) {
            samples.extend(process::samples(&self.vitals));
        }
        samples
    }
}

/// What the main loop said last.
fn facts(facts: &Facts) -> Vec<Sample> {
    let one = |metric, value: usize| Sample::new(metric, &[], value as f64);
    let resync_state = match (facts.in_sync, facts.revision) {
        (true, _) => 3,
        (false, 0) => 1,
        (false, _) => 2,
    };
    let (endpoints, happy) = facts.endpoints;
    let (programs, program_bytes) = facts.packet_programs;
    let mut samples = vec![
        one(&metrics::RESYNC_STATE, resync_state),
        Sample::new(&metrics::STORE_REVISION, &[], facts.revision as f64),
        Sample::new(&metrics::GENERATION, &[], f64::from(facts.generation)),
        one(&metrics::CLUSTER_HOSTS, facts.census.nodes),
        one(&metrics::CLUSTER_POLICIES, facts.census.policies),
        one(&metrics::CLUSTER_WORKLOADS, facts.census.workloads),
        one(&metrics::CLUSTER_SERVICES, facts.census.services),
        one(&metrics::CONFLICTS, facts.conflicts),
        one(&metrics::LOCAL_ENDPOINTS, endpoints),
        one(&metrics::LOCAL_POLICIES, facts.local_policies),
        one(&metrics::POLICY_PROGRAMS, facts.policy_programs),
        one(&metrics::BPF_ENDPOINTS, endpoints),
        one(&metrics::BPF_HAPPY, happy),
        one(&metrics::BPF_DIRTY, endpoints.saturating_sub(happy)),
        one(&metrics::PACKET_PROGRAMS, programs),
        Sample::new(&metrics::PROGRAM_BYTES, &[], program_bytes as f64),
    ];
    if let Some((kernel, attach)) = &facts.kernel {
        let labels = [env!("CARGO_PKG_VERSION"), kernel, attach];
        samples.push(Sample::new(&metrics::BUILD_INFO, &labels, 1.0));
    }
    for (area, count) in &facts.dirty {
        samples.push(Sample::new(&metrics::DIRTY, &[area], *count as f64));
    }
    for ((kind, direction), count) in &facts.links {
        samples.push(Sample::new(&metrics::LINKS, &[kind, direction], *count as f64));
    }
    for ((kind, effect), count) in &facts.rejected {
        samples.push(Sample::new(&metrics::REJECTED, &[kind, effect], *count as f64));
    }
    samples
}
