//! Any bytes are a sequence of changes: the body of the fuzz target, and of the random tests.

use super::build::*;
use super::driver::Driver;
use super::evaluate;
use super::expand::finals;
use super::oracle::Cluster;
use std::net::IpAddr;
use std::sync::Arc;
use tortie_model::Object;
use tortie_model::policy::{Peer, PortMatch, Rule};
use tortie_model::settings::Settings;
use tortie_model::workload::Transport;
use tortie_policy::form::Direction;

/// What happens.
#[derive(Clone, Debug)]
pub enum Op {
    Change(Box<Object>),
    Flush,
    InSync,
}

/// Reads choices; when the bytes are used up, always the first.
struct Bytes<'a>(std::slice::Iter<'a, u8>);

impl Bytes<'_> {
    fn below(&mut self, n: usize) -> usize {
        usize::from(self.0.next().copied().unwrap_or(0)) % n
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    fn some<T>(&mut self, most: usize, mut one: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(most + 1)).map(|_| one(self)).collect()
    }
}

/// Runs any bytes: no panic, the guarantees hold after every intent, the end state is that of a fresh start, and
/// every verdict is the oracle's.
pub fn body(data: &[u8]) {
    let ops = decode(data);
    let mut driver = Driver::before_sync("n1");
    let mut changes = Vec::new();
    for op in ops {
        match op {
            Op::Change(object) => {
                driver.calc.apply(&object);
                changes.push(*object);
            }
            Op::Flush => _ = driver.flush(),
            Op::InSync => driver.calc.in_sync(),
        }
    }
    driver.calc.in_sync();
    driver.flush();
    assert_eq!(driver.flush(), [], "a flush without a change says nothing");
    let mut fresh = Driver::before_sync("n1");
    fresh.apply(&finals(&changes));
    fresh.calc.in_sync();
    fresh.flush();
    // Settings cannot be taken back, and their last value may be the built-in one: `finals` keeps them.
    assert_eq!(driver.state(), fresh.state(), "{changes:#?}");
    same_as_oracle(&driver, &changes);
}

/// Compares every verdict of every endpoint with the oracle's.
pub fn same_as_oracle(driver: &Driver, objects: &[Object]) {
    let cluster = Cluster::of("n1", objects);
    let said: Vec<_> = driver.folded.endpoints.keys().collect();
    assert_eq!(said, cluster.endpoints().collect::<Vec<_>>());
    for id in cluster.endpoints() {
        for remote in remotes() {
            for (protocol, port) in PROBES {
                for direction in [Direction::Ingress, Direction::Egress] {
                    let ours = evaluate::admits(&driver.folded, id, direction, remote, protocol, port);
                    let theirs = cluster.admits(id, direction, remote, protocol, port);
                    assert_eq!(
                        ours, theirs,
                        "{id} {direction:?} {remote} protocol {protocol} port {port}: {objects:#?}"
                    );
                }
            }
        }
    }
}

const PROBES: [(u8, u16); 8] = [(6, 79), (6, 80), (6, 81), (6, 90), (17, 80), (17, 53), (132, 80), (1, 0)];
const NAMESPACES: [&str; 3] = ["a", "b", "c"];
const PODS: [&str; 6] = ["a/p0", "a/p1", "a/p2", "b/p0", "b/p1", "c/p0"];
const ADDRESSES: [&str; 8] =
    ["10.0.1.1", "10.0.1.2", "10.0.1.3", "10.0.2.1", "10.0.2.2", "10.0.9.1", "192.0.2.1", "192.0.2.2"];
const NODES: [&str; 3] = ["n1", "n2", "n3"];
const LABELS: [&str; 8] = ["", "x=0", "x=1", "y=0", "x=0,y=0", "x=0,y=1", "x=1,y=1", "x=2,y=0"];
const SELECTORS: [&str; 14] = [
    "", "x=0", "x=1", "y=0", "x=0,y=1", "x", "!x", "x!=0", "x=0|1", "x!=0|1", "x,y!=0", "!x,!y", "x=0|2,!y",
    "x=0,x=1",
];
const TRANSPORTS: [Transport; 3] = [Transport::Tcp, Transport::Udp, Transport::Sctp];

fn remotes() -> Vec<IpAddr> {
    let v6 = ADDRESSES.iter().map(|address| v6(address));
    ADDRESSES.iter().map(|address| (*address).to_owned()).chain(v6).map(|address| ip(&address)).collect()
}

fn v6(address: &str) -> String {
    format!("fd00::{}", address.replace('.', ":"))
}

fn dual(bytes: &mut Bytes<'_>, addresses: &[&str]) -> String {
    let address = bytes.of(addresses);
    match bytes.below(4) {
        0 => address.to_owned(),
        1 => String::new(),
        _ => format!("{address} {}", v6(address)),
    }
}

/// Decodes any bytes.
pub fn decode(data: &[u8]) -> Vec<Op> {
    let mut bytes = Bytes(data.iter());
    let mut ops = Vec::new();
    while bytes.0.len() > 0 {
        ops.push(match bytes.below(16) {
            0..=2 => Op::Flush,
            3 => Op::InSync,
            n => {
                let object = object(n, &mut bytes);
                let removal = if bytes.below(5) == 4 { gone(&object) } else { None };
                Op::Change(Box::new(removal.unwrap_or(object)))
            }
        });
    }
    ops
}

