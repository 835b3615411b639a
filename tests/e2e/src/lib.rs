//! What the end-to-end tests share: a laboratory that goes away with the test.
//!
//! Owns: names that no two tests share, and finding what a laboratory left behind.
//! Does not: judge; the tests do.
//! Invariant: the laboratory is removed also when the test panics, and when it is killed.
#![forbid(unsafe_code)]

use std::any::Any;
use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant, UNIX_EPOCH};

use serde_json::Value;
use tortie_lab::{
    Dataplane, Endpoint, Family, Lab, LabName, Probe, ProbeResult, StreamReport, UpOptions, parse_objects,
};

/// Both families.
pub const BOTH: [Family; 2] = [Family::Ipv4, Family::Ipv6];

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A name for a laboratory that no other test uses. What carries it goes with this process at the latest.
pub fn fresh_name() -> LabName {
    watch_over_this_process();
    let name = format!("t{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    name.parse().expect("a plain name")
}

/// Once this process is gone, however it went, its end of a pipe is closed; then whoever holds the other takes down what
/// carries our names.
fn watch_over_this_process() {
    const SCRIPT: &str = "cat >/dev/null; for lab in \"$1\"/\"$2\"*; do \
        if [ -d \"$lab\" ]; then \"$0\" lab down --name \"${lab##*/}\"; fi; done";
    static WATCH: OnceLock<Child> = OnceLock::new();
    WATCH.get_or_init(|| {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", SCRIPT]).arg(binary()).arg(base()).arg(format!("t{}-", std::process::id()));
        // Not of our process group, so that an interrupt from the keyboard does not end it as well.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("/bin/sh")
    });
}

/// Where laboratories are kept.
fn base() -> String {
    std::env::var("TORTIE_LAB_DIR").unwrap_or_else(|_| "/run/tortie-lab".into())
}

/// The `tortie` that was built with this test.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("TORTIE_BIN") {
        return path.into();
    }
    let test = std::env::current_exe().expect("the path of this test");
    let found = test
        .ancestors()
        .skip(1)
        .take(3)
        .map(|directory| directory.join("tortie"))
        .find(|path| path.is_file());
    found.expect("target/…/tortie: build it first (cargo build -p tortie), or set TORTIE_BIN")
}

/// A copy of [`binary`] in `directory` that everybody may run, wherever the program itself lies.
pub fn copy_of_binary(directory: &Path) -> PathBuf {
    let copy = directory.join("tortie");
    // A process of its own copies: while this one has the file open, a child that another thread has just forked has it
    // open too, and what is open for writing cannot be run.
    let copied = Command::new("install").arg("-m0755").args([&binary(), &copy]).status().expect("install");
    assert!(copied.success(), "copying the program: {copied}");
    copy
}

/// Runs `tortie lab VERB --name NAME ARGUMENTS`.
pub fn tortie_lab(name: &LabName, arguments: &[&str]) -> Output {
    let (verb, rest) = arguments.split_first().expect("a verb");
    let mut command = Command::new(binary());
    command.args(["lab", verb, "--name", &name.to_string()]).args(rest);
    command.output().expect("running tortie")
}

/// A laboratory of one test.
#[derive(Debug)]
pub struct TestLab {
    /// The laboratory.
    pub lab: Lab,
    /// What it needs for as long as it is there.
    _held: Option<Box<dyn Any + Send + Sync>>,
}

impl TestLab {
    /// Nodes wired by plain host routing, dual stack: no agents, no Services, no policy.
    pub fn plain(nodes: usize) -> Self {
        Self::with(UpOptions { dataplanes: vec![Dataplane::Plain; nodes], ..UpOptions::default() })
    }

    /// Nodes with our agents, dual stack, on a directory.
    pub fn nodes(nodes: usize) -> Self {
        Self::with(UpOptions { dataplanes: vec![Dataplane::Bpf; nodes], ..UpOptions::default() })
    }

    /// As `options` say.
    pub fn with(options: UpOptions) -> Self {
        Self::up(options, None)
    }

    /// The same, with something that is dropped when the laboratory is down.
    pub fn holding(held: impl Any + Send + Sync, options: UpOptions) -> Self {
        Self::up(options, Some(Box::new(held)))
    }

    fn up(options: UpOptions, held: Option<Box<dyn Any + Send + Sync>>) -> Self {
        let name = fresh_name();
        // The guard first: a failed `up` cleans up after itself, a panic in it does not.
        let guard = Guard(name.clone());
        let lab = Lab::up(&name, &options).unwrap_or_else(|error| panic!("lab up: {error}"));
        std::mem::forget(guard);
        Self { lab, _held: held }
    }

    /// Applies YAML; anything that does not go well fails the test.
    pub fn apply(&mut self, yaml: &str) {
        let applied = self.lab.apply(parse_objects(yaml, "the test").expect("YAML")).expect("lab apply");
        assert!(applied.complaints.is_empty(), "{:?}", applied.complaints);
        self.lab.wait(Duration::from_secs(30)).expect("lab wait");
    }

    /// FelixConfiguration `default` has these fields and no others from now on; every agent acts on it when this returns.
    pub fn configure(&mut self, spec: &str) {
        let kind = "apiVersion: projectcalico.org/v3\nkind: FelixConfiguration\nmetadata: {name: default}\n";
        self.apply(&format!("{kind}spec: {{{spec}}}\n"));
    }

    /// Deletes what YAML names, at once or with the pods' own grace period.
    pub fn delete(&mut self, yaml: &str) {
        let keys: Vec<_> =
            parse_objects(yaml, "the test").expect("YAML").iter().map(|object| object.key()).collect();
        self.lab.delete(&keys, None).expect("lab delete");
    }

