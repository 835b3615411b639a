//! Routes without a kernel: what becomes of the next hops that they name.

use super::*;
use proptest::prelude::*;
use tortie_model::NodeName;

/// Takes everything.
struct Anything;

impl<K, V> Table<K, V> for Anything {
    fn list(&mut self) -> Result<Vec<(K, V)>, TableError> {
        Ok(Vec::new())
    }

    fn upsert(&mut self, _: &[(K, V)]) -> Vec<(usize, TableError)> {
        Vec::new()
    }

    fn delete(&mut self, _: &[K]) -> Vec<(usize, TableError)> {
        Vec::new()
    }
}

fn address(node: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, node])
}

fn net(number: u8) -> IpNet {
    IpNet::new(IpAddr::from([10, 65, number, 0]), 24).unwrap()
}

fn workload(number: u8) -> WorkloadId {
    WorkloadId::new("default", format!("w{number}"))
}

fn to_node(node: u8) -> Option<Route> {
    Some(Route::RemotePod { node: NodeName::new("node"), next_hop: Some(address(node)) })
}

fn way() -> Way {
    Way { ifindex: 2, mtu_bytes: 1500, neighbour: address(1) }
}

fn with_three_slots() -> Routes {
    Routes::with_slots(&Saved::default(), Slots::new(4))
}

fn settle(routes: &mut Routes) {
    settle_at(routes, Now::ZERO);
}

fn settle_at(routes: &mut Routes, now: Now) {
    routes.allocate();
    routes.resolve();
    routes.next_hop.apply(&mut Anything, Part::Upserts, Now::ZERO, |_, _| true);
    for part in [Part::Upserts, Part::Deletes] {
        routes.route4.apply(&mut Anything, part, Now::ZERO, |_, _| true);
    }
    routes.clean_hops(&mut Anything, now);
}

/// What the kernel has for a prefix: kind, the node it leads to, or the record of the workload.
fn leads(routes: &Routes, number: u8) -> Option<(u8, Option<IpAddr>, Target)> {
    let IpNet::V4(net) = net(number) else { return None };
    let route = routes.route4.actual(&prefix4(net))?;
    let hop = routes.hops.iter().find(|(_, hop)| u32::from(hop.used.slot) == route.target.slot());
    match route.target.kind() {
        tortie_abi::target::TargetKind::NextHop => Some((route.kind, Some(*hop?.0), Target::HOST)),
        _ => Some((route.kind, None, route.target)),
    }
}

#[test]
fn a_node_that_found_no_slot_gets_one_that_comes_back() {
    let mut routes = with_three_slots();
    for node in 1..=4 {
        routes.want(net(node), to_node(node));
        routes.set_way(address(node), Some(way()));
    }
    settle(&mut routes);
    assert_eq!(routes.dirty().len(), 1);
    let host = Some((Kind::RemotePod as u8, None, Target::HOST));
    assert_eq!(leads(&routes, 4), host, "the host's own stack knows the way");
    routes.want(net(2), None);
    settle(&mut routes);
    settle(&mut routes);
    assert_eq!(leads(&routes, 4), Some((Kind::RemotePod as u8, Some(address(4)), Target::HOST)));
    assert_eq!(routes.dirty(), Vec::new());
    let mut saved = Saved::default();
    assert!(routes.save(&mut saved) && !routes.save(&mut saved));
    assert_eq!(saved.next_hops.len(), 3);
}

#[derive(Clone, Debug)]
enum Step {
    Want(u8, Option<Route>),
    Way(u8, bool),
    Local(u8, bool),
    Settle,
}

fn step() -> impl Strategy<Value = Step> {
    let local = (0..2u8).prop_map(|number| Some(Route::LocalPod(workload(number))));
    let remote = (0..3u8).prop_map(to_node);
    let pool = any::<bool>().prop_map(|nat_outgoing| Some(Route::Pool { nat_outgoing }));
    let route = prop_oneof![4 => remote, 2 => local, 1 => pool, 2 => Just(None)];
    prop_oneof![
        5 => (0..4u8, route).prop_map(|(number, route)| Step::Want(number, route)),
        3 => (0..3u8, any::<bool>()).prop_map(|(node, known)| Step::Way(node, known)),
        2 => (0..2u8, any::<bool>()).prop_map(|(number, there)| Step::Local(number, there)),
        2 => Just(Step::Settle),
    ]
}

fn take(routes: &mut Routes, step: Step) {
    match step {
        Step::Want(number, route) => routes.want(net(number), route),
        Step::Way(node, known) => routes.set_way(address(node), known.then(way)),
        Step::Local(number, there) => {
            routes.set_local(&workload(number), there.then(|| Target::endpoint(u16::from(number) + 7, 1)));
        }
        Step::Settle => settle(routes),
    }
}

proptest! {
    #[test]
    fn what_is_in_the_kernel_depends_on_what_holds_now_and_not_on_what_was(steps in prop::collection::vec(step(), 1..40)) {
        let mut routes = with_three_slots();
        steps.into_iter().for_each(|step| take(&mut routes, step));
        settle(&mut routes);
        settle_at(&mut routes, STAYS);
        settle_at(&mut routes, STAYS);
        let mut fresh = with_three_slots();
        for net in routes.wanted.prefixes() {
            fresh.want(*net, routes.wanted.get(net).cloned());
        }
        routes.ways.iter().for_each(|(node, way)| fresh.set_way(*node, Some(*way)));
        routes.local.iter().for_each(|(id, target)| fresh.set_local(id, Some(*target)));
        settle(&mut fresh);
        for number in 0..4 {
            prop_assert_eq!(leads(&routes, number), leads(&fresh, number), "{}", net(number));
        }
        prop_assert_eq!(routes.destinations(), fresh.destinations());
        prop_assert_eq!(routes.remote_prefixes(), fresh.remote_prefixes());
        let hops = |routes: &Routes| routes.hops.keys().copied().collect::<Vec<_>>();
        prop_assert_eq!(hops(&routes), hops(&fresh), "no slot is kept, and none is missing");
    }
}
