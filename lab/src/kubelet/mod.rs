//! The process that plays scheduler and kubelet beside a real API server.
//!
//! Owns: the loop: what is heard from the API server, what is at work, and what is next for each pod.
//! Does not: talk to plugins or servers itself; `work` does, on threads of its own.
//! Invariant: one thing at a time happens to a pod; the records on disk say what was attached, so that a kubelet
//! that was killed goes on where it was.

mod next;
mod nodes;
mod work;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tortie_store::kube::Change;

use self::next::{Job, next};
use self::work::Outcome;
use crate::api::{known, object};
use crate::cluster::{Attachment, PodName};
use crate::error::{Result, silent};
use crate::files;
use crate::lab::Lab;
use crate::names::LabName;
use crate::object::{Key, Object};
use crate::process::Record;
use crate::world::World;

/// So many pods are attached at once.
const AT_ONCE: usize = 8;
/// What failed is tried again after this time.
const AGAIN: Duration = Duration::from_secs(1);
/// Something may be due although nobody said anything.
const TICK: Duration = Duration::from_millis(250);

/// What the loop hears.
enum Event {
    Cluster(Change),
    Done(PodName, Job, Result<Outcome>),
}

/// A pod that has been asked to go.
#[derive(Debug, Clone)]
struct Leaving {
    uid: String,
    /// It serves until then.
    until: Instant,
}

struct Kubelet {
    lab: Lab,
    say: Sender<Event>,
    /// Pods and Nodes as the API server has them.
    world: World,
    /// What has been listed in full.
    synced: BTreeSet<&'static str>,
    attached: BTreeMap<PodName, Attachment>,
    leaving: BTreeMap<PodName, Leaving>,
    /// At work.
    busy: BTreeSet<PodName>,
    /// To be looked at now.
    dirty: BTreeSet<PodName>,
    /// To be looked at later.
    later: BTreeMap<PodName, Instant>,
    /// Ready to be done when a place is free.
    queue: VecDeque<(PodName, Job)>,
    running: usize,
    /// Whose sandbox is being made anew.
    wishes: BTreeSet<PodName>,
    scheduled: u64,
}

/// Runs until killed.
pub fn run(name: &LabName) -> anyhow::Result<()> {
    let lab = Lab::open_unfinished(name)?;
    let (say, heard) = channel();
    nodes::keep(&lab)?;
    let mut watch = lab.cluster()?.watch(&[known("", "Pod")?, known("", "Node")?])?;
    let listener = say.clone();
    thread::Builder::new().name("watch".into()).spawn(move || {
        while let Some(change) = watch.blocking_next() {
            if listener.send(Event::Cluster(change)).is_err() {
                return;
            }
        }
    })?;
    let attached = lab.attachments()?;
    let dirty = attached.keys().cloned().collect();
    let mut kubelet = Kubelet {
        lab,
        say,
        world: World::default(),
        synced: BTreeSet::new(),
        attached,
        leaving: BTreeMap::new(),
        busy: BTreeSet::new(),
        dirty,
        later: BTreeMap::new(),
        queue: VecDeque::new(),
        running: 0,
        wishes: BTreeSet::new(),
        scheduled: 0,
    };
    kubelet.run(&heard)
}

impl Kubelet {
    fn run(&mut self, heard: &Receiver<Event>) -> anyhow::Result<()> {
        loop {
            match heard.recv_timeout(self.patience()) {
                Ok(event) => self.hear(event),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => anyhow::bail!("nobody is left to listen to"),
            }
            while let Ok(event) = heard.try_recv() {
                self.hear(event);
            }
            self.hear_wishes();
            // Until both lists are there, a pod that is not known may only not have been heard of yet.
            if self.synced.len() == 2 {
                self.look()?;
            }
        }
    }

