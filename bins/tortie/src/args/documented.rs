//! Every command line that the documents show is one that the program takes.
//!
//! Owns: finding them in fenced blocks and in code between backquotes. Does not: run them.
//! Invariant: a verb or flag that is renamed fails here until its documents follow.

use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use clap::error::ErrorKind;

use super::Cli;

/// Words after which a shell, a pod or a node is given a new command.
const STARTS: [&str; 4] = ["--", "&&", "|", "kubectl"];
/// Words that end one.
const ENDS: [&str; 6] = ["&&", "||", "|", ";", "&", ">"];

fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let of = |directory: &str| fs::read_dir(root.join(directory)).unwrap().map(|entry| entry.unwrap().path());
    let markdown = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "md");
    let mut found: Vec<_> = of("docs").chain(of("design")).filter(markdown).collect();
    found.push(root.join("README.md"));
    found
}

/// Lines of fenced blocks, those that go on as one.
fn fenced(text: &str) -> Vec<String> {
    let (mut found, mut inside, mut open) = (Vec::new(), false, String::new());
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            inside = !inside;
        } else if inside {
            match line.strip_suffix('\\') {
                Some(start) => open.push_str(start),
                None => found.push(std::mem::take(&mut open) + line),
            }
        }
    }
    found
}

/// Code between backquotes that names a verb, without those that stand for several.
fn mentioned(text: &str) -> impl Iterator<Item = &str> {
    let code = text.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
    code.filter(|code| {
        code.starts_with("tortie ") && !code.contains(['…', '[', '|', '/']) && !code.contains(" VERB")
    })
}

/// The program's arguments, its name first, when a line calls it.
fn call(line: &str) -> Option<Vec<String>> {
    let line = line.strip_prefix("$ ").or_else(|| line.strip_prefix("# ")).unwrap_or(line);
    let words = shlex::split(line.split(" # ").next()?)?;
    let ours = |(index, word): (usize, &String)| {
        let begins = index.checked_sub(1).is_none_or(|before| STARTS.contains(&words[before].as_str()));
        begins && Path::new(word).file_name().is_some_and(|name| name == "tortie" || name == "tortie-cni")
    };
    let start = words.iter().enumerate().position(ours)?;
    Some(words[start..].iter().take_while(|word| !ENDS.contains(&word.as_str())).cloned().collect())
}

#[test]
fn every_command_line_in_the_documents_is_one_that_the_program_takes() {
    let (mut calls, mut wrong) = (0, Vec::new());
    for path in documents() {
        let text = fs::read_to_string(&path).unwrap();
        for line in fenced(&text) {
            let Some(arguments) = call(&line) else { continue };
            calls += 1;
            match Cli::command().try_get_matches_from(arguments) {
                Err(error) if error.use_stderr() => {
                    wrong.push(format!("{}: {line}: {error}", path.display()))
                }
                _ => {}
            }
        }
        for code in mentioned(&text) {
            calls += 1;
            // A verb may be spoken of without what it needs.
            let kind = Cli::command().try_get_matches_from(code.split(' ')).err().map(|error| error.kind());
            if let Some(ErrorKind::InvalidSubcommand | ErrorKind::UnknownArgument) = kind {
                wrong.push(format!("{}: {code}", path.display()));
            }
        }
    }
    assert!(calls > 60, "only {calls} found");
    assert_eq!(wrong, Vec::<String>::new());
}
