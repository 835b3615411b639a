//! What a watch of [`super::Cluster`] says.
//!
//! Owns: [`Watch`] and [`Change`]. Does not: talk to the server.
//! Invariant: what has been said so far, taken together, is what the server had at some moment of each kind.

use super::error::ClusterError;
use super::follow::Signal;
use crate::kind::Kind;
use crate::resource::{Key, Resource};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::sync::mpsc;

/// One thing heard.
#[derive(Clone, Debug)]
pub enum Change {
    /// New or changed, as it is now.
    Is(Resource),
    /// Deleted; as it was last.
    Gone(Resource),
    /// Everything of that kind has been said; again after each interruption that needed a new list.
    Synced(&'static Kind),
    /// The server has no such kind for now; it is looked for again.
    NotServed(&'static Kind),
    /// It does not go on for the moment; it is tried again until it does.
    Trouble(&'static Kind, ClusterError),
}

/// Changes as they come. Dropping it ends the watch.
#[derive(Debug)]
pub struct Watch {
    changes: mpsc::UnboundedReceiver<Change>,
}

impl Watch {
    pub(super) fn pair() -> (mpsc::UnboundedSender<Change>, Self) {
        let (send, changes) = mpsc::unbounded_channel();
        (send, Self { changes })
    }

    /// The next change, for a thread without a runtime; `None`: the cluster has been closed.
    pub fn blocking_next(&mut self) -> Option<Change> {
        self.changes.blocking_recv()
    }

    /// The next change. Safe to cancel.
    pub async fn next(&mut self) -> Option<Change> {
        self.changes.recv().await
    }

    /// The next change if there is one now.
    pub fn try_next(&mut self) -> Option<Change> {
        self.changes.try_recv().ok()
    }

    /// The next change, if one comes in time; for a thread without a runtime.
    pub fn next_within(&mut self, time: Duration) -> Option<Change> {
        let until = std::time::Instant::now() + time;
        loop {
            if let Some(change) = self.try_next() {
                return Some(change);
            }
            if std::time::Instant::now() >= until {
                return None;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// From a follower's signals to changes: what a new list leaves out is gone.
pub(super) async fn relay(
    kind: &'static Kind,
    mut signals: mpsc::Receiver<(usize, Signal)>,
    changes: mpsc::UnboundedSender<Change>,
) {
    let mut known: BTreeMap<Key, Resource> = BTreeMap::new();
    let mut listed: BTreeSet<Key> = BTreeSet::new();
    loop {
        // The follower ends when this end is dropped.
        let signal = tokio::select! {
            signal = signals.recv() => signal,
            () = changes.closed() => None,
        };
        let Some((_, signal)) = signal else { return };
        match signal {
            Signal::Listing => listed.clear(),
            Signal::Is(value) => match Resource::new(value, "") {
                Ok(resource) => {
                    listed.insert(resource.key.clone());
                    let before = known.insert(resource.key.clone(), resource.clone());
                    if before.as_ref() != Some(&resource) {
                        // Closed is seen above.
                        let _ = changes.send(Change::Is(resource));
                    }
                }
                Err(error) => {
                    let what = format!("an object of {}", kind.plural);
                    let error = ClusterError::Malformed { what, cause: error.to_string() };
                    let _ = changes.send(Change::Trouble(kind, error));
                }
            },
            Signal::Gone(value) => {
                if let Ok(resource) = Resource::new(value, "") {
                    known.remove(&resource.key);
                    let _ = changes.send(Change::Gone(resource));
                }
            }
            Signal::Listed { .. } => {
                let gone: Vec<Key> = known.keys().filter(|key| !listed.contains(*key)).cloned().collect();
                for resource in gone.iter().filter_map(|key| known.remove(key)) {
                    let _ = changes.send(Change::Gone(resource));
                }
                listed.clear();
                let _ = changes.send(Change::Synced(kind));
            }
            Signal::NotServed { .. } => {
                for resource in std::mem::take(&mut known).into_values() {
                    let _ = changes.send(Change::Gone(resource));
                }
                let _ = changes.send(Change::NotServed(kind));
            }
            Signal::Going | Signal::Behind => {}
            Signal::Trouble(error) => {
                let _ = changes.send(Change::Trouble(kind, error));
            }
        }
    }
}
