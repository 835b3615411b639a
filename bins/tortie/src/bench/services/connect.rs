//! What `connect` to a Service takes, beside a connection without one and beside others, by the number of Services.
//!
//! Owns: the laboratory with a node for each of them, on one API server, and the order in which they take turns.
//! Does not: time connections; the client in the pod does.
//! Invariant: client and server are on one node; connections with and without a Service alternate; a Service that is connected to has its endpoint on the client's node.

mod changes;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use serde_json::{Value, json};
use tortie_lab::{Component, Dataplane, Object, Place, StoreKind, UpOptions, Where};

use super::client::{self, Asked};
use super::peers::{self, KubeProxy, Mode};
use super::world::{MOVING, NAMESPACE, name, service, slice, stored, vips};
use super::{REFERENCE, Services, figure, median};
use crate::bench::Item;
use crate::bench::kube::fill::at_once;
use crate::bench::laboratory::Own;
use crate::exit::Failure;

/// At most, of the same connection without a Service.
const TC_AGAINST_NONE: f64 = 1.05;
const CONNECT_TIME_AGAINST_NONE: f64 = 1.01;
/// What the most Services may cost of what the fewest do.
const FLAT: f64 = 1.05;
const PATIENCE: Duration = Duration::from_secs(60);
/// kube-proxy takes long for many Services.
const SYNC: Duration = Duration::from_secs(600);
/// Where the servers listen, and connections of a turn.
const PORT: u16 = 8081;
const CONNECTIONS: usize = 500;
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/bench/endpointslices";

/// A node, and what translates Services there.
struct Side {
    node: String,
    names: Names,
    client: Place,
    server: Vec<IpAddr>,
    balances: bool,
    /// Who translates: the agent, or kube-proxy.
    pid: Option<i32>,
}

/// Its figures.
#[derive(Clone, Copy)]
struct Names {
    none: &'static str,
    change: &'static str,
    connect: &'static str,
    against: &'static str,
    target: Option<f64>,
}

const CONNECT_TIME: Names = Names {
    none: "none-ctlb",
    change: "api-change-cpu",
    connect: "connect-ctlb",
    against: "against-none-ctlb",
    target: Some(CONNECT_TIME_AGAINST_NONE),
};
const TC: Names = Names {
    none: "none-tc",
    // The same agent as the first node's.
    change: "",
    connect: "connect-tc",
    against: "against-none-tc",
    target: Some(TC_AGAINST_NONE),
};
const PLAIN: Names = Names { none: "none-plain", change: "", connect: "", against: "", target: None };
const NFTABLES: Names = Names {
    none: "none-kube-proxy-nftables",
    change: "api-change-cpu-kube-proxy-nftables",
    connect: "connect-kube-proxy-nftables",
    against: "against-none-kube-proxy-nftables",
    target: None,
};
const IPTABLES: Names = Names {
    none: "none-kube-proxy-iptables",
    change: "api-change-cpu-kube-proxy-iptables",
    connect: "connect-kube-proxy-iptables",
    against: "against-none-kube-proxy-iptables",
    target: None,
};

struct Bench {
    sides: Vec<Side>,
    /// They end before the laboratory does: fields go in this order.
    proxies: Vec<KubeProxy>,
    lab: Own,
    there: u32,
}

/// Builds a laboratory and measures; the peers that are missing, each with the reason.
pub fn items(services: &Services) -> Result<(Vec<Item>, Vec<String>), Failure> {
    let mut dataplanes = vec![Dataplane::Bpf; 2];
    dataplanes.extend([Dataplane::Plain; 3]);
    let options =
        UpOptions { dataplanes, store: StoreKind::Kube, patience: PATIENCE, ..UpOptions::default() };
    let lab = Own::up("bench-connect", "five nodes with a control plane", &options)?;
    let mut bench = Bench { sides: Vec::new(), proxies: Vec::new(), lab, there: 0 };
    let mut missing = bench.prepare(services.without_peers)?;
    let (mut counts, mut measured) = (Vec::new(), BTreeMap::new());
    for &count in &services.services {
        match bench.measure(count, services.rounds, &mut measured) {
            Ok(()) => counts.push(count),
            // What fewer cost is known, after as much time.
            Err(why) if !counts.is_empty() => {
                missing.push(format!("{count} Services: {why}"));
                break;
            }
            Err(why) => return Err(why),
        }
    }
    Ok((figures(&counts, &bench, &measured)?, missing))
}

