//! Every program of the object on the running kernel, held against its budget.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{env, fs};
use tortie_host::bpf::{Program, ProgramDef, ProgramKind};
use tortie_host::maps::Maps;
use tortie_host::object::{self, Prepared};
use tortie_host::verifier::VerifierError;
use tortie_tests_verifier::{Budgets, Statistics};

/// Loading everything at start may take this long (design target), whatever the budget file says.
const START: Duration = Duration::from_secs(1);
/// A machine that does other things at the same time: the best of so many attempts counts.
const ATTEMPTS: u32 = 5;

fn budget_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("budgets.toml")
}

/// Where whole logs of refusals go.
fn log_dir() -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("verifier-logs");
    fs::create_dir_all(&dir).expect("a directory for logs");
    dir
}

fn prepared() -> Prepared {
    let maps = Maps::anonymous(&BTreeMap::new()).unwrap_or_else(|error| panic!("{error}"));
    // The instructions hold the maps' descriptors: they stay open to the end of the test.
    let maps: &'static Maps = Box::leak(Box::new(maps));
    object::prepare(object::embedded(), maps).unwrap_or_else(|error| panic!("{error}"))
}

/// Loads one program; a refusal ends the test with what a person needs to see.
fn measure(prepared: &Prepared, name: &str) -> Statistics {
    let start = Instant::now();
    let (result, log) = prepared.load_with_statistics(name).expect("a name of the object");
    let load = start.elapsed();
    if let Err(error) = result {
        panic!("{}", VerifierError::from(error).keep_log(&log_dir()));
    }
    let statistics = Statistics::parse(&log).unwrap_or_else(|| panic!("{name}: no statistics in {log:?}"));
    Statistics { static_insns: prepared.static_insns(name).unwrap_or(0) as u64, load, ..statistics }
}

fn print(measured: &BTreeMap<String, Statistics>, total: Duration) {
    println!("{:<22}{:>10}{:>8}{:>7}{:>10}", "program", "verified", "static", "stack", "load");
    for (name, s) in measured {
        let load = format!("{:.1} ms", s.load.as_secs_f64() * 1e3);
        println!("{name:<22}{:>10}{:>8}{:>7}{load:>10}", s.verified, s.static_insns, s.stack);
    }
    println!("{:<22}{:>35}", "together", format!("{:.0} ms", total.as_secs_f64() * 1e3));
}

#[test]
fn every_program_loads_within_its_budget() {
    let prepared = prepared();
    let names: Vec<String> = prepared.names().map(str::to_owned).collect();
    let measured: BTreeMap<String, Statistics> =
        names.iter().map(|name| (name.clone(), measure(&prepared, name))).collect();
    print(&measured, measured.values().map(|s| s.load).sum());

    let text = fs::read_to_string(budget_file()).unwrap_or_default();
    let mut budgets = Budgets::parse(&text).unwrap_or_else(|error| panic!("{error}"));
    if env::var_os("TORTIE_UPDATE_BUDGETS").is_some() {
        budgets.total_load_millis = START.as_millis() as u64;
        budgets.update(&measured);
        fs::write(budget_file(), budgets.render()).expect("budgets.toml can be written");
        return;
    }
    let excesses = budgets.excesses(&measured);
    assert!(
        excesses.is_empty(),
        "over budget:\n{}\nmake it smaller, or run `xtask budgets` and write the reason into budgets.toml",
        excesses
            .iter()
            .map(|e| format!("  {}: {} {}, budget {}", e.program, e.is, e.what, e.budget))
            .collect::<Vec<_>>()
            .join("\n")
    );
}

#[test]
fn everything_loads_within_the_start_budget() {
    let text = fs::read_to_string(budget_file()).expect("budgets.toml");
    let allowed = Budgets::parse(&text).unwrap_or_else(|error| panic!("{error}")).total_load_millis;
    let once = || {
        let start = Instant::now();
        let programs = prepared().load_all().unwrap_or_else(|error| panic!("{}", error.keep_log(&log_dir())));
        assert!(!programs.is_empty());
        start.elapsed()
    };
    let best = (0..ATTEMPTS).map(|_| once()).min().expect("at least one attempt");
    println!("maps, object and all programs: {:.0} ms", best.as_secs_f64() * 1e3);
    assert!(best <= Duration::from_millis(allowed), "{best:?} to load everything, {allowed} ms are allowed");
}

#[test]
fn a_refusal_names_the_line_and_where_the_whole_log_is() {
    // r0 = r7, which nobody has set.
    let insns = [0xbf, 0x70, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];
    let refused = Program::load(&ProgramDef::new("tv_refused", ProgramKind::SchedCls, &insns));
    let error = VerifierError::from(refused.expect_err("the verifier's business")).keep_log(&log_dir());
    let path = error.log_path.clone().expect("the log was kept");
    let text = error.to_string();
    assert!(text.contains("R7 !read_ok"), "{text}");
    assert!(text.contains(path.to_str().expect("UTF-8")), "{text}");
    assert!(fs::read_to_string(path).expect("the log").contains("R7 !read_ok"));
}
