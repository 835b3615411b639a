//! What a change of an EndpointSlice costs everybody who follows an API server.
//!
//! Does not: time the change; it is processor time alone.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::json;
use tortie_lab::Object;
use tortie_store::kube::Method;

use super::{Bench, Measured, PORT, SLICES, Side};
use crate::bench::Item;
use crate::bench::services::world::{MOVING, elsewhere, name, slice};
use crate::bench::services::{figure, median, process};
use crate::exit::Failure;

const WINDOWS: u32 = 3;
const BETWEEN: Duration = Duration::from_millis(200);
/// kube-proxy gathers what comes within a second.
const AFTER: Duration = Duration::from_millis(1500);
/// In the place of a family: of both.
const BOTH: &str = "";

/// A Service's endpoints that change.
pub fn moving(number: u32, turn: u32) -> Object {
    slice(number, "IPv4", &elsewhere(number, turn), PORT)
}

impl Bench {
    /// Processor time of who follows, for each of some changes, net of what they do anyhow in the same time.
    pub(super) fn changes(&self, measured: &mut Measured) -> Result<(), Failure> {
        for window in 0..WINDOWS {
            let (start, since) = (self.busy()?, Instant::now());
            for (number, turn) in MOVING.zip(1..) {
                self.change(number, turn + window)?;
                thread::sleep(BETWEEN);
            }
            thread::sleep(AFTER);
            let (end, took) = (self.busy()?, since.elapsed());
            thread::sleep(took);
            let later = self.busy()?;
            let times = start.into_iter().zip(end).zip(later);
            for (side, ((start, end), later)) in self.followers().zip(times) {
                let net = (end - start).saturating_sub(later - end);
                let millis = net.as_secs_f64() * 1e3 / MOVING.len() as f64;
                measured.entry((side.names.change, BOTH, self.there)).or_default().push(millis);
            }
        }
        Ok(())
    }

    fn change(&self, number: u32, turn: u32) -> Result<(), Failure> {
        let path = format!("{SLICES}/{}-ipv4", name(number));
        let body = json!({"endpoints": moving(number, turn).value().get("endpoints")});
        let patch = ("application/merge-patch+json", &body);
        self.lab.cluster()?.raw(&Method::PATCH, &path, Some(patch)).context("changing an EndpointSlice")?;
        Ok(())
    }

    fn followers(&self) -> impl Iterator<Item = &Side> {
        self.sides.iter().filter(|side| !side.names.change.is_empty())
    }

    fn busy(&self) -> Result<Vec<Duration>, Failure> {
        let of = |side: &Side| {
            let pid = side.pid.context("who translates has no process")?;
            Ok(process::busy(pid)? + process::children(pid)?)
        };
        self.followers().map(of).collect()
    }
}

/// By who follows and the number of Services.
pub(super) fn figures(counts: &[u32], bench: &Bench, measured: &Measured) -> Result<Vec<Item>, Failure> {
    let mut items = Vec::new();
    for side in bench.followers() {
        for &count in counts {
            let millis = measured.get(&(side.names.change, BOTH, count)).cloned().unwrap_or_default();
            items.push(figure(side.names.change, "ms", count, median(millis), None)?);
        }
    }
    Ok(items)
}
