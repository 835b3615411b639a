//! Changing several files at once.
//!
//! Owns: temporary files, their renaming, and going back. Does not: know what is in them.
//! Invariant: until every new content is on the disk, no file is touched.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// New contents of files, by path.
pub struct Change {
    /// Which file.
    pub path: PathBuf,
    /// What it held before; `None`: there was none.
    pub before: Option<Vec<u8>>,
    /// What it will hold; `None`: it goes.
    pub after: Option<Vec<u8>>,
}

/// Makes all changes, or none.
pub fn commit(changes: &[Change]) -> Result<(), (PathBuf, io::Error)> {
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
    for (done, (change, temporary)) in changes.iter().zip(&prepared).enumerate() {
        if let Err(error) = take_effect(change, temporary.as_deref()) {
            prepared.iter().skip(done).flatten().for_each(|path| _ = fs::remove_file(path));
            changes.iter().take(done).for_each(go_back);
            return Err((change.path.clone(), error));
        }
    }
    sync_directories(changes);
    Ok(())
}

fn prepare(change: &Change, number: usize) -> io::Result<Option<PathBuf>> {
    let Some(content) = &change.after else { return Ok(None) };
    let directory = change.path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    let temporary = directory.join(format!(".tortie-{}-{number}.tmp", std::process::id()));
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

/// Names are on the disk too; where that fails they are after the next sync.
fn sync_directories(changes: &[Change]) {
    let mut directories: Vec<&Path> = changes.iter().filter_map(|change| change.path.parent()).collect();
    directories.sort_unstable();
    directories.dedup();
    for directory in directories {
        let _ = File::open(directory).and_then(|directory| directory.sync_all());
    }
}
