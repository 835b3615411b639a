//! A node whose Node object is away: connections with its pods find what they name when it is back.

use super::desired::Desired;
use super::world::World;
use super::{Agent, remote};
use std::collections::BTreeSet;
use std::time::Duration;
use tortie_reconcile::Saved;

/// Longer than a next hop stays.
const FOREVER: Duration = Duration::from_secs(301);
const SHORTLY: Duration = Duration::from_secs(120);

/// A node that has pods of this prefix, and one that is always there.
fn shop(nodes: &[(&'static str, &'static str)]) -> Desired {
    let mut desired = Desired::default();
    desired.routes.insert("10.65.9.0/24", remote("node9", "172.16.0.9"));
    desired.routes.extend(nodes.iter().map(|(net, node)| (*net, remote(node, node))));
    desired
}

const THERE: [(&str, &str); 1] = [("10.65.1.0/24", "172.16.0.2")];

fn hops(world: &World) -> BTreeSet<u32> {
    world.next_hop.elements().into_iter().map(|(_, record)| record.id.0).collect()
}

/// Every route leads there by now; what flows may name at first.
fn begin(world: &World) -> (Agent, BTreeSet<u32>) {
    let mut agent = Agent::start(world, Saved::default(), &shop(&THERE), 0);
    agent.settle();
    let named = hops(world);
    assert_eq!(named.len(), 2);
    (agent, named)
}

#[test]
fn a_node_that_is_away_for_a_moment_comes_back_as_the_same_next_hop() {
    let world = World::new();
    let (mut agent, named) = begin(&world);
    for away in [Duration::ZERO, SHORTLY] {
        agent.receive(shop(&[]).since(&shop(&THERE), 0));
        agent.settle();
        agent.now += away;
        agent.apply();
        assert_eq!(hops(&world), named, "flows still have a way");
        assert_eq!(world.route4.elements().len(), 1, "and new ones none");
        agent.receive(shop(&THERE).since(&shop(&[]), 0));
        agent.settle();
        assert_eq!(hops(&world), named);
    }
    agent.now += FOREVER;
    agent.apply();
    assert_eq!(hops(&world), named, "it does not go afterwards");
}

#[test]
fn nor_does_a_new_agent_take_the_way_of_flows_to_a_node_that_is_away() {
    let world = World::new();
    let (mut agent, named) = begin(&world);
    agent.receive(shop(&[]).since(&shop(&THERE), 0));
    agent.settle();
    // Which dies before or after it has heard that the node is away, with its file or without.
    for saved in [agent.saved.clone(), Saved::default()] {
        let mut agent = Agent::start(&world, saved, &shop(&[]), 7);
        agent.settle();
        assert_eq!(hops(&world), named);
        agent.receive(shop(&THERE).since(&shop(&[]), 0));
        agent.settle();
        assert_eq!(hops(&world), named);
    }
}

#[test]
fn a_node_that_is_gone_loses_its_next_hop_in_the_end() {
    let world = World::new();
    let (mut agent, named) = begin(&world);
    agent.receive(shop(&[]).since(&shop(&THERE), 0));
    agent.settle();
    let goes = agent.reconciler.next_retry().expect("somebody has to wake");
    assert_eq!(goes, agent.now + Duration::from_secs(300));
    agent.now = goes;
    agent.apply();
    assert_eq!(hops(&world).len(), 1);
    assert_eq!(agent.reconciler.next_retry(), None);
    assert_eq!(agent.saved.next_hops.len(), 1);
    agent.receive(shop(&THERE).since(&shop(&[]), 0));
    agent.settle();
    assert_eq!(hops(&world).intersection(&named).count(), 1, "no flow of old finds it");
}

#[test]
fn where_another_address_has_its_prefix_flows_are_not_kept_waiting() {
    let world = World::new();
    let (mut agent, named) = begin(&world);
    let moved = shop(&[("10.65.1.0/24", "172.16.0.3")]);
    agent.receive(moved.since(&shop(&THERE), 0));
    agent.settle();
    assert_eq!(hops(&world).len(), 2);
    assert_eq!(hops(&world).intersection(&named).count(), 1);
}
