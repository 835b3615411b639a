//! The thread that keeps a directory and its reader together.
//!
//! Owns: when to read, when to say it. Does not: decide what is valid.
//! Invariant: a rescan is answered after the events that were there when it was asked have been read.

use super::tree::{Reading, Stamp, Tree};
use super::watch::{Found, Seen, Watcher};
use crate::event::Batch;
use crate::rejection::{Effect, Origin, Rejection};
use crate::settings::{LOOK, NodeSettings};
use crate::state::State;
use crate::stream::{self, Rescan};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;
use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::error::TryRecvError;

/// How often to look again while something cannot be watched.
const RETRY: Duration = Duration::from_secs(1);
/// Files that are read between two looks at what happens to them, and are in memory at once.
const GROUP: usize = 64;
/// Fewer files are read faster than a thread begins.
const WORTH_A_THREAD: usize = 16;

pub(super) struct Driver {
    pub watcher: Watcher,
    pub wake: Arc<EventFd>,
    pub ends: stream::Driver,
    pub state: State,
    pub tree: Tree,
    /// What has happened and has not been looked at.
    pub pending: Seen,
    pub root: PathBuf,
    /// What variables and the node's file say.
    pub local: NodeSettings,
    /// When to look at that file again.
    pub next_look: Option<Instant>,
    /// What of the directory itself is wrong.
    pub faults: Vec<Rejection>,
}

impl Driver {
    /// Reads everything, then whatever changes, until nobody listens.
    pub fn run(mut self) {
        self.walk();
        if !self.say() {
            return;
        }
        loop {
            if let Err(error) = self.wait() {
                tracing::error!(%error, "waiting for changes of the store");
                thread::sleep(RETRY);
            }
            let Some(asked) = self.asked() else { return };
            self.look(!asked.is_empty());
            if !asked.is_empty()
                && let Err(error) = self.settle()
            {
                tracing::error!(%error, "waiting for changes of the store");
            }
            if !self.say() {
                return;
            }
            for answer in asked {
                // Whoever asked may have gone away.
                let _ = answer.send(self.state.revision());
            }
        }
    }

    /// Whoever asked is answered when nothing seen so far is left to be read: loading one file may have
    /// shown that another was closed meanwhile.
    fn settle(&mut self) -> io::Result<()> {
        while self.pending != Seen::default() {
            self.wait()?;
            self.look(false);
        }
        Ok(())
    }

