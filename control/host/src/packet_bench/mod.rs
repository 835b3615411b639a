//! What a packet costs in the programs, by its kind, net of everything that only the measurement does.
//!
//! Owns: the measured situations and their figures. Does not: print, or know targets.
//! Invariant: a figure belongs to a program that had just given the expected verdict; each measured run is
//! paired with a run of the same driver on an empty program, and all situations take turns.

mod driver;
mod frames;
mod node_ports;
mod rig;

use crate::bpf::LoadError;
use crate::maps::MapsError;
use crate::object::ObjectError;
use crate::policy::PolicyError;
use frames::{Family, Frame};
pub(crate) use rig::put_service;
use rig::{Driver, Entry, Rig, Way};
use std::io;
use std::time::Duration;
use tortie_policy::asm::{AsmError, MissingMap};
use tortie_policy::compile::CompileError;

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A map or a run failed.
    #[error("measuring packets needs root (CAP_BPF, CAP_NET_ADMIN): {0}")]
    Kernel(#[from] io::Error),
    /// Maps.
    #[error(transparent)]
    Maps(#[from] MapsError),
    /// The object.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// A policy of the measured world.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A policy of the measured world.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// A driver was refused.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A defect of a driver.
    #[error("a driver is not well formed: {0}; please report this")]
    Driver(#[from] AsmError),
    /// A defect of a driver.
    #[error(transparent)]
    Map(#[from] MissingMap),
    /// The object lacks a program.
    #[error("the BPF object has no program {0}; build it again")]
    Missing(&'static str),
    /// A program did something else than it is measured for.
    #[error("{what}: return code {found} instead of {expected}; please report this")]
    Unexpected {
        /// Which situation.
        what: String,
        /// The return code.
        found: u32,
        /// What it should be.
        expected: u32,
    },
}

/// One figure: the median of the rounds, with the lowest and the highest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure {
    /// Which situation.
    pub name: &'static str,
    /// 4 or 6; `None`: of both.
    pub family: Option<u8>,
    /// Median.
    pub value: f64,
    /// Lowest.
    pub low: f64,
    /// Highest.
    pub high: f64,
    /// The least that any program could do the job for, measured in the same rounds.
    pub floor: Option<f64>,
}

impl Figure {
    pub(crate) fn of(name: &'static str, family: Option<u8>, mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(0.0);
        let last = values.len().saturating_sub(1);
        Self { name, family, value: at(values.len() / 2), low: at(0), high: at(last), floor: None }
    }
}

/// Everything that was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Figures {
    /// Nanoseconds per packet, net.
    pub packets: Vec<Figure>,
    /// Nanoseconds of a run of the empty program with its driver: what was subtracted.
    pub empty: Figure,
    /// Milliseconds from nothing to all maps made and all programs loaded.
    pub start_millis: Figure,
    /// Bytes of kernel memory of all maps, default sizes, and all programs, without flows.
    pub idle_bytes: u64,
    /// Bytes of the key and of both entries of a flow that is not translated, by family.
    pub flow_pair_bytes: [u64; 2],
}

const ROUNDS: usize = 25;
const STARTS: usize = 3;
/// `TC_ACT_SHOT`, `TC_ACT_REDIRECT`
const SHOT: u32 = 2;
const REDIRECT: u32 = 7;

/// A situation: which frame arrives where, and what should become of it.
struct Case {
    name: &'static str,
    family: Family,
    entry: Entry,
    frame: Frame,
    /// Every run is a new flow.
    fresh: bool,
    expected: u32,
    repeat: u32,
}

/// Measures everything.
pub fn measure() -> Result<Figures, BenchError> {
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        starts.push(rig::start()?.as_secs_f64() * 1e3);
    }
    let mut rig = Rig::new()?;
    let mut pairs = Vec::new();
    for family in [Family::V4, Family::V6] {
        for connection in connections(family) {
            rig.shake_hands(&connection)?;
        }
        for case in cases(family) {
            pairs.push(Pair::new(&rig, case)?);
        }
    }
    let mut empties = Vec::new();
    for _ in 0..ROUNDS {
        for pair in &mut pairs {
            empties.push(pair.measure(&mut rig)?);
        }
    }
    let mut packets = Vec::new();
    let mut floor = None;
    for pair in pairs {
        rig.forget_half_open(pair.case.family)?;
        rig.check(&pair.with, &pair.case)?;
        let mut figure = Figure::of(pair.case.name, Some(pair.case.family.number()), pair.net);
        if let Entry::Floor(_) = pair.case.entry {
            floor = Some(figure.value);
            continue;
        }
        figure.floor =
            floor.filter(|_| ["established", "nodeport"].iter().any(|of| figure.name.starts_with(of)));
        packets.push(figure);
    }
    Ok(Figures {
        packets,
        empty: Figure::of("empty-program", None, empties),
        start_millis: Figure::of("start-load-verify", None, starts),
        idle_bytes: rig.memory()?,
        flow_pair_bytes: frames::flow_pair_bytes(),
    })
}

/// A situation beside the same driver on an empty program.
struct Pair {
    case: Case,
    with: Driver,
    without: Driver,
    /// Nanoseconds, a round each.
    net: Vec<f64>,
}

impl Pair {
    fn new(rig: &Rig, case: Case) -> Result<Self, BenchError> {
        let with = rig.driver(case.entry, &case.frame, case.fresh)?;
        let without = rig.driver(Entry::Empty, &case.frame, case.fresh)?;
        rig.check(&with, &case)?;
        Ok(Self { case, with, without, net: Vec::with_capacity(ROUNDS) })
    }

    /// One round; the nanoseconds of the empty program.
    fn measure(&mut self, rig: &mut Rig) -> Result<f64, BenchError> {
        rig.drain_events();
        if self.case.fresh {
            rig.forget_half_open(self.case.family)?;
        }
        let empty = nanos(rig.run(&self.without, self.case.repeat)?);
        self.net.push(nanos(rig.run(&self.with, self.case.repeat)?) - empty);
        Ok(empty)
    }
}

fn cases(family: Family) -> Vec<Case> {
    let case = |name, entry, frame, fresh, expected, repeat| Case {
        name,
        family,
        entry,
        frame,
        fresh,
        expected,
        repeat,
    };
    use Entry::{Client, Server};
    let mut cases = vec![
        floor(family),
        case("established-pod-pod", Client, frames::to_pod(family), false, REDIRECT, 20_000),
        case("established-service-request", Client, frames::to_service(family), false, REDIRECT, 20_000),
        case("established-service-reply", Server, frames::from_service(family), false, REDIRECT, 20_000),
        case("new-pod-pod", Client, frames::to_pod(family).opening(), true, REDIRECT, 10_000),
        case("new-pod-vip", Client, frames::to_service(family).opening(), true, REDIRECT, 10_000),
        case("spoofed-drop", Client, frames::spoofed(family), false, SHOT, 5_000),
        case("mid-flow-miss", Client, frames::unknown(family), false, REDIRECT, 5_000),
    ];
    for ((request, reply), names) in node_ports::connections(family).into_iter().zip(node_ports::NAMES) {
        for ((entry, frame), name) in [request, reply].into_iter().zip(names) {
            cases.push(case(name, entry, frame, false, REDIRECT, 20_000));
        }
    }
    cases
}

/// The connections that are established, each as its request and its reply.
fn connections(family: Family) -> Vec<(Way, Way)> {
    use Entry::{Client, Server};
    let of_pods = [
        ((Client, frames::to_pod(family)), (Server, frames::from_pod(family))),
        ((Client, frames::to_service(family)), (Server, frames::from_service(family))),
    ];
    of_pods.into_iter().chain(node_ports::connections(family)).collect()
}

/// One lookup in the flow table, one reading of the clock, one redirection: nothing does less.
fn floor(family: Family) -> Case {
    Case {
        name: "floor",
        family,
        entry: Entry::Floor(family),
        frame: frames::to_pod(family),
        fresh: false,
        expected: REDIRECT,
        repeat: 20_000,
    }
}

fn nanos(duration: Duration) -> f64 {
    duration.as_nanos() as f64
}
