//! The native side: the simulator's node.

use crate::session::Observed;
use crate::step::Shot;
use crate::world::{FLOW_ENTRIES, WAY_OUT, World, ifindex_of, places, tunnel_source};
use std::collections::BTreeMap;
use std::net::IpAddr;
use tortie_abi::counter::Counter;
use tortie_abi::policy::{PolicyIo, Verdict as Answer};
use tortie_datapath::hook::sweep::Fate;
use tortie_datapath::kernel::Table;
use tortie_datapath::{V4, V6, Verdict};
use tortie_policy::evaluate::{Packet as Question, evaluate};
use tortie_policy::form::{Action, List};
use tortie_sim::node::{HasTables, Node};
use tortie_sim::run::{doubt, entry, examine, remove};
use tortie_sim::table::Hash;
use tortie_sim::{Packet, run};
use zerocopy::{FromBytes, IntoBytes};

/// One family's tables that packets write: main and half-open flows, affinity.
pub type Dump = [BTreeMap<Vec<u8>, Vec<u8>>; 3];

/// A node that is a world.
pub struct Native {
    /// The simulator's.
    pub node: Node,
}

impl Native {
    /// The node of a world.
    pub fn new(world: &World) -> Self {
        let node = Node::new();
        node.way_out.set(WAY_OUT);
        *node.v4.flow.borrow_mut() = Hash::new(FLOW_ENTRIES);
        *node.v6.flow.borrow_mut() = Hash::new(FLOW_ENTRIES);
        node.settings.set(world.settings);
        for (slot, list) in &world.lists {
            node.policy.borrow_mut().insert(*slot, evaluator(world, *slot, list.clone()));
        }
        for (key, value) in &world.v4.routes {
            node.v4.set_route(key.address, key.prefix_length, *value);
        }
        for (key, value) in &world.v6.routes {
            node.v6.set_route(key.address, key.prefix_length, *value);
        }
        // A world is far smaller than the tables.
        for key in &world.v4.opted_out {
            let mut opt_out = node.v4.opt_out.borrow_mut();
            let _ = opt_out.insert(key.address.as_bytes(), key.prefix_length, 1);
        }
        for key in &world.v6.opted_out {
            let mut opt_out = node.v6.opt_out.borrow_mut();
            let _ = opt_out.insert(key.address.as_bytes(), key.prefix_length, 1);
        }
        for (key, frontend, backends) in &world.v4.services {
            node.v4.set_service(key, *frontend, backends);
            node.v4.set_maglev(frontend.service, &places(frontend, backends));
        }
        for (key, frontend, backends) in &world.v6.services {
            node.v6.set_service(key, *frontend, backends);
            node.v6.set_maglev(frontend.service, &places(frontend, backends));
        }
        for (service, client, length) in world.v4.admitted.iter().chain(&world.v6.admitted) {
            match client {
                IpAddr::V4(a) => node.v4.admit(*service, (*a).into(), u32::from(*length)),
                IpAddr::V6(a) => node.v6.admit(*service, (*a).into(), u32::from(*length)),
            }
        }
        for (address, class) in &world.class_addresses {
            match address {
                IpAddr::V4(address) => node.v4.set_class((*address).into(), *class),
                IpAddr::V6(address) => node.v6.set_class((*address).into(), *class),
            }
        }
        for (net, class) in &world.class_prefixes {
            let length = u32::from(net.prefix_len());
            // A world is far smaller than the tables.
            let _ = match net.network() {
                IpAddr::V4(a) => node.v4.class_net.borrow_mut().insert(&a.octets(), length, *class),
                IpAddr::V6(a) => node.v6.class_net.borrow_mut().insert(&a.octets(), length, *class),
            };
        }
        let native = Self { node };
        world.endpoints.keys().for_each(|slot| native.set_endpoint(world, *slot));
        world.next_hops.keys().for_each(|slot| native.set_next_hop(world, *slot));
        native
    }

    /// Takes one endpoint's record over.
    pub fn set_endpoint(&self, world: &World, slot: u32) {
        self.node.endpoint.borrow_mut().insert(slot, world.endpoints[&slot]);
    }

    /// Takes one next hop's record over.
    pub fn set_next_hop(&self, world: &World, slot: u32) {
        self.node.next_hop.borrow_mut().insert(slot, world.next_hops[&slot]);
    }

