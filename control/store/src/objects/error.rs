//! Why an object could not be read or changed.
//!
//! Owns: [`ObjectsError`]. Does not: choose exit codes. Invariant: says what to do next.

use crate::dir::DirectoryError;
use crate::kube::ClusterError;
use thiserror::Error;

/// Why an object could not be read or changed.
#[derive(Debug, Error)]
pub enum ObjectsError {
    /// The directory.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The cluster.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// There is no such object.
    #[error("{object} not found")]
    Missing {
        /// As kubectl says it: `ippools.projectcalico.org "x"`.
        object: String,
    },
    /// There is one already.
    #[error("{object} already exists")]
    Exists {
        /// `ippool.projectcalico.org/x`.
        object: String,
    },
    /// It is another version than the one that was given.
    #[error("{object} has been changed since: it is at version {now}, not {given}; get it again")]
    Changed {
        /// `ippool.projectcalico.org/x`.
        object: String,
        /// The version that was given.
        given: String,
        /// The version that is there.
        now: String,
    },
    /// Its kind is not known here.
    #[error("kind {kind} is unknown; use kubectl for it")]
    UnknownKind {
        /// As it is written.
        kind: String,
    },
}

impl ObjectsError {
    /// There is no such object.
    pub fn is_missing(&self) -> bool {
        match self {
            Self::Missing { .. } => true,
            Self::Cluster(error) => error.code() == Some(404),
            _ => false,
        }
    }

    /// There is one already.
    pub fn is_existing(&self) -> bool {
        match self {
            Self::Exists { .. } => true,
            Self::Cluster(error) => error.is_already_exists(),
            _ => false,
        }
    }

    /// The API server serves no such kind.
    pub fn is_not_served(&self) -> bool {
        matches!(self, Self::Cluster(ClusterError::NotServed { .. }))
    }

    /// The API server does not know who asks.
    pub fn is_unauthorized(&self) -> bool {
        matches!(self, Self::Cluster(error) if error.is_unauthorized())
    }

    /// Whatever had been asked, there would be no answer.
    pub fn is_no_answer(&self) -> bool {
        matches!(self, Self::Cluster(error) if error.is_no_answer())
    }

    /// Whoever serves the kind does not answer.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Cluster(error) if error.is_unavailable())
    }
}
