//! What the verifier says about a program it has accepted.

use std::time::Duration;

/// One program's measurements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Instructions that the verifier walked through, over all paths.
    pub verified: u64,
    /// Instructions in the object.
    pub static_insns: u64,
    /// Bytes of stack, the deepest chain of calls.
    pub stack: u64,
    /// From the system call to the loaded program, machine code included.
    pub load: Duration,
}

impl Statistics {
    /// Reads the verifier's statistics (`BPF_LOG_STATS`); `None` when they are not as expected.
    pub fn parse(log: &str) -> Option<Self> {
        let verified = after(log, "processed ")?;
        let depths = log.lines().find_map(|line| line.strip_prefix("stack depth "))?;
        let depths: Option<Vec<u64>> = depths.split('+').map(|depth| depth.trim().parse().ok()).collect();
        // The first is the program's own frame; the others are of its subprograms, which call one at a time.
        let (own, called) = depths?.split_first().map(|(own, called)| (*own, called.to_vec()))?;
        let stack = own + called.into_iter().max().unwrap_or(0);
        Some(Self { verified, stack, ..Self::default() })
    }
}

fn after(log: &str, word: &str) -> Option<u64> {
    let rest = log.lines().find_map(|line| line.strip_prefix(word))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_statistics_are_read() {
        let log = "verification time 43271 usec\nstack depth 168+24+8\nprocessed 30715 insns (limit 1000000) \
                   max_states_per_insn 16 total_states 1702 peak_states 1115 mark_read 0\n";
        let expected = Statistics { verified: 30715, stack: 192, ..Statistics::default() };
        assert_eq!(Statistics::parse(log), Some(expected));
        assert_eq!(Statistics::parse("nothing of the kind"), None);
    }
}
