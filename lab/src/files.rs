//! Files of the laboratory.
//!
//! Owns: atomic writes.
//! Does not: know what is in them.
//! Invariant: a reader sees the old content or the new, never a part.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context as _;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Result, no};

/// Threads of one process may write the same file.
static DRAFTS: AtomicU32 = AtomicU32::new(0);

/// Replaces the file's content in one step. The temporary file has a leading dot, which readers of the
/// directory store skip.
pub fn write_atomically(path: &Path, content: &[u8]) -> Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(no!("{}: not the path of a file", path.display()));
    };
    fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
    let (process, draft) = (std::process::id(), DRAFTS.fetch_add(1, Ordering::Relaxed));
    let draft = parent.join(format!(".{}.{process}-{draft}.tmp", name.to_string_lossy()));
    fs::write(&draft, content).with_context(|| draft.display().to_string())?;
    Ok(fs::rename(&draft, path).with_context(|| path.display().to_string())?)
}

/// Writes a value as JSON, in one step.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let text = serde_json::to_vec_pretty(value).with_context(|| path.display().to_string())?;
    write_atomically(path, &text)
}

/// Reads a value back; `None`: there is no such file, or no longer.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match fs::read(path) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text).with_context(|| path.display().to_string())?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| path.display().to_string())?,
    }
}
