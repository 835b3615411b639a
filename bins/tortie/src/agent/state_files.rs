//! `<run-dir>/state.json` and `<run-dir>/services.jsonl`: the names behind the kernel's numbers. Beside them `nodes.json`.
//!
//! Owns: the first two files' form and both ends of them; when all three are written, and again. Services are many, so that their file grows by a line for each that
//! comes or goes, and is written anew when it has become more than twice as long. Invariant: `state.json` is complete
//! whenever it exists, a line that was not written to its end counts for nothing, and what is damaged is moved aside,
//! not overwritten.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Deserialize;
use tortie::replace::{replace, replace_json};
use tortie_reconcile::{Reconciler, Saved, SavedChange, SavedService, SavedServices};

use super::node_names::{NODES, NodeNames};

const STATE: &str = "state.json";
const SERVICES: &str = "services.jsonl";
/// What could not be written is tried again as often.
const RETRY: Duration = Duration::from_secs(1);
/// So many lines may be added at least before the file is written anew.
const ROOM: usize = 1000;

/// Where this agent writes.
#[derive(Debug)]
pub struct StateFiles {
    run_dir: PathBuf,
    /// `state.json` is not what it should be.
    is_stale: bool,
    /// Nor is `nodes.json`.
    are_nodes_stale: bool,
    services: ServicesFile,
    /// What could not be written the last time, and why.
    unwritten: Vec<(&'static str, io::Error)>,
    /// When to try that again.
    again: Option<Instant>,
}

#[derive(Debug, Default)]
struct ServicesFile {
    /// `None`: to be written anew.
    end: Option<File>,
    lines: usize,
    /// With more lines it is written anew.
    most: usize,
    /// Not written yet.
    changes: Vec<SavedChange>,
}

impl StateFiles {
    /// With what the last agent knew; nothing where there are no files.
    pub fn open(run_dir: &Path) -> (Self, Saved) {
        let mut saved: Saved = usable(&run_dir.join(STATE), |bytes| serde_json::from_slice(bytes));
        let services = run_dir.join(SERVICES);
        let file = match services.exists() {
            true => {
                let lines: Lines = usable(&services, Lines::parse);
                saved.services = lines.services;
                // Whatever is to be said comes after the last whole line.
                let end = OpenOptions::new().append(true).open(&services).ok().filter(|_| lines.is_whole);
                let most = most(&saved.services);
                ServicesFile { end, lines: lines.count, most, changes: Vec::new() }
            }
            false => {
                saved.services = of_older_versions(run_dir);
                ServicesFile::default()
            }
        };
        let files = Self {
            run_dir: run_dir.to_owned(),
            is_stale: false,
            are_nodes_stale: false,
            services: file,
            unwritten: Vec::new(),
            again: None,
        };
        (files, saved)
    }

    /// Takes what is new; whether there is something.
    pub fn collect(&mut self, reconciler: &mut Reconciler, nodes: &mut NodeNames) -> bool {
        let (state, services) = (reconciler.save(), reconciler.service_changes());
        let nodes = nodes.take_changed();
        let is_new = state || nodes || !services.is_empty();
        self.is_stale |= state;
        self.are_nodes_stale |= nodes;
        self.services.changes.extend(services);
        is_new
    }

    /// When what could not be written may be by now.
    pub fn retry_at(&self) -> Option<Instant> {
        self.again
    }

    /// Writes what is not in the files yet. What cannot be written is said in the log, once, and stays to be written.
    pub fn write(&mut self, reconciler: &Reconciler, nodes: &NodeNames) {
        let before = std::mem::take(&mut self.unwritten);
        let mut failed = |file, result: io::Result<()>| {
            let Err(error) = result else { return false };
            if before.iter().all(|(before, _)| *before != file) {
                let (dir, costs) = (self.run_dir.display(), costs(file));
                tracing::error!(file, path = %dir, %error, "cannot be written and is tried again; {costs}");
            }
            self.unwritten.push((file, error));
            true
        };
        // First: of an older version, the names of Services are in the other file alone.
        let services = self.services.write(&self.run_dir.join(SERVICES), || reconciler.saved_services());
        if !failed(SERVICES, services) && self.is_stale {
            self.is_stale = failed(STATE, replace_json(&self.run_dir.join(STATE), reconciler.saved()));
        }
        if self.are_nodes_stale {
            self.are_nodes_stale = failed(NODES, nodes.write(&self.run_dir));
        }
        self.again = (!self.unwritten.is_empty()).then(|| Instant::now() + RETRY);
    }

