//! The truth table of Services (docs/service-grid.md), cell by cell. A suite of its own: it keeps the machine busy, and others
//! measure times. Needs root.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use tortie_lab::{Family, Probe, ProbeResult, Protocol};
use tortie_tests_e2e::{TestLab, endpoint};

const CLIENTS: [&str; 8] =
    ["pod", "host-pod", "process", "pod-elsewhere", "process-elsewhere", "outside", "outside-2", "itself"];
/// First source port of each client. Nobody uses a port twice: two connections of a client that its translated tuples do
/// not tell apart are another subject. The node's own stay below the ports of `bpfPSNATPorts`.
const SOURCE_PORTS: [(&str, u16); 8] = [
    ("process", 11_000),
    ("host-pod", 13_400),
    ("process-elsewhere", 15_800),
    ("pod", 18_200),
    ("pod-elsewhere", 20_600),
    ("outside", 23_000),
    ("outside-2", 25_400),
    ("itself", 27_800),
];
const ADDRESSES: [&str; 6] = ["cluster", "node-port", "other-node-port", "external", "balancer", "host-port"];
const BACKENDS: [&str; 3] = ["near", "far", "host"];
const POLICIES: [&str; 2] = ["Cluster", "Local"];
const PROTOCOLS: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];
const FAMILIES: [Family; 2] = [Family::Ipv4, Family::Ipv6];
const CONNECT_TIME: [&str; 2] = ["Enabled", "Disabled"];
const MODES: [&str; 2] = ["Tunnel", "DSR"];

