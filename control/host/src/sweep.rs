//! Expiry of flows: runs the programs that walk the flow tables in the kernel.
//!
//! Owns: one thread, when it walks, and the reports. Does not: look at flows, or decide what is over.
//! Invariant: one table is walked at a time, by a program that the scheduler and interrupts may interrupt.

use crate::bpf::{Map, Program, Update};
use crate::datapath::{Datapath, DatapathError};
use crate::maps::{Maps, MapsError};
use std::io;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tortie_abi::sweep::Sweep;
use zerocopy::{FromBytes as _, IntoBytes as _};

/// The programs, each of which walks one table.
pub const PROGRAMS: [&str; 4] = ["sweep_flow4", "sweep_half4", "sweep_flow6", "sweep_half6"];

/// What has been removed together is swept for together.
const SOON: Duration = Duration::from_millis(50);
/// Between the end of a sweep that somebody asked for and the next one of that kind.
const PAUSE: Duration = Duration::from_secs(1);
/// That pause is so many times as long as the sweep was, where tables are large: the thread is never busy for long.
const SHARE: u32 = 20;

/// What the last sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// By family: IPv4, IPv6.
    pub families: [Sweep; 2],
    /// Time in the kernel.
    pub busy: Duration,
    /// Sweeps since the start.
    pub sweeps: u64,
    /// What all sweeps since the start have done, by family.
    pub total: [Sweep; 2],
    /// When the last one ended; `None`: there has been none.
    pub ended: Option<Instant>,
}

impl Report {
    fn after(self, families: [Sweep; 2], busy: Duration) -> Self {
        let [v4, v6] = self.total;
        let [new4, new6] = families;
        Self {
            families,
            busy,
            sweeps: self.sweeps.saturating_add(1),
            total: [sum(v4, new4), sum(v6, new6)],
            ended: Some(Instant::now()),
        }
    }
}

fn sum(a: Sweep, b: Sweep) -> Sweep {
    Sweep {
        seen: a.seen.saturating_add(b.seen),
        established: a.established.saturating_add(b.established),
        half_open: a.half_open.saturating_add(b.half_open),
        expired: a.expired.saturating_add(b.expired),
        stale: a.stale.saturating_add(b.stale),
        orphaned: a.orphaned.saturating_add(b.orphaned),
        doubt: 0,
    }
}

/// The reports of a running [`Sweeper`], for other threads.
#[derive(Clone, Debug)]
pub struct Reports(Arc<Mutex<Report>>);

impl Reports {
    /// The last one.
    pub fn last(&self) -> Report {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread that sweeps until it is dropped.
#[derive(Debug)]
pub struct Sweeper {
    /// Asks for a sweep soon; dropped, it ends the thread.
    asks: Option<mpsc::Sender<Ask>>,
    thread: Option<std::thread::JoinHandle<()>>,
    reports: Reports,
}

/// Why a sweep is wanted soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    /// Something is gone.
    Gone,
    /// Other interfaces may lead to clients outside.
    Routes,
}

/// When to sweep.
#[derive(Clone, Copy, Debug)]
struct Turns {
    every: Duration,
    next: Instant,
    /// `next` was asked for.
    is_asked: bool,
    /// Whoever asks waits for this.
    rested: Instant,
}

impl Turns {
    fn from(now: Instant, every: Duration) -> Self {
        Self { every, next: now + every, is_asked: false, rested: now }
    }

    /// A sweep is wanted soon.
    fn ask(&mut self, now: Instant) {
        let soon = (now + SOON).max(self.rested);
        if !self.is_asked && soon < self.next {
            self.next = soon;
            self.is_asked = true;
        }
    }

    /// The sweep that was due has ended, and has taken so long.
    fn done(&mut self, now: Instant, took: Duration) {
        if self.is_asked {
            self.rested = now + PAUSE.max(took.saturating_mul(SHARE));
        }
        self.is_asked = false;
        self.next = now + self.every;
    }
}

/// The walks of all tables.
struct Walks {
    programs: Vec<Program>,
    reports: Map,
}

impl Walks {
    fn new(datapath: &Datapath, maps: &Maps) -> Result<Self, DatapathError> {
        let copy = |name| datapath.program(name)?.try_clone().map_err(failed("opening its program again"));
        let programs = PROGRAMS.into_iter().map(copy).collect::<Result<_, DatapathError>>()?;
        let reports = maps.get("sweep")?.try_clone().map_err(failed("opening it again"))?;
        Ok(Self { programs, reports })
    }

    fn run(&self, doubt: bool) -> io::Result<(Duration, [Sweep; 2])> {
        let said = Sweep { doubt: u64::from(doubt), ..Sweep::default() };
        for family in [0u32, 1] {
            self.reports.update(&family.to_ne_bytes(), said.as_bytes(), Update::Any)?;
        }
        let start = Instant::now();
        for program in &self.programs {
            program.call()?;
        }
        Ok((start.elapsed(), [self.report(0)?, self.report(1)?]))
    }

