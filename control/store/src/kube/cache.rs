//! What was in force, on disk, for a start without an API server.
//!
//! Owns: a journal of the last good version of each object, and the cluster it is of. Does not: judge objects.
//! Invariant: a line that cannot be read costs that object's memory only; the newest line of an object counts.

use crate::resource::Key;
use serde_json::Value;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};

/// The journal's first line; another one means another form.
const HEADING: &str = "tortie kube 1";
/// Lines that may be superseded before the journal is written anew.
const SLACK: usize = 10_000;
/// The journal's name in its directory.
pub(super) const FILE: &str = "kube.journal";

/// The journal; without a directory nothing is remembered.
#[derive(Debug, Default)]
pub(super) struct Cache {
    path: Option<PathBuf>,
    file: Option<BufWriter<File>>,
    cluster: Option<String>,
    lines: usize,
    live: usize,
    failed: bool,
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

    /// Reads what is remembered, and goes on writing behind it.
    pub fn recall(&mut self, mut each: impl FnMut(Value)) {
        let Some(path) = self.path.clone() else { return };
        match self.read(&path, &mut each) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(path = %path.display(), %error, "what was in force is not known"),
        }
        self.reopen();
    }

    fn read(&mut self, path: &Path, each: &mut dyn FnMut(Value)) -> io::Result<()> {
        if heading(path)? != HEADING {
            return Err(io::Error::other("it is of another version"));
        }
        let newest = newest(path)?;
        for (number, line) in lines(path)? {
            let line = line?;
            if let Some(cluster) = line.strip_prefix('@') {
                self.cluster = Some(cluster.to_owned());
            }
            self.lines += 1;
            let Some((key, object)) = line.strip_prefix('+').and_then(|line| line.split_once('\t')) else {
                continue;
            };
            if newest.get(key) == Some(&number)
                && let Ok(object) = serde_json::from_str(object)
            {
                self.live += 1;
                each(object);
            }
        }
        Ok(())
    }

    /// The cluster, once known.
    pub fn set_cluster(&mut self, uid: &str) {
        if self.cluster.as_deref() != Some(uid) {
            self.cluster = Some(uid.to_owned());
            self.write(&format!("@{uid}"));
        }
    }

    /// An object is in force as it is now.
    pub fn put(&mut self, key: &Key, is_new: bool, object: &Value) {
        self.live += usize::from(is_new);
        self.write(&format!("+{}\t{object}", name(key)));
    }

    /// An object is gone.
    pub fn remove(&mut self, key: &Key) {
        self.live = self.live.saturating_sub(1);
        self.write(&format!("-{}", name(key)));
    }

    /// Everything said so far is to be there for the next agent.
    pub fn flush(&mut self) {
        if let Some(file) = &mut self.file
            && let Err(error) = file.flush()
        {
            self.give_up(&error);
        }
        if self.lines > 2 * self.live + SLACK {
            self.rewrite();
        }
    }

    fn write(&mut self, line: &str) {
        let Some(file) = &mut self.file else { return };
        self.lines += 1;
        if let Err(error) = writeln!(file, "{line}") {
            self.give_up(&error);
        }
    }

    fn give_up(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.failed, true) {
            tracing::warn!(%error, "what is in force cannot be remembered for a start without an API server");
        }
    }

    fn reopen(&mut self) {
        let Some(path) = &self.path else { return };
        let open = || -> io::Result<File> {
            if !path.exists() || heading(path)? != HEADING {
                fs::write(path, format!("{HEADING}\n"))?;
            }
            let mut file = fs::OpenOptions::new().append(true).open(path)?;
            // Whatever an agent that died had begun to write is a line of its own.
            file.write_all(b"\n")?;
            Ok(file)
        };
        match open() {
            Ok(file) => self.file = Some(BufWriter::with_capacity(1 << 16, file)),
            Err(error) => self.give_up(&error),
        }
    }

    /// Only the newest lines, in a new file.
    fn rewrite(&mut self) {
        let Some(path) = self.path.clone() else { return };
        self.file = None;
        match compact(&path, self.cluster.as_deref()) {
            Ok(live) => (self.live, self.lines) = (live, live),
            Err(error) => {
                self.give_up(&error);
                // Not at once again.
                self.lines = self.live;
            }
        }
        self.reopen();
    }
}

