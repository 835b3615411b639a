//! `<run-dir>/state.json`: the names behind the kernel's numbers.
//!
//! Invariant: the file is complete whenever it exists; a damaged one is moved aside, not overwritten.

use std::fs;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use tortie_reconcile::Saved;

fn path(run_dir: &Path) -> PathBuf {
    run_dir.join("state.json")
}

/// What the last agent knew; nothing where there is no file.
pub fn read(run_dir: &Path) -> Saved {
    let path = path(run_dir);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Saved::default(),
        Err(error) => {
            tracing::error!(path = %path.display(), %error, "cannot be read; slots and ids are given anew");
            return Saved::default();
        }
    };
    serde_json::from_slice(&bytes).unwrap_or_else(|error| {
        let aside = path.with_extension("json.damaged");
        let moved = fs::rename(&path, &aside);
        tracing::error!(path = %aside.display(), %error, moved = moved.is_ok(), "damaged; slots and ids are given anew");
        Saved::default()
    })
}

/// Replaces the file.
pub fn write(run_dir: &Path, saved: &Saved) -> io::Result<()> {
    let path = path(run_dir);
    let aside = path.with_extension("json.new");
    let mut file = BufWriter::new(fs::File::create(&aside)?);
    serde_json::to_writer(&mut file, saved)?;
    file.flush()?;
    fs::rename(&aside, &path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_damage_is_kept_aside() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()), Saved::default());
        let saved = Saved { generation_ceiling: 7, last_rule: 3, ..Saved::default() };
        write(dir.path(), &saved).unwrap();
        assert_eq!(read(dir.path()), saved);
        fs::write(path(dir.path()), "{\"generationCeil").unwrap();
        assert_eq!(read(dir.path()), Saved::default());
        assert!(dir.path().join("state.json.damaged").exists());
    }
}
