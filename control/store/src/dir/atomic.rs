//! Changing several files at once.
//!
//! Owns: temporary files, their renaming, and going back. Does not: know what is in them.
//! Invariant: until every new content is on the disk, no file is touched.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use nix::sys::signal::{SigSet, SigmaskHow, Signal};

/// Temporary files are called so.
const PREFIX: &str = ".tortie-";
const SUFFIX: &str = ".tmp";

/// New contents of files, by path.
pub struct Change {
    /// Which file.
    pub path: PathBuf,
    /// What it held before; `None`: there was none.
    pub before: Option<Vec<u8>>,
    /// What it will hold; `None`: it goes.
    pub after: Option<Vec<u8>>,
}

/// Makes all changes, or none. Nobody else may change the directory meanwhile.
pub fn commit(changes: &[Change]) -> Result<(), (PathBuf, io::Error)> {
    directories(changes).into_iter().for_each(sweep);
    let mut prepared = Vec::new();
    for (number, change) in changes.iter().enumerate() {
        match prepare(change, number) {
            Ok(temporary) => prepared.push(temporary),
            Err(error) => {
                prepared.iter().flatten().for_each(|path| _ = fs::remove_file(path));
                return Err((change.path.clone(), error));
            }
        }
    }
    let _undisturbed = Undisturbed::begin();
    for (done, (change, temporary)) in changes.iter().zip(&prepared).enumerate() {
        if let Err(error) = take_effect(change, temporary.as_deref()) {
            prepared.iter().skip(done).flatten().for_each(|path| _ = fs::remove_file(path));
            changes.iter().take(done).for_each(go_back);
            return Err((change.path.clone(), error));
        }
    }
    // Names are on the disk too; where that fails they are after the next sync.
    for directory in directories(changes) {
        let _ = File::open(directory).and_then(|directory| directory.sync_all());
    }
    Ok(())
}

/// What asks a program to end is heard when it is dropped: half of the files would be half of a change.
struct Undisturbed(Option<SigSet>);

impl Undisturbed {
    fn begin() -> Self {
        let ends = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
        Self(ends.thread_swap_mask(SigmaskHow::SIG_BLOCK).ok())
    }
}

impl Drop for Undisturbed {
    fn drop(&mut self) {
        let _ = self.0.as_ref().map(SigSet::thread_set_mask);
    }
}

/// What a program left that ended while it prepared a change.
fn sweep(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let text = name.to_string_lossy();
        if text.starts_with(PREFIX) && text.ends_with(SUFFIX) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn prepare(change: &Change, number: usize) -> io::Result<Option<PathBuf>> {
    let Some(content) = &change.after else { return Ok(None) };
    let directory = change.path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    let temporary = directory.join(format!("{PREFIX}{}-{number}{SUFFIX}", std::process::id()));
    let result = write(&temporary, content, &change.path);
    if result.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    result.map(|()| Some(temporary))
}

fn write(temporary: &Path, content: &[u8], final_path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(temporary)?;
    if let Ok(metadata) = fs::metadata(final_path) {
        file.set_permissions(metadata.permissions())?;
    }
    file.write_all(content)?;
    file.sync_all()
}

fn take_effect(change: &Change, temporary: Option<&Path>) -> io::Result<()> {
    match temporary {
        Some(temporary) => fs::rename(temporary, &change.path),
        None => fs::remove_file(&change.path),
    }
}

/// As good as can be: the disk has just refused something.
fn go_back(change: &Change) {
    let result = match &change.before {
        Some(content) => fs::write(&change.path, content),
        None => fs::remove_file(&change.path),
    };
    if let Err(error) = result {
        tracing::error!(path = %change.path.display(), %error, "cannot bring back what the file held");
    }
}

fn directories(changes: &[Change]) -> BTreeSet<&Path> {
    changes.iter().filter_map(|change| change.path.parent()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_left_that_ended_goes_with_the_next_change_of_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let (left, other) = (dir.path().join(".tortie-1-7.tmp"), dir.path().join(".other.tmp"));
        fs::write(&left, "half").unwrap();
        fs::write(&other, "not ours").unwrap();
        let change = Change { path: dir.path().join("a.yaml"), before: None, after: Some(b"a".to_vec()) };
        commit(&[change]).unwrap();
        assert!(!left.exists() && other.exists());
    }

    #[test]
    fn a_signal_waits_until_all_files_have_changed_and_comes_then() {
        let before = SigSet::thread_get_mask().unwrap();
        let undisturbed = Undisturbed::begin();
        let within = SigSet::thread_get_mask().unwrap();
        assert!([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].iter().all(|it| within.contains(*it)));
        drop(undisturbed);
        assert_eq!(SigSet::thread_get_mask().unwrap(), before);
    }
}