fn compact(path: &Path, cluster: Option<&str>) -> io::Result<usize> {
    let newest = newest(path)?;
    let temporary = path.with_extension("tmp");
    let mut out = BufWriter::new(File::create(&temporary)?);
    writeln!(out, "{HEADING}")?;
    if let Some(cluster) = cluster {
        writeln!(out, "@{cluster}")?;
    }
    let mut live = 0;
    for (number, line) in lines(path)? {
        let line = line?;
        let key = line.strip_prefix('+').and_then(|line| line.split_once('\t')).map(|(key, _)| key);
        if key.is_some_and(|key| newest.get(key) == Some(&number)) {
            writeln!(out, "{line}")?;
            live += 1;
        }
    }
    out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_data()?;
    fs::rename(&temporary, path)?;
    Ok(live)
}

fn heading(path: &Path) -> io::Result<String> {
    let mut line = String::new();
    BufReader::new(File::open(path)?).read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}

type Numbered = (usize, io::Result<String>);

fn lines(path: &Path) -> io::Result<impl Iterator<Item = Numbered>> {
    let text = |line: io::Result<Vec<u8>>| line.map(|line| String::from_utf8_lossy(&line).into_owned());
    Ok(BufReader::new(File::open(path)?).split(b'\n').map(text).enumerate())
}

/// Of each object the number of the line that counts.
fn newest(path: &Path) -> io::Result<HashMap<String, usize>> {
    let mut newest = HashMap::new();
    for (number, line) in lines(path)? {
        let line = line?;
        if let Some(line) = line.strip_prefix('+') {
            if let Some((key, object)) = line.split_once('\t')
                && object.ends_with('}')
            {
                newest.insert(key.to_owned(), number);
            }
        } else if let Some(key) = line.strip_prefix('-') {
            newest.remove(key);
        }
    }
    Ok(newest)
}

/// None of these can have a bar or a tab.
fn name(key: &Key) -> String {
    format!("{}|{}|{}|{}", key.group, key.kind, key.namespace, key.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn key(name: &str) -> Key {
        Key { group: String::new(), kind: "Pod".into(), namespace: "n".into(), name: name.into() }
    }

    fn recalled(directory: &Path) -> (Vec<Value>, Option<String>) {
        let mut all = Vec::new();
        let mut cache = Cache::new(Some(directory));
        cache.recall(|value| all.push(value));
        (all, cache.cluster)
    }

    #[test]
    fn the_newest_version_of_each_object_is_recalled() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut cache = Cache::new(Some(directory.path()));
        cache.recall(|_| panic!("nothing is remembered"));
        cache.set_cluster("c");
        cache.put(&key("a"), true, &json!({"v": 1}));
        cache.put(&key("b"), true, &json!({"v": 2}));
        cache.put(&key("a"), false, &json!({"v": 3}));
        cache.remove(&key("b"));
        cache.flush();
        assert_eq!(recalled(directory.path()), (vec![json!({"v": 3})], Some("c".into())));
    }

    #[test]
    fn half_a_line_and_a_foreign_file_cost_only_memory() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join(FILE);
        let text = format!("{HEADING}\n+|Pod|n|a\t{{\"v\":1}}\n+|Pod|n|a\t{{\"v\":");
        fs::write(&path, text).expect("written");
        assert_eq!(recalled(directory.path()).0, [json!({"v": 1})]);
        assert_eq!(recalled(directory.path()).0, [json!({"v": 1})], "and again, written on behind it");
        fs::write(&path, "something else").expect("written");
        assert_eq!(recalled(directory.path()), (vec![], None));
    }

    #[test]
    fn a_journal_that_has_grown_is_written_anew() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut cache = Cache::new(Some(directory.path()));
        cache.recall(|_| {});
        cache.set_cluster("c");
        for version in 0..=SLACK + 10 {
            cache.put(&key("a"), version == 0, &json!({"v": version}));
        }
        cache.flush();
        let size = fs::metadata(directory.path().join(FILE)).expect("a file").len();
        assert!(size < 200, "{size} bytes");
        assert_eq!(recalled(directory.path()), (vec![json!({"v": SLACK + 10})], Some("c".into())));
    }
}
