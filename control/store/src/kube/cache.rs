//! What was in force, on disk, for a start without an API server.
//!
//! Owns: a journal of the last good version of each object, and the cluster it is of. Does not: judge objects.
//! Invariant: what is recalled is [`Memory::Whole`] only when it is everything that was in force at some moment.

use super::journal::{self, Entry, Scan};
use super::writer::Journal;
use crate::resource::Key;
use serde_json::Value;
use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Lines that may be superseded before the journal is written anew.
const SLACK: usize = 10_000;
/// Lines that are written together.
const GROUP: usize = 128;
/// When what could not be written is tried again.
const RETRY: Duration = Duration::from_secs(2);
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
#[derive(Default)]
pub(super) struct Cache {
    path: Option<PathBuf>,
    stage: Stage,
    /// Lines that are not in the journal yet, with the names of what they are about.
    pending: Vec<(String, String)>,
    trouble: Option<Trouble>,
    cluster: Option<String>,
    complete: bool,
    lines: usize,
    live: usize,
}

/// What there is to write on.
#[derive(Default)]
enum Stage {
    /// Nothing, until the next start.
    #[default]
    Closed,
    /// What was found at the start.
    Found(Scan),
    Open(Journal),
}

/// What is in force cannot be remembered.
struct Trouble {
    why: String,
    /// When that is tried again; `None`: not before the next start.
    again: Option<Instant>,
}

impl Cache {
    /// In a directory, made if need be.
    pub fn new(directory: Option<&Path>) -> Self {
        Self { path: directory.map(|directory| directory.join(FILE)), ..Self::default() }
    }

    /// The cluster it is of.
    pub fn cluster(&self) -> Option<&str> {
        self.cluster.as_deref()
    }

