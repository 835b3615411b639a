//! Histories of desired states, each also with a restart at every operation, every operation failing once,
//! foreign entries present, and drift made behind the agent's back.

mod away;
mod desired;
mod lost;
mod refused;
mod world;

use desired::{Desired, workload};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;
use tortie_abi::endpoint::endpoint_flags;
use tortie_abi::policy::Verdict;
use tortie_abi::service::flags::UNTRANSLATED;
use tortie_intent::{Intent, Route};
use tortie_model::NodeName;
use tortie_model::settings::Settings;
use tortie_reconcile::{Kernel, Readiness, Reconciler, Saved, Way, Written};
use world::{Meaning, Room, World};

const PROBES: [&str; 5] = ["10.65.0.2", "10.65.0.3", "10.65.1.2", "10.65.1.3", "192.0.2.1"];
/// Longer than any back-off.
const LATER: Duration = Duration::from_secs(60);

fn probes() -> Vec<Ipv4Addr> {
    PROBES.iter().map(|p| p.parse().unwrap()).collect()
}

/// An agent without its I/O.
struct Agent {
    reconciler: Reconciler,
    kernel: Kernel,
    saved: Saved,
    now: Duration,
}

impl Agent {
    fn start(world: &World, saved: Saved, desired: &Desired, shift: u32) -> Self {
        let mut agent = Self {
            reconciler: Reconciler::new(saved.clone()),
            kernel: world.kernel(),
            saved,
            now: Duration::from_secs(1),
        };
        for (index, name) in (10..).zip(["front", "back", "extra"]) {
            agent.reconciler.interface(&format!("cali{name}"), Some(index));
        }
        // Small tables, for many tests of every operation.
        let settings = Settings { maglev_endpoints: 3, ..Settings::default() };
        agent.receive(vec![Intent::Settings(Box::new(settings))]);
        agent.receive(desired.since(&Desired::default(), shift));
        agent.receive(vec![Intent::InSync]);
        agent
    }

    fn receive(&mut self, intents: Vec<Intent>) {
        for intent in intents {
            self.reconciler.receive(intent);
        }
        for node in self.reconciler.destinations() {
            self.reconciler.set_way(node, Some(Way { ifindex: 2, mtu_bytes: 1500, neighbour: node }));
        }
    }

    fn apply(&mut self) -> Written {
        self.reconciler.allocate(&mut self.kernel).expect("readable tables");
        self.save();
        let written = self.reconciler.apply(&mut self.kernel, self.now).expect("readable tables");
        self.save();
        written
    }

    fn save(&mut self) {
        let mut services = std::mem::take(&mut self.saved.services);
        self.reconciler.service_changes().into_iter().for_each(|change| services.apply(change));
        assert_eq!(services, self.reconciler.saved_services(), "changes add up to all");
        self.reconciler.save();
        self.saved = Saved { services, ..self.reconciler.saved().clone() };
    }

    /// Applies until nothing is left, with time passing.
    fn settle(&mut self) {
        for _ in 0..10 {
            self.apply();
            if self.reconciler.dirty().is_empty() {
                return;
            }
            self.now += LATER;
        }
        panic!("never settles: {:?}", self.reconciler.dirty());
    }
}

fn remote(node: &str, address: &str) -> Route {
    Route::RemotePod { node: NodeName::new(node), next_hop: Some(address.parse().unwrap()) }
}

