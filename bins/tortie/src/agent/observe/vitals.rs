//! What the main loop leaves for those who look at it from another thread.
//!
//! Owns: the heartbeat, the last facts, and which servers could not listen.
//! Invariant: the main loop never waits here for longer than it takes to swap a pointer.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tortie_host::sweep::Reports;
use tortie_model::{ObjectId, ServiceId};
use tortie_store::{Finding, Handle, Standing};

use super::component::Facts;

/// Shared by the main loop and the observing thread.
pub struct Vitals {
    /// This node's name.
    pub node: String,
    /// Where the agent's socket is.
    pub socket: PathBuf,
    /// How often flows are swept.
    pub sweep_every: Duration,
    /// Since the agent began.
    pub started: Instant,
    /// The same on the wall.
    pub started_at: SystemTime,
    beat_millis: AtomicU64,
    watchdog_millis: AtomicU64,
    facts: Mutex<Arc<Facts>>,
    sweeps: OnceLock<Reports>,
    store: OnceLock<Handle>,
    deaf: Mutex<BTreeMap<&'static str, String>>,
    deaf_checks: Mutex<BTreeMap<ServiceId, String>>,
    eligible: AtomicBool,
    services: Mutex<InForce>,
}

/// How far Services are in force.
#[derive(Clone, Copy, Debug)]
struct InForce {
    /// All of them were, then.
    at: SystemTime,
    /// Some are not.
    waiting: bool,
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Vitals {
    /// Of an agent that begins now.
    pub fn new(node: &str, socket: PathBuf, sweep_every: Duration) -> Self {
        Self {
            node: node.to_owned(),
            socket,
            sweep_every,
            started: Instant::now(),
            started_at: SystemTime::now(),
            beat_millis: AtomicU64::new(0),
            watchdog_millis: AtomicU64::new(millis(Duration::from_secs(90))),
            facts: Mutex::default(),
            sweeps: OnceLock::new(),
            store: OnceLock::new(),
            deaf: Mutex::default(),
            deaf_checks: Mutex::default(),
            eligible: AtomicBool::new(false),
            services: Mutex::new(InForce { at: SystemTime::now(), waiting: false }),
        }
    }

    /// The main loop turns.
    pub fn beat(&self) {
        self.beat_millis.store(millis(self.started.elapsed()), Ordering::Relaxed);
    }

    /// Since the main loop last turned.
    pub fn idle(&self) -> Duration {
        let beat = Duration::from_millis(self.beat_millis.load(Ordering::Relaxed));
        self.started.elapsed().saturating_sub(beat)
    }

    /// How long the main loop may stand still.
    pub fn watchdog(&self) -> Duration {
        Duration::from_millis(self.watchdog_millis.load(Ordering::Relaxed))
    }

    /// It may stand still for this long.
    pub fn set_watchdog(&self, after: Duration) {
        self.watchdog_millis.store(millis(after), Ordering::Relaxed);
    }

    /// What the main loop knew when it last said so.
    pub fn facts(&self) -> Arc<Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// This is how things are.
    pub fn publish(&self, facts: Facts) {
        let waiting = facts.dirty.get("service").is_some_and(|count| *count > 0);
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        let at = if waiting { services.at } else { SystemTime::now() };
        *services = InForce { at, waiting };
        drop(services);
        *self.facts.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(facts);
    }

    /// When all Services were in force, as far as the main loop has said.
    pub fn services_in_force(&self) -> SystemTime {
        self.services.lock().unwrap_or_else(PoisonError::into_inner).at
    }

    /// Some Services are not in force.
    pub fn services_wait(&self) -> bool {
        self.services.lock().unwrap_or_else(PoisonError::into_inner).waiting
    }

    /// Whether clients may be sent to this node: it is known, and is not about to go.
    pub fn is_eligible(&self) -> bool {
        self.eligible.load(Ordering::Relaxed)
    }

    /// See [`Vitals::is_eligible`].
    pub fn set_eligible(&self, eligible: bool) {
        self.eligible.store(eligible, Ordering::Relaxed);
    }

    /// The store that the agent reads.
    pub fn set_store(&self, store: Handle) {
        // There is one store in an agent's life.
        let _ = self.store.set(store);
    }

    /// How the store can be reached; `None`: it is on this machine.
    pub fn store(&self) -> Option<Standing> {
        self.store.get().and_then(Handle::standing)
    }

    /// The sweeper has started.
    pub fn set_sweeps(&self, reports: Reports) {
        // There is one sweeper in an agent's life.
        let _ = self.sweeps.set(reports);
    }

    /// What the sweeper has done, once it has started.
    pub fn sweeps(&self) -> Option<tortie_host::sweep::Report> {
        self.sweeps.get().map(Reports::last)
    }

    /// A server listens, or cannot.
    pub fn set_deaf(&self, server: &'static str, problem: Option<String>) {
        let mut deaf = self.deaf.lock().unwrap_or_else(PoisonError::into_inner);
        match problem {
            Some(problem) => deaf.insert(server, problem),
            None => deaf.remove(server),
        };
    }

    /// The Services' health checks that cannot listen, and why; the Services' users are told.
    pub fn set_deaf_checks(&self, problems: BTreeMap<ServiceId, String>) {
        let mut deaf = self.deaf_checks.lock().unwrap_or_else(PoisonError::into_inner);
        for (service, problem) in problems.iter().filter(|(id, problem)| deaf.get(id) != Some(problem)) {
            tracing::error!(problem, "tried again");
            if let Some(store) = self.store.get() {
                store.report(Finding {
                    object: ObjectId::Service(service.clone()),
                    reason: "HealthCheckPortTaken",
                    message: format!("node {}: {problem}", self.node),
                    alone: true,
                });
            }
        }
        *deaf = problems;
    }

    /// Servers that cannot listen, with the reason and the fix.
    pub fn deaf(&self) -> Vec<String> {
        let servers = self.deaf.lock().unwrap_or_else(PoisonError::into_inner);
        let checks = self.deaf_checks.lock().unwrap_or_else(PoisonError::into_inner);
        servers.values().chain(checks.values()).cloned().collect()
    }
}
