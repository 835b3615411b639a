//! An agent that starts in a cluster of some size, its memory, and what it hears at rest.
//!
//! Owns: when the lists are received, when everything is in force, and the bytes on the node's cable.
//! Does not: fill the API server; `fill` does.
//! Invariant: the agent starts without a memory of the cluster.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use serde_json::{Value, json};

use super::{Bench, Kube};
use crate::bench::Item;
use crate::exit::Failure;

const NODE: &str = "node2";
const START_SECONDS: f64 = 5.0;
const RSS_BYTES: f64 = 150e6;
/// Pings, acknowledgements and bookmarks of all watches, a second.
const REST_BYTES: f64 = 200.0;
const GIVE_UP: Duration = Duration::from_secs(180);
const REST: Duration = Duration::from_secs(60);

impl Bench {
    pub(super) fn of_size(&self, kube: &Kube) -> Result<Vec<Item>, Failure> {
        self.fill(kube)?;
        super::super::progress("starting an agent");
        self.lab.stop_agent(NODE)?;
        let memory = self.lab.paths.run_dir(NODE).join("store");
        if memory.exists() {
            fs::remove_dir_all(&memory).context("removing the agent's memory")?;
        }
        self.lab.start_agent(NODE)?;
        let listed = self.until(|status| {
            let waiting = status.pointer("/store/waitingFor").and_then(Value::as_array).map(Vec::len);
            waiting == Some(0)
        })?;
        let in_force = self.until(|status| status.get("health").is_some_and(|health| health == "healthy"))?;
        let start = in_force.duration_since(listed).as_secs_f64();
        let mut items = vec![Item::of("start-in-force", "s", Some([start; 3]), START_SECONDS)?];
        // What was needed for the start alone is given back within seconds.
        thread::sleep(Duration::from_secs(10));
        let rss = self.status()?.get("rssBytes").and_then(Value::as_u64);
        let rss = rss.context("no rssBytes in the agent's status")? as f64;
        items.push(Item::of("agent-rss", "bytes", Some([rss; 3]), RSS_BYTES)?);
        if kube.wants("watch-at-rest") {
            super::super::progress("listening to a cluster at rest for a minute");
            let before = self.received()?;
            thread::sleep(REST);
            let rate = self.received()?.saturating_sub(before) as f64 / REST.as_secs_f64();
            items.push(Item::of("watch-at-rest", "B/s", Some([rate; 3]), REST_BYTES)?);
        }
        Ok(items)
    }

    fn status(&self) -> Result<Value, Failure> {
        let request = json!({"verb": "status"});
        Ok(self.lab.ask_agent(NODE, &request, Instant::now() + Duration::from_secs(30))?)
    }

    /// When the agent first says so.
    fn until(&self, is_so: impl Fn(&Value) -> bool) -> Result<Instant, Failure> {
        let since = Instant::now();
        loop {
            let status = self.status()?;
            if is_so(&status) {
                return Ok(Instant::now());
            }
            if since.elapsed() > GIVE_UP {
                let health = status.get("health").cloned().unwrap_or_default();
                return Err(Failure::no(anyhow!(
                    "the agent of {NODE} is {health} after {} s",
                    GIVE_UP.as_secs()
                )));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Bytes that have come to the node. Nothing but the API server talks to it now.
    fn received(&self) -> Result<u64, Failure> {
        let place = self.lab.place(&tortie_lab::Where::Node(NODE.to_owned()))?;
        let text = place.run(|| fs::read_to_string("/proc/thread-self/net/dev").context("/proc/net/dev"))?;
        let line = text.lines().find_map(|line| line.trim().strip_prefix("eth0:"));
        let bytes = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        Ok(bytes.with_context(|| format!("{NODE} has no eth0"))?)
    }
}
