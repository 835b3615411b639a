//! Files on the node that others read at any moment.
//!
//! Owns: replacing, removing, and which configuration a runtime takes. Does not: know what is in them.
//! Invariant: a name leads to a whole file, the old or the new; a crash leaves at most a hidden one, which the next
//! installation writes over.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::Context as _;

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It had this content already.
    AsItWas,
    /// It has it now.
    Written,
}

/// Makes `path` a file of this content and mode.
pub fn put(path: &Path, content: &[u8], mode: u32) -> anyhow::Result<Put> {
    if is_as_wanted(path, content, mode) {
        return Ok(Put::AsItWas);
    }
    replace(path, content, mode).with_context(|| format!("writing {}", path.display()))?;
    Ok(Put::Written)
}

fn is_as_wanted(path: &Path, content: &[u8], mode: u32) -> bool {
    // A link would make the node's file depend on where it leads.
    let metadata =
        fs::symlink_metadata(path).ok().filter(|m| m.is_file() && m.permissions().mode() & 0o7777 == mode);
    metadata.is_some() && fs::read(path).is_ok_and(|found| found == content)
}

fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    fs::create_dir_all(dir)?;
    // Hidden, and not called *.conflist: no runtime reads it.
    let aside = dir.join(format!(".{}.new", name.to_string_lossy()));
    remove(&aside)?;
    let mut file = File::options().write(true).create_new(true).mode(mode).open(&aside)?;
    let written = file
        .write_all(content)
        .and_then(|()| file.set_permissions(fs::Permissions::from_mode(mode)))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&aside, path))
        // The rename, too, outlives a crash of the node.
        .and_then(|()| File::open(dir)?.sync_all());
    if written.is_err() {
        // What is left of a full disk would only take more of it.
        let _ = fs::remove_file(&aside);
    }
    written
}

/// Removes a file.
pub fn remove(path: &Path) -> io::Result<Removed> {
    removed(fs::remove_file(path))
}

/// Removes a directory with all that is in it; where something is mounted, that alone.
pub fn remove_tree(path: &Path) -> io::Result<Removed> {
    match removed(fs::remove_dir_all(path)) {
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy && fs::read_dir(path)?.next().is_none() => {
            Ok(Removed::Emptied)
        }
        other => other,
    }
}

/// What has become of something that was to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removed {
    /// It is gone.
    Gone,
    /// A directory that others use is left, with nothing in it.
    Emptied,
    /// It was not there.
    WasNotThere,
}

fn removed(removed: io::Result<()>) -> io::Result<Removed> {
    match removed {
        Ok(()) => Ok(Removed::Gone),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Removed::WasNotThere),
        Err(error) => Err(error),
    }
}

/// The configuration that a runtime takes: the first by name of those that it would read.
pub fn first_configuration(dir: &Path) -> io::Result<Option<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let read = path.extension().is_some_and(|e| e == "conf" || e == "conflist" || e == "json");
        if let (true, Some(name)) = (read, path.file_name()) {
            names.push(name.to_string_lossy().into_owned());
        }
    }
    Ok(names.into_iter().min())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_written_once_and_again_only_when_something_differs() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/x");
        assert_eq!(put(&path, b"a", 0o755).unwrap(), Put::Written);
        assert_eq!(put(&path, b"a", 0o755).unwrap(), Put::AsItWas);
        assert_eq!(put(&path, b"a", 0o644).unwrap(), Put::Written);
        assert_eq!(put(&path, b"b", 0o644).unwrap(), Put::Written);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
    }

    #[test]
    fn what_an_interrupted_installation_left_is_written_over_and_a_link_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        fs::write(dir.path().join(".x.new"), "half").unwrap();
        fs::write(dir.path().join("elsewhere"), "a").unwrap();
        std::os::unix::fs::symlink("elsewhere", &path).unwrap();
        assert_eq!(put(&path, b"a", 0o644).unwrap(), Put::Written);
        assert!(fs::symlink_metadata(&path).unwrap().is_file());
        assert!(!dir.path().join(".x.new").exists());
    }

    #[test]
    fn a_file_that_cannot_be_replaced_keeps_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        fs::create_dir(&path).unwrap();
        assert!(put(&path, b"a", 0o644).is_err());
        assert!(path.is_dir());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_directory_that_is_not_there_is_not_said_to_be_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        fs::create_dir_all(path.join("y")).unwrap();
        assert_eq!(remove_tree(&path).unwrap(), Removed::Gone);
        assert_eq!(remove_tree(&path).unwrap(), Removed::WasNotThere);
    }

    #[test]
    fn runtimes_take_the_first_configuration_by_name() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(first_configuration(dir.path()).unwrap(), None);
        for name in ["10-tortie.conflist", ".10-a.conflist.new", "10-calico.conflist", "00-readme.txt"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        assert_eq!(first_configuration(dir.path()).unwrap().as_deref(), Some("10-calico.conflist"));
    }
}
