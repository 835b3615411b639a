//! What happened, step by step, and the closing line.
//!
//! Owns: counting. Does not: run anything. Invariant: the closing line reads exactly
//! `N passed, N failed, N skipped`, and its numbers are the sums of the table above it.

use std::fmt;
use std::time::Duration;

/// Counts of checks and tests; a check is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Succeeded.
    pub passed: usize,
    /// Failed.
    pub failed: usize,
    /// Not run, with a reason.
    pub skipped: usize,
}

impl Counts {
    /// One check that passed.
    pub const PASSED: Self = Self { passed: 1, failed: 0, skipped: 0 };
    /// One check that failed.
    pub const FAILED: Self = Self { passed: 0, failed: 1, skipped: 0 };
    /// One check that was not run.
    pub const SKIPPED: Self = Self { passed: 0, failed: 0, skipped: 1 };

    /// Adds the other counts.
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// One step of a run.
pub struct Line {
    /// What was checked.
    pub name: &'static str,
    /// How it went.
    pub counts: Counts,
    /// How long it took.
    pub took: Duration,
    /// What failed or why it was skipped, one a line.
    pub notes: Vec<String>,
}

/// All steps of a run.
#[derive(Default)]
pub struct Summary {
    /// In the order they ran.
    pub lines: Vec<Line>,
}

impl Summary {
    /// The sum over all steps.
    pub fn total(&self) -> Counts {
        let mut total = Counts::default();
        self.lines.iter().for_each(|line| total.add(line.counts));
        total
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<34} {:>7} {:>7} {:>8} {:>9}", "", "passed", "failed", "skipped", "seconds")?;
        for Line { name, counts, took, .. } in &self.lines {
            let Counts { passed, failed, skipped } = counts;
            writeln!(f, "{name:<34} {passed:>7} {failed:>7} {skipped:>8} {:>9.1}", took.as_secs_f64())?;
        }
        for line in &self.lines {
            for note in &line.notes {
                writeln!(f, "{}: {note}", line.name)?;
            }
        }
        let took: Duration = self.lines.iter().map(|line| line.took).sum();
        writeln!(f, "in {:.0} s", took.as_secs_f64())?;
        write!(f, "{}", self.total())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &'static str, counts: Counts, notes: &[&str]) -> Line {
        Line {
            name,
            counts,
            took: Duration::from_millis(1500),
            notes: notes.iter().map(|n| (*n).to_owned()).collect(),
        }
    }

    #[test]
    fn the_closing_line_is_the_sum_of_the_steps_and_nothing_else() {
        let summary = Summary {
            lines: vec![
                line("format", Counts::PASSED, &[]),
                line("unit tests", Counts { passed: 40, failed: 2, skipped: 1 }, &["wire: a_b failed"]),
                line("end to end", Counts::SKIPPED, &["needs root"]),
            ],
        };
        let text = summary.to_string();
        assert_eq!(text.lines().last(), Some("41 passed, 2 failed, 2 skipped"));
        assert!(text.contains("\nunit tests: wire: a_b failed\nend to end: needs root\n"), "{text}");
    }
}
