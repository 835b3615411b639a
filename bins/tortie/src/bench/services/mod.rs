//! `bench services`: what Services cost in an agent, and at `connect` beside others, by how many there are.
//!
//! Owns: which figures there are. Does not: print, or draw.
//! Invariant: laboratories are gone at the end, also after a failure and after Ctrl-C; a peer that could not be measured
//! is named.

pub mod client;
mod connect;
mod control;
mod peers;
mod process;
mod sync;
mod world;

use anyhow::anyhow;
use clap::Args;

use super::Item;
use crate::exit::Failure;

/// Flags of `bench services`.
#[derive(Debug, Args)]
pub struct Services {
    /// Only these figures: names as they are printed, or beginnings of them.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    only: Vec<String>,
    /// The numbers of Services, ascending.
    #[arg(long, value_delimiter = ',', default_values_t = [10_u32, 1000, 5000, 50_000], value_name = "N", value_parser = clap::value_parser!(u32).range(1..=world::MOST))]
    services: Vec<u32>,
    /// How often each kind of connection takes its turn.
    #[arg(long, default_value_t = 15, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Leave kube-proxy out: of many Services it takes most of the time.
    #[arg(long)]
    without_peers: bool,
}

/// What an agent does: figures of a directory store.
const CONTROL: [&str; 10] = [
    "change-cpu",
    "nodes-change-cpu",
    "changes-in-a-row-cpu",
    "changes-linearity",
    "full-sync-directory",
    "full-sync-memory",
    "restart-writes",
    "memory-agent",
    "memory-kernel",
    "memory",
];

/// What a client sees: figures of real connections.
const CONNECT: [&str; 6] = ["connect", "against-none", "flatness", "ratio", "api-change-cpu", "none"];

/// What targets are about.
const REFERENCE: u32 = 5000;

impl Services {
    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|wanted| name.starts_with(wanted.as_str()))
    }

    fn wants_any(&self, names: &[&str]) -> bool {
        self.only.is_empty()
            || self.only.iter().any(|wanted| {
                names.iter().any(|name| name.starts_with(wanted.as_str()) || wanted.starts_with(name))
            })
    }

    /// Measures what is asked for; the peers that are missing, each with the reason.
    pub(super) fn items(&self) -> Result<(Vec<Item>, Vec<String>), Failure> {
        if !self.services.is_sorted_by(|a, b| a < b) {
            return Err(Failure::bad_input(anyhow!("--services: give each number once, the smallest first")));
        }
        let (mut items, mut missing) = (Vec::new(), Vec::new());
        if self.wants_any(&CONTROL) {
            items.extend(control::items(self)?);
        }
        if self.wants_any(&CONNECT) {
            let (found, without) = connect::items(self)?;
            items.extend(found);
            missing = without;
        }
        items.retain(|item| self.wants(item.name));
        if items.is_empty() {
            return Err(Failure::bad_input(anyhow!(
                "--only {}: there is no such figure",
                self.only.join(",")
            )));
        }
        Ok((items, missing))
    }
}

/// The middle one of several measurements, the lowest and the highest: low, value, high.
fn median(mut values: Vec<f64>) -> Option<[f64; 3]> {
    values.sort_by(f64::total_cmp);
    Some([*values.first()?, *values.get(values.len() / 2)?, *values.last()?])
}

/// A figure of so many Services.
fn figure(
    name: &'static str,
    unit: &'static str,
    services: u32,
    spread: Option<[f64; 3]>,
    target: Option<f64>,
) -> Result<Item, Failure> {
    Ok(Item { services: Some(services), ..Item::of(name, unit, spread, target)? })
}
