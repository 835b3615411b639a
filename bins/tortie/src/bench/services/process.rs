//! Processor time of a process, from the scheduler's own account.

use std::fs;
use std::time::Duration;

use anyhow::Context as _;
use nix::unistd::{SysconfVar, sysconf};

/// Of all its threads so far. A thread that has ended takes its time along: agents end none.
pub fn busy(pid: i32) -> anyhow::Result<Duration> {
    let tasks = format!("/proc/{pid}/task");
    let mut nanos = 0;
    for task in fs::read_dir(&tasks).with_context(|| tasks.clone())?.flatten() {
        // One may end while it is looked at.
        let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        nanos += text.split_whitespace().next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
    }
    anyhow::ensure!(nanos > 0, "{tasks}: no schedstat; the kernel needs CONFIG_SCHED_INFO");
    Ok(Duration::from_nanos(nanos))
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
    fn work_costs_processor_time_and_sleep_costs_next_to_none() {
        let own = std::process::id() as i32;
        let since = std::time::Instant::now();
        let before = busy(own).unwrap();
        while since.elapsed() < Duration::from_millis(50) {}
        let worked = busy(own).unwrap() - before;
        assert!(worked > Duration::from_millis(5), "{worked:?}");
        assert!(children(own).is_ok());
        assert!(busy(i32::MAX).is_err());
    }
}