    fn wait(&mut self) -> io::Result<()> {
        let retry = (!self.faults.is_empty()).then(|| Instant::now() + RETRY);
        let until = [retry, self.next_look, self.watcher.next_settled()].into_iter().flatten().min();
        let until = if self.pending == Seen::default() { until } else { Some(Instant::now()) };
        let timeout = match until.map(|until| until.saturating_duration_since(Instant::now())) {
            Some(Duration::ZERO) => PollTimeout::ZERO,
            Some(left) => PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX),
            None => PollTimeout::NONE,
        };
        let mut fds = [
            PollFd::new(self.watcher.fd(), PollFlags::POLLIN),
            PollFd::new(self.wake.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        // Empty unless somebody woke us.
        let _ = self.wake.read();
        Ok(())
    }

    /// Who waits for a rescan; `None`: nobody listens any more.
    fn asked(&mut self) -> Option<Vec<Rescan>> {
        let mut asked = Vec::new();
        loop {
            match self.ends.requests.try_recv() {
                Ok(request) => asked.push(request),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return None,
            }
        }
        (!self.ends.batches.is_closed()).then_some(asked)
    }

    fn look(&mut self, rescan: bool) {
        self.drain();
        let changed: Vec<PathBuf> = std::mem::take(&mut self.pending.files).into_iter().collect();
        self.load(&changed);
        if rescan || std::mem::take(&mut self.pending.everything) || !self.faults.is_empty() {
            self.walk();
        }
        if rescan || self.next_look.is_some_and(|at| at <= Instant::now()) {
            self.local.look(rescan, &mut self.state);
            self.next_look = self.next_look.map(|_| Instant::now() + LOOK);
        }
    }

    fn drain(&mut self) {
        match self.watcher.drain() {
            Ok(Seen { files, everything }) => {
                self.pending.files.extend(files);
                self.pending.everything |= everything;
            }
            Err(error) => {
                tracing::error!(%error, "reading changes of the store");
                self.pending.everything = true;
            }
        }
    }

    /// Loads files, each unless somebody was writing it while it was read; closing it then brings it back.
    fn load(&mut self, paths: &[PathBuf]) {
        for group in paths.chunks(GROUP) {
            let readings = read_all(&self.tree, group);
            self.drain();
            for (path, reading) in group.iter().zip(readings) {
                if !self.watcher.is_being_written(path) {
                    self.tree.apply(path, reading);
                }
            }
        }
    }

    fn walk(&mut self) {
        let found = match self.watcher.walk() {
            Ok(found) => found,
            Err(error) => {
                // What is in force stays: a directory that is not there says nothing.
                let fix = "bring it back; until then everything stays as it was";
                self.faults = vec![self.fault(self.root.clone(), &error, fix)];
                return;
            }
        };
        let Found { files, busy, faults } = found;
        // A link that leads nowhere has no stamp, and `load` takes it for gone.
        let same = |path: &PathBuf| {
            fs::metadata(path).is_ok_and(|metadata| !self.tree.differs(path, Stamp::of(&metadata)))
        };
        let changed: Vec<PathBuf> = files.iter().filter(|path| !same(path)).cloned().collect();
        self.load(&changed);
        let unreadable: Vec<PathBuf> = faults.iter().map(|(path, _)| path.clone()).collect();
        let mut missing = self.tree.missing(&files.iter().chain(&busy).map(PathBuf::as_path).collect());
        missing.retain(|path| !unreadable.iter().any(|directory| path.starts_with(directory)));
        self.load(&missing);
        self.faults = faults.into_iter().map(|(path, error)| self.fault_below(path, &error)).collect();
    }

    fn fault_below(&self, path: PathBuf, error: &io::Error) -> Rejection {
        let fix = match error.raw_os_error() {
            None => "move it up; what is in it does not count",
            Some(code) if code == nix::errno::Errno::ENOSPC as i32 => {
                "raise fs.inotify.max_user_watches; until then it is looked at once a second"
            }
            _ => "let the agent's user read it; until then its objects stay as they were",
        };
        self.fault(path, error, fix)
    }

    fn fault(&self, path: PathBuf, error: &io::Error, fix: &str) -> Rejection {
        Rejection {
            origin: Origin::File { path, line: 0 },
            object: None,
            field: None,
            problem: format!("cannot be read or watched: {error}"),
            fix: fix.into(),
            effect: Effect::KeepsLast,
        }
    }

    /// Sends what is new; `false`: nobody listens.
    fn say(&mut self) -> bool {
        self.tree.settle(&mut self.state);
        let mut rejections = self.tree.rejections();
        rejections.extend(self.faults.iter().cloned().map(Arc::new).chain(self.local.rejections().cloned()));
        match self.state.commit(rejections) {
            Some(batch) => self.send(batch),
            None => true,
        }
    }

    fn send(&self, batch: Batch) -> bool {
        self.ends.batches.send(batch).is_ok()
    }
}

/// Reads files on all processors: at a start there may be tens of thousands.
fn read_all(tree: &Tree, paths: &[PathBuf]) -> Vec<Reading> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let share = paths.len().div_ceil(threads).max(WORTH_A_THREAD);
    let read = |paths: &[PathBuf]| paths.iter().map(|path| tree.read(path)).collect::<Vec<_>>();
    let Some((own, others)) = paths.split_at_checked(share) else { return read(paths) };
    thread::scope(|scope| {
        let others: Vec<_> = others.chunks(share).map(|paths| scope.spawn(move || read(paths))).collect();
        let mut readings = read(own);
        for other in others {
            readings.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        readings
    })
}
