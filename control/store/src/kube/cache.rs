//! What was in force, on disk, for a start without an API server.
//!
//! Owns: a journal of the last good version of each object, and the cluster it is of. Does not: judge objects.
//! Invariant: what is recalled is [`Memory::Whole`] only when it is everything that was in force at some moment.

use super::journal::{self, Entry, Scan};
use crate::resource::Key;
use serde_json::Value;
use std::fs::{self, File};
use std::io::{self, BufWriter, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Lines that may be superseded before the journal is written anew.
const SLACK: usize = 10_000;
/// Between two syncs of the disk.
const PACE: Duration = Duration::from_secs(1);
/// The journal's name in its directory.
pub(super) const FILE: &str = "kube.journal";

/// How good what is remembered is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Memory {
    /// Nothing is.
    None,
    /// Everything that was in force, as it was lately.
    Whole,
    /// What was recalled was in force; what is missing may have been. Says why.
    Part(String),
}

/// The journal; without a directory nothing is remembered.
#[derive(Debug, Default)]
pub(super) struct Cache {
    path: Option<PathBuf>,
    journal: Option<Journal>,
    cluster: Option<String>,
    complete: bool,
    lines: usize,
    live: usize,
    failed: bool,
}

/// A journal that is written on.
#[derive(Debug)]
struct Journal {
    file: BufWriter<File>,
    /// With what is not in the file yet.
    length: u64,
    /// Of that, what may be vouched for once it is synced.
    told: u64,
    synced: mpsc::Sender<u64>,
}

impl Cache {
    /// In a directory, made if need be.
    pub fn new(directory: Option<&Path>) -> Self {
        let made = |directory: &Path| match fs::create_dir_all(directory) {
            Ok(()) => Some(directory.join(FILE)),
            Err(error) => {
                tracing::warn!(
                    path = %directory.display(), %error,
                    "what is in force will be forgotten at the next start without an API server"
                );
                None
            }
        };
        Self { path: directory.and_then(made), ..Self::default() }
    }

    /// The cluster it is of.
    pub fn cluster(&self) -> Option<&str> {
        self.cluster.as_deref()
    }

    /// Reads what is remembered, and goes on writing behind it. `take` says whether it understood an object.
    pub fn recall(&mut self, take: impl FnMut(Value) -> bool) -> Memory {
        let Some(path) = self.path.clone() else { return Memory::None };
        let (scan, fault) = match read(&path, take) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::NotFound => (Scan::default(), None),
            Err(error) => (Scan::default(), Some(error.to_string())),
        };
        self.go_on(&path, &scan, fault.is_some());
        let fault = match (fault, self.live) {
            (None, 0) => return Memory::None,
            (None, _) if scan.complete => return Memory::Whole,
            (None, _) => "it ends before the API server had said everything".to_owned(),
            (Some(fault), _) => fault,
        };
        Memory::Part(format!("{}: {fault}", path.display()))
    }

    fn go_on(&mut self, path: &Path, scan: &Scan, damaged: bool) {
        self.cluster.clone_from(&scan.cluster);
        (self.complete, self.lines, self.live) = (scan.complete, scan.lines, scan.live());
        let fresh = damaged || scan.is_old || scan.length == 0;
        let opened = match fresh {
            true => journal::write_anew(path, scan).and_then(|()| Journal::open(path, None)),
            false => Journal::open(path, Some(scan.length)),
        };
        match opened {
            Ok(journal) => self.journal = Some(journal),
            Err(error) => self.give_up(&error),
        }
    }

    /// The cluster, once known.
    pub fn set_cluster(&mut self, uid: &str) {
        if self.cluster.as_deref() != Some(uid) {
            self.cluster = Some(uid.to_owned());
            self.write(&Entry::Cluster(uid));
        }
    }

    /// Everything that is in force has been said.
    pub fn set_complete(&mut self) {
        if !std::mem::replace(&mut self.complete, true) {
            self.write(&Entry::Complete);
        }
    }

    /// An object is in force as it is now.
    pub fn put(&mut self, key: &Key, is_new: bool, object: &Value) {
        self.live += usize::from(is_new);
        self.write(&Entry::Is(&name(key), &object.to_string()));
    }

    /// An object is gone.
    pub fn remove(&mut self, key: &Key) {
        self.live = self.live.saturating_sub(1);
        self.write(&Entry::Gone(&name(key)));
    }

    /// Everything said so far is to be there for the next agent.
    pub fn flush(&mut self) {
        let Some(journal) = &mut self.journal else { return };
        match journal.flush() {
            Err(error) => self.give_up(&error),
            Ok(()) if self.lines > 2 * self.live + SLACK => self.rewrite(),
            Ok(()) => {}
        }
    }

    fn write(&mut self, entry: &Entry<'_>) {
        let Some(journal) = &mut self.journal else { return };
        self.lines += 1;
        if let Err(error) = journal.write(&entry.line()) {
            self.lose(&error);
        }
    }

    fn give_up(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.failed, true) {
            tracing::warn!(%error, "what is in force cannot be remembered for a start without an API server");
        }
    }

    /// A change is not in the journal: without it the rest is not to be relied on.
    fn lose(&mut self, error: &io::Error) {
        self.give_up(error);
        if let Some(journal) = self.journal.take() {
            // Its thread ends when the other end is gone, and then nobody vouches.
            let _ = journal.synced.send(journal::NEVER);
        }
    }

    /// Only what counts, in a new file.
    fn rewrite(&mut self) {
        let Some(path) = self.path.clone() else { return };
        let scan = match journal::scan(&path) {
            Ok(Scan { fault: Some(fault), .. }) => return self.lose(&io::Error::other(fault)),
            Err(error) => return self.lose(&error),
            Ok(scan) => scan,
        };
        match journal::write_anew(&path, &scan).and_then(|()| Journal::open(&path, None)) {
            Ok(journal) => {
                self.journal = Some(journal);
                (self.live, self.lines) = (scan.live(), scan.live());
            }
            Err(error) => {
                self.give_up(&error);
                // Not at once again.
                self.lines = self.live;
            }
        }
    }
}