fn object(kind: usize, bytes: &mut Bytes<'_>) -> Object {
    match kind {
        4 => namespace(bytes.of(&NAMESPACES), bytes.of(&LABELS)),
        5..=7 => a_pod(bytes),
        8 => {
            let addresses = dual(bytes, &ADDRESSES[..5]);
            attachment(bytes.of(&PODS), &addresses)
        }
        9..=11 => a_policy(bytes),
        12 => {
            let cidr = bytes.of(&[
                "10.0.1.0/24",
                "10.0.2.0/24",
                "10.0.2.0/25",
                "10.0.9.0/24 fd00::/64",
                "192.0.2.0/24",
            ]);
            let node = node(bytes.of(&NODES), &dual(bytes, &ADDRESSES[4..]), cidr);
            made(node, bytes.of(&[0, 1, 2]))
        }
        13 => a_service(bytes),
        14 => a_slice(bytes),
        _ if bytes.below(2) == 0 => {
            let mtu_bytes = Some(1400 + bytes.below(2) as u32);
            Object::Settings(Box::new(Settings { mtu_bytes, ..Settings::default() }))
        }
        _ if bytes.below(3) == 0 => match bytes.below(2) {
            0 => service_cidr("more", bytes.of(&["10.96.0.0/12", "10.0.2.2/32"])),
            _ => Object::OwnAddresses(nets(bytes.of(&["192.0.2.1/24", "10.0.2.1/30"]))),
        },
        _ => {
            let cidr = bytes.of(&["10.0.0.0/16", "10.0.2.0/24"]);
            pool(bytes.of(&["pool-a", "pool-b"]), cidr, bytes.below(2) == 1)
        }
    }
}

fn a_pod(bytes: &mut Bytes<'_>) -> Object {
    let addresses = dual(bytes, &ADDRESSES);
    let mut made = pod(bytes.of(&PODS), &addresses).labels(bytes.of(&LABELS));
    for _ in 0..bytes.below(3) {
        made = made.port(bytes.of(&["web", "dns"]), bytes.of(&TRANSPORTS), bytes.of(&[80, 81, 53]));
    }
    match bytes.below(8) {
        0 => made = made.host_network(),
        1 => made.1.node = None,
        2..=4 => made = made.on(bytes.of(&NODES)),
        _ => {}
    }
    if bytes.below(3) == 0 {
        made = made.unreported();
    }
    made.object()
}

fn a_policy(bytes: &mut Bytes<'_>) -> Object {
    let id = bytes.of(&["a/one", "a/two", "a/three", "b/one", "c/one"]);
    let direction = |bytes: &mut Bytes<'_>| (bytes.below(3) != 0).then(|| bytes.some(3, a_rule));
    let (ingress, egress) = (direction(bytes), direction(bytes));
    policy(id, bytes.of(&SELECTORS), ingress, egress)
}

fn a_rule(bytes: &mut Bytes<'_>) -> Rule {
    rule(bytes.some(3, a_peer), bytes.some(3, a_port))
}

fn a_peer(bytes: &mut Bytes<'_>) -> Peer {
    match bytes.below(4) {
        0 => pods(bytes.of(&SELECTORS)),
        1 | 2 => pods_of(bytes.of(&SELECTORS), bytes.of(&SELECTORS)),
        _ => match bytes.below(4) {
            0 => block("10.0.1.0/24", bytes.of(&["", "10.0.1.2", "10.0.1.2 10.0.1.0/31"])),
            1 => block("0.0.0.0/0", bytes.of(&["", "10.0.0.0/16", "192.0.2.1"])),
            2 => block("::/0", bytes.of(&["", "fd00::10:0:1:0/112"])),
            _ => block("10.0.2.1", ""),
        },
    }
}

fn a_port(bytes: &mut Bytes<'_>) -> PortMatch {
    let transport = bytes.of(&TRANSPORTS);
    match bytes.below(6) {
        0 => any_port(transport),
        1 => ports(transport, 80, 81),
        2 => port(transport, bytes.of(&[53, 79, 80, 81])),
        3 => ports(transport, 81, 65_535),
        _ => named(transport, bytes.of(&["web", "dns"])),
    }
}

fn a_service(bytes: &mut Bytes<'_>) -> Object {
    let names: Vec<_> = bytes.some(3, |b| (b.of(&["", "x", "y"]), b.of(&TRANSPORTS), b.of(&[80, 81])));
    let cluster_ips = bytes.of(&["10.96.0.1", "10.96.0.2", "10.96.0.1 fd96::1"]);
    let Object::Service(mut change) = service(bytes.of(&["a/s", "a/t", "b/s"]), cluster_ips, &names) else {
        unreachable!("a service")
    };
    if let Some(value) = change.value.as_mut().map(Arc::make_mut) {
        value.publish_not_ready = bytes.below(4) == 0;
    }
    Object::Service(change)
}

fn a_slice(bytes: &mut Bytes<'_>) -> Object {
    let names: Vec<_> = bytes.some(2, |b| (b.of(&["", "x", "y"]), b.of(&TRANSPORTS), b.of(&[8080, 8081])));
    let endpoints = bytes.some(4, |b| {
        let address = b.of(&["10.0.1.1", "10.0.1.2", "fd00::1", "127.0.0.1", "169.254.0.1", "ff02::1"]);
        endpoint(address, b.of(&["rs", "s", "st", "", "t"]))
    });
    slice(bytes.of(&["a/s-1", "a/s-2", "a/t-1"]), bytes.of(&["a/s", "a/t"]), &names, endpoints)
}
