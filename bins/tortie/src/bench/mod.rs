//! `bench`: the measurements, each beside its target.
//!
//! Owns: which measurements there are and how figures are shown. Does not: measure.
//! Invariant: what was measured is printed, whether it meets its target or not; the exit code says which.

mod kube;
mod laboratory;
mod machine;
mod packet;
mod plot;
mod services;
mod stream;

use crate::args::Global;
use crate::exit::{Answer, Failure, Outcome};
use crate::output;
use anyhow::anyhow;
use clap::{Args, Subcommand};
use machine::Machine;
use serde::Serialize;
use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::SystemTime;

/// A measurement, and where its picture goes.
#[derive(Debug, Args)]
pub struct Measurement {
    /// Draw the figures beside their targets, too.
    #[arg(long, global = true, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    #[command(subcommand)]
    bench: Bench,
}

/// What is measured.
#[derive(Debug, Subcommand)]
pub enum Bench {
    /// What packets, changes and memory cost: the programs by themselves, and agents in a laboratory.
    ///
    /// A figure is the median of its measurements, with the fastest and the slowest as low and high. Where the
    /// target is a 99th percentile (policy-change, cni-add), the figure is that, low is the median and high the
    /// slowest. Of several agents' memory the figure is the largest.
    Packet(Packet),
    /// What a real API server, a cluster of some size, and the loss of the API server cost (--store kube's
    /// components are needed: scripts/kubernetes.sh).
    ///
    /// Where the target is a 99th percentile (endpointslice-map, pod-first-packet), the figure is that, low is the
    /// median and high the slowest.
    Kube(kube::Kube),
    /// What Services cost an agent, and what `connect` to one takes, by how many there are; beside plain routing and
    /// kube-proxy (scripts/kubernetes.sh and scripts/kubernetes.sh kube-proxy build what is needed).
    ///
    /// A figure is the median of its measurements, with the lowest and the highest; a ratio is that of one round.
    Services(services::Services),
    /// Connects, in the pod where `bench services` has started it.
    #[command(hide = true)]
    Client,
}

/// Flags of `bench packet`.
#[derive(Debug, Args)]
pub struct Packet {
    /// Only these figures: names as they are printed, or beginnings of them.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    only: Vec<String>,
    /// How often the policy is changed in the laboratory.
    #[arg(long, default_value_t = 200, value_name = "N", value_parser = clap::value_parser!(u32).range(2..))]
    changes: u32,
    /// How many pods are attached in the laboratory.
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=200))]
    adds: u32,
}

impl Packet {
    /// Whether a figure is asked for.
    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|wanted| name.starts_with(wanted.as_str()))
    }

    /// Measures what is asked for.
    fn items(&self, global: &Global) -> Result<Vec<Item>, Failure> {
        let mut items = Vec::new();
        let is_of_a_part = |word: &String| {
            laboratory::NAMES.iter().chain(&packet::SOCKETS).any(|name| name.starts_with(word.as_str()))
        };
        // What the packet programs cost is measured together.
        if self.only.is_empty() || !self.only.iter().all(is_of_a_part) {
            items.extend(packet::items()?);
        }
        if packet::SOCKETS.iter().any(|name| self.wants(name)) {
            items.extend(packet::socket_items(global.cgroup.as_deref())?);
        }
        if laboratory::NAMES.iter().any(|name| self.wants(name)) {
            items.extend(laboratory::items(self)?);
        }
        items.retain(|item| self.wants(item.name));
        if items.is_empty() {
            return Err(Failure::bad_input(anyhow!(
                "--only {}: there is no such figure",
                self.only.join(",")
            )));
        }
        Ok(items)
    }
}

/// One figure.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    name: &'static str,
    /// How many there were.
    #[serde(skip_serializing_if = "Option::is_none")]
    services: Option<u32>,
    /// `ipv4`, `ipv6`; absent: both.
    #[serde(skip_serializing_if = "Option::is_none")]
    family: Option<&'static str>,
    unit: &'static str,
    value: f64,
    low: f64,
    high: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    floor: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    met: Option<bool>,
}

impl Item {
    /// From low, value and high; `None`: nothing was measured. A target is what it may be at most.
    fn of(
        name: &'static str,
        unit: &'static str,
        spread: Option<[f64; 3]>,
        target: impl Into<Option<f64>>,
    ) -> Result<Self, Failure> {
        let [low, value, high] = spread.ok_or_else(|| anyhow::anyhow!("{name}: nothing was measured"))?;
        let target = target.into();
        let met = target.map(|target| value <= target);
        Ok(Self { name, unit, value, low, high, target, met, ..Self::default() })
    }

    /// Its name, with how many there were.
    fn numbered(&self) -> String {
        match self.services {
            Some(services) => format!("{} of {services}", self.name),
            None => self.name.to_owned(),
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    items: Vec<Item>,
    /// Whom there is no figure of, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing_peers: Vec<String>,
    machine: Machine,
    date: String,
    command: &'static str,
}

/// Runs a measurement and prints it. The answer is no when a target is missed.
pub fn run(measurement: Measurement, global: &Global) -> Outcome {
    let Measurement { plot, bench } = measurement;
    // Not after minutes of measuring.
    plot.iter().try_for_each(|file| plot::check(file))?;
    let ((items, missing_peers), command) = match bench {
        Bench::Packet(packet) => ((packet.items(global)?, Vec::new()), "tortie bench packet"),
        Bench::Kube(kube) => ((kube.items()?, Vec::new()), "tortie bench kube"),
        Bench::Services(services) => (services.items()?, "tortie bench services"),
        Bench::Client => return services::client::run(),
    };
    let date = tortie_lab::rfc3339(SystemTime::now());
    let report = Report { items, missing_peers, machine: Machine::read(), date, command };
    output::print(global.output, &report, |_| table(&report))?;
    if let Some(file) = &plot {
        plot::write(&report, file)?;
    }
    let missed = report.items.iter().any(|item| item.met == Some(false));
    Ok(if missed { Answer::No } else { Answer::Yes })
}

/// What is happening now, for who watches.
fn progress(what: &str) {
    if std::io::stderr().is_terminal() {
        output::tell(format_args!("{what} …"));
    }
}

fn table(report: &Report) -> String {
    let longest = report.items.iter().map(|item| item.numbered().len()).max().unwrap_or(0);
    let width = 28.max(longest + 2);
    let mut text = format!(
        "{:<width$}{:<6}{:>12}{:>24}{:>12}{:>10}\n",
        "WHAT", "", "FIGURE", "LOW - HIGH", "AT MOST", "FLOOR"
    );
    for item in &report.items {
        let value = format!("{} {}", number(item.value), item.unit);
        let range = format!("{} - {}", number(item.low), number(item.high));
        let target = item.target.map(number).unwrap_or_default();
        let floor = item.floor.map(number).unwrap_or_default();
        let met = match item.met {
            Some(true) => "  met",
            Some(false) => "  MISSED",
            None => "",
        };
        let family = item.family.unwrap_or_default();
        let name = item.numbered();
        // Writing into a string does not fail.
        let _ = writeln!(text, "{name:<width$}{family:<6}{value:>12}{range:>24}{target:>12}{floor:>10}{met}");
    }
    for peer in &report.missing_peers {
        let _ = writeln!(text, "not measured: {peer}");
    }
    let _ = write!(text, "\n{}", report.machine);
    text
}

fn number(value: f64) -> String {
    if value.abs() < 10.0 && value.fract() != 0.0 { format!("{value:.3}") } else { format!("{value:.0}") }
}
