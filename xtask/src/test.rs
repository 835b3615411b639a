//! `xtask test`: everything `make test` promises, with a summary.
//!
//! Owns: the order of steps, reading test results, what a skip means. Does not: know any test.
//! Invariant: a step that did not run completely is in the counts as failed or skipped.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::deadline::Deadline;
use crate::lint::{self, Outcome};
use crate::suites::{self, PRIVILEGED, PROFILE};
use crate::summary::{Counts, Line, Summary};
use crate::{privileges, run};

/// How long one suite may run: a hanging one must not hide the others' results.
const LIMIT: Duration = Duration::from_secs(15 * 60);

/// Runs all steps, also after a failure, and prints the summary.
pub fn main() -> Result<()> {
    let everything_must_run = env::var("CI").is_ok_and(|value| !value.is_empty() && value != "false");
    let mut summary = Summary::default();
    for (name, check) in lint::CHECKS.into_iter().chain(lint::BUILD) {
        let line = step(name, || check_once(check, everything_must_run));
        summary.lines.push(line);
    }
    summary.lines.push(step("unit and property tests", || compile_and_count(unprivileged)));
    let obstacle = privileges::missing();
    for package in PRIVILEGED {
        if package == suites::KUBERNETES && obstacle.is_none() {
            summary.lines.push(step("components of Kubernetes", components));
        }
        let line = step(package, || match &obstacle {
            None => compile_and_count(|| suites::test(package)),
            Some(reason) => Ok(skip(reason.clone(), everything_must_run)),
        });
        summary.lines.push(line);
    }
    println!("\n{summary}");
    match summary.total().failed {
        0 => Ok(()),
        _ => std::process::exit(1),
    }
}

type Counted = (Counts, Vec<String>);

fn step(name: &'static str, action: impl FnOnce() -> Result<Counted>) -> Line {
    eprintln!("==> {name}");
    let start = Instant::now();
    let (counts, notes) = action().unwrap_or_else(|error| (Counts::FAILED, vec![format!("{error:#}")]));
    let took = start.elapsed();
    notes.iter().for_each(|note| eprintln!("    {note}"));
    Line { name, counts, took, notes }
}

fn check_once(check: fn() -> Result<Outcome>, everything_must_run: bool) -> Result<Counted> {
    Ok(match check()? {
        Outcome::Passed => (Counts::PASSED, Vec::new()),
        Outcome::Skipped { reason, required } => skip(reason, required && everything_must_run),
    })
}

fn skip(reason: String, is_failure: bool) -> Counted {
    if is_failure {
        (Counts::FAILED, vec![format!("{reason} (and CI is set: everything must run)")])
    } else {
        (Counts::SKIPPED, vec![format!("skipped: {reason}")])
    }
}

/// What the suite on a real API server runs. It finds them at the same places; without them its tests fail.
fn components() -> Result<Counted> {
    run::succeed(&mut suites::components()?)?;
    run::succeed(&mut suites::helm()?)?;
    Ok((Counts::PASSED, Vec::new()))
}

fn unprivileged() -> Result<Command> {
    let mut command = run::cargo(["test", "--profile", PROFILE, "--no-fail-fast", "--workspace"])?;
    for package in PRIVILEGED.into_iter().chain(["tortie-bpf"]) {
        command.args(["--exclude", package]);
    }
    Ok(command)
}

/// Compiles the tests, however long that takes, and then runs them within the limit.
fn compile_and_count(test: impl Fn() -> Result<Command>) -> Result<Counted> {
    run::succeed(test()?.arg("--no-run"))?;
    count_tests(test()?)
}

/// Runs `cargo test`, shows its output as it comes and counts the results in it.
fn count_tests(mut command: Command) -> Result<Counted> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", run::describe(&command)))?;
    let deadline = Deadline::set(child.id(), LIMIT);
    let mut results = Results::default();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n') {
            let line = String::from_utf8_lossy(&line?).into_owned();
            writeln!(std::io::stdout(), "{line}")?;
            results.read(&line);
        }
    }
    let status = child.wait()?;
    if deadline.has_expired() {
        results.counts.add(Counts::FAILED);
        results.notes.push(format!("killed after {} s", LIMIT.as_secs()));
    }
    if !status.success() && results.counts.failed == 0 {
        bail!(
            "{} ended with {status} without a failed test: it did not compile, or it crashed",
            run::describe(&command)
        );
    }
    if results.counts == Counts::default() {
        bail!("{} ran no test", run::describe(&command));
    }
    Ok((results.counts, results.notes))
}

/// What libtest printed so far.
#[derive(Default)]
struct Results {
    counts: Counts,
    notes: Vec<String>,
}

impl Results {
    fn read(&mut self, line: &str) {
        if let Some(result) = line.strip_prefix("test result: ") {
            let count = |word: &str| number_before(result, word);
            self.counts.add(Counts {
                passed: count("passed"),
                failed: count("failed"),
                skipped: count("ignored"),
            });
        } else if let Some(name) =
            line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED"))
        {
            self.notes.push(format!("failed: {name}"));
        }
    }
}

/// The number before a word in a list such as `ok. 3 passed; 0 failed`; 0 when it is not there.
fn number_before(text: &str, word: &str) -> usize {
    let mut words = text.split([' ', ';']).filter(|word| !word.is_empty());
    let mut previous = "";
    words
        .find_map(|current| {
            (current == word).then_some(previous).or_else(|| {
                previous = current;
                None
            })
        })
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
running 3 tests
test a::b ... ok
test a::c ... FAILED
test d ... ignored
test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s
test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 3 filtered out; finished in 0.00s";

    #[test]
    fn results_of_several_test_programs_are_added_and_failures_named() {
        let mut results = Results::default();
        OUTPUT.lines().for_each(|line| results.read(line));
        assert_eq!(results.counts, Counts { passed: 13, failed: 1, skipped: 1 });
        assert_eq!(results.notes, ["failed: a::c"]);
    }

    #[test]
    fn a_step_that_cannot_start_counts_as_failed() {
        let line = step("x", || count_tests(Command::new("/nonexistent/program")));
        assert_eq!(line.counts, Counts::FAILED);
        assert!(line.notes[0].contains("cannot start"), "{:?}", line.notes);
    }

    #[test]
    fn a_test_program_that_dies_without_a_result_counts_as_failed() {
        for script in ["echo running 3 tests; exit 101", "exit 0"] {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            let line = step("x", || count_tests(command));
            assert_eq!(line.counts, Counts::FAILED, "{script}");
        }
    }

    #[test]
    fn a_skip_is_a_failure_only_where_everything_must_run() {
        assert_eq!(skip("no root".to_owned(), false).0, Counts::SKIPPED);
        assert_eq!(skip("no root".to_owned(), true).0, Counts::FAILED);
    }
}
