//! What a store says.
//!
//! Owns: [`Batch`] and [`Event`]. Does not: know where they come from.
//! Invariant: after every batch, what the batches so far have said is one state the user asked for.

use crate::rejection::Rejection;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;
use tortie_model::Object;

/// Number of a batch: 1, 2, 3 … while the store is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Changes that belong together, in an order in which an object mostly comes after what it refers to:
/// settings, pools, nodes, namespaces, workloads, policies, services, slices.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Greater than that of every batch before.
    pub revision: Revision,
    /// When the first of it came from the datastore; `None`: it did not come from there.
    pub heard: Option<SystemTime>,
    /// Changes, then reports.
    pub events: Vec<Event>,
}

/// One thing said.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// An object is new, changed or gone. Never says what was already said.
    Changed(Object),
    /// Something the user wrote is not in force; the last good version stays.
    Rejected(Arc<Rejection>),
    /// That is no longer so: put right, or deleted. Equal to what [`Event::Rejected`] said.
    Resolved(Arc<Rejection>),
    /// Everything known at the start has been said. Comes once, last in its batch.
    InSync,
}
