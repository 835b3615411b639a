//! The resource verbs as a person types them: output, messages, exit codes, and what is in the directory after.

mod change;
mod show;
mod write;

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

struct World {
    root: TempDir,
}

#[derive(Debug, PartialEq)]
struct Answer {
    code: i32,
    out: String,
    err: String,
}

const POLICY: &str = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: deny-all}\nspec: {podSelector: {}}\n";
const POOL: &str =
    "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: main}\nspec: {cidr: 10.244.0.0/16}\n";

impl World {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("s")).unwrap();
        Self { root }
    }

    fn file(&self, name: &str, text: &str) {
        let path = self.root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.root.path().join(name)).unwrap()
    }

    fn tortie(&self, arguments: &str) -> Answer {
        self.tortie_with(arguments, "")
    }

    fn tortie_with(&self, arguments: &str, input: &str) -> Answer {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tortie"));
        command.current_dir(self.root.path()).env("TORTIE_STORE", "dir:s");
        command.args(words(arguments)).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        Answer {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    #[track_caller]
    fn says(&self, arguments: &str, out: &str) {
        assert_eq!(
            self.tortie(arguments),
            Answer { code: 0, out: out.into(), err: String::new() },
            "{arguments}"
        );
    }

    #[track_caller]
    fn refuses(&self, arguments: &str, code: i32, err: &str) {
        assert_eq!(
            self.tortie(arguments),
            Answer { code, out: String::new(), err: err.into() },
            "{arguments}"
        );
    }

    fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        walk(&self.root.path().join("s"), &mut found);
        found.iter().map(|path| path.strip_prefix(self.root.path()).unwrap().display().to_string()).collect()
    }
}

/// Split at spaces, except between single quotes.
fn words(line: &str) -> Vec<String> {
    line.split('\'')
        .enumerate()
        .flat_map(|(n, part)| match n % 2 {
            1 => vec![part.to_owned()],
            _ => part.split_whitespace().map(str::to_owned).collect(),
        })
        .collect()
}

fn walk(directory: &Path, found: &mut Vec<std::path::PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            walk(&path, found);
        } else if path.file_name().unwrap() != ".lock" {
            found.push(path);
        }
    }
}
