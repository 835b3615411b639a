//! The agent's own process, from /proc.
//!
//! Invariant: what cannot be read is absent, not zero.

use std::fs;

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::sys::time::TimeValLike as _;
use tortie_observe::metrics::{
    PROCESS_CPU, PROCESS_FDS, PROCESS_MAX_FDS, PROCESS_RSS, PROCESS_START, PROCESS_VIRTUAL, Sample,
};

use super::vitals::Vitals;

/// A size of `/proc/self/status` in bytes.
pub fn status_bytes(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// What the usual client libraries tell about a process, under their names.
pub fn samples(vitals: &Vitals) -> Vec<Sample> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let cpu = getrusage(UsageWho::RUSAGE_SELF).ok().map(|usage| {
        let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
        micros as f64 / 1e6
    });
    // The directory that is being read is one of them.
    let fds = fs::read_dir("/proc/self/fd").ok().map(|dir| dir.count().saturating_sub(1) as f64);
    let max_fds = getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(soft, _)| soft as f64);
    let start = vitals.started_at.duration_since(std::time::UNIX_EPOCH).ok().map(|at| at.as_secs_f64());
    let values = [
        (&PROCESS_CPU, cpu),
        (&PROCESS_RSS, status_bytes(&status, "VmRSS").map(|bytes| bytes as f64)),
        (&PROCESS_VIRTUAL, status_bytes(&status, "VmSize").map(|bytes| bytes as f64)),
        (&PROCESS_FDS, fds),
        (&PROCESS_MAX_FDS, max_fds),
        (&PROCESS_START, start),
    ];
    values.into_iter().filter_map(|(metric, value)| Some(Sample::new(metric, &[], value?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_found_by_its_whole_name() {
        let status = "VmRSSx:\t 1 kB\nVmRSS:\t  2048 kB\nThreads:\t3\n";
        assert_eq!(status_bytes(status, "VmRSS"), Some(2 << 20));
        assert_eq!(status_bytes(status, "VmSize"), None);
        assert_eq!(status_bytes(status, "Threads"), None);
    }
}
