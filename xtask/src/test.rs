//! `xtask test`: everything `make test` promises, with a summary.
//!
//! Owns: the order of steps, reading test results, what a skip means. Does not: know any test.
//! Invariant: a step that did not run completely is in the counts as failed or skipped.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::deadline::Deadline;
use crate::lint::{self, Outcome};
use crate::programs::{self, Program};
use crate::suites::{self, PRIVILEGED};
use crate::summary::{Counts, Line, Summary};
use crate::{privileges, run, scan_object};

/// How long one suite may run: a hanging one must not hide the others' results.
const LIMIT: Duration = Duration::from_secs(15 * 60);

/// Runs all steps, also after a failure, and prints the summary.
pub fn main() -> Result<()> {
    let everything_must_run = env::var("CI").is_ok_and(|value| !value.is_empty() && value != "false");
    let mut summary = Summary::default();
    for (name, check) in lint::CHECKS {
        let line = step(name, || check_once(check, everything_must_run));
        summary.lines.push(line);
    }
    let mut programs = Vec::new();
    summary.lines.push(step("compiling everything", || {
        programs = programs::compile()?;
        Ok(PASSED)
    }));
    summary.lines.push(step("no panics in the BPF object", || scan_object::main(None).map(|()| PASSED)));
    let of = |is_wanted: &dyn Fn(&str) -> bool| -> Vec<Program> {
        programs.iter().filter(|program| is_wanted(&program.package)).cloned().collect()
    };
    let unprivileged = of(&|package| !PRIVILEGED.contains(&package));
    summary.lines.push(step("unit and property tests", || run_all(&unprivileged)));
    summary.lines.push(step("examples in the documentation", examples));
    let obstacle = privileges::missing();
    for package in PRIVILEGED {
        if package == suites::KUBERNETES && obstacle.is_none() {
            summary.lines.push(step("components of Kubernetes", components));
        }
        let line = step(package, || match &obstacle {
            None => run_all(&of(&|its| its == package)),
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

const PASSED: Counted = (Counts::PASSED, Vec::new());

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
        Outcome::Passed => PASSED,
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
    Ok(PASSED)
}

/// Only rustdoc can run them.
fn examples() -> Result<Counted> {
    let mut results = Results::default();
    count_tests(programs::examples()?, Instant::now() + LIMIT, &mut results)?;
    Ok((results.counts, results.notes))
}

/// Runs test programs one after the other, within the limit for all of them.
fn run_all(programs: &[Program]) -> Result<Counted> {
    ensure!(!programs.is_empty(), "there is no test: it did not compile");
    let end = Instant::now() + LIMIT;
    let mut results = Results::default();
    for program in programs {
        println!("\n{} {}", program.package, program.name);
        let mut command = program.command();
        suites::set_environment(&mut command)?;
        if let Err(error) = count_tests(command, end, &mut results) {
            results.counts.add(Counts::FAILED);
            results.notes.push(format!("{} {}: {error:#}", program.package, program.name));
        }
    }
    some(results)
}

/// A suite without a test has not run.
fn some(results: Results) -> Result<Counted> {
    ensure!(results.counts != Counts::default(), "ran no test");
    Ok((results.counts, results.notes))
}

/// Runs one, shows its output as it comes and counts the results in it.
fn count_tests(mut command: Command, end: Instant, results: &mut Results) -> Result<()> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", run::describe(&command)))?;
    let deadline = Deadline::set(child.id(), end.saturating_duration_since(Instant::now()));
    let (failed, ended) = (results.counts.failed, results.ended);
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n') {
            let line = String::from_utf8_lossy(&line?).into_owned();
            writeln!(std::io::stdout(), "{line}")?;
            results.read(&line);
        }
    }
    let status = child.wait()?;
    ensure!(!deadline.has_expired(), "killed: its suite has run for {} s", LIMIT.as_secs());
    ensure!(
        status.success() || results.counts.failed > failed,
        "ended with {status} without a failed test: it crashed"
    );
    ensure!(results.ended > ended, "ended without a result");
    Ok(())
}

/// What libtest printed so far.
#[derive(Default)]
struct Results {
    counts: Counts,
    notes: Vec<String>,
    /// Programs that said how they ended.
    ended: usize,
}

impl Results {
    fn read(&mut self, line: &str) {
        if let Some(result) = line.strip_prefix("test result: ") {
            self.ended += 1;
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

    fn run_script(script: &str, limit: Duration) -> Result<Counts> {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let mut results = Results::default();
        count_tests(command, Instant::now() + limit, &mut results)?;
        Ok(results.counts)
    }

    #[test]
    fn a_suite_that_has_not_compiled_counts_as_failed() {
        let line = step("x", || run_all(&[]));
        assert_eq!(line.counts, Counts::FAILED);
        assert!(line.notes[0].contains("did not compile"), "{:?}", line.notes);
    }

    #[test]
    fn a_suite_whose_programs_have_no_test_counts_as_failed() {
        let mut results = Results::default();
        results.read("test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out");
        assert!(some(results).unwrap_err().to_string().contains("ran no test"));
    }

    #[test]
    fn a_program_that_cannot_start_counts_as_failed_and_the_next_one_runs() {
        let program = |path: &str| Program {
            package: "p".to_owned(),
            name: "n".to_owned(),
            directory: "/".into(),
            path: path.into(),
        };
        let (counts, notes) = run_all(&[program("/nonexistent/program"), program("/bin/true")]).unwrap();
        assert_eq!(counts, Counts { failed: 2, ..Counts::default() });
        assert!(notes[0].contains("p n: cannot start"), "{notes:?}");
        assert!(notes[1].contains("ended without a result"), "{notes:?}");
    }

    #[test]
    fn a_test_program_that_dies_or_says_nothing_or_takes_too_long_has_failed() {
        let long = Duration::from_secs(60);
        let passed = "test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out";
        assert_eq!(run_script(&format!("echo '{passed}'"), long).unwrap().passed, 2);
        for (script, limit, why) in [
            ("echo running 3 tests; exit 101", long, "it crashed"),
            (&format!("echo '{passed}'; exit 101"), long, "it crashed"),
            ("exit 0", long, "without a result"),
            ("sleep 60", Duration::from_millis(50), "killed"),
        ] {
            let error = run_script(script, limit).unwrap_err().to_string();
            assert!(error.contains(why), "{script}: {error}");
        }
    }

    #[test]
    fn a_skip_is_a_failure_only_where_everything_must_run() {
        assert_eq!(skip("no root".to_owned(), false).0, Counts::SKIPPED);
        assert_eq!(skip("no root".to_owned(), true).0, Counts::FAILED);
    }
}