const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: client}
spec: {nodeName: node1, containers: [{name: c, image: any}]}
---
apiVersion: v1
kind: Pod
metadata: {name: on-host}
spec: {nodeName: node1, hostNetwork: true, containers: [{name: c, image: any}]}
---
apiVersion: v1
kind: Pod
metadata: {name: elsewhere}
spec: {nodeName: node2, containers: [{name: c, image: any}]}
---
apiVersion: v1
kind: Pod
metadata: {name: near, labels: {app: near}}
spec: {nodeName: node1, containers: [{name: c, image: any, ports: [{name: web, containerPort: 8080}, {name: dns, containerPort: 5353, protocol: UDP}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: far, labels: {app: far}}
spec: {nodeName: node2, containers: [{name: c, image: any, ports: [{name: web, containerPort: 8080}, {name: dns, containerPort: 5353, protocol: UDP}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: host, labels: {app: host}}
spec: {nodeName: node2, hostNetwork: true, containers: [{name: c, image: any, ports: [{name: web, containerPort: 7070}, {name: dns, containerPort: 7053, protocol: UDP}]}]}
";

/// One row of the table; an empty set fits everything.
#[derive(Debug)]
struct Row {
    fits: [BTreeSet<String>; 4],
    answer: String,
    sees: String,
}

fn rows() -> Vec<Row> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/service-grid.md");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let lines = text.lines().filter(|line| line.starts_with('|')).skip(2);
    lines.map(row).collect()
}

fn row(line: &str) -> Row {
    let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
    let [client, address, backend, policy, answer, sees, because] = cells[..] else {
        panic!("{line}: not seven columns")
    };
    assert!(!because.is_empty(), "{line}: no reason");
    let fits = |cell: &str, known: &[&str]| -> BTreeSet<String> {
        let names = cell.split(',').map(str::trim).filter(|name| *name != "any");
        names
            .map(|name| {
                assert!(known.contains(&name), "{line}: what is {name}?");
                name.to_owned()
            })
            .collect()
    };
    Row {
        fits: [
            fits(client, &CLIENTS),
            fits(address, &ADDRESSES),
            fits(backend, &BACKENDS),
            fits(policy, &POLICIES),
        ],
        answer: answer.into(),
        sees: sees.into(),
    }
}

/// What is asked, but for the mode.
#[derive(Clone, Copy, Debug)]
struct Cell {
    client: &'static str,
    address: &'static str,
    backend: &'static str,
    policy: &'static str,
    protocol: Protocol,
    family: Family,
}

fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for client in CLIENTS {
        for address in ADDRESSES {
            for backend in BACKENDS {
                for policy in POLICIES {
                    for protocol in PROTOCOLS {
                        let of = |family| Cell { client, address, backend, policy, protocol, family };
                        cells.extend(FAMILIES.map(of));
                    }
                }
            }
        }
    }
    cells
}

impl Cell {
    fn row(self, rows: &[Row]) -> usize {
        let of = [self.client, self.address, self.backend, self.policy];
        let fits =
            |row: &Row| row.fits.iter().zip(of).all(|(set, name)| set.is_empty() || set.contains(name));
        rows.iter().position(fits).unwrap_or_else(|| panic!("no row of the table fits {self:?}"))
    }

    /// Number of its Service.
    fn service(self) -> usize {
        let place = |names: &[&str], name| names.iter().position(|n| *n == name).expect("a name of the grid");
        place(&BACKENDS, self.backend) * POLICIES.len() + place(&POLICIES, self.policy)
    }

    fn from(self) -> String {
        match self.client {
            "pod" => "pod:default/client".into(),
            "host-pod" => "pod:default/on-host".into(),
            "process" => "node:node1".into(),
            "pod-elsewhere" => "pod:default/elsewhere".into(),
            "process-elsewhere" => "node:node2".into(),
            "outside" => "client:c1".into(),
            "outside-2" => "client:c2".into(),
            _ => format!("pod:default/{}", self.backend),
        }
    }

    fn probe(self, answer: &str) -> Probe {
        let (number, udp) = (self.service(), self.protocol == Protocol::Udp);
        let v6 = self.family == Family::Ipv6;
        let port = if udp { 53 } else { 80 };
        let (to, port) = match self.address {
            "cluster" => (format!("svc:default/s{number}"), port),
            "node-port" => ("node:node1".into(), node_port(number, udp)),
            "other-node-port" => ("node:node2".into(), node_port(number, udp)),
            "external" => (external(number, v6), port),
            _ => (balancer(number, v6), port),
        };
        let seconds = if answer == "yes" { 10 } else { 1 };
        Probe {
            family: Some(self.family),
            protocol: self.protocol,
            port: Some(port),
            timeout: Duration::from_secs(seconds),
            ..Probe::new(endpoint(&self.from()), endpoint(&to))
        }
    }
}

fn node_port(service: usize, udp: bool) -> u16 {
    31_000 + service as u16 + if udp { 100 } else { 0 }
}

fn external(service: usize, v6: bool) -> String {
    if v6 { format!("2001:db8:e::{:x}", 0x100 + service) } else { format!("203.0.113.{}", 100 + service) }
}

fn balancer(service: usize, v6: bool) -> String {
    if v6 { format!("2001:db8:e::{:x}", 0x200 + service) } else { format!("203.0.113.{}", 150 + service) }
}

fn services() -> String {
    let mut text = String::new();
    for (b, backend) in BACKENDS.iter().enumerate() {
        for (p, policy) in POLICIES.iter().enumerate() {
            let n = b * POLICIES.len() + p;
            let addresses = |of: fn(usize, bool) -> String| [of(n, false), of(n, true)];
            let [e4, e6] = addresses(external);
            let [b4, b6] = addresses(balancer);
            let (tcp, udp) = (node_port(n, false), node_port(n, true));
            text += &format!(
                "---\napiVersion: v1\nkind: Service\nmetadata: {{name: s{n}}}\nspec:\n  type: LoadBalancer\n  \
                 ipFamilyPolicy: PreferDualStack\n  internalTrafficPolicy: {policy}\n  \
                 externalTrafficPolicy: {policy}\n  selector: {{app: {backend}}}\n  externalIPs: ['{e4}', '{e6}']\n  \
                 ports: [{{name: web, port: 80, targetPort: web, nodePort: {tcp}}}, \
                 {{name: dns, port: 53, targetPort: dns, protocol: UDP, nodePort: {udp}}}]\nstatus:\n  \
                 loadBalancer: {{ingress: [{{ip: '{b4}', ipMode: VIP}}, {{ip: '{b6}', ipMode: VIP}}]}}\n"
            );
        }
    }
    text
}

fn world() -> TestLab {
    let mut test = TestLab::nodes(2);
    test.apply(&format!("{PODS}{}", services()));
    for prefix in ["203.0.113.0/24", "2001:db8:e::/64"] {
        test.lab.route(prefix.parse().expect("a prefix"), "node1").expect("lab route");
    }
    test
}

fn address_of(seen: Option<&str>) -> Option<String> {
    let host = seen?.rsplit_once(':')?.0;
    Some(host.trim_matches(['[', ']']).to_owned())
}

/// The address of every client as a pod sees it that is asked without any Service.
fn own_addresses(test: &TestLab, cells: &[Cell]) -> BTreeMap<(String, Family), String> {
    let clients: BTreeSet<(String, bool)> =
        cells.iter().map(|cell| (cell.from(), cell.family == Family::Ipv6)).collect();
    let probes: Vec<Probe> = clients
        .iter()
        .map(|(from, v6)| {
            let to = if from.ends_with("/far") { "pod:default/near" } else { "pod:default/far" };
            Probe {
                family: Some(if *v6 { Family::Ipv6 } else { Family::Ipv4 }),
                timeout: Duration::from_secs(10),
                ..Probe::new(endpoint(from), endpoint(to))
            }
        })
        .collect();
    let results = test.lab.matrix(&probes).expect("matrix");
    clients
        .into_iter()
        .zip(results)
        .map(|((from, v6), result)| {
            let family = if v6 { Family::Ipv6 } else { Family::Ipv4 };
            let seen = address_of(result.client_seen.as_deref());
            let seen = seen.unwrap_or_else(|| panic!("{from} reaches no pod: {result:?}"));
            ((from, family), seen)
        })
        .collect()
}

/// What is wrong with a cell's result, if anything.
fn wrong(
    cell: Cell,
    row: &Row,
    own: &BTreeMap<(String, Family), String>,
    result: &ProbeResult,
) -> Option<String> {
    if row.answer == "no" {
        return result.is_connected().then(|| "it must not be answered".into());
    }
    if !result.is_connected() {
        return Some("it must be answered".into());
    }
    if result.server.as_deref() != Some(&format!("default/{}", cell.backend)) {
        return Some("another back end".into());
    }
    let seen = address_of(result.client_seen.as_deref()).unwrap_or_default();
    let node =
        if cell.backend == "near" { ["10.240.0.1", "fd00:240::1"] } else { ["10.240.0.2", "fd00:240::2"] };
    let is_own = own.get(&(cell.from(), cell.family)) == Some(&seen);
    let fits = match row.sees.as_str() {
        "client" => is_own,
        "client or node" => is_own || node.contains(&seen.as_str()),
        other => panic!("{other}: who is that?"),
    };
    (!fits).then(|| format!("the back end must see the {}", row.sees))
}

#[test]
fn every_cell_of_the_truth_table_of_services_is_as_it_says() {
    let rows = rows();
    let cells: Vec<(Cell, usize)> = cells().into_iter().map(|cell| (cell, cell.row(&rows))).collect();
    let used: BTreeSet<usize> = cells.iter().map(|(_, row)| *row).collect();
    assert_eq!(used.len(), rows.len(), "a row that no cell needs: {used:?}");
    let possible: Vec<(Cell, &Row)> = cells
        .iter()
        .map(|(cell, row)| (*cell, &rows[*row]))
        .filter(|(_, row)| row.answer != "impossible")
        .collect();
    let mut test = world();
    let plain: Vec<Cell> = possible.iter().map(|(cell, _)| *cell).collect();
    let own = own_addresses(&test, &plain);
    let mut source_ports = BTreeMap::from(SOURCE_PORTS);
    let (mut tried, mut faults, start) = (0, Vec::new(), Instant::now());
    for connect_time in CONNECT_TIME {
        for mode in MODES {
            test.configure(&format!(
                "defaultEndpointToHostAction: Accept, bpfConnectTimeLoadBalancing: {connect_time}, \
                 bpfExternalServiceMode: {mode}"
            ));
            // Everybody at once would be a test of the laboratory.
            for part in possible.chunks(300) {
                let mut probe = |(cell, row): &(Cell, &Row)| {
                    let port = source_ports.get_mut(cell.client).expect("a known client");
                    *port += 1;
                    Probe { source_port: Some(*port), ..cell.probe(&row.answer) }
                };
                let probes: Vec<Probe> = part.iter().map(&mut probe).collect();
                let results = test.lab.matrix(&probes).expect("matrix");
                tried += results.len();
                for ((cell, row), result) in part.iter().zip(&results) {
                    if let Some(why) = wrong(*cell, row, &own, result) {
                        faults
                            .push(format!("{cell:?} connect-time {connect_time}, {mode}: {why}: {result:?}"));
                    }
                }
            }
        }
    }
    println!("{tried} cells tried in {:.1} s", start.elapsed().as_secs_f64());
    assert_eq!(tried, 4 * possible.len());
    assert!(faults.is_empty(), "{} of {tried} cells:\n{}", faults.len(), faults.join("\n"));
}
