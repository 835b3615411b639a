//! Whether the server that answers is still that of the same cluster.
//!
//! Owns: the uid of the namespace kube-system, by which a cluster is known. Does not: list.
//! Invariant: a server that has lost its data, or serves another cluster's, is not believed: an empty list from it
//! removes nothing.

use super::connection::{Ask, Connection};
use super::error::ClusterError;
use std::sync::{Arc, Mutex, PoisonError};

const PATH: &str = "/api/v1/namespaces/kube-system";

/// Which cluster it is; clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Identity {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    known: Option<String>,
    /// The connection's losses when it was last seen to be right.
    checked: Option<u64>,
}

impl Identity {
    /// The cluster that was seen before this process began.
    pub fn new(known: Option<String>) -> Self {
        Self { inner: Arc::new(Mutex::new(Inner { known, checked: None })) }
    }

    /// The cluster's uid, once known.
    pub fn known(&self) -> Option<String> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).known.clone()
    }

    /// Asks, unless nothing was lost since it was asked last.
    pub async fn check(&self, connection: &Connection) -> Result<(), ClusterError> {
        let losses = connection.losses();
        if self.inner.lock().unwrap_or_else(PoisonError::into_inner).checked == Some(losses) {
            return Ok(());
        }
        let found = match connection.json(&Ask::get(PATH)).await {
            Ok(namespace) => {
                namespace.pointer("/metadata/uid").and_then(|uid| uid.as_str()).map(str::to_owned)
            }
            Err(error) if error.is_not_found() => None,
            // Who may not read it cannot tell; the lists will say what else is not allowed.
            Err(error) if error.is_forbidden() => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        match (&inner.known, found) {
            (Some(known), Some(found)) if *known == found => {}
            (Some(known), found) => {
                let found = found.unwrap_or_else(|| "no namespace kube-system".into());
                return Err(ClusterError::OtherCluster { known: known.clone(), found });
            }
            (None, found) => inner.known = found,
        }
        inner.checked = Some(losses);
        Ok(())
    }
}
