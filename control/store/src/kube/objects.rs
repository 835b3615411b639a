//! Every object of the API server that is followed: whether it is in force, and what is wrong with it.
//!
//! Owns: the rule of the last good version, what a new list leaves out, and which refusals are reported. Does not: talk to the
//! server.
//! Invariant: only a deletion, a complete list without the object, or a kind that is surely not served removes it.

use super::cache::Cache;
use super::error::ClusterError;
use super::follow::Signal;
use super::report::Report;
use crate::fault::Fault;
use crate::kind::{Kind, Role};
use crate::rejection::{Effect, Origin, Rejection};
use crate::resource::{Key, Resource};
use crate::state::State;
use crate::wire;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A report says no more than so much of a value.
const LONGEST_PROBLEM: usize = 300;

/// All kinds.
#[derive(Debug)]
pub(super) struct Objects {
    shelves: Vec<Shelf>,
    /// How long a kind that could be read is refused before it is reported.
    refusal: Duration,
    /// Whether reports have changed since they were taken.
    reports_changed: bool,
    /// Objects with something new to report.
    fresh: Vec<Report>,
}

/// The objects of one kind.
#[derive(Debug)]
struct Shelf {
    kind: &'static Kind,
    /// Number of the list that is under way or was last.
    list: u32,
    entries: BTreeMap<Arc<Key>, Entry>,
    faulty: BTreeMap<Key, Vec<Arc<Rejection>>>,
    /// Something of the list under way could not even be named, and what it was may be any object.
    garbled: bool,
    /// Of the kind as a whole.
    trouble: Option<Arc<Rejection>>,
    /// It may not be read at the moment; from when that is its trouble.
    refused: Option<(Instant, Rejection)>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    list: u32,
    /// A version of it is in force.
    good: bool,
}

impl Objects {
    /// Nothing of these kinds.
    pub fn new(kinds: impl IntoIterator<Item = &'static Kind>, refusal: Duration) -> Self {
        let shelf = |kind| Shelf {
            kind,
            list: 0,
            entries: BTreeMap::new(),
            faulty: BTreeMap::new(),
            garbled: false,
            trouble: None,
            refused: None,
        };
        let shelves = kinds.into_iter().map(shelf).collect();
        Self { shelves, refusal, reports_changed: true, fresh: Vec::new() }
    }

    /// An object that was in force before this process began; `false`: this version does not take it.
    pub fn recall(&mut self, value: Value, state: &mut State) -> bool {
        let Ok(resource) = Resource::new(value, "") else { return false };
        let of_kind = |shelf: &&mut Shelf| Some(shelf.kind) == resource.kind;
        let Some(shelf) = self.shelves.iter_mut().find(of_kind) else { return false };
        let Ok(reading) = wire::read(&resource) else { return false };
        let key = Arc::new(resource.key);
        state.set(&key, Some(&reading.noun));
        shelf.entries.insert(key, Entry { list: 0, good: true });
        true
    }

    /// Takes in what the follower of a kind says.
    pub fn take(&mut self, number: usize, signal: Signal, state: &mut State, cache: &mut Cache) {
        let Some(shelf) = self.shelves.get_mut(number) else { return };
        match signal {
            Signal::Listing => {
                shelf.list = shelf.list.wrapping_add(1);
                shelf.garbled = false;
            }
            Signal::Is(value) => self.is(number, value, state, cache),
            Signal::Gone(value) => {
                if let Ok(resource) = named(shelf.kind, value) {
                    self.remove(number, &Arc::new(resource.key), state, cache);
                }
            }
            Signal::Listed { .. } => {
                if !shelf.garbled {
                    let list = shelf.list;
                    self.remove_where(number, |entry| entry.list != list, state, cache);
                    self.set_trouble(number, None);
                }
            }
            Signal::NotServed { .. } => {
                self.remove_where(number, |_| true, state, cache);
                self.set_trouble(number, None);
            }
            Signal::Going => {
                if !shelf.garbled {
                    self.set_trouble(number, None);
                }
            }
            Signal::Behind => {}
            Signal::Trouble(error) => {
                let may_pass = error.is_forbidden() && shelf.list > 0 && shelf.trouble.is_none();
                match trouble(shelf.kind, &error) {
                    Some(report) if may_pass => {
                        shelf.refused.get_or_insert((Instant::now() + self.refusal, report));
                    }
                    Some(report) => self.set_trouble(number, Some(report)),
                    None => {}
                }
            }
        }
    }