/// Microseconds of each round, by figure, family and number of Services.
type Measured = BTreeMap<(&'static str, &'static str, u32), Vec<f64>>;
const FAMILIES: [&str; 2] = ["ipv4", "ipv6"];

impl Bench {
    fn prepare(&mut self, without_peers: bool) -> Result<Vec<String>, Failure> {
        let nodes: Vec<String> = self.lab.state.plan.nodes.iter().map(|node| node.name.clone()).collect();
        let mut objects = vec![Object::make("v1", "Namespace", None, NAMESPACE, Value::Null)];
        for node in &nodes {
            objects.extend([pod(&format!("client-{node}"), node), pod(&format!("server-{node}"), node)]);
        }
        self.lab.put(objects, PATIENCE)?;
        // The second node leaves Services to the packet programs.
        let tc = nodes.get(1).context("five nodes")?;
        self.lab.stop_agent(tc)?;
        self.lab.start_agent_with(tc, &[("FELIX_BPFCONNECTTIMELOADBALANCING", "Disabled")])?;
        self.lab.wait(PATIENCE)?;
        // Nothing that is made from here on is to be completed or changed by others.
        self.lab.kill_component(Component::ControllerManager)?;
        let mut missing = Vec::new();
        for (node, names) in nodes.iter().zip([CONNECT_TIME, TC, PLAIN, NFTABLES, IPTABLES]) {
            let mode = Mode::ALL.into_iter().find(|mode| names.connect.ends_with(mode.flag()));
            let mut pid = self.lab.agent_pid(node);
            if let Some(mode) = mode {
                if without_peers {
                    missing.push(format!("kube-proxy-{}: left out (--without-peers)", mode.flag()));
                    continue;
                }
                match peers::find(&self.lab, mode) {
                    Ok(program) => {
                        let proxy = KubeProxy::start(&self.lab, &program, mode, node)?;
                        pid = Some(proxy.pid());
                        self.proxies.push(proxy);
                    }
                    Err(why) => {
                        missing.push(why);
                        continue;
                    }
                }
            }
            let side = Side { pid, ..self.side(node, names)? };
            self.sides.push(side);
        }
        self.store(MOVING, |number| (service(number, false), vec![changes::moving(number, 0)]))?;
        Ok(missing)
    }

    fn measure(&mut self, count: u32, rounds: u32, measured: &mut Measured) -> Result<(), Failure> {
        crate::bench::progress(&format!("{count} Services"));
        self.fill(count)?;
        crate::bench::progress("connecting");
        for round in 0..rounds {
            self.round(round, measured)?;
        }
        crate::bench::progress("changing EndpointSlices");
        self.changes(measured)
    }

    /// Services with their slices, where the API server finds them.
    fn store(
        &self,
        numbers: Range<u32>,
        make: impl Fn(u32) -> (Object, Vec<Object>) + Sync,
    ) -> Result<(), Failure> {
        // For each that is made through it, the API server goes through the addresses of all Services.
        let database = self.lab.database()?;
        at_once(numbers.end - numbers.start, |index| {
            let number = numbers.start + index;
            let (service, slices) = make(number);
            let all = stored(number, service, slices);
            all.iter().try_for_each(|(directory, object)| patiently(|| database.put(directory, object)))
        })
    }

