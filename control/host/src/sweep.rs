//! Expiry of flows: runs the programs that walk the flow tables in the kernel.
//!
//! Owns: one thread, how often it walks, and the reports. Does not: look at flows, or decide what is over.
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
    stop: Option<mpsc::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
    reports: Reports,
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

    fn run(&self) -> io::Result<(Duration, [Sweep; 2])> {
        for family in [0u32, 1] {
            self.reports.update(&family.to_ne_bytes(), Sweep::default().as_bytes(), Update::Any)?;
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
    let (busy, families) = Walks::new(datapath, maps)?.run().map_err(failed("sweeping"))?;
    Ok(Report::default().after(families, busy))
}

impl Sweeper {
    /// Starts sweeping at this interval.
    pub fn start(datapath: &Datapath, maps: &Maps, every: Duration) -> Result<Self, DatapathError> {
        let walks = Walks::new(datapath, maps)?;
        let reports = Reports(Arc::new(Mutex::new(Report::default())));
        let (stop, stopped) = mpsc::channel();
        let shared = reports.clone();
        let body = move || {
            while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                match walks.run() {
                    Ok((busy, families)) => {
                        let mut report = shared.0.lock().unwrap_or_else(PoisonError::into_inner);
                        *report = report.after(families, busy);
                    }
                    Err(error) => tracing::warn!(%error, "a sweep of the flow tables failed"),
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("sweep".into())
            .spawn(body)
            .map_err(failed("starting the thread"))?;
        Ok(Self { stop: Some(stop), thread: Some(thread), reports })
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
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed where it happened.
            let _ = thread.join();
        }
    }
}
