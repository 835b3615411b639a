//! Verbs of a node that are asked by somebody who may not look, and where the agent has been stopped: the exit code says which
//! of the two it is.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

const NOBODY: u32 = 65534;

/// A run directory, a directory of pins and one of objects, and a program that everybody may run.
struct Node {
    dir: TempDir,
    program: PathBuf,
}

impl Node {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("tortie");
        // A process of its own copies: what a forked child of this one has open for writing cannot be run.
        let mut copy = Command::new("install");
        copy.args(["-m0755", env!("CARGO_BIN_EXE_tortie")]).arg(&program);
        assert!(copy.status().unwrap().success());
        for place in ["run", "bpffs", "bpffs/maps", "store"] {
            fs::create_dir(dir.path().join(place)).unwrap();
        }
        set_mode(dir.path(), 0o755);
        Self { dir, program }
    }

    fn path(&self, place: &str) -> PathBuf {
        self.dir.path().join(place)
    }

    /// The exit code of a verb and what it says, asked by somebody who is not root.
    fn ask(&self, verb: &[&str]) -> (i32, String) {
        let mut command = Command::new(&self.program);
        command.args(verb).arg("--store").arg(format!("dir:{}", self.path("store").display()));
        command.arg("--run-dir").arg(self.path("run")).arg("--bpffs").arg(self.path("bpffs"));
        // Who is not root as it is has no rights to what nobody has any to.
        if fs::metadata("/proc/self").unwrap().uid() == 0 {
            command.uid(NOBODY).gid(NOBODY);
        }
        let output = command.current_dir("/").output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn pins_that_may_not_be_looked_at_are_no_absence_of_a_data_plane() {
    let node = Node::new();
    let (code, said) = node.ask(&["status"]);
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("nothing is pinned"), "{said}");
    for place in ["bpffs/maps", "bpffs"] {
        set_mode(&node.path(place), 0);
        let (code, said) = node.ask(&["status"]);
        set_mode(&node.path(place), 0o755);
        assert_eq!(code, 4, "{place}: {said}");
        assert!(said.contains("run as root") && !said.contains("nothing is pinned"), "{said}");
    }
}

#[test]
fn an_agent_that_was_stopped_is_missed_and_one_that_never_was_is_not() {
    let node = Node::new();
    assert_eq!(node.ask(&["version"]), (0, String::new()));
    fs::write(node.path("run/nodes.json"), r#"{"node": "n1"}"#).unwrap();
    for verb in [["version"].as_slice(), &["node", "status"]] {
        let (code, said) = node.ask(verb);
        assert_eq!(code, 3, "{verb:?}: {said}");
        assert!(said.contains("is `tortie agent` running on this node?"), "{said}");
    }
}

#[test]
fn who_may_not_ask_the_agent_is_not_told_to_look_for_it() {
    let node = Node::new();
    let _listens = UnixListener::bind(node.path("run/agent.sock")).unwrap();
    set_mode(&node.path("run/agent.sock"), 0);
    for verb in [["version"].as_slice(), &["node", "status"], &["status"]] {
        let (code, said) = node.ask(verb);
        assert_eq!(code, 4, "{verb:?}: {said}");
        assert!(said.contains("not permitted; run as root") && !said.contains("is `tortie agent`"), "{said}");
    }
}
