//! Ends a command that takes too long, with everything it started.
//!
//! Owns: the limit and the hunt for descendants. Does not: run the command. Invariant: only descendants of
//! the given process are ended; they stay in our process group, so that Ctrl-C reaches them.

use std::fs;
use std::process::Command;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// A limit on the life of a process.
pub struct Deadline {
    done: Sender<()>,
    watch: JoinHandle<bool>,
}

impl Deadline {
    /// Kills the process and its descendants when the limit is reached.
    pub fn set(process: u32, limit: Duration) -> Self {
        let (done, waits) = channel();
        let watch = thread::spawn(move || {
            let expired = waits.recv_timeout(limit) == Err(RecvTimeoutError::Timeout);
            if expired {
                kill(&family(process));
            }
            expired
        });
        Self { done, watch }
    }

    /// The process has ended: was it because of the limit?
    pub fn has_expired(self) -> bool {
        drop(self.done);
        self.watch.join().unwrap_or(false)
    }
}

fn kill(processes: &[u32]) {
    let mut command = Command::new("kill");
    command.arg("-KILL").args(processes.iter().map(u32::to_string));
    // Those that are gone already make it complain, which nobody needs to read.
    let _ = command.output();
}

/// The process and its descendants, parents first.
fn family(ancestor: u32) -> Vec<u32> {
    let mut family = vec![ancestor];
    let parents = parents();
    let mut next = 0;
    while let Some(&parent) = family.get(next) {
        family.extend(parents.iter().filter(|(_, its_parent)| *its_parent == parent).map(|(child, _)| child));
        next += 1;
    }
    family
}

/// Every process with its parent.
fn parents() -> Vec<(u32, u32)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    processes.filter_map(|process| Some((process, parent(process)?))).collect()
}

fn parent(process: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // `1234 (name, which may hold anything) S 1233 …`
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Stdio;
    use std::time::Instant;

    #[test]
    fn a_process_and_what_it_started_end_at_the_limit() {
        let mut child =
            Command::new("sh").args(["-c", "sleep 60 & sleep 60"]).stdout(Stdio::piped()).spawn().unwrap();
        let start = Instant::now();
        let deadline = Deadline::set(child.id(), Duration::from_millis(300));
        // Both sleeps hold the pipe: it ends only when both are gone.
        std::io::read_to_string(child.stdout.take().unwrap()).unwrap();
        child.wait().unwrap();
        assert!(deadline.has_expired());
        assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    }

    #[test]
    fn a_process_that_ends_in_time_is_left_alone() {
        let mut child = Command::new("true").spawn().unwrap();
        let deadline = Deadline::set(child.id(), Duration::from_secs(60));
        assert!(child.wait().unwrap().success());
        assert!(!deadline.has_expired());
    }
}
