//! Lists that cannot be put in force: what was in force stays, its sets included.

use super::desired::{Desired, endpoint, rule, workload};
use super::world::World;
use super::{Agent, generations, probes};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tortie_abi::endpoint::NO_PROGRAM;
use tortie_intent::{Endpoint, Intent, List, ListId, Rules, SetChange, SetId};
use tortie_policy::form::{Action, Clause, Direction, Rule};
use tortie_reconcile::{Readiness, Saved};

/// More rules than can be numbered, of a list that asks about nobody.
fn too_long() -> Arc<List> {
    let rules =
        (0..65_001u32).map(|number| rule("too-long", number, Vec::new(), (number % 65_535) as u16 + 1));
    list(rules.collect())
}

fn list(rules: Vec<Rule>) -> Arc<List> {
    let policies: BTreeSet<_> = rules.iter().map(|rule| rule.origin.policy.clone()).collect();
    let policies = policies.into_iter().collect();
    Arc::new(List { direction: Direction::Ingress, policies, rules, default: Action::Deny })
}

fn one_of(set: u32) -> Clause {
    Clause { sets: vec![SetId(set)], negated: false }
}

fn back(rules: u32) -> Intent {
    let value = Endpoint { ingress: Rules::List(ListId(rules)), ..endpoint("back", "10.65.0.3") };
    Intent::Endpoint(workload("back"), Some(value))
}

fn new_set(id: u32, member: &str) -> [Intent; 2] {
    let add = vec![member.parse().unwrap()];
    let members = SetChange::Update { add, remove: Vec::new() };
    [Intent::Set(SetId(id), SetChange::Create), Intent::Set(SetId(id), members)]
}

fn leaves(id: u32, member: &str) -> Intent {
    let remove = vec![member.parse().unwrap()];
    Intent::Set(SetId(id), SetChange::Update { add: Vec::new(), remove })
}

/// Set 1 is a whole network, 2 an exception, 3 a pod; list 1 lets in 1 without 2, list 2 lets in 3.
fn sets() -> Vec<Intent> {
    [new_set(1, "10.65.0.0/16"), new_set(2, "10.65.1.2/32"), new_set(3, "10.65.1.3/32")].concat()
}

fn lists() -> Vec<Intent> {
    let but = vec![one_of(1), Clause { negated: true, ..one_of(2) }];
    let block = list(vec![rule("block", 0, but, 80)]);
    let pods = list(vec![rule("pods", 0, vec![one_of(3)], 80)]);
    vec![Intent::List(ListId(1), Some(block)), Intent::List(ListId(2), Some(pods))]
}

/// An agent with one of these lists in force for `back`.
fn in_force(world: &World, number: u32) -> Agent {
    let mut agent = Agent::start(world, Saved::default(), &Desired::default(), 0);
    agent.receive(sets());
    agent.receive(lists());
    agent.receive(vec![back(number)]);
    agent.settle();
    agent
}

/// `back` shall have a list that cannot be compiled instead of `number`, and `set` is wanted by nobody any more.
fn refuse(agent: &mut Agent, number: u32, set: u32) {
    agent.receive(vec![Intent::List(ListId(9), Some(too_long())), back(9)]);
    agent.receive(vec![Intent::List(ListId(number), None), Intent::Set(SetId(set), SetChange::Remove)]);
    for _ in 0..3 {
        agent.apply();
        agent.now += super::LATER;
    }
    let dirty = agent.reconciler.dirty();
    assert!(dirty.iter().any(|d| d.reason.contains("too many rules")), "{dirty:?}");
}

#[test]
fn a_refused_list_leaves_the_sets_of_the_one_in_force_alone() {
    for (number, set) in [(1, 2), (2, 3)] {
        let world = World::new();
        let mut agent = in_force(&world, number);
        let wanted = world.meaning(&probes()).endpoints;
        refuse(&mut agent, number, set);
        assert_eq!(world.meaning(&probes()).endpoints, wanted, "list {number} without set {set}");
    }
}