    /// What could not be written, what to do and what it costs.
    pub fn warnings(&self) -> impl Iterator<Item = String> {
        self.unwritten.iter().map(|(file, error)| {
            format!("{file}: {error}; {} ({})", advice(error, &self.run_dir), costs(file))
        })
    }
}

fn costs(file: &str) -> &'static str {
    match file {
        NODES => "lists show nodes by address",
        _ => "names may be lost when the agent restarts",
    }
}

/// What helps against an error of writing.
fn advice(error: &io::Error, dir: &Path) -> String {
    let dir = dir.display();
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => format!("make room in {dir}"),
        io::ErrorKind::ReadOnlyFilesystem => format!("mount the file system of {dir} for writing"),
        _ => format!("let the agent replace its files in {dir}"),
    }
}

impl ServicesFile {
    fn write(&mut self, path: &Path, all: impl FnOnce() -> SavedServices) -> io::Result<()> {
        if self.changes.is_empty() && self.end.is_some() {
            return Ok(());
        }
        let lines = self.lines + self.changes.len();
        match self.end.take().filter(|_| lines <= self.most) {
            Some(mut end) => {
                let mut text = Vec::new();
                self.changes.iter().try_for_each(|change| line(&mut text, change))?;
                end.write_all(&text)?;
                (self.end, self.lines) = (Some(end), lines);
            }
            None => {
                let all = all();
                (self.lines, self.most) = (all.named.len() + 1, most(&all));
                replace(path, |file| all.changes().try_for_each(|change| line(file, &change)))?;
                self.end = Some(OpenOptions::new().append(true).open(path)?);
            }
        }
        self.changes.clear();
        Ok(())
    }
}

fn most(services: &SavedServices) -> usize {
    2 * services.named.len() + ROOM
}

/// What an agent of this directory has saved last, for others: as far as it can be read.
pub fn names(run_dir: &Path) -> Saved {
    let state = fs::read(run_dir.join(STATE)).unwrap_or_default();
    let services = fs::read(run_dir.join(SERVICES)).unwrap_or_default();
    Saved {
        services: Lines::parse(&services).unwrap_or_default().services,
        ..serde_json::from_slice(&state).unwrap_or_default()
    }
}

#[derive(Debug, Default)]
struct Lines {
    services: SavedServices,
    count: usize,
    /// The last one ends as a line does.
    is_whole: bool,
}

impl Lines {
    fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let whole = bytes.get(..end).unwrap_or_default();
        let mut parsed = Self { is_whole: end == bytes.len(), ..Self::default() };
        for line in whole.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            parsed.services.apply(serde_json::from_slice(line)?);
            parsed.count += 1;
        }
        Ok(parsed)
    }
}

/// Until there was `services.jsonl`, Services were in the other file.
fn of_older_versions(run_dir: &Path) -> SavedServices {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Older {
        services: Vec<SavedService>,
        last_service: u32,
    }
    let bytes = fs::read(run_dir.join(STATE)).unwrap_or_default();
    let Older { services, last_service } = serde_json::from_slice(&bytes).unwrap_or_default();
    let mut saved = SavedServices { last: last_service, ..SavedServices::default() };
    services.into_iter().for_each(|service| saved.apply(SavedChange::Given(service)));
    saved
}