    fn is(&mut self, number: usize, value: Value, state: &mut State, cache: &mut Cache) {
        let Some(shelf) = self.shelves.get_mut(number) else { return };
        let resource = match named(shelf.kind, value) {
            Ok(resource) => resource,
            Err(fault) => {
                shelf.garbled = true;
                let problem = format!("an object that is none: {fault}");
                let report = of_kind(shelf.kind, &problem, "delete it, or correct the API server");
                return self.set_trouble(number, Some(report));
            }
        };
        let key = Arc::new(resource.key.clone());
        let was_good = shelf.entries.get(&key).is_some_and(|entry| entry.good);
        let (good, reports) = match wire::read(&resource) {
            Ok(reading) => {
                let is_new = state.set(&key, Some(&reading.noun));
                if is_new || (!was_good && is_remembered(shelf.kind)) {
                    remember(shelf.kind, &resource, was_good, cache);
                }
                (true, reports(&resource, reading.notes, Effect::NotEnforced))
            }
            Err(faults) => {
                let effect =
                    if was_good { Effect::KeepsLast } else { self::meanwhile(&key, &resource, state) };
                (was_good, reports(&resource, faults, effect))
            }
        };
        shelf.entries.insert(key, Entry { list: shelf.list, good });
        self.report(number, &resource, reports);
    }

    fn report(&mut self, number: usize, resource: &Resource, reports: Vec<Arc<Rejection>>) {
        let Some(shelf) = self.shelves.get_mut(number) else { return };
        let before = match reports.is_empty() {
            true => shelf.faulty.remove(&resource.key),
            false => shelf.faulty.insert(resource.key.clone(), reports.clone()),
        };
        let before = before.unwrap_or_default();
        if before == reports {
            return;
        }
        self.reports_changed = true;
        for rejection in reports.into_iter().filter(|report| !before.contains(report)) {
            self.fresh.extend(Report::of_rejection(&rejection, &resource.value));
        }
    }

    fn remove(&mut self, number: usize, key: &Arc<Key>, state: &mut State, cache: &mut Cache) {
        let Some(shelf) = self.shelves.get_mut(number) else { return };
        let Some(entry) = shelf.entries.remove(key) else { return };
        state.set(key, None);
        if entry.good && is_remembered(shelf.kind) {
            cache.remove(key);
        }
        self.reports_changed |= shelf.faulty.remove(key).is_some();
    }

    fn remove_where(
        &mut self,
        number: usize,
        which: impl Fn(&Entry) -> bool,
        state: &mut State,
        cache: &mut Cache,
    ) {
        let Some(shelf) = self.shelves.get(number) else { return };
        let gone = shelf.entries.iter().filter(|(_, entry)| which(entry)).map(|(key, _)| key.clone());
        for key in gone.collect::<Vec<_>>() {
            self.remove(number, &key, state, cache);
        }
    }

    fn set_trouble(&mut self, number: usize, trouble: Option<Rejection>) {
        let Some(shelf) = self.shelves.get_mut(number) else { return };
        shelf.refused = None;
        let trouble = trouble.map(Arc::new);
        if shelf.trouble != trouble {
            shelf.trouble = trouble;
            self.reports_changed = true;
        }
    }

    /// When a refusal has lasted long enough to be reported.
    pub fn until(&self) -> Option<Instant> {
        self.shelves.iter().filter_map(|shelf| shelf.refused.as_ref()).map(|(at, _)| *at).min()
    }