/// A small shop, changed in every way that an intent can change.
fn history() -> Vec<Desired> {
    let mut now = Desired::default();
    now.sets.insert(1, BTreeSet::from(["10.65.0.2/32", "10.65.1.2/32"]));
    now.lists.insert(1, (1, 80));
    now.endpoints.insert("front", ("10.65.0.2", "c1", None));
    now.endpoints.insert("back", ("10.65.0.3", "c2", Some(1)));
    now.routes.insert("10.65.0.2/32", Route::LocalPod(workload("front")));
    now.routes.insert("10.65.0.3/32", Route::LocalPod(workload("back")));
    now.routes.insert("10.65.1.0/24", remote("node2", "172.16.0.2"));
    now.routes.insert("10.65.0.0/16", Route::Pool { nat_outgoing: true });
    now.services.insert("back", vec!["10.65.0.3", "10.65.1.3"]);
    let mut all = vec![now.clone()];
    let mut step = |change: &dyn Fn(&mut Desired)| {
        change(&mut now);
        all.push(now.clone());
    };
    // Members come and go.
    step(&|d| drop(d.sets.insert(1, BTreeSet::from(["10.65.1.2/32", "10.65.1.3/32"]))));
    // A list asks about another, new set.
    step(&|d| {
        d.sets.insert(2, BTreeSet::from(["10.65.0.0/24", "10.65.1.3/32"]));
        d.lists.insert(1, (2, 8080));
    });
    // A second list; an endpoint moves to it; back ends shrink.
    step(&|d| {
        d.lists.insert(2, (1, 443));
        d.endpoints.insert("front", ("10.65.0.2", "c1", Some(2)));
        d.services.insert("back", vec!["10.65.0.3"]);
    });
    // A pod is set up anew; a node moves; a service without back ends comes.
    step(&|d| {
        d.endpoints.insert("back", ("10.65.0.3", "c9", Some(1)));
        d.routes.insert("10.65.1.0/24", remote("node2", "172.16.0.3"));
        d.services.insert("s", Vec::new());
    });
    // Things go: an endpoint, its list and set, a service, a route.
    step(&|d| {
        d.endpoints.remove("back");
        d.routes.remove("10.65.0.3/32");
        d.lists.remove(&1);
        d.sets.remove(&2);
        d.services.remove("back");
        d.routes.remove("10.65.1.0/24");
    });
    all
}

#[test]
fn every_step_of_the_history_ends_in_force() {
    let world = World::new();
    let history = history();
    let mut agent = Agent::start(&world, Saved::default(), &history[0], 0);
    agent.settle();
    assert!(matches!(agent.reconciler.readiness(&workload("back")), Readiness::Ready { .. }));
    let meaning = world.meaning(&probes());
    assert_eq!(meaning.services.len(), 2, "at its own and at the load balancer's address");
    assert_eq!(meaning.endpoints.len(), 2);
    let back = &meaning.endpoints[&"10.65.0.3".parse::<IpAddr>().unwrap()];
    assert!(
        back.contains("[Some(0), Some(1), Some(0), Some(1), Some(1)]"),
        "members and others apart: {back}"
    );
    for pair in history.windows(2) {
        agent.receive(pair[1].since(&pair[0], 0));
        agent.settle();
        let fresh = World::new();
        Agent::start(&fresh, Saved::default(), &pair[1], 0).settle();
        assert_eq!(world.meaning(&probes()), fresh.meaning(&probes()), "as if it had never been otherwise");
    }
}

#[test]
fn what_is_in_force_is_not_written_again() {
    for desired in history() {
        let world = World::new();
        let mut agent = Agent::start(&world, Saved::default(), &desired, 0);
        agent.settle();
        world.faults.clear();
        assert_eq!(agent.apply(), Written::default());
        assert_eq!(world.faults.operations(), 0);
    }
}

#[test]
fn a_restart_with_nothing_changed_writes_nothing() {
    for desired in history() {
        let world = World::new();
        let mut agent = Agent::start(&world, Saved::default(), &desired, 0);
        agent.settle();
        let (saved, before) = (agent.saved.clone(), generations(&world));
        world.faults.clear();
        let mut again = Agent::start(&world, saved, &desired, 100);
        again.settle();
        assert_eq!(world.faults.operations(), 0, "nothing differs");
        assert_eq!(generations(&world), before, "no flow has to ask again");
    }
}

