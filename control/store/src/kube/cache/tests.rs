//! What a start remembers of what was written, also after damage.

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
