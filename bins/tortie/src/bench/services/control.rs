//! What Services cost the agent of a node: changes, memory, a restart. On a directory store.
//!
//! Owns: the laboratory of one node, and what each figure means.
//! Does not: ask the agent while its processor time is measured.
//! Invariant: processor time is net of what the agent does anyhow in the same time.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use serde_json::{Value, json};
use tortie_lab::{Dataplane, Object, UpOptions, Where};

use super::world::{ENDPOINTS, NAMESPACE, elsewhere, service, slice};
use super::{REFERENCE, Services, figure, median, process, sync};
use crate::bench::Item;
use crate::bench::laboratory::Own;
use crate::exit::Failure;
use crate::inspect::read::{Element, backends};

const NODE: &str = "node1";
const PATIENCE: Duration = Duration::from_secs(120);
const CHANGE_MILLIS: f64 = 1.0;
const MEMORY_BYTES: f64 = 80e6;
/// How much more a piece may cost among many than among few, where costs should be in proportion.
const LINEAR: f64 = 1.1;
const WINDOWS: u32 = 9;
/// Changes of a window, one after the other with a pause.
const CHANGES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(8);
const FEW_IN_A_ROW: u32 = 500;
const PORT: u16 = 80;
/// Of a large cluster.
const NODES: u32 = 2000;
/// Metrics of the agent, switched on for counting writes.
const METRICS: u16 = 9091;
const WRITES: &str = "tortie_table_writes_total";
const ENVIRONMENT: [(&str, &str); 1] = [("FELIX_PROMETHEUSMETRICSENABLED", "true")];
struct Bench {
    lab: Own,
    store: PathBuf,
    there: u32,
    /// Which change of which Service comes next.
    turn: u32,
    next: u32,
}

/// Builds a laboratory and measures.
pub fn items(services: &Services) -> Result<Vec<Item>, Failure> {
    let options = UpOptions { dataplanes: vec![Dataplane::Bpf], ..UpOptions::default() };
    let mut lab = Own::up("bench-services", "one node", &options)?;
    let namespace = Object::make("v1", "Namespace", None, NAMESPACE, Value::Null);
    lab.apply(vec![namespace])?;
    let store = lab.paths.store();
    let mut bench = Bench { lab, store, there: 0, turn: 0, next: 0 };
    bench.start()?;
    bench.measure(services)
}

impl Bench {
    fn measure(&mut self, services: &Services) -> Result<Vec<Item>, Failure> {
        let mut items = Vec::new();
        for count in services.services.iter().copied() {
            crate::bench::progress(&format!("{count} Services of five endpoints"));
            self.fill(count)?;
            if services.wants("change-cpu") {
                items.push(self.change_cpu("change-cpu")?);
            }
            if count == REFERENCE {
                items.extend(self.at_reference(services)?);
            }
            if services.wants("memory") {
                items.extend(self.memory()?);
            }
        }
        if let Some(item) = memory_linearity(&items)? {
            items.push(item);
        }
        if services.wants("nodes-change-cpu") {
            self.add_nodes()?;
            items.push(self.change_cpu("nodes-change-cpu")?);
        }
        Ok(items)
    }

    fn at_reference(&mut self, services: &Services) -> Result<Vec<Item>, Failure> {
        let mut items = Vec::new();
        if services.wants("changes") {
            items.extend(self.changes_in_a_row()?);
        }
        if services.wants("full-sync") {
            let scratch = self.lab.paths.bpffs().join("sync");
            items.extend(sync::items(&self.store, &scratch, self.there)?);
        }
        if services.wants("restart-writes") {
            items.push(self.restart()?);
        }
        Ok(items)
    }

    /// The agent, with its metrics on.
    fn start(&self) -> Result<(), Failure> {
        self.lab.stop_agent(NODE)?;
        self.lab.start_agent_with(NODE, &ENVIRONMENT)?;
        Ok(self.lab.wait_node(NODE, PATIENCE)?)
    }

    fn fill(&mut self, count: u32) -> Result<(), Failure> {
        for number in self.there..count {
            self.write(&format!("{number}-service"), &service(number, false))?;
            self.write(&format!("{number}-slice"), &slice(number, "IPv4", &elsewhere(number, 0), PORT))?;
        }
        self.there = count;
        self.lab.wait_node(NODE, PATIENCE)?;
        let written = backends(&self.lab.paths.node_bpffs(NODE))?.len();
        let expected = count as usize * ENDPOINTS as usize;
        if written < expected {
            return Err(Failure::no(anyhow!("the kernel has {written} back ends of {expected}")));
        }
        Ok(())
    }