fn generations(world: &World) -> Vec<(u32, u32, u32)> {
    let mut all: Vec<_> = world
        .endpoint
        .elements()
        .iter()
        .map(|(s, r)| (*s, r.egress_generation, r.ingress_generation))
        .collect();
    all.sort_unstable();
    all
}

/// Carries out one step of the history in a world where the steps before are in force.
fn before(step: usize, history: &[Desired]) -> (World, Agent) {
    let world = World::new();
    let mut agent = Agent::start(&world, Saved::default(), &history[0], 0);
    agent.settle();
    for pair in history[..step].windows(2) {
        agent.receive(pair[1].since(&pair[0], 0));
        agent.settle();
    }
    (world, agent)
}

fn expected(desired: &Desired) -> world::Meaning {
    let fresh = World::new();
    Agent::start(&fresh, Saved::default(), desired, 0).settle();
    fresh.meaning(&probes())
}

#[test]
fn an_agent_that_dies_at_any_operation_is_followed_by_one_that_finishes() {
    let history = history();
    for step in 1..history.len() {
        let wanted = expected(&history[step]);
        for dies_at in 0.. {
            let (world, mut agent) = before(step, &history);
            agent.receive(history[step].since(&history[step - 1], 0));
            world.faults.die_at(dies_at);
            agent.apply();
            let finished = world.faults.operations() <= dies_at;
            let saved = agent.saved.clone();
            drop(agent);
            world.faults.clear();
            let mut next = Agent::start(&world, saved, &history[step], 50);
            world.taking_over.set(true);
            next.settle();
            world.taking_over.set(false);
            world.check();
            assert_eq!(world.meaning(&probes()), wanted, "step {step}, death at {dies_at}");
            if finished {
                break;
            }
        }
    }
}

#[test]
fn the_first_agent_may_die_at_any_operation_too() {
    let history = history();
    let wanted = expected(&history[0]);
    for dies_at in 0.. {
        let world = World::new();
        let mut agent = Agent::start(&world, Saved::default(), &history[0], 0);
        world.faults.die_at(dies_at);
        agent.apply();
        let finished = world.faults.operations() <= dies_at;
        world.faults.clear();
        Agent::start(&world, agent.saved.clone(), &history[0], 7).settle();
        assert_eq!(world.meaning(&probes()), wanted, "death at {dies_at}");
        if finished {
            return;
        }
    }
}

#[test]
fn any_operation_may_fail_once() {
    let history = history();
    for step in 1..history.len() {
        let wanted = expected(&history[step]);
        for fails_at in 0.. {
            let (world, mut agent) = before(step, &history);
            agent.receive(history[step].since(&history[step - 1], 0));
            world.faults.fail_at(fails_at);
            agent.settle();
            let finished = world.faults.operations() <= fails_at;
            assert_eq!(world.meaning(&probes()), wanted, "step {step}, failure at {fails_at}");
            if finished {
                break;
            }
        }
    }
}

#[test]
fn a_lost_state_file_costs_numbers_and_nothing_else() {
    let history = history();
    for desired in &history {
        let world = World::new();
        Agent::start(&world, Saved::default(), desired, 0).settle();
        Agent::start(&world, Saved::default(), desired, 3).settle();
        assert_eq!(world.meaning(&probes()), expected(desired));
    }
}

#[test]
fn foreign_entries_go_and_nothing_else_is_disturbed() {
    let history = history();
    let world = World::new();
    world.damaged.set(true);
    let foreign = tortie_abi::v4::AddressKey { address: Ipv4Addr::new(203, 0, 113, 9).into() };
    world.class_addr4.tamper(|elements| elements.push((foreign, 77)));
    let key = tortie_abi::service::BackendKey { service: 900, ordinal: 0 };
    let backend = tortie_abi::v4::Backend { address: Ipv4Addr::LOCALHOST.into(), port: 1.into(), _zero: 0 };
    world.backend4.tamper(|elements| elements.push((key, backend)));
    world.slots.borrow_mut().insert(9, world::Installed { name: "pforeign".into(), ..Default::default() });
    let mut agent = Agent::start(&world, Saved::default(), &history[0], 0);
    agent.settle();
    world.damaged.set(false);
    world.check();
    assert_eq!(world.meaning(&probes()), expected(&history[0]));
    assert_eq!(world.backend4.get(key), None);
}