    fn side(&self, node: &str, names: Names) -> Result<Side, Failure> {
        let of = |what: &str| Where::Pod(NAMESPACE.to_owned(), format!("{what}-{node}"));
        let (client, server) = (self.lab.place(&of("client"))?, self.lab.place(&of("server"))?);
        let addresses = self.lab.attachment(NAMESPACE, &format!("server-{node}"))?.addresses;
        for address in &addresses {
            let at = SocketAddr::new(*address, PORT);
            let listener = server.run(|| TcpListener::bind(at).context("listening in the server's pod"))?;
            client::accept(listener);
        }
        let balances = !names.connect.is_empty();
        Ok(Side { node: node.to_owned(), names, client, server: addresses, balances, pid: None })
    }

    /// Whose back end is on a node's server.
    fn balancing(&self) -> Vec<&Side> {
        self.sides.iter().filter(|side| side.balances).collect()
    }

    /// So many Services with one endpoint of each family, on one node after the other.
    fn fill(&mut self, count: u32) -> Result<(), Failure> {
        let sides = self.balancing();
        self.store(self.there..count, |number| {
            let servers = sides.iter().cycle().nth(number as usize % sides.len()).map(|side| &side.server);
            let slice_of = |address: &IpAddr| {
                let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
                slice(number, family, &[address.to_string()], PORT)
            };
            (service(number, true), servers.into_iter().flatten().map(slice_of).collect())
        })?;
        // Whoever has the last few has all before them.
        for (offset, side) in sides.iter().enumerate() {
            for number in (count.saturating_sub(sides.len() as u32)..count).chain([offset as u32]) {
                for (_, vip) in FAMILIES.into_iter().zip(vips(number)) {
                    self.until_served(side, SocketAddr::new(vip.parse().context("an address")?, 80))?;
                }
            }
        }
        self.there = count;
        // What came with the last changes is over by then.
        thread::sleep(Duration::from_secs(3));
        Ok(())
    }

