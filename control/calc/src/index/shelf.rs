//! The queries of one namespace, or those of all, by the labels they test.
//!
//! Owns: finding the queries that a change can turn. Does not: evaluate them.
//! Invariant: a query that a change can turn is found; one that tests nothing of it is not.

use super::QueryId;
use super::mentions::Mentions;
use crate::query::{Of, Query};
use std::collections::BTreeSet;
use tortie_model::namespace::Labels;

#[derive(Debug, Default)]
pub(super) struct Shelf {
    mentions: Mentions,
    anchors: Mentions,
    unanchored: BTreeSet<QueryId>,
    queries: usize,
}

impl Shelf {
    pub(super) fn add(&mut self, query: &Query, id: QueryId) {
        self.queries = self.queries.saturating_add(1);
        query.tests().iter().for_each(|test| self.mentions.add(test, id));
        match query.anchor() {
            Some(anchor) => self.anchors.add(anchor, id),
            None => _ = self.unanchored.insert(id),
        }
    }

    pub(super) fn remove(&mut self, query: &Query, id: QueryId) {
        self.queries = self.queries.saturating_sub(1);
        query.tests().iter().for_each(|test| self.mentions.remove(test, id));
        match query.anchor() {
            Some(anchor) => self.anchors.remove(anchor, id),
            None => _ = self.unanchored.remove(&id),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queries == 0
    }

    /// Queries that can match a pod about which nothing was known yet; `namespace`: its namespace's labels.
    pub(super) fn for_new_pod(&self, pod: &Labels, namespace: Option<&Labels>) -> BTreeSet<QueryId> {
        let mut found = self.unanchored.clone();
        found.extend(self.anchors.naming(Of::Pod, pod));
        if let Some(labels) = namespace {
            found.extend(self.anchors.naming(Of::Namespace, labels));
            found.extend(self.anchors.presence(Of::Namespace, ""));
        }
        found
    }

    /// Queries that a pod's change of labels can turn.
    pub(super) fn for_pod(&self, old: &Labels, new: &Labels) -> BTreeSet<QueryId> {
        self.mentions.telling_apart(Of::Pod, old, new)
    }

    /// Queries that a namespace's change can turn; `None`: it is not known.
    pub(super) fn for_namespace(&self, old: Option<&Labels>, new: Option<&Labels>) -> BTreeSet<QueryId> {
        let none = Labels::new();
        let (before, after) = (old.unwrap_or(&none), new.unwrap_or(&none));
        let mut found = self.mentions.telling_apart(Of::Namespace, before, after);
        if old.is_some() != new.is_some() {
            found.extend(self.mentions.presence(Of::Namespace, ""));
        }
        found
    }
}