    fn patience(&self) -> Duration {
        let next = self.later.values().min();
        next.map_or(TICK, |at| at.saturating_duration_since(Instant::now()).min(TICK))
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Cluster(change) => self.hear_of(change),
            Event::Done(name, job, outcome) => self.done(name, job, outcome),
        }
    }

    fn hear_of(&mut self, change: Change) {
        match change {
            Change::Is(resource) => match object(resource) {
                Ok(object) => {
                    self.touch(&object);
                    self.world.put(object);
                }
                Err(error) => tracing::warn!("{error}"),
            },
            Change::Gone(resource) => match object(resource) {
                Ok(object) => {
                    self.touch(&object);
                    self.world.remove(&object.key());
                }
                Err(error) => tracing::warn!("{error}"),
            },
            Change::Synced(kind) => {
                self.synced.insert(kind.kind);
            }
            Change::NotServed(kind) => tracing::warn!("the API server serves no {}", kind.plural),
            Change::Trouble(kind, error) => tracing::warn!("watching {}: {error}", kind.plural),
        }
    }

    fn touch(&mut self, object: &Object) {
        if object.kind() == "Pod" {
            self.dirty.insert((object.namespace().unwrap_or_default().to_owned(), object.name().to_owned()));
        }
    }

    /// Decides what is next for every pod that something has happened to.
    fn look(&mut self) -> Result<()> {
        let now = Instant::now();
        let due: Vec<PodName> =
            self.later.iter().filter(|(_, at)| **at <= now).map(|(name, _)| name.clone()).collect();
        for name in due {
            self.later.remove(&name);
            self.dirty.insert(name);
        }
        let idle: Vec<PodName> =
            self.dirty.iter().filter(|name| !self.busy.contains(*name)).cloned().collect();
        let mut unserved = false;
        for name in idle {
            self.dirty.remove(&name);
            let Some(job) = self.decide(&name) else { continue };
            if matches!(job, Job::Detach(..) | Job::Finish(..)) {
                // A server's sockets would keep the namespace alive.
                unserved |= self.attached.remove(&name).is_some();
            }
            self.busy.insert(name.clone());
            self.queue.push_back((name, job));
        }
        if unserved {
            self.serve();
        }
        self.start_jobs()
    }

    /// A sandbox that is to be made anew counts as half attached.
    fn hear_wishes(&mut self) {
        let wishes = std::fs::read_dir(self.lab.sandbox_wishes()).into_iter().flatten().flatten();
        for wish in wishes.filter_map(|entry| entry.file_name().into_string().ok()) {
            let Some((namespace, name)) = wish.split_once('_').filter(|_| !wish.starts_with('.')) else {
                continue;
            };
            let name = (namespace.to_owned(), name.to_owned());
            if self.wishes.insert(name.clone())
                && let Some(attachment) = self.attached.get_mut(&name)
            {
                attachment.addresses.clear();
                self.dirty.insert(name);
            }
        }
    }

    fn decide(&mut self, name: &PodName) -> Option<Job> {
        let key = Key::core("Pod", Some(&name.0), &name.1);
        let pod = self.world.get(&key);
        let uid = pod.and_then(|pod| pod.text("/metadata/uid")).unwrap_or_default();
        if self.leaving.get(name).is_some_and(|leaving| leaving.uid != uid) {
            self.leaving.remove(name);
        }
        if let Some(pod) = pod.filter(|pod| pod.at("/metadata/deletionTimestamp").is_some()) {
            let until = Instant::now() + next::lingers(pod);
            self.leaving.entry(name.clone()).or_insert(Leaving { uid: uid.to_owned(), until });
        }
        let leaving = self.leaving.get(name).map(|leaving| leaving.until);
        if let Some(until) = leaving.filter(|until| *until > Instant::now()) {
            self.later.insert(name.clone(), until);
        }
        let job = next(pod, self.attached.get(name), leaving, Instant::now(), &self.lab.state.plan)?;
        let Job::Bind(mut pod) = job else { return Some(job) };
        match crate::cluster::schedule(&mut pod, &self.world, &self.lab.state.plan, &mut self.scheduled) {
            Ok(()) => Some(Job::Bind(pod)),
            Err(error) => {
                tracing::warn!("{error}");
                self.later.insert(name.clone(), Instant::now() + AGAIN);
                None
            }
        }
    }

    fn start_jobs(&mut self) -> Result<()> {
        while self.running < AT_ONCE {
            let Some((name, job)) = self.queue.pop_front() else { return Ok(()) };
            self.running += 1;
            let (lab, say) = (self.lab.clone(), self.say.clone());
            let work = move || {
                let outcome = work::run(&lab, &job);
                // The loop ends only with the process.
                let _ = say.send(Event::Done(name, job, outcome));
            };
            thread::Builder::new().name("pod".into()).spawn(work).context("starting a thread")?;
        }
        Ok(())
    }

    fn done(&mut self, name: PodName, job: Job, outcome: Result<Outcome>) {
        self.running -= 1;
        self.busy.remove(&name);
        match outcome {
            Ok(Outcome::Attached(attachment)) => {
                self.attached.insert(name.clone(), *attachment);
                self.serve();
                if self.wishes.remove(&name) {
                    let wish = self.lab.sandbox_wishes().join(format!("{}_{}", name.0, name.1));
                    if let Err(error) = std::fs::remove_file(&wish) {
                        tracing::warn!("{}: {error}", wish.display());
                    }
                }
            }
            Ok(Outcome::Gone) => {
                self.leaving.remove(&name);
            }
            Ok(Outcome::Said) => return,
            Err(error) => {
                tracing::warn!("{} of pod {}/{}: {error}", job.verb(), name.0, name.1);
                if let Job::Detach(attachment) | Job::Finish(_, Some(attachment)) = job {
                    // The plugin failed; the record is still there, or the namespace has gone with it.
                    if self.lab.attachment(&name.0, &name.1).is_ok() {
                        let unfinished = Attachment { addresses: Vec::new(), ..attachment };
                        self.attached.insert(name.clone(), unfinished);
                    }
                }
                self.later.insert(name, Instant::now() + AGAIN);
                return;
            }
        }
        self.dirty.insert(name);
    }

    /// Tells the servers whom to serve. What cannot be served is logged; the pod is there all the same.
    fn serve(&self) {
        match self.lab.serve(&self.world, &self.attached) {
            Ok(complaints) => complaints.iter().for_each(|complaint| tracing::warn!("{complaint}")),
            Err(error) => tracing::warn!("serving: {error}"),
        }
        match self.lab.start_host_programs(&self.world, &self.attached) {
            Ok(complaints) => complaints.iter().for_each(|complaint| tracing::warn!("{complaint}")),
            Err(error) => tracing::warn!("host programs: {error}"),
        }
    }
}

