//! The file of names is lost, and records are in the kernel: nobody gets another's number.

use super::desired::{Desired, endpoint, workload};
use super::world::World;
use super::{Agent, generations, remote};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use tortie_abi::Target;
use tortie_abi::endpoint::Endpoint;
use tortie_intent::{Intent, Route};
use tortie_reconcile::Saved;

/// A shop of these pods, by name and address, and of these other nodes.
fn shop(pods: &[(&'static str, &'static str)], nodes: &[(&'static str, &'static str)]) -> Desired {
    let mut desired = Desired::default();
    desired.endpoints.extend(pods.iter().map(|(name, address)| (*name, (*address, "c1", None))));
    desired.routes.extend(nodes.iter().map(|(net, node)| (*net, remote(node, node))));
    desired
}

/// Who a target leads to.
fn targets(world: &World) -> BTreeMap<u32, String> {
    let address = |record: &Endpoint| Ipv4Addr::from(record.address4).to_string();
    let pods = world.endpoint.elements().into_iter().map(|(_, record)| (record.id.0, address(&record)));
    let hop = |address| Ipv4Addr::from(address).to_string();
    let nodes = world.next_hop.elements().into_iter().map(|(_, record)| (record.id.0, hop(record.address4)));
    pods.chain(nodes).collect()
}

const PODS: [(&str, &str); 3] = [("back", "10.65.0.3"), ("extra", "10.65.0.4"), ("front", "10.65.0.2")];
const NODES: [(&str, &str); 2] = [("10.65.1.0/24", "172.16.0.2"), ("10.65.2.0/24", "172.16.0.3")];

/// An agent that has given the slots out in an order that no sorting gives.
fn before(world: &World) -> Agent {
    let mut agent = Agent::start(world, Saved::default(), &shop(&[], &[]), 0);
    let mut had = shop(&[], &[]);
    for (pods, nodes) in [(1, 1), (2, 1), (3, 2)] {
        let reversed: (Vec<_>, Vec<_>) = (
            PODS.iter().rev().take(pods).copied().collect(),
            NODES.iter().rev().take(nodes).copied().collect(),
        );
        let now = shop(&reversed.0, &reversed.1);
        agent.receive(now.since(&had, 0));
        agent.settle();
        had = now;
    }
    agent
}

#[test]
fn who_is_still_there_keeps_number_and_generation() {
    let world = World::new();
    before(&world);
    let (before, had) = (targets(&world), generations(&world));
    let mut agent = Agent::start(&world, Saved::default(), &shop(&PODS, &NODES), 0);
    agent.settle();
    assert_eq!((targets(&world), generations(&world)), (before, had));
    assert_eq!(agent.saved.endpoints.len(), 3);
    assert_eq!(agent.saved.next_hops.len(), 2);
}

#[test]
fn a_number_never_comes_to_lead_to_somebody_else() {
    let world = World::new();
    before(&world);
    let before = targets(&world);
    // One has gone, one has come, one has another interface, and one has another address.
    let desired =
        shop(&[("back", "10.65.0.3"), ("caller", "10.65.0.2"), ("extra", "10.65.0.9")], &NODES[..1]);
    let mut agent = Agent::start(&world, Saved::default(), &desired, 0);
    agent.reconciler.interface("caliback", Some(33));
    agent.reconciler.interface("calicaller", Some(34));
    agent.receive(vec![Intent::Route("10.65.3.0/24".parse().unwrap(), Some(remote("n", "172.16.0.9")))]);
    agent.receive(vec![Intent::Endpoint(workload("late"), Some(endpoint("late", "10.65.0.4")))]);
    agent.settle();
    let after = targets(&world);
    for (target, address) in &after {
        let had = before.get(target);
        assert!(had.is_none_or(|had| had == address), "{target:#x} led to {had:?}, now to {address}");
    }
    let seen = before.keys().map(|id| Target(*id).incarnation()).max();
    let new = after.keys().filter(|id| !before.contains_key(id)).map(|id| Target(*id));
    let pods = new.filter(|target| target.kind() == tortie_abi::target::TargetKind::Endpoint);
    assert!(
        pods.map(Target::incarnation).all(|it| Some(it) > seen),
        "nor do numbers of whose flows nothing is left"
    );
    let Some(Route::RemotePod { next_hop: Some(IpAddr::V4(stays)), .. }) = desired.routes.values().next()
    else {
        panic!("a node");
    };
    let kept = before.iter().find(|(_, address)| **address == stays.to_string()).unwrap();
    assert!(after.contains_key(kept.0), "the node that stays keeps its number");
}

#[test]
fn a_ceiling_that_nobody_wrote_keeps_no_change_of_policy_from_open_connections() {
    // What an agent that went on from there has left behind.
    let stuck: fn(&World) = |world| {
        world.endpoint.tamper(|records| {
            for (_, record) in records {
                (record.egress_generation, record.ingress_generation) = (u32::MAX, u32::MAX);
            }
        });
    };
    for (ceiling, damage) in
        [(u32::MAX, None), (1 << 31, None), (u32::MAX - 1, None), (u32::MAX, Some(stuck))]
    {
        let (history, world) = (super::history(), World::new());
        let mut agent = Agent::start(&world, Saved::default(), &history[0], 0);
        agent.settle();
        damage.into_iter().for_each(|damage| damage(&world));
        let saved = Saved { generation_ceiling: ceiling, ..agent.saved.clone() };
        let sums = |world: &World| -> Vec<u32> {
            generations(world).iter().map(|(_, egress, ingress)| egress.wrapping_add(*ingress)).collect()
        };
        let mut seen: Vec<Vec<u32>> = sums(&world).into_iter().map(|sum| vec![sum]).collect();
        let mut agent = Agent::start(&world, saved, &history[0], 0);
        agent.settle();
        for change in [1, 0, 1, 0, 1] {
            agent.receive(history[change].since(&history[1 - change], 0));
            agent.settle();
            // The pod whose ingress list asks about the set that changes.
            let (seen, sum) = (seen.first_mut().unwrap(), sums(&world)[0]);
            assert!(!seen.contains(&sum), "ceiling {ceiling}: {sum} again, after {seen:?}");
            seen.push(sum);
        }
        assert!(agent.saved.generation_ceiling < 1 << 30, "{}", agent.saved.generation_ceiling);
    }
}