    /// Why what is in force is not remembered for a start without an API server: file and cause.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_ref().map(|trouble| trouble.why.as_str())
    }

    /// When to flush again, though nothing may have changed.
    pub fn again(&self) -> Option<Instant> {
        self.trouble.as_ref()?.again
    }

    /// Reads what is remembered, and goes on writing behind it. `take` says whether it understood an object.
    pub fn recall(&mut self, take: impl FnMut(Value) -> bool) -> Memory {
        let Some(path) = self.path.clone() else { return Memory::None };
        let scan = match read(&path, take) {
            Ok(scan) => scan,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Scan::default(),
            Err(error) => Scan::of_fault(error.to_string()),
        };
        self.cluster.clone_from(&scan.cluster);
        (self.complete, self.lines, self.live) = (scan.complete, scan.lines, scan.live());
        let incomplete = || "it ends before the API server had said everything".to_owned();
        let memory = match &scan.fault {
            Some(fault) => Memory::Part(format!("{}: {fault}", path.display())),
            None if self.live == 0 => Memory::None,
            None if scan.complete => Memory::Whole,
            None => Memory::Part(format!("{}: {}", path.display(), incomplete())),
        };
        self.stage = Stage::Found(scan);
        self.flush();
        memory
    }

    /// The cluster, once known.
    pub fn set_cluster(&mut self, uid: &str) {
        if self.cluster.as_deref() != Some(uid) {
            self.cluster = Some(uid.to_owned());
            self.write(String::new(), &Entry::Cluster(uid));
        }
    }

    /// Everything that is in force has been said.
    pub fn set_complete(&mut self) {
        if !std::mem::replace(&mut self.complete, true) {
            self.write("=".to_owned(), &Entry::Complete);
        }
    }

    /// An object is in force as it is now.
    pub fn put(&mut self, key: &Key, is_new: bool, object: &Value) {
        self.live += usize::from(is_new);
        let name = name(key);
        let line = object.to_string();
        self.write(name.clone(), &Entry::Is(&name, &line));
    }

    /// An object is gone.
    pub fn remove(&mut self, key: &Key) {
        self.live = self.live.saturating_sub(1);
        let name = name(key);
        self.write(name.clone(), &Entry::Gone(&name));
    }

    /// Everything said so far is to be there for the next agent.
    pub fn flush(&mut self) {
        let now = Instant::now();
        if self.trouble.as_ref().is_some_and(|trouble| trouble.again.is_none_or(|again| again > now)) {
            return;
        }
        match self.write_out() {
            Err(error) => self.lose(&error),
            Ok(()) => {
                if self.trouble.take().is_some() {
                    tracing::info!("what is in force is remembered for a start without an API server");
                }
                if self.lines > 2 * self.live + SLACK {
                    self.rewrite();
                }
            }
        }
    }

    fn write(&mut self, name: String, entry: &Entry<'_>) {
        if matches!(self.stage, Stage::Closed) {
            return;
        }
        self.lines += 1;
        self.pending.push((name, entry.line()));
        if self.pending.len() >= GROUP {
            self.flush();
        }
    }

    fn write_out(&mut self) -> io::Result<()> {
        if let (Stage::Found(scan), Some(path)) = (&self.stage, &self.path) {
            self.stage = Stage::Open(Journal::begin(path, scan)?);
        }
        if let Stage::Open(journal) = &mut self.stage
            && !self.pending.is_empty()
        {
            journal.append(self.pending.iter().map(|(_, line)| line.as_str()))?;
            self.pending.clear();
        }
        Ok(())
    }

    /// A change is not in the journal: without it the rest is not to be relied on. It is kept here until there is room.
    fn lose(&mut self, error: &io::Error) {
        let is_kept = match &self.stage {
            Stage::Open(journal) => journal.disown().is_ok(),
            // What is there may be all that is known of some objects, and nobody takes it for whole.
            Stage::Found(scan) => scan.fault.is_some() || scan.length == 0,
            Stage::Closed => false,
        };
        if !is_kept {
            return self.abandon(error);
        }
        squeeze(&mut self.pending);
        self.say(error, Some(Instant::now() + RETRY));
    }

    /// Nothing more is written before the next start, which is to take nothing of the journal for whole.
    fn abandon(&mut self, error: &io::Error) {
        let stage = std::mem::take(&mut self.stage);
        self.pending = Vec::new();
        let disowned = match (&stage, &self.path) {
            (Stage::Open(journal), _) if journal.disown().is_ok() => Ok(()),
            (_, Some(path)) => fs::remove_file(path).or_else(|_| File::create(path).map(drop)),
            (_, None) => Ok(()),
        };
        if let Err(error) = disowned {
            tracing::error!(
                path = ?self.path, %error,
                "a start without an API server would bring back what was in force before: remove the file"
            );
        }
        self.say(error, None);
    }

    fn say(&mut self, error: &io::Error, again: Option<Instant>) {
        let path = self.path.as_deref().unwrap_or(Path::new(FILE)).display();
        let why = format!("{path}: {error}");
        if self.trouble.is_none() {
            tracing::warn!(why, "what is in force cannot be remembered for a start without an API server");
        }
        self.trouble = Some(Trouble { why, again });
    }

    /// Only what counts, in a new file.
    fn rewrite(&mut self) {
        let Some(path) = self.path.clone() else { return };
        let scan = match journal::scan(&path) {
            Ok(Scan { fault: Some(fault), .. }) => return self.abandon(&io::Error::other(fault)),
            Err(error) => return self.abandon(&error),
            Ok(scan) => scan,
        };
        match Journal::anew(&path, &scan) {
            Ok(journal) => {
                self.stage = Stage::Open(journal);
                (self.live, self.lines) = (scan.live(), scan.live());
            }
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "the journal cannot be written anew, and grows");
                // Not at once again.
                self.lines = self.live;
            }
        }
    }
}

/// Of each name the last line alone.
fn squeeze(lines: &mut Vec<(String, String)>) {
    let mut later = HashSet::new();
    let mut counts: Vec<bool> = lines.iter().rev().map(|(name, _)| later.insert(name.as_str())).collect();
    lines.retain(|_| counts.pop().unwrap_or(true));
}

/// What counts, and why that is not everything.
fn read(path: &Path, take: impl FnMut(Value) -> bool) -> io::Result<Scan> {
    let mut scan = journal::scan(path)?;
    let refused = journal::objects(path, &mut scan, take)?;
    if let [first, others @ ..] = refused.as_slice() {
        scan.fault.get_or_insert_with(|| format!("{first} and {} others cannot be read", others.len()));
    }
    scan.complete &= scan.fault.is_none();
    Ok(scan)
}

