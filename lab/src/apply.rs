//! Applying and deleting objects.
//!
//! Owns: the order of a change: store, servers, attachments, store again.
//! Does not: compute what the cluster derives; `cluster` does.
//! Invariant: input with one bad object changes nothing; a command that was killed is completed by the next.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::thread;
use std::time::{Duration, SystemTime};

use rustix::process::Signal;
use serde_json::json;

use crate::cluster::{self, Attachment, PodName, grace_seconds, rfc3339, runs_host_program};
use crate::error::{Result, bad, no};
use crate::lab::{Lab, Where};
use crate::object::{Key, Object};
use crate::process::Record;
use crate::world::World;

/// Pods are attached this many at a time.
const AT_ONCE: usize = 8;

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is new.
    Created,
    /// It is different now.
    Configured,
    /// It was so already.
    Unchanged,
    /// It is gone.
    Deleted,
}

/// What a change did.
#[derive(Debug, Default)]
pub struct Applied {
    /// In the order of the input.
    pub objects: Vec<(Key, Change)>,
    /// What did not go well although the rest was done.
    pub complaints: Vec<String>,
}

impl Lab {
    /// Stores objects, completes them, and attaches the pods among them.
    pub fn apply(&mut self, objects: Vec<Object>) -> Result<Applied> {
        if self.has_api_server() {
            return self.apply_to_cluster(objects);
        }
        let _lock = self.lock()?;
        let mut world = World::read(&self.paths.store())?;
        let mut applied = Applied { complaints: world.unreadable().to_vec(), ..Applied::default() };
        let mut seen = BTreeSet::new();
        let now = SystemTime::now();
        for object in objects {
            let key = object.key();
            if !seen.insert(key.clone()) {
                return Err(bad!("{key} appears twice"));
            }
            let before = world.get(&key).cloned();
            let mut object = cluster::admit(object, before.as_ref(), now)?;
            if object.kind() == "Pod" {
                cluster::schedule(&mut object, &world, &self.state.plan, &mut self.state.scheduled)?;
            }
            world.put(object);
            applied.objects.push((key, before.map_or(Change::Created, |_| Change::Unchanged)));
        }
        let before = World::read(&self.paths.store())?;
        let attached = self.attachments()?;
        cluster::reconcile(&mut world, &self.state.plan, &attached)?;
        for (key, change) in &mut applied.objects {
            if *change == Change::Unchanged && before.get(key) != world.get(key) {
                *change = Change::Configured;
            }
        }
        world.write()?;
        self.save()?;
        applied.complaints.extend(self.settle(&mut world)?);
        Ok(applied)
    }

    /// Removes objects. A pod with a grace period serves on, terminating, until it is over; `grace` overrides.
    pub fn delete(&mut self, keys: &[Key], grace: Option<Duration>) -> Result<Applied> {
        if self.has_api_server() {
            return self.delete_from_cluster(keys, grace);
        }
        let mut applied = Applied::default();
        let mut missing = Vec::new();
        let mut longest = Duration::ZERO;
        let mut leaving = Vec::new();
        {
            let _lock = self.lock()?;
            let mut world = World::read(&self.paths.store())?;
            for key in self.with_contents(keys, &world) {
                let Some(object) = world.get(&key).cloned() else {
                    missing.push(key.to_string());
                    continue;
                };
                let patience = grace.unwrap_or_else(|| Duration::from_secs(grace_seconds(&object)));
                if key.kind == "Pod" && !patience.is_zero() {
                    longest = longest.max(patience);
                    leaving.push((key.clone(), object.text("/metadata/uid").map(str::to_owned)));
                    world.put(terminating(object, patience));
                } else {
                    world.remove(&key);
                }
                applied.objects.push((key, Change::Deleted));
            }
            cluster::reconcile(&mut world, &self.state.plan, &self.attachments()?)?;
            world.write()?;
            applied.complaints.extend(self.settle(&mut world)?);
        }
        if !leaving.is_empty() {
            thread::sleep(longest);
            applied.complaints.extend(self.finish(&leaving)?);
        }
        if missing.is_empty() { Ok(applied) } else { Err(no!("not found: {}", missing.join(", "))) }
    }

    /// Everything in the store.
    pub fn objects(&self) -> Result<Vec<Object>> {
        let world = self.everything()?;
        Ok(world.keys().filter_map(|key| world.get(key).cloned()).collect())
    }

    /// When an object was last written to the store; on an API server, by this process.
    pub fn stored_at(&self, key: &Key) -> Result<SystemTime> {
        if self.has_api_server() {
            return self.written_at(key).ok_or_else(|| no!("{key} was not applied by this process"));
        }
        let world = World::read(&self.paths.store())?;
        let place = world.place(key).ok_or_else(|| no!("{key} is not in the store"))?;
        Ok(std::fs::metadata(place)?.modified()?)
    }

    /// Removes pods whose grace period is over, unless they were replaced meanwhile.
    fn finish(&mut self, leaving: &[(Key, Option<String>)]) -> Result<Vec<String>> {
        let _lock = self.lock()?;
        let mut world = World::read(&self.paths.store())?;
        for (key, uid) in leaving {
            if world.get(key).is_some_and(|object| object.text("/metadata/uid") == uid.as_deref()) {
                world.remove(key);
            }
        }
        cluster::reconcile(&mut world, &self.state.plan, &self.attachments()?)?;
        world.write()?;
        self.settle(&mut world)
    }

    /// A Namespace goes with everything in it.
    fn with_contents(&self, keys: &[Key], world: &World) -> Vec<Key> {
        let mut all: Vec<Key> = Vec::new();
        for key in keys {
            if key.kind == "Namespace" {
                all.extend(
                    world.keys().filter(|inside| inside.namespace.as_ref() == Some(&key.name)).cloned(),
                );
            }
            all.push(key.clone());
        }
        let mut seen = BTreeSet::new();
        all.retain(|key| seen.insert(key.clone()));
        all
    }