    fn report(&self, family: u32) -> io::Result<Sweep> {
        let mut bytes = [0; size_of::<Sweep>()];
        self.reports.lookup(&family.to_ne_bytes(), &mut bytes)?;
        Sweep::read_from_bytes(&bytes).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
    }
}

fn failed(operation: &'static str) -> impl Fn(io::Error) -> DatapathError {
    move |source| MapsError::Kernel { name: "sweep", operation, source }.into()
}

/// One sweep, now.
pub fn once(datapath: &Datapath, maps: &Maps) -> Result<Report, DatapathError> {
    let (busy, families) = Walks::new(datapath, maps)?.run(false).map_err(failed("sweeping"))?;
    Ok(Report::default().after(families, busy))
}

/// Whether all tables were walked.
fn sweep(walks: &Walks, reports: &Reports, doubt: bool) -> bool {
    match walks.run(doubt) {
        Ok((busy, families)) => {
            let mut report = reports.0.lock().unwrap_or_else(PoisonError::into_inner);
            *report = report.after(families, busy);
            true
        }
        Err(error) => {
            tracing::warn!(%error, "a sweep of the flow tables failed");
            false
        }
    }
}

impl Sweeper {
    /// Starts sweeping at this interval, and when asked to.
    pub fn start(datapath: &Datapath, maps: &Maps, every: Duration) -> Result<Self, DatapathError> {
        let walks = Walks::new(datapath, maps)?;
        let reports = Reports(Arc::new(Mutex::new(Report::default())));
        let (asks, asked) = mpsc::channel();
        let shared = reports.clone();
        let body = move || {
            let mut turns = Turns::from(Instant::now(), every);
            let mut doubt = false;
            loop {
                match asked.recv_timeout(turns.next.saturating_duration_since(Instant::now())) {
                    Ok(ask) => {
                        doubt |= ask == Ask::Routes;
                        turns.ask(Instant::now());
                    }
                    Err(RecvTimeoutError::Timeout) => {
                        let start = Instant::now();
                        doubt &= !sweep(&walks, &shared, doubt);
                        turns.done(Instant::now(), start.elapsed());
                    }
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("sweep".into())
            .spawn(body)
            .map_err(failed("starting the thread"))?;
        Ok(Self { asks: Some(asks), thread: Some(thread), reports })
    }

    /// Something that flows may lead by is gone: a sweep comes within a twentieth of a second, or where the last one that
    /// was asked for is not long ago, after a second.
    pub fn hurry(&self) {
        self.ask(Ask::Gone);
    }

    /// Routes have changed: the next sweep, as soon as if it had been asked for by [`Sweeper::hurry`], makes every flow to a
    /// client outside ask for its way at its next packet.
    pub fn doubt(&self) {
        self.ask(Ask::Routes);
    }

    fn ask(&self, ask: Ask) {
        if let Some(asks) = &self.asks {
            // A thread that has ended is told by its reports.
            let _ = asks.send(ask);
        }
    }

    /// What the last sweep did.
    pub fn report(&self) -> Report {
        self.reports.last()
    }

    /// The same for other threads, for as long as they like.
    pub fn reports(&self) -> Reports {
        self.reports.clone()
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        drop(self.asks.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed where it happened.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(5);
    const TOOK: Duration = Duration::from_millis(10);

    /// The sweeps of `length`, by when they begin, where somebody asks at `asks`.
    fn sweeps(asks: impl IntoIterator<Item = u64>, length: u64, took: Duration) -> Vec<u64> {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut turns = Turns::from(start, EVERY);
        let mut asks = asks.into_iter().peekable();
        let mut found = Vec::new();
        loop {
            match asks.next_if(|ask| at(*ask) <= turns.next) {
                Some(ask) => turns.ask(at(ask)),
                None if turns.next > at(length) => return found,
                None => {
                    found.push((turns.next - start).as_millis() as u64);
                    turns.done(turns.next + took, took);
                }
            }
        }
    }

    #[test]
    fn who_asks_waits_for_a_moment_only_and_the_others_come_at_their_interval() {
        assert_eq!(sweeps([], 11_000, TOOK), [5_000, 10_010]);
        assert_eq!(sweeps([2_000, 2_010, 2_040], 8_000, TOOK), [2_050, 7_060]);
        // Nor does a sweep that nobody has asked for keep anybody waiting.
        assert_eq!(sweeps([4_990, 5_020], 6_000, TOOK), [5_000, 5_070]);
    }

    #[test]
    fn a_storm_of_changes_costs_a_sweep_a_second_and_large_tables_less() {
        assert_eq!(sweeps((1_000..3_500).step_by(10), 4_000, TOOK), [1_050, 2_060, 3_070]);
        let slow = Duration::from_millis(200);
        assert_eq!(sweeps((1_000..7_000).step_by(10), 7_000, slow), [1_050, 5_250]);
    }
}
