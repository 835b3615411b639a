//! The thread that keeps the API server and the store's reader together.
//!
//! Owns: when the store is in sync, when to say it, rescans. Does not: list or watch; followers do.
//! Invariant: before everything needed has been listed nothing is said, unless the server is away and there is a whole
//! memory of what was in force.

use super::cache::{Cache, Memory};
use super::connection::Connection;
use super::current::Current;
use super::error::ClusterError;
use super::follow::{Follower, Orders, Signal, Subject};
use super::identity::Identity;
use super::objects::Objects;
use super::report::Reporter;
use super::served::Served;
use super::withheld::Withheld;
use crate::event::{Batch, Event};
use crate::kind::{KINDS, Kind, Role};
use crate::settings::{LOOK, NodeSettings};
use crate::state::State;
use crate::stream::{self, Finding, Rescan, Standing};
use serde_json::Value;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Signals taken in before they are said.
const BURST: usize = 4096;
/// Where Calico's users say how the API server is reached without Services.
const SERVERS: &str = "kubernetes-services-endpoint";
const SERVERS_NAMESPACE: &str = "kube-system";

/// The definitions of custom resources, by which we notice that a kind is served from now on.
static DEFINITIONS: Kind = Kind {
    group: "apiextensions.k8s.io",
    versions: &["v1"],
    kind: "CustomResourceDefinition",
    plural: "customresourcedefinitions",
    aliases: &[],
    namespaced: false,
    role: Role::Kept,
};

/// What is followed: every kind we know, and the definitions, last.
pub(super) fn subjects() -> Vec<Subject> {
    let mut subjects: Vec<Subject> = KINDS.iter().map(Subject::all).collect();
    for subject in &mut subjects {
        if subject.kind.kind == "ConfigMap" {
            subject.namespace = SERVERS_NAMESPACE.into();
            subject.fields = format!("metadata.name={SERVERS}");
        }
    }
    subjects.push(Subject { metadata_only: true, ..Subject::all(&DEFINITIONS) });
    subjects
}

/// One kind's follower, seen from here.
struct Followed {
    kind: &'static Kind,
    orders: Arc<Orders>,
    /// The last order that has been carried out; `None`: it has not been listed yet.
    done: Option<u64>,
    /// It cannot be listed for now.
    troubled: bool,
    current: Current,
}

impl Followed {
    /// The store cannot be in sync without it.
    fn is_needed(&self) -> bool {
        self.kind.role != Role::Kept
    }

    /// Whether an order has been carried out, or cannot be and is not needed.
    fn has_done(&self, order: u64) -> bool {
        self.done.is_some_and(|done| done >= order) || (self.troubled && !self.is_needed())
    }
}

pub(super) struct Driver {
    ends: stream::Driver,
    connection: Connection,
    identity: Identity,
    served: Served,
    signals: mpsc::Receiver<(usize, Signal)>,
    followed: Vec<Followed>,
    objects: Objects,
    state: State,
    cache: Cache,
    /// What variables and the node's file say.
    local: NodeSettings,
    reporter: Option<Reporter>,
    findings: mpsc::UnboundedReceiver<Finding>,
    /// Rescans: for each follower the order that has to be carried out.
    waiting: Vec<(Vec<u64>, Rescan)>,
    open: bool,
    remembers: bool,
    /// A list of the definitions is under way.
    lists_definitions: bool,
    withheld: Withheld,
    shared: Arc<Mutex<Seen>>,
}

/// What is known of the start, for whoever asks.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Why what the server says is not believed.
    disbelief: Option<String>,
    from_cache: bool,
    waiting_for: Vec<String>,
    /// Kinds that have been listed, and how far they are followed.
    listed: Vec<(&'static Kind, Current)>,
    /// Why what is remembered is not relied on.
    memory: Option<String>,
    /// Why what is in force is not remembered.
    unwritten: Option<String>,
}