impl Journal {
    /// Behind so much of it; `None`: behind all of it.
    fn open(path: &Path, length: Option<u64>) -> io::Result<Self> {
        let mut file = fs::OpenOptions::new().write(true).open(path)?;
        if let Some(length) = length {
            // What an agent that died had begun to write.
            file.set_len(length)?;
        }
        let length = file.seek(SeekFrom::End(0))?;
        let (synced, lengths) = mpsc::channel();
        let same = file.try_clone()?;
        thread::Builder::new().name("cache".into()).spawn(move || keep_vouched(&same, &lengths))?;
        Ok(Self { file: BufWriter::with_capacity(1 << 16, file), length, told: length, synced })
    }

    fn write(&mut self, line: &str) -> io::Result<()> {
        self.length += line.len() as u64;
        self.file.write_all(line.as_bytes())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()?;
        if std::mem::replace(&mut self.told, self.length) != self.length {
            // Without the thread the lines are written, only nobody vouches for them.
            let _ = self.synced.send(self.length);
        }
        Ok(())
    }
}

/// Syncs what has been written, and only then says how long the journal surely is: never in the way of a change.
fn keep_vouched(file: &File, lengths: &mpsc::Receiver<u64>) {
    while let Ok(length) = lengths.recv() {
        let length = lengths.try_iter().last().unwrap_or(length);
        let synced = if length == journal::NEVER { Ok(()) } else { file.sync_data() };
        if let Err(error) = synced.and_then(|()| journal::vouch(file, length)) {
            tracing::warn!(%error, "a power failure may lose what is remembered of what is in force");
        }
        thread::sleep(PACE);
    }
}

/// What counts, and why that is not everything.
fn read(path: &Path, take: impl FnMut(Value) -> bool) -> io::Result<(Scan, Option<String>)> {
    let mut scan = journal::scan(path)?;
    let refused = journal::objects(path, &mut scan, take)?;
    let not_understood = || match refused.as_slice() {
        [] => None,
        [first, ..] => Some(format!("{first} and {} others cannot be read", refused.len() - 1)),
    };
    let fault = scan.fault.clone().or_else(not_understood);
    scan.complete &= fault.is_none();
    Ok((scan, fault))
}