impl Lab {
    /// Starts the kubelet unless it runs; a laboratory with a directory needs none.
    pub(crate) fn ensure_kubelet(&self) -> Result<()> {
        let record = self.paths.process("kubelet");
        if !self.has_api_server() || Record::read(&record).is_some_and(|record| record.is_alive()) {
            return Ok(());
        }
        let arguments = ["lab", "kubelet", "--name", &self.name.to_string()].map(Into::into);
        let argv: Vec<_> = [self.binary.clone().into_os_string()].into_iter().chain(arguments).collect();
        Record::start_sharing_mounts(&self.api_place(), &argv, &self.paths.log("kubelet"), &record)?;
        Ok(())
    }

    /// Has a pod's network taken away and made anew, as a kubelet does whose sandbox has died. Nothing is asked of
    /// the API server.
    pub fn restart_sandbox(&self, namespace: &str, name: &str, patience: Duration) -> Result<Attachment> {
        self.attachment(namespace, name)?;
        self.ensure_kubelet()?;
        let wish = self.sandbox_wishes().join(format!("{namespace}_{name}"));
        files::write_atomically(&wish, b"")?;
        let deadline = Instant::now() + patience;
        while wish.exists() {
            if Instant::now() > deadline {
                return Err(silent!("pod {namespace}/{name} has no new network yet"));
            }
            thread::sleep(Duration::from_millis(10));
        }
        self.attachment(namespace, name)
    }

    fn sandbox_wishes(&self) -> PathBuf {
        self.paths.root.join("sandboxes")
    }
}
