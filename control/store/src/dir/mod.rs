//! The store that is a directory of YAML.
//!
//! Owns: opening it. Does not: write it.
//! Invariant: the first batch is the whole directory and ends with `InSync`.

use std::path::PathBuf;
use thiserror::Error;

/// How to read a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// This node: whose `node.<name>` settings count.
    pub node: String,
    /// Further settings, in the form of Calico's `felix.cfg`; they win over the datastore.
    pub config_file: Option<PathBuf>,
    /// Settings that win over everything: variables called `FELIX_…`; others are ignored.
    pub environment: Vec<(String, String)>,
}

/// Why a directory cannot be opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is none.
    #[error("store directory {}: {source}; create it, or give another with --store dir:PATH", path.display())]
    Root {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// It cannot be watched.
    #[error("store directory {}: cannot be watched: {source}; raise fs.inotify.max_user_instances", path.display())]
    Watch {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
}