    /// A back end is none of a Service's any more.
    pub fn leave(&self, world: &World, service: u32, ordinal: u32) {
        for (_, frontend, backends) in world.v4.services.iter().filter(|(_, f, _)| f.service == service) {
            if let Some(backend) = backends.get(ordinal as usize) {
                self.node.v4.set_member(frontend.service, backend, None);
            }
        }
        for (_, frontend, backends) in world.v6.services.iter().filter(|(_, f, _)| f.service == service) {
            if let Some(backend) = backends.get(ordinal as usize) {
                self.node.v6.set_member(frontend.service, backend, None);
            }
        }
    }

    /// Sends a packet through its hook.
    pub fn shoot(&self, shot: &Shot) -> Observed {
        let packet = Packet {
            mark: shot.mark,
            aggregate: shot.aggregate,
            tunnel_source: tunnel_source(shot),
            ..Packet::new(shot.bytes.clone(), ifindex_of(shot.hook, shot.slot))
        };
        let outcome = run(&self.node, shot.hook, shot.slot, packet);
        let (kind, argument) = match outcome.verdict {
            Verdict::Pass => (1, 0),
            Verdict::Peer { ifindex } => (2, ifindex),
            Verdict::Interface { ifindex } => (3, ifindex),
            Verdict::Neighbour { slot, .. } => (4, slot),
            Verdict::Answer => (5, 0),
            Verdict::Routed { ifindex } => (6, ifindex),
            Verdict::Local => (7, 0),
            // The flags are the network's last bits.
            Verdict::Tunnel { slot, network } => (8, slot | network << 30),
            Verdict::Drop(reason) => (9, reason as u32),
        };
        let lives = !matches!(outcome.verdict, Verdict::Drop(_));
        Observed {
            verdict: (kind, argument),
            packet: lives.then_some((outcome.packet.bytes, outcome.packet.mark)),
            random: self.node.random.get(),
        }
    }

    /// Both flow tables of one family.
    pub fn flows(&self, v6: bool) -> Dump {
        if v6 { dump::<V6>(&self.node) } else { dump::<V4>(&self.node) }
    }

    /// Does what a sweep would.
    pub fn sweep(&self) {
        sweep::<V4>(&self.node);
        sweep::<V6>(&self.node);
    }

    /// Counted drops and answers.
    pub fn counters(&self) -> BTreeMap<(u32, u16, u16), Counter> {
        self.node.counter.borrow().clone()
    }

    /// Counted rules, those that have decided something.
    pub fn rules(&self) -> BTreeMap<u32, Counter> {
        self.node.rule_counter.borrow().iter().filter(|(_, c)| c.packets > 0).map(|(k, c)| (*k, *c)).collect()
    }
}

fn dump<F: HasTables>(node: &Node) -> Dump {
    let tables = F::tables(node);
    let flows = |table| {
        let entries = tables.entries(table).into_iter();
        entries.map(|(key, flow)| (key, flow.as_bytes().to_vec())).collect()
    };
    let affinity = tables.affinity.borrow();
    [
        flows(Table::Main),
        flows(Table::HalfOpen),
        affinity.sorted().into_iter().map(|(k, v)| (k.to_vec(), v.as_bytes().to_vec())).collect(),
    ]
}

fn sweep<F: HasTables>(node: &Node) {
    for table in [Table::Main, Table::HalfOpen] {
        for bytes in F::tables(node).entries(table).into_keys() {
            sweep_entry::<F>(node, table, &bytes);
        }
    }
}

fn sweep_entry<F: HasTables>(node: &Node, table: Table, bytes: &[u8]) {
    let Ok(key) = F::FlowKey::read_from_bytes(bytes) else { return };
    let Some(entry) = entry::<F>(node, table, &key) else { return };
    let (fate, partner) = examine::<F>(node, table, &key, &entry);
    match fate {
        Fate::Keep => doubt::<F>(node, table, &key),
        Fate::Orphaned => remove::<F>(node, table, &key),
        Fate::Expired | Fate::Stale => {
            remove::<F>(node, table, &key);
            remove::<F>(node, table, &partner);
        }
    }
}

fn evaluator(world: &World, slot: u32, list: List) -> tortie_sim::node::Program {
    let class_sets = world.class_sets.clone();
    Box::new(move |io: &PolicyIo| {
        let Some(question) = Question::from_io(io) else { return (Answer::Deny, 0) };
        // A class that the program does not know is denied.
        let Some(sets) = class_sets.get(&io.remote_class) else { return (Answer::Deny, 0) };
        let decision = evaluate(&list, &|set| sets.contains(&set), &question);
        let answer = if decision.action == Action::Allow { Answer::Allow } else { Answer::Deny };
        (answer, decision.rule.map_or(0, |rule| World::rule_id(slot, rule)))
    })
}