    /// Stops a stream, of which nothing was lost or came twice or late, and which nobody has ended before.
    #[track_caller]
    pub fn unharmed(&self, stream: &str) -> StreamReport {
        let report = self.lab.stream_stop(stream).expect("stopping");
        let end = (report.lost, report.disordered, report.ended.as_deref());
        assert_eq!(end, (0, 0, Some("stopped")), "{stream}: {report:?}");
        report
    }

    /// How long a connection goes on after a policy that forbids it is there. It gets in before, and again once the policy
    /// is taken back.
    pub fn cut(&mut self, asking: &Probe, policy: &str) -> Duration {
        self.lab.stream_start("s", asking, Duration::from_millis(1)).expect("starting");
        thread::sleep(Duration::from_millis(200));
        let running = self.lab.stream_report("s").expect("report");
        assert!(running.open && running.received > 20, "{asking:?}: {running:?}");
        self.apply(policy);
        let objects = parse_objects(policy, "the test").expect("YAML");
        let [object] = &objects[..] else { panic!("one policy: {policy}") };
        let there = self.lab.stored_at(&object.key()).expect("the policy");
        let there = there.duration_since(UNIX_EPOCH).expect("a time");
        thread::sleep(Duration::from_millis(500));
        let cut = self.lab.stream_stop("s").expect("stopping");
        assert!(cut.silent_micros > 300_000, "{asking:?}: it goes on: {cut:?}");
        assert!(!self.lab.probe(asking).expect("probe").is_connected(), "{asking:?}");
        self.delete(policy);
        self.lab.wait(Duration::from_secs(30)).expect("wait");
        assert!(self.lab.probe(asking).expect("probe").is_connected(), "{asking:?}");
        Duration::from_micros(cut.last_record_unix_micros).saturating_sub(there)
    }

    /// One attempt; `change` says what is not usual about it. It may take longer than a person would wait, so
    /// that a busy machine is not mistaken for a closed door.
    pub fn probe(&self, from: &str, to: &str, change: impl FnOnce(&mut Probe)) -> ProbeResult {
        let mut probe = Probe { timeout: Duration::from_secs(5), ..Probe::new(endpoint(from), endpoint(to)) };
        change(&mut probe);
        self.lab.probe(&probe).unwrap_or_else(|error| panic!("probe {from} → {to}: {error}"))
    }
}

/// Runs `tortie ARGUMENTS` on a node.
pub fn on_node(lab: &Lab, node: &str, arguments: &[&str]) -> Output {
    let binary = binary();
    let mut all = vec!["exec", "--node", node, "--", binary.to_str().expect("a path")];
    all.extend(arguments);
    tortie_lab(&lab.name, &all)
}

/// The items of `tortie ARGUMENTS -o json` on a node.
pub fn items(lab: &Lab, node: &str, arguments: &[&str]) -> Vec<Value> {
    let output = on_node(lab, node, &[arguments, &["-o", "json"]].concat());
    assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    answer["items"].as_array().expect("items").clone()
}

/// How long something may take that comes by itself.
const PATIENCE: Duration = Duration::from_secs(20);

/// Asks again and again until there is an answer; panics with the last refusal.
pub fn eventually<T, E: Debug>(mut ask: impl FnMut() -> Result<T, E>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(refusal) => assert!(Instant::now() < deadline, "{} s later: {refusal:?}", PATIENCE.as_secs()),
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// What a command wrote, for messages.
pub fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    format!("{}: {} {}", output.status, text(&output.stdout), text(&output.stderr))
}

/// For an attempt that is expected to meet silence.
pub fn briefly(probe: &mut Probe) {
    probe.timeout = Duration::from_secs(1);
}

/// An end of a probe.
pub fn endpoint(text: &str) -> Endpoint {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

impl Drop for TestLab {
    fn drop(&mut self) {
        drop(Guard(self.lab.name.clone()));
    }
}

struct Guard(LabName);

/// The end of the logs that a failed test shows.
const MOST_LOG_BYTES: usize = 20_000;

fn tail(text: &str, bytes: usize) -> &str {
    let start = text.len().saturating_sub(bytes);
    text.char_indices().find(|(at, _)| *at >= start).map_or("", |(at, _)| &text[at..])
}

impl Drop for Guard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // What the agents have to say of it goes with the laboratory.
            println!("{}", tail(&said(&tortie_lab(&self.0, &["logs"])), MOST_LOG_BYTES));
        }
        let result = tortie_lab::down(&self.0);
        if !std::thread::panicking() {
            result.expect("lab down");
            let left = residue(&self.0);
            assert!(left.is_empty(), "after lab down: {left:?}");
        }
    }
}

/// Everything on this machine that carries the laboratory's name.
pub fn residue(name: &LabName) -> Vec<String> {
    let prefix = name.prefix();
    let mut found = Vec::new();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    found.extend(mounts.lines().filter(|line| line.contains(&prefix)).map(|line| format!("mount {line}")));
    for line in mounts.lines().filter(|line| line.contains(" - cgroup2 ")) {
        found.extend(named(line.split(' ').nth(4).unwrap_or_default(), &prefix));
    }
    found.extend(named("/run/netns", &prefix));
    found.extend(named("/sys/class/net", &prefix));
    let base = base();
    found.extend(named(&base, &name.to_string()));
    found.extend(named(&base, &format!(".{name}.")));
    let marker = format!("/{name}/");
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if command.contains(&marker) || command.contains(&prefix) {
            found.push(format!("process {}", command.trim()));
        }
    }
    found
}

fn named(directory: &str, prefix: &str) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.starts_with(prefix)).map(|name| format!("{directory}/{name}")).collect()
}
