//! What is measured with real agents: changes, attaching pods, memory.
//!
//! Owns: the laboratory they run in, and what each figure means.
//! Does not: print.
//! Invariant: the laboratory is gone at the end, also after a failure and after Ctrl-C.

use std::fs;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use serde_json::{Value, json};
use tortie_lab::{Dataplane, Lab, LabName, Object, UpOptions, Where};

use super::stream::{Stream, Turn};
use super::{Item, Packet};
use crate::exit::Failure;

/// The figures of this part.
pub const NAMES: [&str; 3] = ["policy-change", "cni-add", "agent-rss"];

const POLICY_CHANGE_MILLIS: f64 = 20.0;
const CNI_ADD_MILLIS: f64 = 150.0;
const RSS_BYTES: f64 = 40e6;

const NODES: usize = 3;
const NAMESPACE: &str = "bench";
const PATIENCE: Duration = Duration::from_secs(30);
/// A change that has not come into force by then never will.
const GIVE_UP: Duration = Duration::from_secs(5);
/// Between two looks at a stream, and between a change's end and the next change.
const LOOK: Duration = Duration::from_millis(5);

/// A laboratory of our own, which goes when dropped.
pub(super) struct Own(Lab);

impl Own {
    /// Builds it, and says so; `what` it has. What an earlier run may have left, if it was killed, goes first.
    pub fn up(name: &str, what: &str, options: &UpOptions) -> Result<Self, Failure> {
        let name: LabName = name.parse()?;
        tortie_lab::down(&name)?;
        clean_up_on_interrupt(&name);
        super::progress(&format!("building a laboratory of {what}"));
        Ok(Self(Lab::up(&name, options)?))
    }

    /// These objects too, in force on every node; a complaint about one is a failure.
    pub fn put(&mut self, objects: Vec<Object>, patience: Duration) -> Result<(), Failure> {
        let applied = self.0.apply(objects)?;
        if let [first, ..] = applied.complaints.as_slice() {
            return Err(Failure::no(anyhow!("{first}")));
        }
        Ok(self.0.wait(patience)?)
    }
}

impl Deref for Own {
    type Target = Lab;

    fn deref(&self) -> &Lab {
        &self.0
    }
}

impl DerefMut for Own {
    fn deref_mut(&mut self) -> &mut Lab {
        &mut self.0
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if let Err(error) = tortie_lab::down(&self.0.name) {
            tracing::warn!(%error, "the laboratory could not be taken away");
        }
    }
}

struct Bench {
    lab: Own,
}

/// Builds a laboratory and measures what is asked for.
pub fn items(packet: &Packet) -> Result<Vec<Item>, Failure> {
    let options = UpOptions { dataplanes: vec![Dataplane::Bpf; NODES], ..UpOptions::default() };
    let mut bench = Bench { lab: Own::up(NAMESPACE, "three nodes", &options)? };
    let mut items = Vec::new();
    bench.apply(vec![
        Object::make("v1", "Namespace", None, NAMESPACE, Value::Null),
        pod("client", "node1"),
        pod("server", "node2"),
    ])?;
    if packet.wants("policy-change") {
        super::progress("changing a policy under a stream");
        items.push(bench.policy_change(packet.changes)?);
    }
    if packet.wants("cni-add") {
        super::progress("attaching pods");
        items.push(bench.cni_add(packet.adds)?);
    }
    if packet.wants("agent-rss") {
        items.push(bench.agent_rss()?);
    }
    Ok(items)
}

/// Ctrl-C ends the laboratory too, not only this process.
fn clean_up_on_interrupt(name: &LabName) {
    let name = name.clone();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        if runtime.is_ok_and(|runtime| runtime.block_on(tokio::signal::ctrl_c()).is_ok()) {
            let code = if tortie_lab::down(&name).is_ok() { 130 } else { 1 };
            std::process::exit(code);
        }
    });
}

fn pod(name: &str, node: &str) -> Object {
    let rest = json!({"spec": {"nodeName": node, "containers": [{"name": "main", "image": "any"}]}});
    let mut pod = Object::make("v1", "Pod", Some(NAMESPACE), name, rest);
    pod.set(&["metadata", "labels"], json!({"name": name}));
    pod
}

/// Ten rules, the last of which lets the client in, or does not.
fn policy(allow: bool) -> Object {
    let rule = |port: u16| json!({"ports": [{"protocol": "TCP", "port": port}]});
    let mut rules: Vec<Value> = (8001..8010).map(rule).collect();
    if allow {
        rules.push(json!({"from": [{"podSelector": {"matchLabels": {"name": "client"}}}]}));
    }
    let spec = json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": rules});
    let rest = json!({"spec": spec});
    Object::make("networking.k8s.io/v1", "NetworkPolicy", Some(NAMESPACE), "changing", rest)
}

impl Bench {
    fn apply(&mut self, objects: Vec<Object>) -> Result<(), Failure> {
        self.lab.put(objects, PATIENCE)
    }

