//! The native packet logic against its programs in the kernel.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;
use std::{env, fs, thread};
use tortie_testkit::netns::Netns;
use tortie_tests_progrun::generate::Generator;
use tortie_tests_progrun::kernel::Kernel;
use tortie_tests_progrun::objects;
use tortie_tests_progrun::session::{Difference, Session, run};
use tortie_tests_progrun::shrink::shrink;
use tortie_tests_progrun::step::{Script, Step};
use tortie_tests_progrun::world::WORLDS;

/// Packets in one session: then the tables start empty, in the next world.
const SESSION: usize = 80;
/// Packets unless `TORTIE_DIFF_PACKETS` says otherwise.
const PACKETS: u64 = 20_000;
/// A seeded bug has to show within so many packets.
const PACKETS_FOR_A_BUG: u64 = 100_000;
/// Bugs of `packet/datapath/src/seeded.rs`.
const BUGS: u32 = 10;
/// Objects that are built at the same time, each of which keeps one processor busy.
const LANES: usize = 2;

fn number(variable: &str, default: u64) -> u64 {
    match env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable}={text:?} is not a number")),
        Err(_) => default,
    }
}

/// A namespace with the interfaces that worlds name.
fn namespace() -> Netns {
    let netns = Netns::new();
    for index in 100..=106 {
        netns.ip(&format!("link add tt{index} index {index} type veth peer name tp{index}"));
    }
    netns
}

fn load(features: &str, lane: usize) -> Kernel {
    let object = objects::build(features, lane).unwrap_or_else(|error| panic!("{error}"));
    Kernel::load(&object).unwrap_or_else(|error| panic!("{error}"))
}

fn corpus() -> Vec<(PathBuf, Script)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut files: Vec<PathBuf> = fs::read_dir(&dir)
        .unwrap_or_else(|error| panic!("{}: {error}", dir.display()))
        .map(|entry| entry.expect("an entry of the corpus").path())
        .collect();
    files.sort();
    let read = |path: &PathBuf| {
        let text = fs::read_to_string(path).expect("a file of the corpus");
        text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    files.iter().map(|path| (path.clone(), read(path))).collect()
}

/// What generated sessions came to.
struct Report {
    packets: u64,
    refused: usize,
    verdicts: std::collections::BTreeMap<(u32, u32), usize>,
    difference: Option<(Script, Difference)>,
}

/// Runs generated sessions until a difference or until there have been enough packets.
fn generated(kernel: &mut Kernel, packets: u64, first_seed: u64) -> Result<Report, String> {
    let mut report = Report { packets: 0, refused: 0, verdicts: Default::default(), difference: None };
    let mut seed = first_seed;
    while report.packets < packets {
        let world = (seed % u64::from(WORLDS)) as u32;
        let mut script = Script { world, seed: seed as u32 | 1, steps: Vec::new() };
        let mut generator = Generator::new(seed);
        let mut session = Session::start(kernel, script.world, script.seed)?;
        for _ in 0..SESSION {
            let step = generator.step();
            report.packets += u64::from(matches!(step, Step::Packet(_)));
            script.steps.push(step.clone());
            match session.step(&step)? {
                Ok(outcome) => generator.learn(&outcome),
                Err(difference) => {
                    report.difference = Some((script, difference));
                    return Ok(report);
                }
            }
        }
        report.refused += session.refused;
        for (verdict, count) in &session.verdicts {
            *report.verdicts.entry(*verdict).or_default() += count;
        }
        if let Some(difference) = session.finish()? {
            report.difference = Some((script, difference));
            return Ok(report);
        }
        seed += 1;
    }
    Ok(report)
}

/// Keeps a script where `TORTIE_DIFF_SAVE` says, ready for the corpus.
fn save(name: &str, script: &Script) {
    if let Some(dir) = env::var_os("TORTIE_DIFF_SAVE") {
        let path = Path::new(&dir).join(format!("{name}.txt"));
        fs::write(&path, script.to_string()).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

/// The shortest form of a difference, ready for the corpus.
fn tell(kernel: &mut Kernel, script: &Script, difference: &Difference) -> String {
    let shortest = shrink(kernel, script, difference).unwrap_or_else(|error| panic!("shrinking: {error}"));
    let again = run(kernel, &shortest).unwrap_or_else(|error| panic!("{error}"));
    let difference = again.unwrap_or_else(|| difference.clone());
    save("difference", &shortest);
    format!("{difference}\n\nsave this below tests/progrun/corpus to keep it:\n{shortest}")
}

#[test]
fn native_and_kernel_agree_on_the_corpus_and_on_generated_packets() {
    let packets = number("TORTIE_DIFF_PACKETS", PACKETS);
    namespace().run(|| {
        let mut kernel = load("test-io", 0);
        let corpus = corpus();
        assert!(!corpus.is_empty(), "the corpus is gone");
        for (path, script) in &corpus {
            let difference =
                run(&mut kernel, script).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            if let Some(difference) = difference {
                panic!("{}: {}", path.display(), tell(&mut kernel, script, &difference));
            }
        }
        let start = Instant::now();
        let report = generated(&mut kernel, packets, number("TORTIE_DIFF_SEED", 1))
            .unwrap_or_else(|error| panic!("{error}"));
        if let Some((script, difference)) = &report.difference {
            panic!("{}", tell(&mut kernel, script, difference));
        }
        println!(
            "{} scripts of the corpus, {} packets in {:.1} s, {} refused by the kernel, 0 differences",
            corpus.len(),
            report.packets,
            start.elapsed().as_secs_f64(),
            report.refused
        );
        for ((verdict, reason), count) in &report.verdicts {
            let names =
                ["", "pass", "peer", "interface", "neighbour", "answer", "routed", "local", "tunnel", "drop"];
            let name = names.get(*verdict as usize).copied().unwrap_or("?");
            let dropped =
                if name == "drop" { tortie_abi::DropReason::from_word(*reason as u16) } else { None };
            println!("  {name:<10}{:<24}{count}", dropped.map_or("", |reason| reason.name()));
        }
    });
}

#[test]
fn every_seeded_bug_is_found() {
    // `TORTIE_DIFF_BUG=N`: that one alone.
    let only = number("TORTIE_DIFF_BUG", 0);
    let bugs = Mutex::new((1..=BUGS).filter(|bug| only == 0 || u64::from(*bug) == only));
    let next = || bugs.lock().unwrap_or_else(PoisonError::into_inner).next();
    thread::scope(|scope| {
        for lane in 0..LANES {
            scope.spawn(move || {
                namespace().run(|| {
                    while let Some(bug) = next() {
                        find(bug, lane);
                    }
                });
            });
        }
    });
}

fn find(bug: u32, lane: usize) {
    let mut kernel = load(&format!("seed-bug-{bug}"), lane);
    let report =
        generated(&mut kernel, PACKETS_FOR_A_BUG, 1).unwrap_or_else(|error| panic!("bug {bug}: {error}"));
    let (script, difference) =
        report.difference.unwrap_or_else(|| panic!("bug {bug}: not found in {} packets", report.packets));
    let shortest = shrink(&mut kernel, &script, &difference).unwrap_or_else(|error| panic!("{error}"));
    save(&format!("seeded-bug-{bug}"), &shortest);
    println!(
        "bug {bug}: found after {} packets ({}), shown by {} steps",
        report.packets,
        difference.what,
        shortest.steps.len()
    );
}
