//! Which addresses pods may have, and what is said of others.

use crate::support::build::*;
use crate::support::driver::Driver;
use crate::support::expand::{expand, expand_on};
use crate::support::state::State;
use tortie_calc::Contested;
use tortie_intent::Route;
use tortie_model::Object;

fn outside(state: &State) -> Vec<String> {
    state.conflicts.keys().map(ToString::to_string).collect()
}

fn pods() -> Vec<Object> {
    let mut objects = pod("shop/in", "10.0.1.5 fd00:1::5").local().to_vec();
    objects.extend(pod("shop/out", "172.31.0.9 fd00:1::6").local());
    objects.push(pod("shop/said", "172.31.0.10").object());
    objects.push(pod("shop/elsewhere", "172.31.0.11").on("n2").object());
    objects.push(pod("shop/host", "192.0.2.1").host_network().object());
    objects
}

fn with(more: impl IntoIterator<Item = Object>) -> Vec<Object> {
    pods().into_iter().chain(more).collect()
}

#[test]
fn an_address_outside_every_pool_is_reported_by_the_pods_own_node() {
    let state = expand(&with([pool("main", "10.0.0.0/16", false)]));
    assert_eq!(
        outside(&state),
        ["address 172.31.0.9 of Pod shop/out", "address 172.31.0.10 of Pod shop/said"]
    );
    for (what, who) in &state.conflicts {
        assert_eq!(what.reason(), Some("OutsidePools"));
        assert!(what.explain(who).starts_with("is outside every IPPool and its Node's podCIDRs"), "{what}");
    }
    let in_prefix =
        expand(&with([pool("main", "10.0.0.0/16", false), node("n1", "192.0.2.1", "172.31.0.0/24")]));
    for (what, who) in &in_prefix.conflicts {
        assert!(matches!(what, Contested::NoPool(..)), "{what:?}");
        assert!(what.explain(who).starts_with("is outside every IPPool; extend a pool"), "{what}");
    }
    assert_eq!(in_prefix.conflicts.len(), 2, "its Node gives it, and no pool has it");
    let there = expand_on("n2", &with([pool("main", "10.0.0.0/16", false)]), 2);
    let own: Vec<String> = outside(&there).into_iter().filter(|it| it.contains("elsewhere")).collect();
    assert_eq!(own, ["address 172.31.0.11 of Pod shop/elsewhere"]);
}

#[test]
fn without_a_pool_of_the_family_nothing_is_outside() {
    assert_eq!(outside(&expand(&pods())), Vec::<String>::new());
    let only6 = expand(&with([pool("six", "fd00:9::/64", false)]));
    assert_eq!(
        outside(&only6),
        ["address fd00:1::5 of Pod shop/in", "address fd00:1::6 of Pod shop/out"],
        "IPv4 has no pool"
    );
}

#[test]
fn a_pool_that_comes_later_takes_the_report_back_and_one_that_goes_brings_it() {
    let main = pool("main", "10.0.0.0/16", false);
    let wide = pool("wide", "172.31.0.0/16", false);
    let mut driver = Driver::with("n1", &with([main.clone()]));
    assert_eq!(outside(&driver.state()).len(), 2);
    driver.step(std::slice::from_ref(&wide));
    assert!(outside(&driver.state()).is_empty());
    driver.step(&[gone(&wide).expect("an object")]);
    assert_eq!(outside(&driver.state()).len(), 2);
    driver.step(&[node("n1", "192.0.2.1", "172.31.0.0/24")]);
    let is_given = |state: &State| state.conflicts.keys().all(|what| matches!(what, Contested::NoPool(..)));
    assert!(is_given(&driver.state()), "its Node gives it now");
    driver.step(&[gone(&node("n1", "", "")).expect("an object")]);
    assert!(!is_given(&driver.state()));
    driver.step(&[gone(&main).expect("an object")]);
    assert!(outside(&driver.state()).is_empty());
}

/// Two nodes, a pod here that admits `app=front` alone, and what is said of others.
fn cluster(more: impl IntoIterator<Item = Object>) -> Vec<Object> {
    let mut objects = vec![
        namespace("shop", ""),
        node("n1", "192.0.2.1", "10.0.1.0/24"),
        node("n2", "192.0.2.2", "10.0.2.0/24"),
        ingress("shop/p", "app=db", vec![rule(vec![pods_of("", "app=front")], vec![])]),
        Object::OwnAddresses(nets("192.0.2.1/24")),
    ];
    objects.extend(pod("shop/db", "10.0.1.5").labels("app=db").local());
    objects.extend(more);
    objects
}

fn front(addresses: &str) -> PodBuilder {
    pod("shop/front", addresses).labels("app=front").on("n2")
}

/// It has a route of its own, and the policy means it.
fn counts(state: &State, address: &str) -> (bool, bool) {
    let means = state.sets.iter().flatten().any(|member| *member == net(address));
    (matches!(state.routes.get(&net(address)), Some(Route::RemotePod { .. })), means)
}