    /// A large cluster's other nodes, each with an address and a prefix for pods.
    fn add_nodes(&self) -> Result<(), Failure> {
        crate::bench::progress(&format!("{NODES} nodes more"));
        for number in 0..NODES {
            let [.., high, low] = number.to_be_bytes();
            let [.., third, fourth] = (number * 16).to_be_bytes();
            let rest = json!({"spec": {"podCIDR": format!("10.244.{}.{fourth}/28", 128 + third)},
                "status": {"addresses": [{"type": "InternalIP", "address": format!("172.29.{high}.{low}")}]}});
            let name = format!("elsewhere-{number}");
            self.write(&name, &Object::make("v1", "Node", None, &name, rest))?;
        }
        Ok(self.lab.wait_node(NODE, PATIENCE)?)
    }

    /// Puts an object into the store in one step.
    fn write(&self, file: &str, object: &Object) -> Result<(), Failure> {
        let draft = self.store.join(format!(".{file}"));
        fs::write(&draft, object.value().to_string()).context("writing into the store")?;
        Ok(fs::rename(&draft, self.store.join(format!("{file}.json"))).context("renaming in the store")?)
    }

    /// One endpoint of the next Service becomes another.
    fn change(&mut self) -> Result<(), Failure> {
        // All over the place, each once before any comes again.
        let number = u32::try_from(u64::from(self.next) * 7919 % u64::from(self.there)).unwrap_or(0);
        self.next = (self.next + 1) % self.there;
        self.turn += u32::from(self.next == 0) + 1;
        self.write(&format!("{number}-slice"), &slice(number, "IPv4", &elsewhere(number, self.turn), PORT))
    }

    fn busy(&self) -> Result<Duration, Failure> {
        let pid = self.lab.agent_pid(NODE).context("the agent does not run")?;
        Ok(process::busy(pid)?)
    }

    /// Processor time of the agent's threads for a change, file to map: windows with changes and windows without take
    /// turns.
    fn change_cpu(&mut self, name: &'static str) -> Result<Item, Failure> {
        let bpffs = self.lab.paths.node_bpffs(NODE);
        let mut measured = Vec::new();
        for _ in 0..WINDOWS {
            let before: BTreeSet<Element> = backends(&bpffs)?.into_iter().collect();
            let (start, since) = (self.busy()?, Instant::now());
            for _ in 0..CHANGES {
                self.change()?;
                thread::sleep(PAUSE);
            }
            thread::sleep(PAUSE * 10);
            self.until_moved(&before)?;
            let (changed, took) = (self.busy()?, since.elapsed());
            thread::sleep(Duration::from_millis(50));
            let idle_from = self.busy()?;
            thread::sleep(took);
            let idle = self.busy()? - idle_from;
            let net = (changed - start).saturating_sub(idle);
            measured.push(net.as_secs_f64() * 1e3 / f64::from(CHANGES));
        }
        figure(name, "ms", self.there, median(measured), Some(CHANGE_MILLIS))
    }

    /// The changes of a window are in the map. Maps tell, not the agent, whose answer would cost it time.
    fn until_moved(&self, before: &BTreeSet<Element>) -> Result<(), Failure> {
        let (bpffs, since) = (self.lab.paths.node_bpffs(NODE), Instant::now());
        let expected = self.there.min(CHANGES) as usize;
        loop {
            let moved = backends(&bpffs)?.iter().filter(|it| !before.contains(*it)).count();
            if moved >= expected {
                return Ok(());
            }
            if since.elapsed() > PATIENCE {
                return Err(Failure::no(anyhow!("{moved} of {expected} changes are in the map")));
            }
            thread::sleep(PAUSE);
        }
    }

