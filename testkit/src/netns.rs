//! Owns: network namespaces without names, for tests that need root. Does not: leave any behind: one lives as
//! long as its value, or an interface in it that somebody else holds. Invariant: the calling thread stays where
//! it is.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::process::Command;
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};

/// A network namespace; gone when dropped, with everything in it.
#[derive(Debug)]
pub struct Netns {
    file: File,
}

impl Netns {
    /// A new one, with `lo` switched on.
    pub fn new() -> Self {
        let made = thread::spawn(|| {
            if let Err(errno) = unshare(CloneFlags::CLONE_NEWNET) {
                panic!("making a network namespace: {errno}; these tests need root");
            }
            File::open("/proc/thread-self/ns/net").expect("our own network namespace")
        });
        let netns = Self { file: made.join().expect("a network namespace") };
        netns.ip("link set lo up");
        netns
    }

    /// A path under which this and other processes find it while it lives.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()).into()
    }

    /// Runs `work` inside, on a thread of its own. Processes that it starts are inside, too.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            setns(&self.file, CloneFlags::CLONE_NEWNET).expect("entering a network namespace");
            work()
        };
        thread::scope(|scope| match scope.spawn(inside).join() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }

    /// What `ip ARGUMENTS` prints inside; panics when it fails.
    pub fn ip(&self, arguments: &str) -> String {
        let output = self.run(|| Command::new("ip").args(arguments.split_whitespace()).output());
        let output = output.expect("the program ip, of the package iproute2");
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ip {arguments}: {complaint}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Default for Netns {
    fn default() -> Self {
        Self::new()
    }
}
