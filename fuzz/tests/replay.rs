//! Every input that was ever worth keeping still keeps the invariants.

use std::fs;
use std::path::Path;

use tortie_fuzz::TARGETS;

#[test]
fn every_input_of_every_corpus_keeps_the_invariants() {
    for (name, check) in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
        let mut inputs: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        inputs.sort();
        assert!(!inputs.is_empty(), "{} is empty", folder.display());
        for input in inputs {
            println!("{}", input.display());
            check(&fs::read(&input).unwrap());
        }
    }
}

#[test]
fn every_target_has_a_file_and_every_file_is_a_target() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("targets");
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        names.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    files.sort();
    let mut targets: Vec<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    targets.sort();
    assert_eq!(files, targets);
}
