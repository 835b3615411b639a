//! Which pods match which queries, kept up to date.
//!
//! Owns: both directions of the index between labels, pods and queries.
//! Does not: know what a query is for; a change is returned, not acted on.
//! Invariant: after every call the matches are those of evaluating each query on each pod. A pod's label change
//! costs the queries that tell its old value from its new one; a new pod costs the queries whose anchor it has
//! and those without one; a new query costs the pods of its narrowest test.

mod mentions;
mod shelf;

use crate::query::{Of, Query, Test};
use shelf::Shelf;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tortie_model::namespace::Labels;
use tortie_model::selector::Operator;
use tortie_model::workload::Workload;
use tortie_model::{NamespaceName, WorkloadId};

/// Identity of a query in one index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct QueryId(u32);

/// What a change of a pod did to its matches.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Turn {
    pub(crate) gained: Vec<QueryId>,
    pub(crate) lost: Vec<QueryId>,
}

#[derive(Debug)]
struct Subject {
    workload: Arc<Workload>,
    matches: BTreeSet<QueryId>,
}

#[derive(Debug)]
struct Entry {
    query: Query,
    matched: BTreeSet<WorkloadId>,
}

type Pods = BTreeSet<WorkloadId>;

/// The index.
#[derive(Debug, Default)]
pub(crate) struct Index {
    namespaces: BTreeMap<NamespaceName, Labels>,
    subjects: BTreeMap<WorkloadId, Subject>,
    by_label: BTreeMap<String, BTreeMap<String, Pods>>,
    by_namespace: BTreeMap<NamespaceName, Pods>,
    queries: BTreeMap<QueryId, Entry>,
    everywhere: Shelf,
    within: BTreeMap<NamespaceName, Shelf>,
    last: u32,
    evaluations: u64,
}

impl Index {
    /// How often a query was evaluated on a pod so far: the cost of it all.
    pub(crate) fn evaluations(&self) -> u64 {
        self.evaluations
    }

    /// Queries that match a pod.
    pub(crate) fn matches(&self, pod: &WorkloadId) -> impl Iterator<Item = QueryId> {
        self.subjects.get(pod).into_iter().flat_map(|subject| subject.matches.iter().copied())
    }

    /// Pods that a query matches.
    pub(crate) fn matched(&self, query: QueryId) -> impl Iterator<Item = &WorkloadId> {
        self.queries.get(&query).into_iter().flat_map(|entry| entry.matched.iter())
    }

    /// A pod is as given from now on; `None`: gone.
    pub(crate) fn update(&mut self, pod: &WorkloadId, workload: Option<Arc<Workload>>) -> Turn {
        let old = self.subjects.remove(pod);
        let (labels, matches) = match &old {
            Some(old) => (Some(&old.workload.labels), old.matches.clone()),
            None => (None, BTreeSet::new()),
        };
        let Some(workload) = workload else {
            let gone = labels.cloned();
            self.post(pod, gone.as_ref(), None);
            self.unmatch(pod, &matches);
            return Turn { gained: Vec::new(), lost: matches.into_iter().collect() };
        };
        let namespace = self.namespaces.get(&pod.namespace);
        let shelves = [Some(&self.everywhere), self.within.get(&pod.namespace)].into_iter().flatten();
        let candidates: BTreeSet<QueryId> = match labels {
            None => shelves.flat_map(|shelf| shelf.for_new_pod(&workload.labels, namespace)).collect(),
            Some(labels) => shelves.flat_map(|shelf| shelf.for_pod(labels, &workload.labels)).collect(),
        };
        self.post(pod, old.as_ref().map(|old| &old.workload.labels), Some(&workload.labels));
        self.subjects.insert(pod.clone(), Subject { workload, matches });
        self.evaluate(pod, &candidates)
    }

    /// A namespace has these labels from now on; `None`: it is not known. Returns the pods that turned.
    pub(crate) fn update_namespace(
        &mut self,
        name: &NamespaceName,
        labels: Option<Labels>,
    ) -> Vec<(WorkloadId, Turn)> {
        let old = match &labels {
            Some(labels) => self.namespaces.insert(name.clone(), labels.clone()),
            None => self.namespaces.remove(name),
        };
        let candidates = self.everywhere.for_namespace(old.as_ref(), labels.as_ref());
        let pods: Vec<WorkloadId> = self.by_namespace.get(name).into_iter().flatten().cloned().collect();
        pods.into_iter().map(|pod| (pod.clone(), self.evaluate(&pod, &candidates))).collect()
    }

    /// Adds a query; [`Index::matched`] has its pods.
    pub(crate) fn add(&mut self, query: Query) -> QueryId {
        self.last = self.last.wrapping_add(1);
        let id = QueryId(self.last);
        match query.namespace() {
            Some(namespace) => self.within.entry(namespace.clone()).or_default().add(&query, id),
            None => self.everywhere.add(&query, id),
        }
        let candidates = self.candidates(&query);
        self.queries.insert(id, Entry { query, matched: BTreeSet::new() });
        for pod in candidates {
            self.evaluate(&pod, &BTreeSet::from([id]));
        }
        id
    }