/// Answers how the store stands.
pub(super) fn standing(connection: &Connection, served: &Served, seen: &Mutex<Seen>) -> Option<Standing> {
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    let (from_cache, waiting_for) = (seen.from_cache, seen.waiting_for.clone());
    let behind = seen.listed.iter().filter(|(_, current)| current.is_behind());
    let behind = behind.map(|(kind, _)| kind.plural.to_owned()).collect();
    let (memory, unwritten) = (seen.memory.clone(), seen.unwritten.clone());
    let standing = connection.standing()?;
    let trouble = standing.trouble.or_else(|| seen.disbelief.clone());
    let fallback = served.fallback();
    Some(Standing { from_cache, waiting_for, behind, memory, unwritten, trouble, fallback, ..standing })
}

/// What a driver begins with.
pub(super) struct Beginning {
    pub ends: stream::Driver,
    pub connection: Connection,
    pub state: State,
    pub local: NodeSettings,
    pub cache: Cache,
    pub shared: Arc<Mutex<Seen>>,
    pub served: Served,
    pub reporter: Option<Reporter>,
    pub findings: mpsc::UnboundedReceiver<Finding>,
}

impl Driver {
    /// Recalls what is remembered and starts the followers; inside a runtime.
    pub fn start(beginning: Beginning) -> Self {
        let Beginning { ends, connection, mut state, local, mut cache, shared, served, reporter, findings } =
            beginning;
        let subjects = subjects();
        let mut objects =
            Objects::new(subjects.iter().map(|subject| subject.kind), connection.timing().refusal);
        let mut servers = Vec::new();
        let memory = cache.recall(|value| {
            servers.extend(server_of(&value));
            objects.recall(value, &mut state)
        });
        let remembers = memory == Memory::Whole;
        if let Memory::Part(why) = memory {
            tracing::error!(memory = why, "what is in force stays until the API server has said everything");
            shared.lock().unwrap_or_else(PoisonError::into_inner).memory = Some(why);
        }
        if !servers.is_empty() {
            connection.tell_servers(servers);
        }
        let identity = Identity::new(cache.cluster().map(str::to_owned));
        let (say, signals) = mpsc::channel(1024);
        let mut followed = Vec::new();
        for (number, subject) in subjects.into_iter().enumerate() {
            let orders = Arc::new(Orders::default());
            let kind = subject.kind;
            followed.push(Followed {
                kind,
                orders: Arc::clone(&orders),
                done: None,
                troubled: false,
                current: Current::default(),
            });
            let follower = Follower {
                connection: connection.clone(),
                served: served.clone(),
                subject,
                orders,
                identity: Some(identity.clone()),
                trimmed: true,
                number,
                say: say.clone(),
            };
            tokio::spawn(follower.run());
        }
        Self {
            ends,
            connection,
            identity,
            served,
            signals,
            followed,
            objects,
            state,
            cache,
            local,
            reporter,
            findings,
            waiting: Vec::new(),
            open: false,
            remembers,
            lists_definitions: false,
            withheld: Withheld::default(),
            shared,
        }
    }

    /// Runs until nobody listens.
    pub async fn run(mut self) {
        let wait = self.connection.timing().patience;
        let mut patience = Instant::now() + wait;
        let mut looks = tokio::time::interval(LOOK);
        loop {
            let retry = self.cache.again().map(Instant::from_std);
            let until = self.withheld.until(self.policies()).into_iter().chain(self.objects.until()).min();
            tokio::select! {
                () = self.ends.batches.closed() => return,
                request = self.ends.requests.recv() => match request {
                    Some(request) => self.rescan(request),
                    None => return,
                },
                signal = self.signals.recv() => {
                    let Some((number, signal)) = signal else { return };
                    if !matches!(signal, Signal::Trouble(_)) {
                        patience = Instant::now() + wait;
                    }
                    self.take(number, signal);
                }
                Some(finding) = self.findings.recv() => {
                    if let Some(reporter) = &mut self.reporter {
                        reporter.find(finding);
                    }
                }
                () = tokio::time::sleep_until(patience), if !self.open && self.remembers => {
                    tracing::warn!("the API server has not said everything; what was in force before is in force");
                    self.connection.nobody_waits();
                    self.open = true;
                }
                _ = looks.tick(), if self.local.have_file() => self.look(false),
                () = tokio::time::sleep_until(retry.unwrap_or(patience)), if retry.is_some() => {}
                () = tokio::time::sleep_until(until.unwrap_or(patience)), if until.is_some() => {}
            }
            for _ in 0..BURST {
                let Ok((number, signal)) = self.signals.try_recv() else { break };
                self.take(number, signal);
            }
            self.let_go();
            self.objects.note_refusals();
            self.note();
            self.remember();
            if self.open && !self.say() {
                return;
            }
            self.answer();
        }
    }

