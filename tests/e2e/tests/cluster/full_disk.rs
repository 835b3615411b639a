//! A disk that is full: nothing is half written, what can be done is done, and the fix is said.

use std::fs;
use std::path::Path;
use std::process::Command;

use tortie_lab::Lab;
use tortie_tests_e2e::{binary, eventually};

use crate::verbs::{assert_no_panic, cluster, on_node, said, status, written};

/// A small file system over a directory; gone when dropped.
struct Small<'p>(&'p Path);

impl<'p> Small<'p> {
    fn over(path: &'p Path, bytes: &str) -> Self {
        let options = format!("size={bytes},mode=755");
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", &options, "none"]).arg(path).status().expect("mount");
        assert!(mounted.success(), "mounting over {}", path.display());
        Self(path)
    }

    /// Leaves no room.
    fn fill(&self) {
        let fill = fs::File::create(self.0.join("fill")).expect("a file");
        let mut block = 65_536_u64;
        let mut length = 0;
        while block >= 4096 {
            match nix::fcntl::posix_fallocate(&fill, length, block as i64) {
                Ok(()) => length += block as i64,
                Err(_) => block /= 2,
            }
        }
        assert!(length > 0, "there was room before");
    }

    fn make_room(&self) {
        fs::remove_file(self.0.join("fill")).expect("removing");
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

fn policy(name: &str, rules: usize) -> String {
    let rule = "{from: [{podSelector: {matchLabels: {app: front}}}]}";
    let rules = vec![rule; rules].join(", ");
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}}}\n\
         spec: {{podSelector: {{}}, policyTypes: [Ingress], ingress: [{rules}]}}\n"
    )
}

#[test]
fn a_store_without_room_keeps_every_object_as_it_was() {
    let directory = tempfile::tempdir().expect("a directory");
    let mount = directory.path().join("mount");
    fs::create_dir(&mount).expect("a directory");
    let small = Small::over(&mount, "128k");
    let store = mount.join("store");
    fs::create_dir(&store).expect("a directory");
    let apply = |text: &str| {
        let file = written(directory.path(), "given.yaml", text);
        let output = Command::new(binary())
            .args(["apply", "--store", &format!("dir:{}", store.display()), "-f"])
            .arg(file)
            .output()
            .expect("tortie");
        assert_no_panic(&output);
        output
    };
    let first = apply(&policy("first", 1));
    assert!(first.status.success(), "{}", said(&first));
    let files = || {
        let listed = Command::new("find").arg(&store).args(["-type", "f"]).output().expect("find");
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        let with = |path: &str| (path.to_owned(), fs::read_to_string(path).expect("reading"));
        let mut files: Vec<_> = listed.lines().map(with).collect();
        files.sort();
        files
    };
    let before = files();
    small.fill();
    let both = format!("{}---\n{}", policy("first", 400), policy("second", 1));
    let refused = apply(&both);
    assert_eq!(refused.status.code(), Some(3), "{}", said(&refused));
    assert!(said(&refused).contains("No space left on device"), "{}", said(&refused));
    assert!(said(&refused).contains(&store.display().to_string()), "names the file: {}", said(&refused));
    assert_eq!(files(), before, "neither half of it is there");
    small.make_room();
    let again = apply(&both);
    assert!(again.status.success(), "{}", said(&again));
    assert_eq!(files().len(), before.len() + 1);
}

const WORLD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: client}
spec: {nodeName: node1, containers: [{name: c, image: any}]}
---
apiVersion: v1
kind: Pod
metadata: {name: server}
spec: {nodeName: node1, containers: [{name: c, image: any, ports: [{containerPort: 80}]}]}
";

/// Asks until the answer of `status` pleases.
fn until(lab: &Lab, good: impl Fn(&str) -> bool) -> String {
    eventually(|| {
        let told = status(lab, "node1").1.to_string();
        if good(&told) { Ok(told) } else { Err(told) }
    })
}

#[test]
fn an_agent_without_room_for_its_state_enforces_says_so_and_writes_it_when_there_is_room() {
    let mut test = cluster(1, WORLD);
    test.lab.stop_agent("node1").expect("stop-agent");
    let run = test.lab.paths.node("node1").join("run");
    let kept = tempfile::tempdir().expect("a directory");
    let copy = |from: &Path, to: &Path| {
        let copied = Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status().expect("cp");
        assert!(copied.success());
    };
    copy(&run, kept.path());
    let small = Small::over(&run, "2m");
    copy(kept.path(), &run);
    test.lab.start_agent("node1").expect("start-agent");
    small.fill();

    let deny = policy("deny", 0);
    test.apply(&deny);
    assert!(!test.probe("pod:default/client", "pod:default/server", |_| {}).is_connected(), "in force");
    let told = until(&test.lab, |told| told.contains("state.json"));
    assert!(told.contains("state.json") && told.contains("make room in"), "{told}");
    assert_eq!(status(&test.lab, "node1").0, Some(1), "{told}");

    small.make_room();
    let told = until(&test.lab, |told| !told.contains("state.json"));
    assert!(!told.contains("state.json"), "written as soon as there is room: {told}");
    let saved = fs::read_to_string(run.join("state.json")).expect("state.json");
    assert!(saved.contains("NetworkPolicy default/deny") || saved.contains("programs"), "{saved}");
    let output = on_node(&test.lab, "node1", &["status"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    test.lab.stop_agent("node1").expect("stop-agent");
    copy(&run, kept.path());
    drop(small);
    copy(kept.path(), &run);
    test.lab.start_agent("node1").expect("start-agent");
}
