//! Copies of files as they were when they were good, so that a broken file keeps its objects in force over a
//! restart of the agent as well.
//!
//! Owns: the copies. Does not: judge files.
//! Invariant: a copy is only ever what the file once held in full; losing copies loses only that memory.

use std::fs::{self, File, FileTimes};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Where copies are kept; nowhere by default.
#[derive(Debug, Default)]
pub struct LastGood {
    directory: Option<PathBuf>,
}

impl LastGood {
    /// In a directory of its own, made if need be.
    pub fn new(directory: Option<&Path>) -> Self {
        let made = |path: &Path| match fs::create_dir_all(path) {
            Ok(()) => Some(path.to_owned()),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "last good files will be forgotten at the next start");
                None
            }
        };
        Self { directory: directory.and_then(made) }
    }

    /// What a file held when it was last good.
    pub fn recall(&self, file: &Path) -> Option<Vec<u8>> {
        let bytes = fs::read(self.copy_of(file)?).ok()?;
        bytes.strip_prefix(heading(file).as_slice()).map(<[u8]>::to_vec)
    }

    /// A file is good. A copy that is as old as the file is taken for the same.
    pub fn keep(&self, file: &Path, bytes: &[u8], modified: SystemTime) {
        let Some(copy) = self.copy_of(file) else { return };
        let is_same = |it: fs::Metadata| {
            it.modified().is_ok_and(|at| at == modified)
                && it.len() == (heading(file).len() + bytes.len()) as u64
        };
        if fs::metadata(&copy).is_ok_and(is_same) {
            return;
        }
        if let Err(error) = write(&copy, &heading(file), bytes, modified) {
            tracing::warn!(file = %file.display(), %error, "keeping a copy of what is good");
        }
    }

    /// A file is gone.
    pub fn forget(&self, file: &Path) {
        if let Some(copy) = self.copy_of(file) {
            // There may be none.
            let _ = fs::remove_file(copy);
        }
    }

    fn copy_of(&self, file: &Path) -> Option<PathBuf> {
        let name = format!("{:016x}", fnv(file.as_os_str().as_encoded_bytes()));
        self.directory.as_ref().map(|directory| directory.join(name))
    }
}

/// Two paths may have one name; the first line tells them apart.
fn heading(file: &Path) -> Vec<u8> {
    let mut line = file.as_os_str().as_encoded_bytes().to_vec();
    line.push(b'\n');
    line
}

fn write(copy: &Path, heading: &[u8], bytes: &[u8], modified: SystemTime) -> io::Result<()> {
    let temporary = copy.with_extension("tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(heading)?;
    file.write_all(bytes)?;
    file.set_times(FileTimes::new().set_modified(modified))?;
    fs::rename(&temporary, copy)
}

/// FNV-1a: the same in every version.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