#[test]
fn an_address_that_only_an_annotation_says_is_nobodys() {
    for victim in ["198.51.100.7", "8.8.8.8", "192.0.2.250", "10.96.0.1"] {
        let services = service_cidr("kubernetes", "10.96.0.0/12");
        let state = expand(&cluster([front(victim).unreported().object(), services]));
        assert_eq!(counts(&state, victim), (false, false), "{victim}");
        assert!(state.conflicts.is_empty(), "its own node says it");
        let pending_here = pod("shop/front", victim).labels("app=front").unreported().object();
        let state = expand(&cluster([pending_here]));
        assert_eq!(counts(&state, victim), (false, false), "{victim} of a pod of this node");
        assert_eq!(outside(&state), [format!("address {victim} of Pod shop/front")]);
    }
    let given = expand(&cluster([front("10.0.2.7").unreported().object()]));
    assert_eq!(counts(&given, "10.0.2.7"), (false, true), "the node's prefix has it, and its route");
}

#[test]
fn without_a_pool_the_kubelets_word_counts_but_for_what_is_anothers() {
    let servers = slice("default/kubernetes", "default/kubernetes", &[], vec![endpoint("203.0.113.6", "rs")]);
    let services = service_cidr("kubernetes", "10.96.0.0/12");
    let said = |address| cluster([front(address).object(), servers.clone(), services.clone()]);
    assert_eq!(counts(&expand(&said("172.31.0.9")), "172.31.0.9"), (true, true));
    for taken in ["203.0.113.6", "10.96.0.1", "192.0.2.250", "192.0.2.1", "192.0.2.2"] {
        assert_eq!(counts(&expand(&said(taken)), taken), (false, false), "{taken}");
    }
}

#[test]
fn with_pools_an_address_is_a_pods_in_a_pool_or_its_nodes_prefix_alone() {
    let pools = [pool("main", "10.244.0.0/16", false)];
    let said = |pod: PodBuilder| cluster(pools.iter().cloned().chain([pod.object()]));
    let inside = "as Calico's address management gives it, before the kubelet reports it";
    assert_eq!(
        counts(&expand(&said(front("10.244.9.9").unreported())), "10.244.9.9"),
        (true, true),
        "{inside}"
    );
    for address in ["172.31.0.9", "8.8.8.8"] {
        assert_eq!(counts(&expand(&said(front(address))), address), (false, false), "{address}");
    }
    let mut driver = Driver::with("n1", &said(front("172.31.0.9")));
    let Object::Pool(mut balancers) = pool("wide", "172.31.0.0/16", false) else { panic!() };
    balancers.value.as_mut().expect("a pool").for_pods = false;
    driver.step(&[Object::Pool(balancers)]);
    assert_eq!(counts(&driver.state(), "172.31.0.9"), (false, false), "a pool for load balancers");
    driver.step(&[pool("wide", "172.31.0.0/16", false)]);
    assert_eq!(counts(&driver.state(), "172.31.0.9"), (true, true), "a pool that comes later");
    driver.step(&[gone(&pool("wide", "172.31.0.0/16", false)).expect("an object")]);
    assert_eq!(counts(&driver.state(), "172.31.0.9"), (false, false));
}

#[test]
fn of_two_pods_that_say_one_address_of_a_pool_the_one_whose_kubelet_says_so_has_it() {
    let thief = pod("shop/a-thief", "10.244.9.9").on("n3").labels("app=front").unreported().object();
    let n3 = node("n3", "192.0.2.3", "");
    let victim = pod("shop/victim", "10.244.9.9").on("n2").object();
    let state = expand(&cluster([pool("main", "10.244.0.0/16", false), n3, thief, victim]));
    let said = state.routes.get(&net("10.244.9.9"));
    assert!(matches!(said, Some(Route::RemotePod { node, .. }) if node.as_str() == "n2"), "{said:?}");
    assert!(!counts(&state, "10.244.9.9").1, "and the other's labels are not brought to it");
    assert!(outside(&state).contains(&"address 10.244.9.9".to_owned()));
}

#[test]
fn of_two_pods_of_one_node_that_say_one_address_of_its_prefix_the_one_whose_kubelet_says_so_has_it_alone() {
    // Whatever their names: of one rank the smaller one comes first.
    for thief in ["shop/a-thief", "shop/z-thief"] {
        let liar = pod(thief, "10.0.2.7").on("n2").labels("app=front").unreported().object();
        let victim = pod("shop/victim", "10.0.2.7").on("n2").object();
        let state = expand(&cluster([liar.clone(), victim.clone()]));
        assert_eq!(counts(&state, "10.0.2.7"), (false, false), "{thief}");
        assert_eq!(outside(&state), ["address 10.0.2.7"], "{thief}");
        let mut driver = Driver::with("n1", &cluster([liar]));
        assert_eq!(counts(&driver.state(), "10.0.2.7"), (false, true), "as long as nobody else says it");
        assert!(driver.state().conflicts.is_empty());
        driver.step(&[victim]);
        assert_eq!(counts(&driver.state(), "10.0.2.7"), (false, false), "{thief}");
    }
    let both = ["shop/one", "shop/two"]
        .map(|name| pod(name, "10.0.2.7").on("n2").labels("app=front").unreported().object());
    let state = expand(&cluster(both));
    assert_eq!(outside(&state), ["address 10.0.2.7"], "nobody's kubelet says it of either");
}