#[test]
fn a_list_that_does_not_fit_is_not_compiled_again_for_others_sake() {
    let world = World::new();
    let mut agent = in_force(&world, 1);
    agent.receive(vec![Intent::List(ListId(9), Some(too_long())), back(9)]);
    let attempts = |agent: &Agent| {
        let dirty = agent.reconciler.dirty();
        let refused = dirty.iter().find(|d| d.reason.contains("too many rules")).expect("it is refused");
        refused.attempts
    };
    agent.apply();
    assert_eq!(attempts(&agent), 1);
    assert!(agent.reconciler.is_any_list_refused());
    // New classes, more than the list in force has room for: it is compiled again, and says nothing about the other.
    for set in 10..200 {
        agent.now += Duration::from_millis(100);
        agent.receive(new_set(set, &format!("192.0.2.{set}/32")).into());
        agent.receive(vec![Intent::List(
            ListId(set),
            Some(list(vec![rule("other", 0, vec![one_of(set)], 80)])),
        )]);
        agent.apply();
    }
    assert_eq!(attempts(&agent), 1, "nineteen seconds later");
    agent.now += Duration::from_secs(20);
    agent.apply();
    assert_eq!(attempts(&agent), 2);
}

#[test]
fn the_sets_of_a_list_go_with_it() {
    let world = World::new();
    let mut agent = in_force(&world, 1);
    refuse(&mut agent, 1, 2);
    agent.receive(vec![back(2), Intent::List(ListId(9), None)]);
    agent.settle();
    let replaced = world.meaning(&probes());
    let fresh = World::new();
    let mut other = Agent::start(&fresh, Saved::default(), &Desired::default(), 0);
    other.receive([new_set(1, "10.65.0.0/16"), new_set(3, "10.65.1.3/32")].concat());
    other.receive(vec![lists().remove(1), back(2)]);
    other.settle();
    assert_eq!(replaced, fresh.meaning(&probes()));
    world.faults.clear();
    agent.apply();
    assert_eq!(world.faults.operations(), 0, "nothing is left for later");
}

#[test]
fn who_leaves_a_set_of_a_list_that_has_to_stay_is_judged_anew() {
    let world = World::new();
    let mut agent = in_force(&world, 2);
    let wanted = world.meaning(&probes()).endpoints;
    agent.receive(vec![Intent::List(ListId(9), Some(too_long())), back(9), Intent::List(ListId(2), None)]);
    agent.apply();
    let before = generations(&world);
    agent.receive(vec![leaves(3, "10.65.1.3/32")]);
    agent.apply();
    assert_ne!(world.meaning(&probes()).endpoints, wanted, "revoked");
    assert!(generations(&world)[0].2 > before[0].2, "open connections too");
}

#[test]
fn a_program_whose_sets_nobody_knows_does_not_outlast_a_refusal() {
    let world = World::new();
    let mut agent = in_force(&world, 1);
    refuse(&mut agent, 1, 2);
    let mut next = Agent::start(&world, agent.saved.clone(), &Desired::default(), 0);
    next.receive(new_set(1, "10.65.0.0/16").into());
    next.receive(vec![Intent::List(ListId(9), Some(too_long())), back(9)]);
    world.taking_over.set(true);
    next.apply();
    let (_, record) = world.endpoint.elements()[0];
    assert_eq!((record.ingress_program, record.ingress_generation), (NO_PROGRAM, 0));
    assert_eq!(record.flags, 0, "denied as long as nobody can tell whom it would let in");
    assert!(matches!(next.reconciler.readiness(&workload("back"),), Readiness::Waiting(_)));
}

#[test]
fn more_rules_than_there_are_numbers_are_refused_at_once() {
    let world = World::new();
    let mut agent = in_force(&world, 1);
    let wanted = world.meaning(&probes()).endpoints;
    let rules = (0..80_000u32).map(|number| rule("huge", number, Vec::new(), (number % 65_535) as u16 + 1));
    agent.receive(vec![Intent::List(ListId(9), Some(list(rules.collect()))), back(9)]);
    let saved = agent.saved.clone();
    let start = Instant::now();
    for _ in 0..2 {
        agent.apply();
        agent.now += super::LATER;
    }
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    assert_eq!(
        (agent.saved.last_rule, &agent.saved.rules),
        (saved.last_rule, &saved.rules),
        "no number is taken"
    );
    let dirty = agent.reconciler.dirty();
    assert!(
        dirty.iter().any(|d| d.reason.contains("80000 rules cannot be compiled: too many rules")),
        "{dirty:?}"
    );
    assert_eq!(world.meaning(&probes()).endpoints, wanted);
}