/// None of these can have a bar or a tab.
fn name(key: &Key) -> String {
    format!("{}|{}|{}|{}", key.group, key.kind, key.namespace, key.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::Instant;
    use tempfile::TempDir;

    fn key(name: &str) -> Key {
        Key { group: String::new(), kind: "Pod".into(), namespace: "n".into(), name: name.into() }
    }

    fn recalled(directory: &TempDir) -> (Vec<Value>, Option<String>, Memory) {
        let mut all = Vec::new();
        let mut cache = Cache::new(Some(directory.path()));
        let memory = cache.recall(|value| {
            all.push(value);
            true
        });
        (all, cache.cluster, memory)
    }

    fn part(directory: &TempDir) -> (Vec<Value>, String) {
        match recalled(directory) {
            (all, _, Memory::Part(why)) => (all, why),
            other => panic!("{other:?}"),
        }
    }

    fn path(directory: &TempDir) -> PathBuf {
        directory.path().join(FILE)
    }

    /// A journal of `a` and `b`, complete, with a later change of `a`; all of it vouched for.
    fn written() -> (TempDir, Vec<u8>) {
        let directory = tempfile::tempdir().expect("a directory");
        let mut cache = Cache::new(Some(directory.path()));
        assert_eq!(cache.recall(|_| panic!("nothing is remembered")), Memory::None);
        cache.set_cluster("c");
        cache.put(&key("a"), true, &json!({"v": 1}));
        cache.put(&key("b"), true, &json!({"v": 2}));
        cache.set_complete();
        cache.put(&key("a"), false, &json!({"v": 3}));
        cache.flush();
        let bytes = vouched(&directory);
        (directory, bytes)
    }

    /// The journal, once its heading says its length.
    fn vouched(directory: &TempDir) -> Vec<u8> {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let bytes = fs::read(path(directory)).expect("a journal");
            if bytes.starts_with(format!("tortie kube 2 {:016x}\n", bytes.len()).as_bytes()) {
                return bytes;
            }
            assert!(Instant::now() < until, "{}", String::from_utf8_lossy(&bytes));
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn the_newest_version_of_each_object_is_recalled() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut cache = Cache::new(Some(directory.path()));
        cache.recall(|_| panic!("nothing is remembered"));
        cache.set_cluster("c");
        cache.put(&key("a"), true, &json!({"v": 1}));
        cache.put(&key("b"), true, &json!({"v": 2}));
        cache.set_complete();
        cache.put(&key("a"), false, &json!({"v": 3}));
        cache.remove(&key("b"));
        cache.flush();
        assert_eq!(recalled(&directory), (vec![json!({"v": 3})], Some("c".into()), Memory::Whole));
    }

    #[test]
    fn any_damaged_byte_and_any_cut_of_what_is_vouched_for_is_noticed() {
        let (directory, good) = written();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(path(&directory), &bad).expect("written");
            // A length that reads smaller vouches for less, and the lines still have their checksums.
            let is_length = (14..30).contains(&at);
            match recalled(&directory).2 {
                Memory::Part(why) => assert!(why.contains("kube.journal"), "{why}"),
                whole => assert!(is_length, "byte {at} was damaged: {whole:?}"),
            }
            fs::write(path(&directory), &good[..at]).expect("written");
            assert!(part(&directory).1.contains("kube.journal"), "{at} bytes");
        }
    }

    #[test]
    fn what_is_left_of_a_damaged_journal_is_no_whole_until_everything_was_said_again() {
        let (directory, good) = written();
        let text = String::from_utf8(good).expect("text").replace(r#"{"v":2}"#, r#"{"v":4}"#);
        fs::write(path(&directory), text).expect("written");
        let (left, why) = part(&directory);
        assert_eq!(left, [json!({"v": 3})]);
        assert!(why.ends_with("line 4 is damaged"), "{why}");
        assert_eq!(part(&directory).0, [json!({"v": 3})], "nor at the next start");
        let mut cache = Cache::new(Some(directory.path()));
        cache.recall(|_| true);
        assert_eq!(cache.cluster(), Some("c"));
        cache.put(&key("b"), true, &json!({"v": 2}));
        cache.set_complete();
        cache.flush();
        assert_eq!(recalled(&directory).2, Memory::Whole);
    }

    #[test]
    fn lines_that_had_not_reached_the_disk_are_the_end_of_an_older_state() {
        let (directory, good) = written();
        let more = Entry::Is("|Pod|n|c", r#"{"v":5}"#).line();
        for (tail, expected) in [(&more[..], 3), (&more[..more.len() - 1], 2), ("\0\0\0\0\n", 2)] {
            let mut longer = good.clone();
            longer.extend_from_slice(tail.as_bytes());
            fs::write(path(&directory), &longer).expect("written");
            let (all, _, memory) = recalled(&directory);
            assert_eq!((all.len(), memory), (expected, Memory::Whole), "{tail:?}");
            assert_eq!(recalled(&directory).0.len(), expected, "and again, written on behind it");
        }
    }

    #[test]
    fn a_first_list_that_was_not_finished_is_no_whole() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut cache = Cache::new(Some(directory.path()));
        cache.recall(|_| true);
        cache.put(&key("a"), true, &json!({"v": 1}));
        cache.flush();
        assert_eq!(part(&directory).0, [json!({"v": 1})]);
    }

    #[test]
    fn an_object_that_is_not_understood_makes_the_rest_no_whole() {
        let (directory, _) = written();
        let mut cache = Cache::new(Some(directory.path()));
        let Memory::Part(why) = cache.recall(|value| value != json!({"v": 2})) else { panic!("not whole") };
        assert!(why.contains("|Pod|n|b"), "{why}");
    }

    #[test]
    fn a_change_that_could_not_be_written_makes_the_rest_no_whole() {
        let (directory, _) = written();
        let mut cache = Cache::new(Some(directory.path()));
        cache.recall(|_| true);
        cache.lose(&io::Error::other("no space"));
        cache.put(&key("c"), true, &json!({"v": 1}));
        cache.flush();
        let until = Instant::now() + Duration::from_secs(20);
        while !fs::read(path(&directory)).expect("a journal").starts_with(b"tortie kube 2 ffffffffffffffff") {
            assert!(Instant::now() < until);
            thread::sleep(Duration::from_millis(5));
        }
        assert!(part(&directory).1.ends_with("not everything could be written to it"));
    }

    #[test]
    fn the_form_before_is_taken_as_it_was_and_written_anew() {
        let directory = tempfile::tempdir().expect("a directory");
        let text = "tortie kube 1\n\n@c\n+|Pod|n|a\t{\"v\":1}\n+|Pod|n|a\t{\"v\":";
        fs::write(path(&directory), text).expect("written");
        let expected = (vec![json!({"v": 1})], Some("c".into()), Memory::Whole);
        assert_eq!(recalled(&directory), expected);
        vouched(&directory);
        assert_eq!(recalled(&directory), expected);
        fs::write(path(&directory), "tortie kube 1\n+|Pod|n|a\t{\"v\"}\n").expect("written");
        assert!(part(&directory).1.contains("|Pod|n|a"));
    }

    #[test]
    fn a_file_that_is_none_is_replaced_and_written_on() {
        for foreign in [&b"something else"[..], b"", b"\xff\xfe\x00\n\xff", b"tortie kube 3 x\n"] {
            let directory = tempfile::tempdir().expect("a directory");
            fs::write(path(&directory), foreign).expect("written");
            let mut cache = Cache::new(Some(directory.path()));
            assert!(matches!(cache.recall(|_| true), Memory::Part(_)), "{foreign:?}");
            cache.put(&key("a"), true, &json!({"v": 1}));
            cache.set_complete();
            cache.flush();
            assert_eq!(recalled(&directory), (vec![json!({"v": 1})], None, Memory::Whole), "{foreign:?}");
        }
    }

    #[test]
    fn a_journal_that_has_grown_is_written_anew() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut cache = Cache::new(Some(directory.path()));
        cache.recall(|_| true);
        cache.set_cluster("c");
        cache.set_complete();
        for version in 0..=SLACK + 10 {
            cache.put(&key("a"), version == 0, &json!({"v": version}));
        }
        cache.flush();
        let size = fs::metadata(path(&directory)).expect("a file").len();
        assert!(size < 200, "{size} bytes");
        let expected = (vec![json!({"v": SLACK + 10})], Some("c".into()), Memory::Whole);
        assert_eq!(recalled(&directory), expected);
        cache.put(&key("b"), true, &json!({"v": 1}));
        cache.flush();
        assert_eq!(recalled(&directory).0.len(), 2);
    }
}