#[test]
fn drift_behind_our_back_is_repaired_by_a_resync() {
    let history = history();
    let world = World::new();
    let mut agent = Agent::start(&world, Saved::default(), &history[0], 0);
    agent.settle();
    let wanted = world.meaning(&probes());
    world.damaged.set(true);
    world.route4.tamper(|elements| elements.truncate(elements.len() - 1));
    world.endpoint.tamper(|elements| elements[0].1.flags = 0);
    world.backend4.tamper(Vec::clear);
    world.class_addr4.tamper(|elements| elements[0].1 = 99);
    world.settings.tamper(Vec::clear);
    world.slots.borrow_mut().clear();
    world.hooks.borrow_mut().remove("califront");
    agent.reconciler.resync(&mut agent.kernel).unwrap();
    assert!(!agent.reconciler.dirty().is_empty(), "it is seen");
    agent.settle();
    world.damaged.set(false);
    world.check();
    assert_eq!(world.meaning(&probes()), wanted);
    assert_eq!(world.settings.elements().len(), 1);
}

#[test]
fn nothing_is_written_before_the_intent_is_in_sync() {
    let history = history();
    let world = World::new();
    Agent::start(&world, Saved::default(), &history[3], 0).settle();
    world.faults.clear();
    let mut agent = Agent::start(&world, Saved::default(), &Desired::default(), 0);
    agent.reconciler = Reconciler::new(Saved::default());
    agent.receive(history[0].since(&Desired::default(), 0));
    assert_eq!(agent.apply(), Written::default());
    assert_eq!(world.faults.operations(), 0);
    assert!(!agent.reconciler.dirty().is_empty());
}

#[test]
fn generations_change_when_a_verdict_may_have_and_only_then() {
    let history = history();
    let world = World::new();
    let mut agent = Agent::start(&world, Saved::default(), &history[0], 0);
    agent.settle();
    let of = |world: &World, address: &str| {
        let address: Ipv4Addr = address.parse().unwrap();
        let elements = world.endpoint.elements();
        let record = elements.iter().find(|(_, r)| Ipv4Addr::from(r.address4) == address).unwrap().1;
        (record.egress_generation, record.ingress_generation)
    };
    let (front, back) = (of(&world, "10.65.0.2"), of(&world, "10.65.0.3"));
    // Members of the set that back's ingress list asks about change.
    agent.receive(history[1].since(&history[0], 0));
    agent.settle();
    assert_eq!(of(&world, "10.65.0.2"), front, "front has no policy");
    let after = of(&world, "10.65.0.3");
    assert_eq!(after.0, back.0, "nor has back's egress");
    assert!(after.1 > back.1, "generations only grow");
}

#[test]
fn a_workload_interface_without_an_endpoint_drops_everything() {
    let world = World::new();
    let mut agent = Agent::start(&world, Saved::default(), &history()[0], 0);
    agent.reconciler.interface("eth0", Some(99));
    agent.settle();
    assert_eq!(world.hooks.borrow().get("caliextra"), Some(&(12, tortie_reconcile::GUARD_SLOT)));
    assert!(world.endpoint.get(tortie_reconcile::GUARD_SLOT).is_none());
    assert!(!world.hooks.borrow().contains_key("eth0"));
}