    /// From renaming the policy's file into the store until the first packet is treated differently, on a
    /// stream that arrives or ceases to arrive; of both families the later.
    fn policy_change(&self, changes: u32) -> Result<Item, Failure> {
        let file = PolicyFile::of(&self.lab.paths.store());
        file.change(true)?;
        self.lab.wait(PATIENCE)?;
        let place = |name: &str| self.lab.place(&Where::Pod(NAMESPACE.to_owned(), name.to_owned()));
        let (from, to) = (place("client")?, place("server")?);
        let addresses = self.lab.attachment(NAMESPACE, "server")?.addresses;
        let streams = addresses.into_iter().map(|address| Stream::open(&from, &to, address));
        let streams = streams.collect::<tortie_lab::Result<Vec<_>>>()?;
        turned(&streams, Turn::Begins, Instant::now())?;
        let mut measured = Vec::new();
        for change in 0..changes {
            // Agents do several things at regular intervals; changes must not keep step with them.
            thread::sleep(LOOK * (change * 7 % 11));
            let allow = change % 2 == 1;
            let since = file.change(allow)?;
            let turn = if allow { Turn::Begins } else { Turn::Ceases };
            measured.push(turned(&streams, turn, since)?.as_secs_f64() * 1e3);
        }
        percentile_99("policy-change", measured, POLICY_CHANGE_MILLIS)
    }

    /// From starting the plugin to its end: addresses given, programs and policy in force.
    fn cni_add(&mut self, adds: u32) -> Result<Item, Failure> {
        self.apply(vec![policy(true)])?;
        let mut measured = Vec::new();
        for add in 0..adds {
            let name = format!("added-{add}");
            self.apply(vec![pod(&name, &format!("node{}", 1 + add as usize % NODES))])?;
            let micros = self.lab.attachment(NAMESPACE, &name)?.add_micros;
            let micros = micros.with_context(|| format!("pod {name}: no plugin was called"))?;
            measured.push(micros as f64 / 1e3);
        }
        percentile_99("cni-add", measured, CNI_ADD_MILLIS)
    }

    /// The largest of all agents, after everything else.
    fn agent_rss(&self) -> Result<Item, Failure> {
        let mut sizes = Vec::new();
        for node in self.lab.agents() {
            let request = json!({"verb": "status"});
            let status = self.lab.ask_agent(&node.name, &request, Instant::now() + PATIENCE)?;
            let bytes = status.get("rssBytes").and_then(Value::as_u64);
            sizes.push(bytes.with_context(|| format!("{}: no rssBytes in its status", node.name))? as f64);
        }
        sizes.sort_by(f64::total_cmp);
        let spread = || Some([*sizes.first()?, *sizes.last()?, *sizes.last()?]);
        Item::of("agent-rss", "bytes", spread(), RSS_BYTES)
    }
}

/// The 99th percentile, with the median as low and the slowest as high.
pub(super) fn percentile_99(name: &'static str, mut millis: Vec<f64>, target: f64) -> Result<Item, Failure> {
    millis.sort_by(f64::total_cmp);
    // The smallest that at least so many percent do not exceed.
    let at = |percent: usize| millis.get((millis.len() * percent).div_ceil(100).checked_sub(1)?).copied();
    let spread = || Some([at(50)?, at(99)?, at(100)?]);
    Item::of(name, "ms", spread(), target)
}

/// When all streams have turned; the time of the last.
fn turned(streams: &[Stream], turn: Turn, since: Instant) -> Result<Duration, Failure> {
    loop {
        let times: Option<Vec<Duration>> = streams.iter().map(|stream| stream.turned(turn, since)).collect();
        if let Some(last) = times.and_then(|times| times.into_iter().max()) {
            return Ok(last);
        }
        if since.elapsed() > GIVE_UP {
            let what = if turn == Turn::Begins { "blocked" } else { "let through" };
            return Err(Failure::no(anyhow!(
                "policy-change: packets are still {what} {} s after the change",
                GIVE_UP.as_secs()
            )));
        }
        thread::sleep(LOOK);
    }
}

/// The one file of the store that changes.
struct PolicyFile {
    path: PathBuf,
    draft: PathBuf,
}

impl PolicyFile {
    fn of(store: &Path) -> Self {
        Self { path: store.join("changing.json"), draft: store.join(".changing.json") }
    }

    /// Replaces it in one step, and says just before when.
    fn change(&self, allow: bool) -> Result<Instant, Failure> {
        fs::write(&self.draft, policy(allow).value().to_string()).context("writing into the store")?;
        let since = Instant::now();
        fs::rename(&self.draft, &self.path).context("renaming into the store")?;
        Ok(since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_99th_percentile_of_200_is_the_third_slowest_and_of_50_the_slowest() {
        let of = |n: u32| percentile_99("a", (1..=n).rev().map(f64::from).collect(), 198.0);
        let item = of(200).unwrap();
        assert_eq!((item.low, item.value, item.high, item.met), (100.0, 198.0, 200.0, Some(true)));
        assert_eq!(of(50).unwrap().value, 50.0);
        assert_eq!(of(201).unwrap().met, Some(false));
        assert!(of(0).is_err());
    }
}