    fn until_served(&self, side: &Side, vip: SocketAddr) -> Result<(), Failure> {
        let since = Instant::now();
        while !client::reaches(&side.client, vip) {
            if since.elapsed() > SYNC {
                return Err(Failure::no(anyhow!(
                    "{}: {vip} is not served after {} s ({})",
                    side.node,
                    SYNC.as_secs(),
                    side.names.connect
                )));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Each side once, without a Service and with one.
    fn round(&self, round: u32, measured: &mut Measured) -> Result<(), Failure> {
        let balancing = self.balancing().len() as u32;
        for (family_index, family) in FAMILIES.into_iter().enumerate() {
            for side in &self.sides {
                let direct = side.server.get(family_index).context("a pod with one family")?;
                let mut names = vec![side.names.none];
                let mut kinds = vec![vec![SocketAddr::new(*direct, PORT)]];
                if side.balances {
                    let own = self.balancing().iter().position(|it| it.node == side.node).unwrap_or(0);
                    names.push(side.names.connect);
                    kinds.push(spread(round, own as u32, balancing, self.there, family_index)?);
                }
                let asked = Asked { kinds, count: CONNECTIONS };
                let took = client::ask(&side.client, &self.lab.binary, &asked)?;
                for (name, took) in names.into_iter().zip(took) {
                    measured.entry((name, family, self.there)).or_default().push(took);
                }
            }
        }
        Ok(())
    }
}

/// Services of one side, all over the range, others in each round.
fn spread(
    round: u32,
    own: u32,
    sides: u32,
    services: u32,
    family: usize,
) -> Result<Vec<SocketAddr>, Failure> {
    let each = services.saturating_sub(own).div_ceil(sides);
    let number =
        |n: u32| own + (u64::from(round * 104_729 + n * 7919) % u64::from(each.max(1))) as u32 * sides;
    let address = |number: u32| -> Result<SocketAddr, Failure> {
        let vips = vips(number);
        let text = vips.get(family).context("a family")?;
        Ok(SocketAddr::new(text.parse().with_context(|| name(number))?, 80))
    };
    (0..each.min(CONNECTIONS as u32)).map(|n| address(number(n))).collect()
}

/// The database answers late while others keep the processors busy.
fn patiently(put: impl Fn() -> tortie_lab::Result<()>) -> anyhow::Result<()> {
    let since = Instant::now();
    loop {
        match put() {
            Err(_) if since.elapsed() < PATIENCE => thread::sleep(Duration::from_secs(1)),
            done => return Ok(done?),
        }
    }
}

fn pod(name: &str, node: &str) -> Object {
    let spec = json!({"spec": {"nodeName": node, "containers": [{"name": "main", "image": "any"}]}});
    Object::make("v1", "Pod", Some(NAMESPACE), name, spec)
}

fn figures(counts: &[u32], bench: &Bench, measured: &Measured) -> Result<Vec<Item>, Failure> {
    let mut items = Vec::new();
    items.extend(changes::figures(counts, bench, measured)?);
    let of = |name, family, count| measured.get(&(name, family, count)).cloned().unwrap_or_default();
    let ratios = |above: Vec<f64>, below: Vec<f64>| {
        median(above.into_iter().zip(below).map(|(above, below)| above / below).collect())
    };
    for family in FAMILIES {
        let of_family = |item: Item| Item { family: Some(family), ..item };
        for &count in counts {
            for side in &bench.sides {
                let Names { none, connect, against, target, .. } = side.names;
                items.push(of_family(figure(none, "µs", count, median(of(none, family, count)), None)?));
                if side.balances {
                    let (with, without) = (of(connect, family, count), of(none, family, count));
                    items.push(of_family(figure(connect, "µs", count, median(with.clone()), None)?));
                    items.push(of_family(figure(against, "ratio", count, ratios(with, without), target)?));
                }
            }
        }
        let (Some(&fewest), Some(&most)) = (counts.first(), counts.last()) else {
            continue;
        };
        for (name, connect, none) in
            [("flatness-tc", TC.connect, TC.none), ("flatness-ctlb", CONNECT_TIME.connect, CONNECT_TIME.none)]
        {
            // Against the same without a Service at the same time: minutes lie between the two.
            let net = |count| ratios(of(connect, family, count), of(none, family, count));
            let ratio = net(most).zip(net(fewest)).map(|(most, fewest)| [most[1] / fewest[1]; 3]);
            items.push(of_family(figure(name, "ratio", most, ratio, Some(FLAT))?));
        }
        for (name, ours, theirs) in [
            ("ratio-kube-proxy-nftables", CONNECT_TIME.connect, NFTABLES.connect),
            ("ratio-kube-proxy-iptables", CONNECT_TIME.connect, IPTABLES.connect),
            ("ratio-plain-tc", TC.connect, PLAIN.none),
            ("ratio-plain-ctlb", CONNECT_TIME.connect, PLAIN.none),
        ] {
            let (ours, theirs) = (of(ours, family, REFERENCE), of(theirs, family, REFERENCE));
            if theirs.is_empty() {
                continue;
            }
            items.push(of_family(figure(name, "ratio", REFERENCE, ratios(ours, theirs), None)?));
        }
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_connects_to_services_whose_endpoint_it_has_and_to_others_in_each_round() {
        for services in [10, 1000, 5000] {
            for own in 0..4 {
                let numbers: BTreeMap<String, u32> = (0..services).map(|n| (vips(n)[0].clone(), n)).collect();
                let chosen = |round| spread(round, own, 4, services, 0).unwrap();
                for to in chosen(0) {
                    assert_eq!(
                        numbers.get(&to.ip().to_string()).map(|n| n % 4),
                        Some(own),
                        "{to} of {services}"
                    );
                }
                assert!(services < 2000 || chosen(0) != chosen(1));
            }
        }
    }
}
