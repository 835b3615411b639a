//! The store that is a directory of YAML.
//!
//! Owns: opening it. Does not: write it.
//! Invariant: the first batch is the whole directory and ends with `InSync`.

mod atomic;
pub mod content;
mod driver;
mod edit;
mod files;
mod last_good;
mod tree;
mod watch;

pub use edit::{Edit, Outcome};
pub use files::{Directory, DirectoryError, Place, Snapshot, Stored};
pub use watch::counts;

use crate::settings::NodeSettings;
use crate::stream::{self, Store};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use std::{fs, io, thread};
use thiserror::Error;

/// How to read a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// This node: whose `node.<name>` settings count.
    pub node: String,
    /// Further settings, in the form of Calico's `felix.cfg`; they win over the datastore.
    pub config_file: Option<PathBuf>,
    /// Where copies of good files are kept, so that what a broken file held stays in force over a restart.
    pub last_good: Option<PathBuf>,
    /// Settings that win over everything: variables called `FELIX_…`; others are ignored.
    pub environment: Vec<(String, String)>,
}

/// Why a directory cannot be opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is none.
    #[error("store directory {}: {cause}; create it, or give another with --store dir:PATH", path.display())]
    Root {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        cause: std::io::Error,
    },
    /// It cannot be watched.
    #[error("store directory {}: cannot be watched: {cause}; raise fs.inotify.max_user_instances", path.display())]
    Watch {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        cause: std::io::Error,
    },
}

/// Opens a directory: starts a thread that reads it and goes on reading what changes.
pub fn open(root: &Path, options: Options) -> Result<Store, OpenError> {
    let root_error = |cause| OpenError::Root { path: root.to_owned(), cause };
    let root = std::path::absolute(root).map_err(root_error)?;
    fs::read_dir(&root).map_err(root_error)?;
    let watch_error = |cause: io::Error| OpenError::Watch { path: root.clone(), cause };
    let watcher = watch::Watcher::new(&root).map_err(watch_error)?;
    let wake = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC);
    let wake = Arc::new(wake.map_err(|errno| watch_error(errno.into()))?);
    let (state, local) =
        NodeSettings::start(&options.node, options.config_file.as_deref(), &options.environment);
    let waker = Arc::clone(&wake);
    // Fails only when it is full: then the driver is awake anyway.
    let (store, ends) = stream::pair(move || _ = waker.write(1));
    let driver = driver::Driver {
        watcher,
        wake,
        ends,
        state,
        tree: tree::Tree::new(last_good::LastGood::new(options.last_good.as_deref())),
        pending: watch::Seen::default(),
        root: root.clone(),
        next_look: local.have_file().then(Instant::now),
        local,
        faults: Vec::new(),
    };
    thread::Builder::new().name("store".into()).spawn(move || driver.run()).map_err(watch_error)?;
    Ok(store)
}