    /// The same for changes without a pause, few and many.
    fn changes_in_a_row(&mut self) -> Result<Vec<Item>, Failure> {
        let mut of = |count: u32| -> Result<Vec<f64>, Failure> {
            let mut measured = Vec::new();
            for _ in 0..3 {
                let start = self.busy()?;
                for _ in 0..count {
                    self.change()?;
                }
                self.lab.wait_node(NODE, PATIENCE)?;
                measured.push((self.busy()? - start).as_secs_f64() * 1e3 / f64::from(count));
            }
            Ok(measured)
        };
        let (few, many) = (of(FEW_IN_A_ROW)?, of(REFERENCE)?);
        let ratio = median(many.clone()).zip(median(few)).map(|(many, few)| many[1] / few[1]);
        Ok(vec![
            figure("changes-in-a-row-cpu", "ms", REFERENCE, median(many), Some(CHANGE_MILLIS))?,
            figure("changes-linearity", "ratio", REFERENCE, ratio.map(|ratio| [ratio; 3]), Some(LINEAR))?,
        ])
    }

    /// Elements that the agent writes when it starts again and nothing is new.
    fn restart(&self) -> Result<Item, Failure> {
        self.start()?;
        let writes = self.metric(WRITES)?;
        figure("restart-writes", "", self.there, Some([writes; 3]), Some(0.0))
    }

    fn metric(&self, name: &str) -> Result<f64, Failure> {
        let place = self.lab.place(&Where::Node(NODE.to_owned()))?;
        let page = place.run(|| {
            let mut stream =
                TcpStream::connect((Ipv4Addr::LOCALHOST, METRICS)).context("the agent's metrics")?;
            stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
            let mut page = String::new();
            stream.read_to_string(&mut page)?;
            Ok(page)
        })?;
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        Ok(value.with_context(|| format!("the agent's metrics have no {name}"))?)
    }

    /// Of the agent, of maps and programs, and together.
    fn memory(&self) -> Result<Vec<Item>, Failure> {
        // What was needed for changes alone is given back within seconds.
        thread::sleep(Duration::from_secs(10));
        let request = json!({"verb": "status"});
        let status = self.lab.ask_agent(NODE, &request, Instant::now() + PATIENCE)?;
        let agent = status.get("rssBytes").and_then(Value::as_f64).context("no rssBytes in the status")?;
        let sum = |list: &str| {
            let rows = status.get(list).and_then(Value::as_array).into_iter().flatten();
            rows.filter_map(|row| row.get("memoryBytes").and_then(Value::as_f64)).sum::<f64>()
        };
        let kernel = sum("maps") + sum("programs");
        let target = (self.there == REFERENCE).then_some(MEMORY_BYTES);
        let of = |name, value, target| figure(name, "bytes", self.there, Some([value; 3]), target);
        Ok(vec![
            of("memory-agent", agent, None)?,
            of("memory-kernel", kernel, None)?,
            of("memory", agent + kernel, target)?,
        ])
    }
}

/// What a Service takes among the most, by what it takes among the reference's; the fewest are what there is anyhow.
fn memory_linearity(items: &[Item]) -> Result<Option<Item>, Failure> {
    let of = |item: &Item| (item.name == "memory").then_some((f64::from(item.services?), item.value));
    let all: Vec<(f64, f64)> = items.iter().filter_map(of).collect();
    let middle = all.iter().find(|(services, _)| *services == f64::from(REFERENCE));
    let (Some(few), Some(middle), Some(most)) = (all.first(), middle, all.last()) else { return Ok(None) };
    if few.0 >= middle.0 || middle.0 >= most.0 {
        return Ok(None);
    }
    let each = |to: &(f64, f64)| (to.1 - few.1) / (to.0 - few.0);
    let ratio = each(most) / each(middle);
    figure("memory-linearity", "ratio", most.0 as u32, Some([ratio; 3]), Some(LINEAR)).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_linear_when_a_service_costs_the_same_among_many_as_among_few() {
        let of =
            |services, value| Item { name: "memory", services: Some(services), value, ..Item::default() };
        let base = [of(10, 1000.0), of(5000, 5990.0)];
        let with = |last: Item| memory_linearity(&[base.as_slice(), &[last]].concat()).unwrap().unwrap();
        let linear = with(of(50_000, 50_990.0));
        assert_eq!((linear.value, linear.met), (1.0, Some(true)));
        assert_eq!(with(of(50_000, 100_980.0)).met, Some(false));
        assert!(memory_linearity(&base).unwrap().is_none(), "nothing beyond the reference");
    }
}