    /// Removes a query; returns the pods it matched.
    pub(crate) fn remove(&mut self, id: QueryId) -> BTreeSet<WorkloadId> {
        let Some(Entry { query, matched }) = self.queries.remove(&id) else { return BTreeSet::new() };
        match query.namespace() {
            Some(namespace) => {
                if let Some(shelf) = self.within.get_mut(namespace) {
                    shelf.remove(&query, id);
                    if shelf.is_empty() {
                        self.within.remove(namespace);
                    }
                }
            }
            None => self.everywhere.remove(&query, id),
        }
        for pod in &matched {
            if let Some(subject) = self.subjects.get_mut(pod) {
                subject.matches.remove(&id);
            }
        }
        matched
    }

    fn evaluate(&mut self, pod: &WorkloadId, candidates: &BTreeSet<QueryId>) -> Turn {
        let mut turn = Turn::default();
        let Some(subject) = self.subjects.get_mut(pod) else { return turn };
        let namespace = self.namespaces.get(&pod.namespace);
        for id in candidates {
            let Some(entry) = self.queries.get_mut(id) else { continue };
            self.evaluations = self.evaluations.wrapping_add(1);
            let in_reach = entry.query.namespace().is_none_or(|only| *only == pod.namespace);
            let passes = |test: &Test| test.passes(value(&subject.workload, namespace, test));
            let matches = in_reach && entry.query.tests().iter().all(passes);
            if matches && subject.matches.insert(*id) {
                entry.matched.insert(pod.clone());
                turn.gained.push(*id);
            } else if !matches && subject.matches.remove(id) {
                entry.matched.remove(pod);
                turn.lost.push(*id);
            }
        }
        turn
    }

    fn unmatch(&mut self, pod: &WorkloadId, matches: &BTreeSet<QueryId>) {
        for id in matches {
            if let Some(entry) = self.queries.get_mut(id) {
                entry.matched.remove(pod);
            }
        }
    }

    /// Keeps the way from labels to pods.
    fn post(&mut self, pod: &WorkloadId, old: Option<&Labels>, new: Option<&Labels>) {
        for (key, value) in old.into_iter().flatten() {
            if new.and_then(|new| new.get(key)) != Some(value) {
                mentions::forget(&mut self.by_label, key, value, pod);
            }
        }
        for (key, value) in new.into_iter().flatten() {
            if old.and_then(|old| old.get(key)) != Some(value) {
                let pods = self.by_label.entry(key.clone()).or_default().entry(value.clone()).or_default();
                pods.insert(pod.clone());
            }
        }
        match (old, new) {
            (None, Some(_)) => {
                self.by_namespace.entry(pod.namespace.clone()).or_default().insert(pod.clone());
            }
            (Some(_), None) => {
                if let Some(pods) = self.by_namespace.get_mut(&pod.namespace) {
                    pods.remove(pod);
                    if pods.is_empty() {
                        self.by_namespace.remove(&pod.namespace);
                    }
                }
            }
            _ => {}
        }
    }

    /// Pods that a new query can match: those of its narrowest test.
    fn candidates(&self, query: &Query) -> Vec<WorkloadId> {
        let by_test = query.tests().iter().filter_map(|test| self.holders(test));
        let by_namespace = self.holders_by_namespace(query);
        let narrowest =
            by_test.chain(by_namespace).min_by_key(|sets| sets.iter().map(|s| s.len()).sum::<usize>());
        match narrowest {
            Some(sets) => sets.into_iter().flatten().cloned().collect(),
            None => self.subjects.keys().cloned().collect(),
        }
    }

    /// Pods that pass a test that needs the label; `None` for other tests.
    fn holders(&self, test: &Test) -> Option<Vec<&Pods>> {
        match (test.of, &test.operator) {
            (Of::Pod, Operator::In(values)) => {
                let by_value = self.by_label.get(&test.key);
                Some(values.iter().filter_map(|value| by_value?.get(value)).collect())
            }
            (Of::Pod, Operator::Exists) => {
                Some(self.by_label.get(&test.key).into_iter().flat_map(BTreeMap::values).collect())
            }
            _ => None,
        }
    }

    /// Pods of a query's namespace, or of those that pass its tests of namespaces, if it has any.
    fn holders_by_namespace(&self, query: &Query) -> Option<Vec<&Pods>> {
        if let Some(name) = query.namespace() {
            return Some(self.by_namespace.get(name).into_iter().collect());
        }
        let tests: Vec<&Test> = query.tests().iter().filter(|test| test.of == Of::Namespace).collect();
        if tests.is_empty() {
            return None;
        }
        let passing = self.namespaces.iter().filter(|(_, labels)| {
            tests.iter().all(|test| test.passes(namespace_value(Some(labels), &test.key)))
        });
        Some(passing.filter_map(|(name, _)| self.by_namespace.get(name)).collect())
    }
}

fn value<'a>(workload: &'a Workload, namespace: Option<&'a Labels>, test: &Test) -> Option<&'a str> {
    match test.of {
        Of::Pod => workload.labels.get(&test.key).map(String::as_str),
        Of::Namespace => namespace_value(namespace, &test.key),
    }
}

fn namespace_value<'a>(labels: Option<&'a Labels>, key: &str) -> Option<&'a str> {
    if key.is_empty() { labels.map(|_| "") } else { labels?.get(key).map(String::as_str) }
}