#[test]
fn a_vanished_interface_is_not_ready_and_comes_back_ready() {
    let world = World::new();
    let mut agent = Agent::start(&world, Saved::default(), &history()[0], 0);
    agent.settle();
    agent.reconciler.interface("caliback", None);
    world.hooks.borrow_mut().remove("caliback");
    world.damaged.set(true);
    agent.apply();
    world.damaged.set(false);
    world.check();
    assert_eq!(agent.reconciler.readiness(&workload("back")), Readiness::NoInterface);
    agent.reconciler.interface("caliback", Some(44));
    agent.settle();
    let records = world.endpoint.elements();
    assert!(records.iter().any(|(_, r)| r.ifindex == 44 && r.flags & endpoint_flags::READY != 0));
}

/// An agent that has what is desired in force, what that means, and the desire for another Service, which it has tried.
fn with_one_service_too_many(world: &World, desired: &Desired) -> (Agent, Meaning, Desired) {
    let mut agent = Agent::start(world, Saved::default(), desired, 0);
    agent.settle();
    let wanted = world.meaning(&probes());
    let mut more = desired.clone();
    more.services.insert("other", vec!["10.65.1.7", "10.65.1.8"]);
    agent.receive(more.since(desired, 0));
    agent.apply();
    (agent, wanted, more)
}

#[test]
fn a_full_table_refuses_the_new_keeps_the_old_and_says_so() {
    let history = history();
    let world = World::with_backends(2);
    let (mut agent, wanted, more) = with_one_service_too_many(&world, &history[0]);
    let dirty = agent.reconciler.dirty();
    assert!(dirty.iter().any(|d| d.object.starts_with("backend4") && d.reason.contains("full")), "{dirty:?}");
    assert_eq!(
        world.meaning(&probes()),
        wanted,
        "the old service is as it was, the new one is not half there"
    );
    agent.receive(history[0].since(&more, 0));
    agent.settle();
    assert_eq!(world.meaning(&probes()), wanted);
}

#[test]
fn whichever_table_of_services_is_full_what_was_served_stays_and_it_is_said() {
    let history = history();
    for (table, room) in [
        ("frontend4", Room { frontends: 2, ..Room::AMPLE }),
        ("backend4", Room { backends: 2, ..Room::AMPLE }),
        ("member4", Room { members: 2, ..Room::AMPLE }),
        ("maglev4", Room { pieces: 4, ..Room::AMPLE }),
        ("source_range4", Room { ranges: 1, ..Room::AMPLE }),
    ] {
        let world = World::with_room(room);
        let (mut agent, wanted, more) = with_one_service_too_many(&world, &history[0]);
        let dirty = agent.reconciler.dirty();
        let said = dirty.iter().any(|d| d.object.starts_with(table) && d.reason.contains("full"));
        assert!(said, "{table}: {dirty:?}");
        let now = world.meaning(&probes());
        for (frontend, served) in &wanted.services {
            assert_eq!(now.services.get(frontend), Some(served), "{table}");
        }
        agent.receive(history[0].since(&more, 0));
        agent.settle();
        assert_eq!(world.meaning(&probes()), wanted, "{table}");
    }
}

#[test]
fn a_service_whose_hash_table_has_no_room_is_served_without_until_there_is() {
    let history = history();
    let world = World::with_room(Room { pieces: 4, ..Room::AMPLE });
    let (mut agent, _, more) = with_one_service_too_many(&world, &history[0]);
    let tables = |world: &World| -> BTreeSet<(u32, u32)> {
        world.frontend4.elements().iter().map(|(_, f)| (f.service, f.maglev_slots)).collect()
    };
    assert_eq!(tables(&world), BTreeSet::from([(1, 307), (2, 0)]));
    // What changes meanwhile is in force.
    let mut moved = more.clone();
    moved.services.insert("other", vec!["10.65.1.9"]);
    agent.receive(moved.since(&more, 0));
    agent.apply();
    let other = world.frontend4.elements().into_iter().find(|(_, f)| f.service == 2).unwrap().1;
    assert_eq!((other.backends, other.maglev_slots), (1, 0));
    // Room is made.
    let mut alone = moved.clone();
    alone.services.remove("back");
    agent.receive(alone.since(&moved, 0));
    agent.settle();
    assert_eq!(tables(&world), BTreeSet::from([(2, 307)]));
}