    /// Writes what the cluster derives, without any change by a user.
    pub(crate) fn reconcile_world(&self) -> Result<()> {
        let mut world = World::read(&self.paths.store())?;
        cluster::reconcile(&mut world, &self.state.plan, &self.attachments()?)?;
        world.write()
    }

    /// Makes attachments and servers follow the world, and the world's statuses follow them.
    fn settle(&self, world: &mut World) -> Result<Vec<String>> {
        let now = rfc3339(SystemTime::now());
        let expired: Vec<Key> = world
            .of_kind("Pod")
            .filter(|pod| pod.text("/metadata/deletionTimestamp").is_some_and(|end| end <= now.as_str()))
            .map(Object::key)
            .collect();
        for key in expired {
            world.remove(&key);
        }
        let mut attached = self.attachments()?;
        let mut errors = self.detach_gone(world, &mut attached)?;
        errors.extend(self.attach_new(world, &mut attached)?);
        let mut complaints = self.serve(world, &attached)?;
        complaints.extend(self.start_host_programs(world, &attached)?);
        cluster::reconcile(world, &self.state.plan, &attached)?;
        world.write()?;
        if errors.is_empty() { Ok(complaints) } else { Err(no!("{}", errors.join("\n"))) }
    }

    fn detach_gone(
        &self,
        world: &World,
        attached: &mut BTreeMap<PodName, Attachment>,
    ) -> Result<Vec<String>> {
        let stays = |name: &PodName, found: &Attachment| {
            let pod = world.get(&Key::core("Pod", Some(&name.0), &name.1));
            // One without an address was being attached when a command was killed: it is done again.
            !found.addresses.is_empty()
                && pod.is_some_and(|pod| pod.text("/metadata/uid") == Some(found.uid.as_str()))
        };
        let gone: Vec<Attachment> = attached
            .iter()
            .filter(|(name, found)| !stays(name, found))
            .map(|(_, found)| found.clone())
            .collect();
        if gone.is_empty() {
            return Ok(Vec::new());
        }
        attached.retain(|name, found| stays(name, found));
        // A server's sockets would keep the namespace alive.
        self.serve(world, attached)?;
        Ok(in_parallel(&gone, |attachment| self.detach(attachment))
            .into_iter()
            .filter_map(Result::err)
            .map(|e| e.to_string())
            .collect())
    }

    fn attach_new(&self, world: &World, attached: &mut BTreeMap<PodName, Attachment>) -> Result<Vec<String>> {
        let new: Vec<Object> = world
            .of_kind("Pod")
            .filter(|pod| {
                !attached.contains_key(&(pod.namespace().unwrap_or_default().into(), pod.name().into()))
            })
            .filter(|pod| pod.at("/metadata/deletionTimestamp").is_none())
            .filter(|pod| pod.text("/spec/nodeName").is_some_and(|name| self.state.plan.node(name).is_ok()))
            .cloned()
            .collect();
        let mut errors = Vec::new();
        for result in in_parallel(&new, |pod| self.attach(pod)) {
            match result {
                Ok(done) => {
                    attached.insert((done.namespace.clone(), done.name.clone()), done);
                }
                Err(error) => errors.push(error.to_string()),
            }
        }
        Ok(errors)
    }

    /// Runs the commands of containers with `image: host` that do not run yet.
    pub(crate) fn start_host_programs(
        &self,
        world: &World,
        attached: &BTreeMap<PodName, Attachment>,
    ) -> Result<Vec<String>> {
        let mut complaints = Vec::new();
        for ((namespace, name), found) in attached {
            let Some(pod) = world.get(&Key::core("Pod", Some(namespace), name)) else { continue };
            for (container, command) in runs_host_program(pod) {
                let what = format!("pod-{namespace}_{name}_{container}");
                let record = self.paths.process(&what);
                if record.exists() {
                    continue;
                }
                let place = self.place(&Where::Pod(namespace.clone(), found.name.clone()))?;
                let argv: Vec<OsString> = command.into_iter().map(OsString::from).collect();
                if let Err(error) = Record::start(&place, &argv, &self.paths.log(&what), &record) {
                    complaints.push(format!("pod {namespace}/{name} container {container}: {error}"));
                }
            }
        }
        Ok(complaints)
    }

    /// Ends the commands of a pod's containers.
    pub(crate) fn end_host_programs(&self, pod: &Attachment) -> Result<()> {
        let prefix = format!("pod-{}_{}_", pod.namespace, pod.name);
        let directory = self.paths.root.join("processes");
        for entry in std::fs::read_dir(&directory)?.flatten() {
            if !entry.file_name().to_string_lossy().starts_with(&prefix) {
                continue;
            }
            if let Some(record) = Record::read(&entry.path()) {
                record.end(Signal::KILL, Duration::from_secs(5))?;
            }
            std::fs::remove_file(entry.path())?;
        }
        Ok(())
    }
}

fn terminating(mut pod: Object, patience: Duration) -> Object {
    pod.set_default(&["metadata", "deletionTimestamp"], json!(rfc3339(SystemTime::now() + patience)));
    pod.set_default(&["metadata", "deletionGracePeriodSeconds"], json!(patience.as_secs()));
    pod
}

/// Results in the order of the input.
fn in_parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let mut results = Vec::with_capacity(items.len());
    for chunk in items.chunks(AT_ONCE) {
        thread::scope(|scope| {
            let running: Vec<_> = chunk.iter().map(|item| scope.spawn(|| work(item))).collect();
            for thread in running {
                match thread.join() {
                    Ok(result) => results.push(result),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
        });
    }
    results
}