/// The file's content; nothing where there is none, and where it is damaged: that one is moved aside.
fn usable<T: Default>(path: &Path, parse: impl FnOnce(&[u8]) -> Result<T, serde_json::Error>) -> T {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return T::default(),
        Err(error) => {
            tracing::error!(path = %path.display(), %error, "cannot be read; slots and ids are given anew");
            return T::default();
        }
    };
    parse(&bytes).unwrap_or_else(|error| {
        let aside = path.with_added_extension("damaged");
        let moved = fs::rename(path, &aside);
        tracing::error!(path = %aside.display(), %error, moved = moved.is_ok(), "damaged; slots and ids are given anew");
        T::default()
    })
}

fn line(to: &mut impl Write, change: &SavedChange) -> io::Result<()> {
    serde_json::to_writer(&mut *to, change)?;
    to.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tortie_model::NodeName;

    fn given(id: u32) -> SavedChange {
        let [namespace, port, protocol] = ["default", "http", "TCP"].map(str::to_owned);
        SavedChange::Given(SavedService { id, namespace, name: format!("s{id}"), port, protocol })
    }

    /// An agent without a kernel: what it has saved is what it has been told.
    struct Agent {
        files: StateFiles,
        services: SavedServices,
    }

    impl Agent {
        fn start(run_dir: &Path) -> Self {
            let (files, saved) = StateFiles::open(run_dir);
            Self { files, services: saved.services }
        }

        fn say(&mut self, changes: impl IntoIterator<Item = SavedChange>) -> io::Result<()> {
            let changes: Vec<_> = changes.into_iter().collect();
            changes.iter().for_each(|change| self.services.apply(change.clone()));
            self.files.services.changes.extend(changes);
            let path = self.files.run_dir.join(SERVICES);
            self.files.services.write(&path, || self.services.clone())
        }
    }

    fn lines(run_dir: &Path) -> usize {
        fs::read_to_string(run_dir.join(SERVICES)).unwrap().lines().count()
    }

    #[test]
    fn what_was_written_is_read_and_damage_is_kept_aside() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(StateFiles::open(dir.path()).1, Saved::default());
        let saved = Saved { generation_ceiling: 7, last_rule: 3, ..Saved::default() };
        let path = dir.path().join(STATE);
        replace(&path, |file| Ok(serde_json::to_writer(file, &saved)?)).unwrap();
        assert_eq!(StateFiles::open(dir.path()).1, saved);
        fs::write(path, "{\"generationCeil").unwrap();
        assert_eq!(StateFiles::open(dir.path()).1, Saved::default());
        assert!(dir.path().join("state.json.damaged").exists());
    }

    #[test]
    fn a_service_is_a_line_and_those_that_are_gone_do_not_pile_up() {
        let dir = tempfile::tempdir().unwrap();
        let mut agent = Agent::start(dir.path());
        agent.say((1..=100).map(given)).unwrap();
        agent.say([given(101), SavedChange::Gone { gone: 3 }, SavedChange::Used { used: 105 }]).unwrap();
        assert_eq!(lines(dir.path()), 1 + 100 + 3);
        assert_eq!(names(dir.path()).services, agent.services);
        let mut agent = Agent::start(dir.path());
        assert_eq!((agent.services.named.len(), agent.services.last), (100, 105));
        for id in 200..4000 {
            agent.say([given(id), SavedChange::Gone { gone: id }]).unwrap();
            assert!(lines(dir.path()) <= 2 * 100 + ROOM + 1);
        }
        assert_eq!(Agent::start(dir.path()).services, agent.services);
    }

    #[test]
    fn a_line_that_breaks_off_is_passed_over_and_a_damaged_one_kept_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(SERVICES);
        let mut agent = Agent::start(dir.path());
        agent.say([given(1), given(2)]).unwrap();
        let whole = fs::read(&path).unwrap();
        for end in 0..whole.len() {
            fs::write(&path, &whole[..end]).unwrap();
            let mut next = Agent::start(dir.path());
            let before = next.services.clone();
            assert!(before.named.len() < 2 && !dir.path().join("services.jsonl.damaged").exists());
            next.say([given(9)]).unwrap();
            assert_eq!(names(dir.path()).services, next.services, "after {end} bytes");
            assert_eq!(next.services.named.len(), before.named.len() + 1);
        }
        fs::write(&path, "{\"id\":1}\n{\"used\":2}\n").unwrap();
        assert_eq!(Agent::start(dir.path()).services, SavedServices::default());
        assert!(dir.path().join("services.jsonl.damaged").exists());
    }

    #[test]
    fn what_could_not_be_written_is_written_later() {
        let dir = tempfile::tempdir().unwrap();
        let mut agent = Agent::start(dir.path());
        agent.say([given(1)]).unwrap();
        agent.files.services.end = Some(OpenOptions::new().write(true).open("/dev/full").unwrap());
        assert!(agent.say([given(2)]).is_err());
        agent.say([]).unwrap();
        assert_eq!(names(dir.path()).services, agent.services);
        agent.say([given(3)]).unwrap();
        assert_eq!(lines(dir.path()), 4);
        assert_eq!(Agent::start(dir.path()).services, agent.services);
    }

    fn nodes() -> NodeNames {
        NodeNames::new(&NodeName::new("node1"))
    }

    #[test]
    fn a_file_that_cannot_be_written_waits_and_keeps_no_other_from_it() {
        let dir = tempfile::tempdir().unwrap();
        let (mut files, saved) = StateFiles::open(dir.path());
        let (mut reconciler, mut nodes) = (Reconciler::new(saved), nodes());
        let in_the_way = dir.path().join(NODES);
        fs::create_dir(&in_the_way).unwrap();
        assert!(files.collect(&mut reconciler, &mut nodes));
        files.is_stale = true;
        files.write(&reconciler, &nodes);
        let told: Vec<String> = files.warnings().collect();
        assert!(
            told.len() == 1 && told[0].starts_with("nodes.json: ") && told[0].contains("by address"),
            "{told:?}"
        );
        assert!(!told[0].contains("make room"), "{told:?}");
        assert!(dir.path().join(STATE).exists() && files.retry_at().is_some());
        assert!(!files.collect(&mut reconciler, &mut nodes), "nothing else is new");
        fs::remove_dir(&in_the_way).unwrap();
        files.write(&reconciler, &nodes);
        assert_eq!((files.warnings().count(), files.retry_at()), (0, None));
        assert_eq!(NodeNames::read(dir.path()).node, "node1");
        files.write(&reconciler, &nodes);
        assert!(dir.path().join(SERVICES).exists());
    }

    #[test]
    fn room_helps_only_where_there_is_none() {
        for (code, word) in [
            (nix::libc::ENOSPC, "make room in /run/x"),
            (nix::libc::EDQUOT, "make room in /run/x"),
            (nix::libc::EROFS, "for writing"),
            (nix::libc::EISDIR, "replace its files in /run/x"),
        ] {
            let told = advice(&io::Error::from_raw_os_error(code), Path::new("/run/x"));
            assert!(told.contains(word), "{told}");
        }
    }

    #[test]
    fn the_file_of_an_older_version_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let service = r#"{"id":4,"namespace":"default","name":"s4","port":"http","protocol":"TCP"}"#;
        let older = format!(r#"{{"generationCeiling":7,"services":[{service}],"lastService":9}}"#);
        fs::write(dir.path().join(STATE), older).unwrap();
        let (mut files, saved) = StateFiles::open(dir.path());
        let reconciler = Reconciler::new(saved);
        files.is_stale = true;
        files.write(&reconciler, &nodes());
        assert!(!fs::read_to_string(dir.path().join(STATE)).unwrap().contains("s4"), "it has moved");
        let mut agent = Agent::start(dir.path());
        assert_eq!((agent.services.named.len(), agent.services.last), (1, 9));
        agent.say([given(10)]).unwrap();
        assert_eq!(lines(dir.path()), 3);
        assert_eq!(Agent::start(dir.path()).services, agent.services);
    }
}
