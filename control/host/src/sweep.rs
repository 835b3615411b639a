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
}

/// A thread that sweeps until it is dropped.
#[derive(Debug)]
pub struct Sweeper {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
    report: Arc<Mutex<Report>>,
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
    Ok(Report { families, busy, sweeps: 1 })
}

impl Sweeper {
    /// Starts sweeping at this interval.
    pub fn start(datapath: &Datapath, maps: &Maps, every: Duration) -> Result<Self, MapsError> {
        let walks = Walks::new(datapath, maps)?;
        let report = Arc::new(Mutex::new(Report::default()));
        let (stop, stopped) = mpsc::channel();
        let shared = report.clone();
        let body = move || {
            while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                match walks.run(REST) {
                    Ok((busy, families)) => {
                        let mut report = shared.lock().unwrap_or_else(PoisonError::into_inner);
                        *report = Report { families, busy, sweeps: report.sweeps.saturating_add(1) };
                    }
                    Err(error) => tracing::warn!(%error, "a sweep of the flow tables failed"),
                }
            }
        };
        let failed = |source| MapsError::Kernel { name: "sweep", operation: "starting the thread", source };
        let thread = std::thread::Builder::new().name("sweep".into()).spawn(body).map_err(failed)?;
        Ok(Self { stop: Some(stop), thread: Some(thread), report })
    }

    /// What the last sweep did.
    pub fn report(&self) -> Report {
        *self.report.lock().unwrap_or_else(PoisonError::into_inner)
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
