//! Processor time of a process, from the kernel's own account.

use std::fs;
use std::time::Duration;

use anyhow::Context as _;
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::{Pid, SysconfVar, sysconf};

/// Of all its threads, also of those that have ended.
pub fn busy(pid: i32) -> anyhow::Result<Duration> {
    let clock = clock_getcpuclockid(Pid::from_raw(pid)).with_context(|| format!("no process {pid}"))?;
    Ok(clock_gettime(clock).with_context(|| format!("the clock of process {pid}"))?.into())
}

/// Of the programs that it has started and that have ended, in ticks of a hundredth of a second or so.
pub fn children(pid: i32) -> anyhow::Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    // Fields 16 and 17, of which the second, the name, may have spaces.
    let rest = text.rsplit_once(") ").map(|(_, rest)| rest).with_context(|| path.clone())?;
    let ticks: u64 = rest.split(' ').skip(13).take(2).filter_map(|word| word.parse::<u64>().ok()).sum();
    let rate = sysconf(SysconfVar::CLK_TCK)?.unwrap_or(100);
    Ok(Duration::from_secs_f64(ticks as f64 / rate as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_costs_processor_time_and_that_of_ended_threads_counts() {
        let own = std::process::id() as i32;
        let (since, before) = (std::time::Instant::now(), busy(own).unwrap());
        std::thread::scope(|threads| {
            threads.spawn(|| while since.elapsed() < Duration::from_millis(50) {});
        });
        let worked = busy(own).unwrap() - before;
        assert!(worked > Duration::from_millis(5), "{worked:?} with a thread that has ended");
        assert!(children(own).is_ok());
        assert!(busy(1 << 23).is_err(), "no kernel has that many");
    }
}
