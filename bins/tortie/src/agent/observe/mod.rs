//! What the agent tells about itself: health and metrics over HTTP.
//!
//! Owns: one thread with its own runtime, so that the answers come also while the main loop hangs or waits.
//! Does not: need the API server, or ask the main loop anything: it looks at what the loop has left in
//! [`Vitals`], and at pinned maps.
//! Invariant: a server that cannot listen is tried again and told in `status`; it never ends the agent.

mod checks;
mod component;
mod families;
mod health;
mod http;
mod listen;
mod live;
mod process;
mod proxy;
mod scrape;
#[cfg(test)]
mod tests;
mod vitals;

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tortie_model::settings::{Listen, Settings};

pub use component::{Facts, Rejected};
pub use live::Live;
pub use process::status_bytes;
pub use proxy::Checks;
pub use vitals::Vitals;

use super::traces::Traces;

/// The observing thread, as the main loop holds it.
pub struct Observer {
    /// What the main loop leaves for it.
    pub vitals: Arc<Vitals>,
    /// Counters of the main loop and of the socket.
    pub live: Live,
    /// Of each change, when they are asked for.
    pub traces: Option<Traces>,
    /// The thread's.
    pub runtime: Handle,
    settings: watch::Sender<Wanted>,
    checks: watch::Sender<Arc<Checks>>,
}

/// What of the settings matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    health: Listen,
    metrics: Listen,
    proxy: Listen,
    process: bool,
}

impl From<&Settings> for Wanted {
    fn from(settings: &Settings) -> Self {
        Self {
            health: settings.health.clone(),
            metrics: settings.metrics.clone(),
            proxy: settings.proxy_health.clone(),
            process: settings.process_metrics,
        }
    }
}

impl Observer {
    /// Starts the thread. It ends with the process.
    pub fn start(vitals: Vitals, bpffs: &Path, settings: &Settings) -> anyhow::Result<Self> {
        let vitals = Arc::new(vitals);
        let live = Live::new().context("metrics")?;
        vitals.set_watchdog(settings.watchdog);
        let (settings, wanted) = watch::channel(Wanted::from(settings));
        let scrape = Arc::new(scrape::Scrape::new(vitals.clone(), live.clone(), bpffs));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(2)
            .build()
            .context("the runtime of health and metrics")?;
        let handle = runtime.handle().clone();
        let (checks, checked) = watch::channel(Arc::default());
        handle.spawn(checks::run(vitals.clone(), checked));
        let body = {
            let vitals = vitals.clone();
            move || runtime.block_on(listen::run(vitals, scrape, wanted))
        };
        std::thread::Builder::new()
            .name("observe".into())
            .spawn(body)
            .context("the thread of health and metrics")?;
        Ok(Self { vitals, live, traces: None, runtime: handle, settings, checks })
    }

    /// Services whose local endpoints load balancers ask for, from now on.
    pub fn set_checks(&self, checks: Checks) {
        self.checks.send_replace(Arc::new(checks));
    }

    /// Settings have come; what differs takes effect at once.
    pub fn configure(&self, settings: &Settings) {
        self.vitals.set_watchdog(settings.watchdog);
        let wanted = Wanted::from(settings);
        self.settings.send_if_modified(|now| std::mem::replace(now, wanted.clone()) != wanted);
    }
}