    fn rescan(&mut self, request: Rescan) {
        self.look(true);
        self.served.forget();
        let orders = self.followed.iter().map(|it| it.orders.list_again()).collect();
        self.waiting.push((orders, request));
    }

    /// At the node's file.
    fn look(&mut self, at_once: bool) {
        if self.local.look(at_once, &mut self.state) {
            self.objects.report_again();
        }
    }

    fn take(&mut self, number: usize, signal: Signal) {
        let Some(followed) = self.followed.get_mut(number) else { return };
        followed.current.hear(&signal);
        match &signal {
            Signal::Listed { orders } | Signal::NotServed { orders } => {
                followed.done = Some(*orders);
                followed.troubled = false;
                self.shared.lock().unwrap_or_else(PoisonError::into_inner).disbelief = None;
            }
            Signal::Going => followed.troubled = false,
            Signal::Trouble(error) => {
                tracing::debug!(kind = followed.kind.plural, %error, "following");
                followed.troubled = true;
                if matches!(error, ClusterError::OtherCluster { .. }) {
                    let mut seen = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
                    if seen.disbelief.is_none() {
                        tracing::error!(%error, "what is in force stays");
                    }
                    seen.disbelief = Some(error.to_string());
                }
            }
            Signal::Is(value) | Signal::Gone(value) => {
                if followed.kind == &DEFINITIONS {
                    // What is in a list may long have been there.
                    if !self.lists_definitions {
                        self.defined(Orders::look_closely);
                    }
                    return;
                }
                if followed.kind.role == Role::Node
                    && let Some(reporter) = &mut self.reporter
                {
                    reporter.node(value, matches!(signal, Signal::Is(_)));
                }
                if matches!(signal, Signal::Is(_))
                    && let Some(server) = server_of(value)
                {
                    self.connection.tell_servers(vec![server]);
                }
            }
            Signal::Listing | Signal::Behind => {}
        }
        if self.followed.get(number).is_some_and(|followed| followed.kind == &DEFINITIONS) {
            match signal {
                Signal::Listing => self.lists_definitions = true,
                Signal::Listed { .. } => {
                    self.lists_definitions = false;
                    self.defined(Orders::look_again);
                }
                _ => {}
            }
            return;
        }
        let (state, policies) = (&self.state, self.policies());
        let signal = match self.followed.get(number).map(|followed| followed.kind.role) {
            Some(Role::Pod) => self.withheld.pass(signal, policies, |pod| state.is_new_here(pod)),
            _ => Some(signal),
        };
        if let Some(signal) = signal {
            self.objects.take(number, signal, &mut self.state, &mut self.cache);
        }
    }

    /// How far policies are followed.
    fn policies(&self) -> Current {
        let of_policies = self.followed.iter().find(|it| it.kind.role == Role::NetworkPolicy);
        of_policies.map(|it| it.current).unwrap_or_default()
    }

    /// Pods whose policies are known by now.
    fn let_go(&mut self) {
        let Some(pods) = self.followed.iter().position(|followed| followed.kind.role == Role::Pod) else {
            return;
        };
        for pod in self.withheld.let_go(self.policies()) {
            self.objects.take(pods, Signal::Is(pod), &mut self.state, &mut self.cache);
        }
    }

