//! `xtask fuzz`: builds the targets of `fuzz/` with coverage instrumentation and runs them.
//!
//! Owns: the compiler flags and libFuzzer's arguments. Does not: hold a target; the ordinary tests replay
//! the corpora. Invariant: works with the stable compiler, without cargo-fuzz.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};
use cargo_metadata::MetadataCommand;

use crate::run;

const PACKAGE: &str = "tortie-fuzz";
/// What libFuzzer needs from the compiler: counters per edge, a table of them, and the operands of compares.
const COVERAGE: &str = "--cfg fuzzing -C debug-assertions -C codegen-units=1 -C passes=sancov-module \
    -C llvm-args=-sanitizer-coverage-level=4 -C llvm-args=-sanitizer-coverage-inline-8bit-counters \
    -C llvm-args=-sanitizer-coverage-pc-table -C llvm-args=-sanitizer-coverage-trace-compares";
/// With `--target` given, build scripts and macros are compiled without the flags above.
const HOST: &str =
    if cfg!(target_arch = "aarch64") { "aarch64-unknown-linux-gnu" } else { "x86_64-unknown-linux-gnu" };

/// Runs one target or all, each for the given time, from its committed corpus.
pub fn main(target: Option<&str>, seconds: u64) -> Result<()> {
    let root = run::workspace()?.join("fuzz");
    let known = targets()?;
    let chosen: Vec<&String> =
        known.iter().filter(|name| target.is_none_or(|wanted| wanted == *name)).collect();
    if chosen.is_empty() {
        bail!("no fuzz target {}; there are {}", target.unwrap_or("at all"), known.join(", "));
    }
    let build_dir = run::target_dir()?.join("fuzz");
    let mut build = run::cargo(["build", "--release", "--target", HOST, "--package", PACKAGE])?;
    build.args(["--features", "libfuzzer", "--bins", "--target-dir"]).arg(&build_dir);
    run::succeed(build.env("RUSTFLAGS", COVERAGE))?;
    for name in chosen {
        eprintln!("==> {name} for {seconds} s");
        let found = build_dir.join("found").join(name);
        fs::create_dir_all(&found).with_context(|| format!("cannot make {}", found.display()))?;
        let mut fuzzer = Command::new(build_dir.join(HOST).join("release").join(name));
        // New inputs go to the first directory; the committed corpus is only read.
        fuzzer.arg(&found).arg(root.join("corpus").join(name));
        fuzzer
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-artifact_prefix={}/", found.display()));
        fuzzer.args(["-print_final_stats=1", "-rss_limit_mb=4096"]);
        run::succeed(&mut fuzzer)
            .with_context(|| format!("{name}: the input that failed is in {}", found.display()))?;
    }
    Ok(())
}

fn targets() -> Result<Vec<String>> {
    let metadata = MetadataCommand::new().current_dir(run::workspace()?).no_deps().exec()?;
    let package = metadata.workspace_packages().into_iter().find(|package| package.name.as_str() == PACKAGE);
    let package = package.with_context(|| format!("no package {PACKAGE}"))?;
    Ok(package.targets.iter().filter(|target| target.is_bin()).map(|target| target.name.clone()).collect())
}
