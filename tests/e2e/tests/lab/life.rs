//! A laboratory comes and goes.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tortie_lab::LabName;
use tortie_tests_e2e::{TestLab, binary, copy_of_binary, eventually, fresh_name, residue, tortie_lab};

const NOTHING: [String; 0] = [];

fn json(name: &LabName, arguments: &[&str]) -> serde_json::Value {
    let output = tortie_lab(name, arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn it_is_up_within_five_seconds_and_down_leaves_nothing() {
    let name = fresh_name();
    let started = Instant::now();
    let status = json(&name, &["up", "--dataplane", "plain", "-o", "json"]);
    let took = started.elapsed();
    assert_eq!(status["nodes"].as_array().map(Vec::len), Some(3));
    assert!(!residue(&name).is_empty(), "the search for residue must be able to find something");
    assert!(tortie_lab(&name, &["down"]).status.success());
    assert_eq!(residue(&name), NOTHING);
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn building_that_was_killed_at_any_moment_leaves_nothing() {
    let world = tempfile::NamedTempFile::with_suffix(".yaml").expect("a file");
    fs::write(world.path(), pods(6)).expect("writing");
    for step in 0..12 {
        let name = fresh_name();
        let mut up = Command::new(binary())
            .args(["lab", "up", "--dataplane", "plain", "--name", &name.to_string(), "-f"])
            .arg(world.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("running tortie");
        thread::sleep(Duration::from_millis(5 + 20 * step));
        up.kill().expect("killing");
        up.wait().expect("waiting");
        let down = tortie_lab(&name, &["down"]);
        assert!(down.status.success(), "{}", String::from_utf8_lossy(&down.stderr));
        assert_eq!(residue(&name), NOTHING, "killed after {} ms", 5 + 20 * step);
    }
}

const VICTIM: &str = "TORTIE_TEST_VICTIM";

#[test]
#[ignore = "the next test runs it, and kills it"]
fn a_test_that_does_not_end() {
    if std::env::var_os(VICTIM).is_some() {
        let test = TestLab::plain(1);
        println!("laboratory {}", test.lab.name);
        loop {
            thread::park();
        }
    }
}

#[test]
fn what_a_test_made_is_taken_down_also_when_the_test_is_killed() {
    let mut victim = Command::new(std::env::current_exe().expect("this test"))
        .args(["--ignored", "--exact", "life::a_test_that_does_not_end", "--nocapture"])
        .env(VICTIM, "1")
        .stdout(Stdio::piped())
        .spawn()
        .expect("running this test");
    let said = BufReader::new(victim.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
    let named = said.map(|line| line.split_once("laboratory ").and_then(|(_, name)| name.parse().ok()));
    let name: LabName = named.flatten().next().expect("its name");
    let there = residue(&name);
    victim.kill().expect("killing");
    victim.wait().expect("waiting");
    assert!(!there.is_empty(), "nothing was there when it was killed");
    eventually(|| match residue(&name) {
        left if left == NOTHING => Ok(()),
        left => Err(left),
    });
}

#[test]
fn an_apply_that_was_killed_at_any_moment_is_completed_by_the_next() {
    let mut test = TestLab::plain(2);
    let world = tempfile::NamedTempFile::with_suffix(".yaml").expect("a file");
    fs::write(world.path(), pods(12)).expect("writing");
    for step in 0..8 {
        let mut apply = Command::new(binary())
            .args(["lab", "apply", "--name", &test.lab.name.to_string(), "-f"])
            .arg(world.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("running tortie");
        thread::sleep(Duration::from_millis(10 + 15 * step));
        apply.kill().expect("killing");
        apply.wait().expect("waiting");
        test.apply(&pods(12));
        let probes = test.lab.every_pod_to_every_pod(None, Duration::from_secs(5)).expect("pods");
        let results = test.lab.matrix(&probes).expect("matrix");
        assert_eq!((probes.len(), results.iter().filter(|result| result.is_connected()).count()), (144, 144));
        test.delete(&pods(12));
    }
}

#[test]
fn a_laboratory_of_one_family_has_nothing_of_the_other() {
    for (families, other) in [("ipv4", "-6"), ("ipv6", "-4")] {
        let name = fresh_name();
        let up = tortie_lab(&name, &["up", "--nodes", "2", "--families", families, "--dataplane", "plain"]);
        let probe =
            tortie_lab(&name, &["probe", "--from", "node:node1", "--to", "node:node2", "--protocol", "icmp"]);
        let routes =
            tortie_lab(&name, &["exec", "--node", "node1", "--", "ip", other, "route", "show", "default"]);
        assert!(tortie_lab(&name, &["down"]).status.success());
        assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
        assert_eq!((probe.status.code(), routes.stdout.as_slice()), (Some(0), &b""[..]), "{families}");
    }
}

#[test]
fn down_finds_everything_without_the_laboratorys_files_and_ends_what_people_run_inside() {
    let test = TestLab::plain(2);
    let name = &test.lab.name;
    let mut shell = Command::new("ip")
        .args(["netns", "exec", &name.machine("node1"), "sleep", "600"])
        .stdout(Stdio::null())
        .spawn()
        .expect("ip netns exec");
    fs::remove_file(test.lab.paths.state()).expect("removing lab.json");
    assert!(tortie_lab(name, &["down"]).status.success());
    shell.wait().expect("waiting");
    assert_eq!(residue(name), NOTHING);
}

#[test]
fn a_laboratory_does_not_touch_another_whose_name_goes_on() {
    let short = fresh_name();
    let long: LabName = format!("{short}-b").parse().expect("a name");
    for name in [&short, &long] {
        assert!(tortie_lab(name, &["up", "--nodes", "1", "--dataplane", "plain"]).status.success());
    }
    assert!(tortie_lab(&short, &["down"]).status.success());
    let status = json(&long, &["status", "-o", "json"]);
    let exec = tortie_lab(&long, &["exec", "--node", "node1", "--", "ip", "link", "show", "eth0"]);
    assert!(tortie_lab(&long, &["down"]).status.success());
    assert_eq!(status["nodes"][0]["name"], "node1");
    assert!(exec.status.success());
    assert_eq!((residue(&short), residue(&long)), (NOTHING.to_vec(), NOTHING.to_vec()));
}

#[test]
fn asking_for_what_is_not_there_or_not_possible_has_its_own_exit_code() {
    let name = fresh_name();
    for (arguments, code) in [
        (&["status"][..], 3),
        (&["up", "--overlay", "vxlan"], 2),
        (&["up", "--store", "tape"], 2),
        (&["up", "--dataplane", "bpf,bpf"], 2),
        (&["up", "--nodes", "0"], 2),
        (&["up", "-f", "/nowhere/world.yaml"], 2),
        (&["up", "--no-such-flag"], 2),
        (&["down"], 0),
    ] {
        let output = tortie_lab(&name, arguments);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(residue(&name), NOTHING, "{arguments:?}");
    }
}

#[test]
fn somebody_who_is_not_root_is_told_so_and_not_that_nothing_answers() {
    let test = TestLab::plain(1);
    let dir = tempfile::tempdir().expect("a directory");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("permissions");
    let mut probe = Command::new(copy_of_binary(dir.path()));
    probe.args([
        "lab",
        "probe",
        "--name",
        &test.lab.name.to_string(),
        "--from",
        "node:node1",
        "--to",
        "node:node1",
        "--protocol",
        "icmp",
    ]);
    let start = Instant::now();
    let output = probe
        .uid(65_534)
        .gid(65_534)
        .current_dir("/")
        .env_remove("TORTIE_BIN")
        .output()
        .expect("running tortie");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(said.contains("the laboratory needs root"), "{said}");
    assert!(start.elapsed() < Duration::from_secs(5), "who is refused will be: {:?}", start.elapsed());
}

fn pods(count: usize) -> String {
    let pod = |index| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: p{index}}}\nspec: {{containers: [{{name: c, image: any, ports: [{{containerPort: 80}}]}}]}}\n"
        )
    };
    (0..count).map(pod).collect()
}