    /// Definitions have changed: kinds that were not served are looked for.
    fn defined(&self, look: fn(&Orders)) {
        self.served.forget();
        self.followed.iter().for_each(|followed| look(&followed.orders));
    }

    fn note(&mut self) {
        let missing: Vec<String> = self
            .followed
            .iter()
            .filter(|followed| followed.done.is_none() && followed.is_needed())
            .map(|followed| followed.kind.plural.to_owned())
            .collect();
        let complete = missing.is_empty();
        let all_known = self.followed.iter().all(|followed| followed.done.is_some() || followed.troubled);
        self.open |= complete && all_known;
        if self.open && complete {
            self.cache.set_complete();
        }
        let mut seen = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        seen.from_cache = self.open && !complete;
        seen.waiting_for = missing;
        let listed = self.followed.iter().filter(|it| it.done.is_some() && it.is_needed());
        seen.listed = listed.map(|it| (it.kind, it.current)).collect();
        if self.open && complete && seen.memory.take().is_some() && self.cache.trouble().is_none() {
            tracing::info!("the API server has said everything; what is in force is remembered again");
        }
    }

    /// What is in force is written for the next start, and what could not be is tried again.
    fn remember(&mut self) {
        if self.open
            && let Some(uid) = self.identity.known()
        {
            self.cache.set_cluster(&uid);
        }
        if self.open || self.cache.again().is_some() {
            self.cache.flush();
        }
        let mut seen = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        seen.unwritten = self.cache.trouble().map(str::to_owned);
    }

    /// Sends what is new; `false`: nobody listens.
    fn say(&mut self) -> bool {
        let batch = match self.objects.changed_reports() {
            Some(mut reports) => {
                reports.extend(self.local.rejections().cloned());
                self.state.commit(reports)
            }
            None => self.state.commit_changes(),
        };
        let fresh = self.objects.fresh_reports();
        let Some(batch) = batch else { return true };
        if let Some(reporter) = &mut self.reporter {
            nodes_of(&batch).for_each(|(name, there)| reporter.known(name, there));
            fresh.into_iter().for_each(|report| reporter.report(report));
        }
        self.ends.batches.send(batch).is_ok()
    }

    /// Whoever asked is answered when every kind has been listed since.
    fn answer(&mut self) {
        if !self.open {
            return;
        }
        let revision = self.state.revision();
        let done = |needed: &[u64]| self.followed.iter().zip(needed).all(|(it, order)| it.has_done(*order));
        let (ready, waiting) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|(needed, _): &(Vec<u64>, Rescan)| done(needed));
        self.waiting = waiting;
        let ready: Vec<(Vec<u64>, Rescan)> = ready;
        for (_, answer) in ready {
            // Whoever asked may have gone away.
            let _ = answer.send(revision);
        }
    }
}

fn nodes_of(batch: &Batch) -> impl Iterator<Item = (&str, bool)> {
    batch.events.iter().filter_map(|event| match event {
        Event::Changed(tortie_model::Object::Node(change)) => {
            Some((change.key.as_str(), change.value.is_some()))
        }
        _ => None,
    })
}

/// The server that Calico's ConfigMap names.
fn server_of(value: &Value) -> Option<String> {
    if value.get("kind")?.as_str()? != "ConfigMap" || value.pointer("/metadata/name")?.as_str()? != SERVERS {
        return None;
    }
    let text = |name: &str| value.get("data")?.get(name)?.as_str().filter(|text| !text.is_empty());
    let (host, port) = (text("KUBERNETES_SERVICE_HOST")?, text("KUBERNETES_SERVICE_PORT").unwrap_or("443"));
    match host.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V6(host)) => Some(format!("[{host}]:{port}")),
        _ => Some(format!("{host}:{port}")),
    }
}
