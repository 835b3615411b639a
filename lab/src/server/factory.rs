//! Sockets in other network namespaces.
//!
//! Owns: one thread that enters a namespace, makes a socket there, and enters the next.
//! Does not: use the sockets; they keep their namespace wherever they are used.
//! Invariant: no other thread of the server ever changes its namespace.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;

use anyhow::{Context as _, Result, anyhow};
use nix::sched::{CloneFlags, setns};
use tokio::sync::oneshot;

type Job = Box<dyn FnOnce() + Send>;

/// Makes sockets.
#[derive(Debug, Clone)]
pub struct Factory {
    jobs: mpsc::Sender<Job>,
}

impl Factory {
    /// Starts the thread.
    pub fn start() -> Result<Self> {
        let (jobs, work) = mpsc::channel::<Job>();
        let run = move || work.into_iter().for_each(|job| job());
        thread::Builder::new().name("sockets".into()).spawn(run).context("starting a thread")?;
        Ok(Self { jobs })
    }

    /// Runs `make` inside the namespace.
    pub async fn make<T, F>(&self, netns: &Path, make: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T> + Send + 'static,
    {
        let (answer, result) = oneshot::channel();
        let netns = netns.to_owned();
        let job: Job = Box::new(move || {
            // The asker may have given up waiting.
            let _ = answer.send(enter(netns).and_then(|()| make()));
        });
        self.jobs.send(job).map_err(|_| anyhow!("the socket thread has ended"))?;
        result.await.map_err(|_| anyhow!("the socket thread has ended"))?
    }
}

fn enter(netns: PathBuf) -> Result<()> {
    let file = File::open(&netns).with_context(|| format!("namespace {}", netns.display()))?;
    setns(file, CloneFlags::CLONE_NEWNET).with_context(|| format!("entering {}", netns.display()))
}