/// None of these can have a bar or a tab.
fn name(key: &Key) -> String {
    format!("{}|{}|{}|{}", key.group, key.kind, key.namespace, key.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;
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

    /// A journal with room for so many bytes more, and its room.
    fn limited(directory: &TempDir, room: usize) -> (Cache, Arc<AtomicUsize>) {
        let mut cache = Cache::new(Some(directory.path()));
        cache.recall(|_| true);
        let room = Arc::new(AtomicUsize::new(room));
        let Stage::Open(journal) = &mut cache.stage else { panic!("it is open") };
        journal.limit(Arc::clone(&room));
        (cache, room)
    }

    /// As if its time had come.
    fn try_again(cache: &mut Cache) {
        cache.trouble.as_mut().expect("something is missing").again = Some(Instant::now());
        cache.flush();
    }

    #[test]
    fn a_change_that_a_flush_could_not_write_makes_the_rest_no_whole() {
        for room in 0..50 {
            let (directory, _) = written();
            let (mut cache, _) = limited(&directory, room);
            cache.put(&key("c"), true, &json!({"v": "long enough for the room"}));
            assert_eq!(cache.trouble(), None, "it is not written yet");
            cache.flush();
            assert!(cache.trouble().is_some_and(|why| why.contains("kube.journal: no storage")), "{room}");
            let (all, why) = part(&directory);
            assert_eq!(all.len(), 2, "{room}: what was good is known");
            assert!(
                why.ends_with("not everything could be written to it") || why.ends_with("is damaged"),
                "{why}"
            );
        }
    }

    #[test]
    fn what_could_not_be_written_is_written_when_there_is_room() {
        let (directory, _) = written();
        let (mut cache, room) = limited(&directory, 20);
        for version in 0..1000 {
            cache.put(&key("c"), version == 0, &json!({"v": version}));
        }
        cache.remove(&key("b"));
        cache.flush();
        try_again(&mut cache);
        assert!(cache.trouble().is_some(), "there is no room yet");
        assert!(cache.pending.len() < 2 * GROUP, "only the newest is kept: {}", cache.pending.len());
        let read = || fs::read(path(&directory)).expect("a journal");
        assert!(read().starts_with(b"tortie kube 2 ffffffffffffffff\n"), "nobody vouches for it");

        room.store(1 << 20, Ordering::SeqCst);
        try_again(&mut cache);
        assert_eq!(cache.trouble(), None);
        vouched(&directory);
        let expected = vec![json!({"v": 3}), json!({"v": 999})];
        assert_eq!(recalled(&directory), (expected, Some("c".into()), Memory::Whole));
    }

    #[test]
    fn a_journal_that_cannot_be_made_yet_is_made_later() {
        let directory = tempfile::tempdir().expect("a directory");
        let inside = directory.path().join("inside");
        fs::write(&inside, "in the way").expect("written");
        let mut cache = Cache::new(Some(&inside));
        assert!(matches!(cache.recall(|_| true), Memory::Part(_)));
        cache.put(&key("a"), true, &json!({"v": 1}));
        cache.set_complete();
        cache.flush();
        assert!(cache.trouble().is_some_and(|why| why.contains("inside/kube.journal")));
        fs::remove_file(&inside).expect("removed");
        try_again(&mut cache);
        assert_eq!(cache.trouble(), None);
        let mut again = Cache::new(Some(&inside));
        assert_eq!(again.recall(|_| true), Memory::Whole);
    }

    /// What is in it would be taken for what was in force at the end.
    #[test]
    fn a_journal_that_can_neither_be_written_on_nor_anew_is_no_more() {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(path(&directory), "tortie kube 1\n+|Pod|n|a\t{\"v\":1}\n").expect("written");
        fs::create_dir(path(&directory).with_extension("tmp")).expect("in the way");
        let mut cache = Cache::new(Some(directory.path()));
        assert_eq!(cache.recall(|_| true), Memory::Whole);
        assert!(cache.trouble().is_some() && cache.again().is_none());
        cache.put(&key("a"), false, &json!({"v": 2}));
        cache.flush();
        assert!(!path(&directory).exists());
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
