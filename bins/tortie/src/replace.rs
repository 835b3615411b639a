//! Files of the agent and the plugin that others read at any time.
//!
//! Owns: how one is replaced. Does not: know what is in it, or sync: what is lost with the node is made anew.
//! Invariant: a reader sees the old content or the new, never a part; after an error the old is there, and nothing beside it.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use serde::Serialize;

/// The content of `path` becomes what `write` writes. Directories that are missing are made.
pub fn replace(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> io::Result<()> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    fs::create_dir_all(dir)?;
    // Of each process its own: plugins run side by side.
    let aside = dir.join(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
    let written = File::create(&aside).map(BufWriter::new).and_then(|mut file| {
        write(&mut file)?;
        file.flush()
    });
    written.and_then(|()| fs::rename(&aside, path)).inspect_err(|_| {
        // What is left of a full disk would only take more of it.
        let _ = fs::remove_file(&aside);
    })
}

/// The same, with a value as JSON.
pub fn replace_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    replace(path, |file| Ok(serde_json::to_writer(file, value)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_fails_leaves_the_old_content_and_no_rubbish() {
        let dir = tempfile::tempdir().unwrap();
        let sub = dir.path().join("sub");
        let (path, directory) = (sub.join("x.json"), sub.join("y.json"));
        replace_json(&path, &1).unwrap();
        fs::create_dir(&directory).unwrap();
        assert!(replace_json(&directory, &2).is_err());
        assert!(replace(&path, |_| Err(io::ErrorKind::StorageFull.into())).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "1");
        assert_eq!(fs::read_dir(&sub).unwrap().count(), 2);
    }
}