    /// Reports refusals that have lasted.
    pub fn note_refusals(&mut self) {
        let now = Instant::now();
        for number in 0..self.shelves.len() {
            let shelf = self.shelves.get_mut(number);
            let lasting = shelf.and_then(|shelf| shelf.refused.take_if(|(at, _)| *at <= now));
            if let Some((_, report)) = lasting {
                self.set_trouble(number, Some(report));
            }
        }
    }

    /// Everything to report, if it is not what it was when it was taken last.
    pub fn changed_reports(&mut self) -> Option<BTreeSet<Arc<Rejection>>> {
        let changed = std::mem::take(&mut self.reports_changed);
        let of = |shelf: &Shelf| {
            shelf.faulty.values().flatten().chain(&shelf.trouble).cloned().collect::<Vec<_>>()
        };
        changed.then(|| self.shelves.iter().flat_map(of).collect())
    }

    /// Something else has changed that is reported with them.
    pub fn report_again(&mut self) {
        self.reports_changed = true;
    }

    /// What is new to report since it was asked last.
    pub fn fresh_reports(&mut self) -> Vec<Report> {
        std::mem::take(&mut self.fresh)
    }
}

/// What is needed at a start without an API server.
fn is_remembered(kind: &Kind) -> bool {
    kind.role != Role::Kept || kind.kind == "ConfigMap"
}

fn remember(kind: &Kind, resource: &Resource, was_good: bool, cache: &mut Cache) {
    if is_remembered(kind) {
        cache.put(&resource.key, !was_good, &resource.value);
    }
}

/// An object of that kind, with the name and namespace it must have.
fn named(kind: &'static Kind, value: Value) -> Result<Resource, Fault> {
    let resource = Resource::new(value, "")?;
    let wrong = |problem: &str| {
        let fix = "correct the API server".to_owned();
        Fault { field: String::new(), problem: problem.into(), fix }
    };
    if resource.kind != Some(kind) {
        return Err(wrong("it is of another kind than was asked for"));
    }
    if kind.namespaced && resource.key.namespace.is_empty() {
        return Err(wrong("it has no namespace"));
    }
    Ok(resource)
}

fn reports(resource: &Resource, faults: Vec<Fault>, effect: Effect) -> Vec<Arc<Rejection>> {
    let report = |Fault { field, problem, fix }| {
        Arc::new(Rejection {
            origin: Origin::Server,
            object: Some(resource.key.object_name()),
            field: (!field.is_empty()).then(|| clipped(&field)),
            problem: clipped(&problem),
            fix,
            effect,
        })
    };
    faults.into_iter().map(report).collect()
}

fn clipped(text: &str) -> String {
    match text.char_indices().nth(LONGEST_PROBLEM) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// What to report of a kind that cannot be followed; `None`: the server is away, which is said as a whole.
/// Puts in force what holds of an object of which no version was good.
fn meanwhile(key: &Arc<Key>, resource: &Resource, state: &mut State) -> Effect {
    let noun = wire::meanwhile(resource);
    state.set(key, noun.as_ref());
    if noun.is_some() { Effect::Isolates } else { Effect::Absent }
}

fn trouble(kind: &Kind, error: &ClusterError) -> Option<Rejection> {
    match error {
        ClusterError::Refused(refusal) if refusal.code == 403 => Some(of_kind(
            kind,
            &format!("may not be read: {}", refusal.message),
            "give the agent's role get, list and watch on them, as in the manifests",
        )),
        ClusterError::Refused(refusal) if !matches!(refusal.code, 401 | 429 | 500..) => {
            Some(of_kind(kind, &refusal.message, "look at the API server's logs"))
        }
        ClusterError::Malformed { .. } => Some(of_kind(kind, &error.to_string(), "correct the API server")),
        ClusterError::NotServed { .. } => {
            Some(of_kind(kind, "the API server does not serve them", "use Kubernetes 1.21 or later"))
        }
        _ => None,
    }
}

fn of_kind(kind: &Kind, problem: &str, fix: &str) -> Rejection {
    Rejection {
        origin: Origin::Server,
        object: None,
        field: None,
        problem: clipped(&format!("{}: {problem}", kind.plural)),
        fix: fix.into(),
        effect: Effect::KeepsLast,
    }
}
