//! What the tests on a real API server share.
//!
//! Owns: laboratories with a control plane, of their own or one that has served others, kubectl, and asking a Service all
//! the time.
//! Does not: judge; the tests do.
//! Invariant: a component that is missing fails the test, and says how to get it.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::Write as _;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tortie_lab::{ControlPlane, Dataplane, Families, Lab, Probe, StoreKind, UpOptions};
use tortie_tests_e2e::{TestLab, fresh_name};

/// So many nodes, dual stack, on a control plane of their own.
pub fn cluster(nodes: usize) -> TestLab {
    TestLab::with(options(nodes))
}

/// The same on a control plane that other tests of this process have used, and others will. For tests that leave it alone:
/// its processes, that is; what is in its database they may change as they like.
pub fn cluster_in_turn(nodes: usize) -> TestLab {
    let lent = Lent::take();
    let options = lent.options(nodes);
    TestLab::holding(lent, options)
}

fn options(nodes: usize) -> UpOptions {
    UpOptions {
        dataplanes: vec![Dataplane::Bpf; nodes],
        store: StoreKind::Kube,
        patience: PATIENCE,
        ..UpOptions::default()
    }
}

/// Control planes that nobody uses now, set back. There are as many as tests ran at once, and they go with the process.
static IDLE: Mutex<Vec<ControlPlane>> = Mutex::new(Vec::new());

/// A control plane that one laboratory uses. Dropped, it is set back for the next; after a failure it is ended instead.
pub struct Lent(Option<ControlPlane>);

impl Lent {
    /// One that nobody uses now, or a new one.
    pub fn take() -> Self {
        let idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let start = || ControlPlane::start(&fresh_name(), Families::Dual, PATIENCE);
        Self(Some(idle.unwrap_or_else(|| start().unwrap_or_else(|error| panic!("{error}")))))
    }

    /// So many nodes on it.
    pub fn options(&self, nodes: usize) -> UpOptions {
        UpOptions { lender: self.0.as_ref().map(|it| it.name().clone()), ..options(nodes) }
    }

    /// Sets it back, as it is when dropped.
    pub fn reset(&self) {
        let control_plane = self.0.as_ref().expect("until it is dropped");
        control_plane.reset().unwrap_or_else(|error| panic!("{error}"));
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(control_plane) = self.0.take() else { return };
        let name = control_plane.name().clone();
        let set_back = if thread::panicking() { Ok(false) } else { control_plane.reset().map(|()| true) };
        if let Ok(true) = set_back {
            return IDLE.lock().unwrap_or_else(PoisonError::into_inner).push(control_plane);
        }
        drop(control_plane);
        let down = tortie_lab::down(&name);
        if !thread::panicking() {
            set_back.expect("a control plane that has served others");
            down.expect("down");
        }
    }
}

/// Runs kubectl on the machine of the API server; what it printed, or its error.
pub fn kubectl(lab: &Lab, arguments: &[&str], input: &str) -> Result<String, String> {
    lab.kubectl(arguments, input).map_err(|error| error.to_string())
}

/// Runs a verb of `tortie` there, on the cluster; its output on `stdout` with exit code 0, else what it said.
pub fn tortie(lab: &Lab, arguments: &[&str], input: &str) -> Result<String, String> {
    let program = [tortie_tests_e2e::binary().into_os_string(), "--store".into(), "kube".into()];
    let command: Vec<OsString> = program.into_iter().chain(arguments.iter().map(OsString::from)).collect();
    let place = lab.control_plane_place().map_err(|error| error.to_string())?;
    let stdio = [Stdio::piped(), Stdio::piped(), Stdio::piped()];
    let mut child = place.spawn(&command, stdio).map_err(|error| error.to_string())?;
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(input.as_bytes()).map_err(|error| error.to_string())?;
    drop(stdin);
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("tortie {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}

/// How long something may take that comes by itself.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for something that comes by itself.
pub fn until(mut is_so: impl FnMut() -> bool, what: &str) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}: not within {} s", PATIENCE.as_secs());
        thread::sleep(Duration::from_millis(50));
    }
}

/// What became of many attempts.
#[derive(Debug, Default)]
pub struct Attempts {
    /// How many there were.
    pub made: usize,
    /// What became of those that failed.
    pub failed: Vec<String>,
    /// Who answered.
    pub servers: BTreeSet<String>,
}

/// Makes new connections while `work` is done, ten at once, all the time.
pub fn while_asking<T: Send>(lab: &Lab, probe: &Probe, work: impl FnOnce() -> T + Send) -> (T, Attempts) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut attempts = Attempts::default();
            while !done.load(Ordering::Relaxed) {
                let results = lab.matrix(&vec![probe.clone(); 10]).expect("matrix");
                attempts.made += results.len();
                // The machine has other things to do as well.
                thread::sleep(Duration::from_millis(20));
                for result in results {
                    if result.is_connected() {
                        attempts.servers.extend(result.server);
                    } else {
                        attempts.failed.push(format!("{result:?}"));
                    }
                }
            }
            attempts
        });
        let result = Finished(&done).after(work);
        (result, asking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// Ends the asking also when the work panics.
struct Finished<'a>(&'a AtomicBool);

impl Finished<'_> {
    fn after<T>(self, work: impl FnOnce() -> T) -> T {
        work()
    }
}

impl Drop for Finished<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
