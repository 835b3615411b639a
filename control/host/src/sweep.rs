//! Expiry of flows: runs the programs that walk the flow tables in the kernel.
//!
//! Owns: one thread, its pace, and the reports. Does not: look at flows, or decide what is over.
//! Invariant: a walk is done in slices with rests between them, so that it never holds a CPU for long.

use crate::bpf::{Link, Map, Program, Update};
use crate::datapath::Datapath;
use crate::maps::{Maps, MapsError};
use std::fs::File;
use std::io::{self, Read as _};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tortie_abi::sweep::Sweep;
use zerocopy::{FromBytes as _, IntoBytes as _};

/// The walks: program and table.
const WALKS: [(&str, &str); 4] = [
    ("sweep_flow4", "flow4"),
    ("sweep_half4", "half_open4"),
    ("sweep_flow6", "flow6"),
    ("sweep_half6", "half_open6"),
];

/// Rest after each slice of a thousand entries: a walk takes at most half of a CPU.
const REST: Duration = Duration::from_micros(200);

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
    walks: Vec<Link>,
    reports: Map,
}

impl Walks {
    fn new(datapath: &Datapath, maps: &Maps) -> Result<Self, MapsError> {
        let failed = |name| move |source| MapsError::Kernel { name, operation: "making an iterator", source };
        let mut walks = Vec::new();
        for (program, table) in WALKS {
            let Some(program) = datapath.programs().get(program) else { continue };
            walks.push(link(program, maps.get(table)?).map_err(failed(table))?);
        }
        let reports = maps.get("sweep")?.try_clone().map_err(failed("sweep"))?;
        Ok(Self { walks, reports })
    }

    fn run(&self, rest: Duration) -> io::Result<(Duration, [Sweep; 2])> {
        let mut busy = Duration::ZERO;
        for family in [0u32, 1] {
            self.reports.update(&family.to_ne_bytes(), Sweep::default().as_bytes(), Update::Any)?;
        }
        for link in &self.walks {
            busy += read_slices(link.iterate()?, rest)?;
        }
        Ok((busy, [self.report(0)?, self.report(1)?]))
    }

    fn report(&self, family: u32) -> io::Result<Sweep> {
        let mut bytes = [0; size_of::<Sweep>()];
        self.reports.lookup(&family.to_ne_bytes(), &mut bytes)?;
        Sweep::read_from_bytes(&bytes).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
    }
}

fn link(program: &Program, table: &Map) -> io::Result<Link> {
    Link::map_iterator(program, table)
}

fn read_slices(mut file: File, rest: Duration) -> io::Result<Duration> {
    let mut busy = Duration::ZERO;
    let mut mark = [0; 1];
    loop {
        let start = Instant::now();
        let count = match file.read(&mut mark) {
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => 1,
            other => other?,
        };
        busy += start.elapsed();
        if count == 0 {
            return Ok(busy);
        }
        std::thread::sleep(rest);
    }
}

/// One sweep, now, without rests.
pub fn once(datapath: &Datapath, maps: &Maps) -> Result<Report, MapsError> {
    let failed = |source| MapsError::Kernel { name: "sweep", operation: "sweeping", source };
    let walks = Walks::new(datapath, maps)?;
    let (busy, families) = walks.run(Duration::ZERO).map_err(failed)?;
    Ok(Report::default().after(families, busy))
}

impl Sweeper {
    /// Starts sweeping at this interval.
    pub fn start(datapath: &Datapath, maps: &Maps, every: Duration) -> Result<Self, MapsError> {
        let walks = Walks::new(datapath, maps)?;
        let reports = Reports(Arc::new(Mutex::new(Report::default())));
        let (stop, stopped) = mpsc::channel();
        let shared = reports.clone();
        let body = move || {
            while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                match walks.run(REST) {
                    Ok((busy, families)) => {
                        let mut report = shared.0.lock().unwrap_or_else(PoisonError::into_inner);
                        *report = report.after(families, busy);
                    }
                    Err(error) => tracing::warn!(%error, "a sweep of the flow tables failed"),
                }
            }
        };
        let failed = |source| MapsError::Kernel { name: "sweep", operation: "starting the thread", source };
        let thread = std::thread::Builder::new().name("sweep".into()).spawn(body).map_err(failed)?;
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