#[test]
fn addresses_that_are_excluded_are_not_translated_for_as_long_as_they_are() {
    let history = history();
    let world = World::new();
    let mut agent = Agent::start(&world, Saved::default(), &history[0], 0);
    let untranslated = |world: &World| -> Vec<(Ipv4Addr, u32)> {
        let all = world.frontend4.elements().into_iter();
        let excluded = all.filter(|(_, f)| f.flags & UNTRANSLATED != 0);
        excluded.map(|(key, f)| (key.address.into(), f.maglev_slots)).collect()
    };
    for (nets, expected) in [
        (vec!["10.96.0.0/16"], vec![(Ipv4Addr::new(10, 96, 0, 4), 0)]),
        (vec!["192.0.2.0/24"], vec![]),
        (vec![], vec![]),
    ] {
        let untranslated_nets = nets.iter().map(|net| net.parse().unwrap()).collect();
        let settings =
            Settings { maglev_endpoints: 3, untranslated: untranslated_nets, ..Settings::default() };
        agent.receive(vec![Intent::Settings(Box::new(settings))]);
        agent.settle();
        assert_eq!(untranslated(&world), expected, "{nets:?}");
    }
}

#[test]
fn who_removes_what_flows_may_lead_by_says_so() {
    let history = history();
    let world = World::new();
    let mut agent = Agent::start(&world, Saved::default(), &history[0], 0);
    assert_eq!(agent.apply().withdrawn, 0);
    let mut step = |from: &Desired, to: &Desired| {
        agent.receive(to.since(from, 0));
        agent.apply().withdrawn
    };
    let (both, mut one, mut none) = (&history[0], history[0].clone(), history[0].clone());
    one.services.insert("back", vec!["10.65.0.3"]);
    none.services.remove("back");
    assert_eq!(step(both, &one), 2, "members: with the affinity nobody looks for back ends by address");
    assert_eq!(step(&one, both), 0);
    assert_eq!(step(both, &none), 4, "two members and two front ends");
    assert_eq!(step(&none, both), 0);
}

#[test]
fn tables_of_another_size_take_the_place_of_those_in_force() {
    let history = history();
    let world = World::new();
    let mut agent = Agent::start(&world, Saved::default(), &history[0], 0);
    agent.settle();
    let pieces = |world: &World| world.maglev4.elements().len();
    assert_eq!(pieces(&world), 3);
    for (endpoints, expected) in [(9, 8), (3, 3)] {
        let settings = Settings { maglev_endpoints: endpoints, ..Settings::default() };
        agent.receive(vec![Intent::Settings(Box::new(settings))]);
        agent.settle();
        assert_eq!(pieces(&world), expected);
    }
}

#[test]
fn an_endpoint_whose_policy_cannot_be_known_is_denied() {
    let world = World::new();
    let mut desired = history()[0].clone();
    desired.endpoints.remove("back");
    let mut agent = Agent::start(&world, Saved::default(), &desired, 0);
    let mut intents = history()[0].since(&desired, 0);
    for intent in &mut intents {
        if let Intent::Endpoint(_, Some(endpoint)) = intent {
            endpoint.ingress = tortie_intent::Rules::Unknown;
        }
    }
    agent.receive(intents);
    agent.apply();
    assert_eq!(agent.reconciler.readiness(&workload("back")), Readiness::NoPod);
    let elements = world.endpoint.elements();
    let record = elements.iter().find(|(_, r)| r.ingress_generation == 0).unwrap().1;
    assert_eq!(record.flags & endpoint_flags::READY, 0);
    assert_eq!(Verdict::from_word(0), Verdict::Deny);
}
