//! Whose every address is.

use crate::support::build::*;
use crate::support::driver::Driver;
use crate::support::expand::expand;
use crate::support::state::State;
use tortie_calc::Contested;
use tortie_intent::{Intent, Route};
use tortie_model::{Object, ObjectId};

fn nodes() -> Vec<Object> {
    vec![
        node("n1", "192.0.2.1 fd01::1", "10.0.1.0/24 fd00:1::/64"),
        node("n2", "192.0.2.2 fd01::2 192.0.2.22", "10.0.2.0/24 fd00:2::/64"),
    ]
}

fn with(more: impl IntoIterator<Item = Object>) -> Vec<Object> {
    nodes().into_iter().chain(more).collect()
}

fn route<'a>(state: &'a State, prefix: &str) -> Option<&'a Route> {
    state.routes.get(&net(prefix))
}

fn remote(node: &str, next_hop: &str) -> Route {
    Route::RemotePod { node: node.into(), next_hop: (!next_hop.is_empty()).then(|| ip(next_hop)) }
}

fn conflict(state: &State, prefix: &str) -> Option<(String, Vec<String>)> {
    let conflict = state.conflicts.get(&Contested::Prefix(net(prefix)))?;
    let name = |id: &ObjectId| format!("{id:?}").chars().filter(|c| c.is_alphanumeric()).collect::<String>();
    Some((conflict.winner.as_ref().map(name)?, conflict.losers.iter().map(name).collect()))
}

#[test]
fn nodes_give_routes_to_their_addresses_and_the_others_pods() {
    let state = expand(&nodes());
    assert_eq!(route(&state, "192.0.2.1"), Some(&Route::Host));
    assert_eq!(route(&state, "fd01::1"), Some(&Route::Host));
    assert_eq!(route(&state, "192.0.2.22"), Some(&Route::RemoteHost { node: "n2".into() }));
    assert_eq!(route(&state, "10.0.2.0/24"), Some(&remote("n2", "192.0.2.2")));
    assert_eq!(
        route(&state, "fd00:2::/64"),
        Some(&remote("n2", "fd01::2")),
        "by the address of the same family"
    );
    assert_eq!(
        route(&state, "10.0.1.0/24"),
        Some(&Route::Blackhole),
        "this node's own pods have routes of their own"
    );
    assert_eq!(state.routes.len(), 9);
}

#[test]
fn what_this_nodes_interfaces_have_is_its_own_whoever_else_says_so() {
    let own = |addresses: &str| Object::OwnAddresses(nets(addresses));
    let state = expand(&with([own("192.0.2.1/32 198.51.100.1/24 2001:db8::1/64")]));
    for address in ["192.0.2.1", "fd01::1", "198.51.100.1", "198.51.100.255", "2001:db8::1", "2001:db8::"] {
        assert_eq!(route(&state, address), Some(&Route::Host), "{address}: the kernel takes it in");
    }
    let alone = expand(&with([own("198.51.100.0/31 2001:db8::1/127")]));
    assert_eq!(
        (route(&alone, "198.51.100.1"), route(&alone, "2001:db8::")),
        (None, None),
        "of the other end"
    );
    assert!(state.conflicts.is_empty(), "{:?}", state.conflicts);
    let state = expand(&with([own("198.51.100.1/32"), own("192.0.2.22/32")]));
    assert_eq!(route(&state, "198.51.100.1"), None, "it was taken away");
    assert_eq!(
        route(&state, "192.0.2.22"),
        Some(&Route::Host),
        "an address that moves here from another node"
    );
}

#[test]
fn a_node_without_an_address_of_a_family_has_no_next_hop_there() {
    let state = expand(&with([node("n3", "192.0.2.3", "10.0.3.0/24 fd00:3::/64")]));
    assert_eq!(route(&state, "fd00:3::/64"), Some(&remote("n3", "")));
    assert!(state.conflicts.contains_key(&Contested::NoNodeAddress("n3".into())));
}

#[test]
fn a_node_without_any_address_is_reported_until_it_has_one() {
    let key = Contested::NoNodeAddress("n3".into());
    let mut driver = Driver::with("n1", &with([node("n3", "", "")]));
    assert!(driver.state().conflicts.contains_key(&key));
    driver.step(&[node("n3", "192.0.2.3", "")]);
    assert!(driver.state().conflicts.is_empty());
    driver.step(&[node("n3", "", "")]);
    driver.step(&[gone(&node("n3", "", "")).expect("an object")]);
    assert!(driver.state().conflicts.is_empty());
}

#[test]
fn a_node_whose_object_is_gone_says_so_until_it_is_back() {
    let here = &nodes()[0];
    let mut driver = Driver::with("n1", &nodes());
    driver.step(&[gone(here).expect("an object")]);
    let state = driver.state();
    let (what, who) = state.conflicts.first_key_value().expect("reported");
    assert_eq!((what, what.reason()), (&Contested::NoNode("n1".into()), None));
    assert!(what.explain(who).contains("no route to its pods"));
    driver.step(std::slice::from_ref(here));
    assert!(driver.state().conflicts.is_empty());
}

#[test]
fn a_node_that_claims_the_prefix_of_this_nodes_pods_does_not_get_it() {
    let thief = [node("n3", "192.0.2.3", "10.0.1.0/24"), pod("shop/out", "10.0.1.9").on("n3").object()];
    let state = expand(&with(thief));
    assert_eq!(route(&state, "10.0.1.0/24"), Some(&Route::Blackhole));
    assert_eq!(refusal(&state, "n3", "10.0.1.0/24"), Some(ObjectId::Node("n1".into())));
}

/// Who has what a Node's prefix would take.
fn refusal(state: &State, name: &str, prefix: &str) -> Option<ObjectId> {
    state.conflicts.get(&Contested::PodPrefix(name.into(), net(prefix)))?.winner.clone()
}

#[test]
fn of_prefixes_that_meet_the_oldest_nodes_is_one_for_all_nodes() {
    let [n1, n2] = [
        made(node("n1", "192.0.2.1", "10.0.1.0/24"), 100),
        made(node("n2", "192.0.2.2", "10.0.2.0/24 10.0.0.0/23"), 200),
    ];
    let n3 = |cidrs| made(node("n3", "192.0.2.3", cidrs), 300);
    for here in ["n1", "n2", "n3"] {
        for (cidrs, first) in
            [("10.0.2.0/24", "n2"), ("10.0.2.128/25", "n2"), ("10.0.1.64/26", "n1"), ("10.0.0.0/16", "n1")]
        {
            let driver = Driver::with(here, &[n1.clone(), n2.clone(), n3(cidrs)]);
            let state = driver.state();
            assert_eq!(refusal(&state, "n3", cidrs), Some(ObjectId::Node(first.into())), "{here} {cidrs}");
            assert_eq!(refusal(&state, "n2", "10.0.0.0/23"), Some(ObjectId::Node("n1".into())));
            assert_eq!(state.conflicts.len(), 2, "{:?}", state.conflicts);
            let expected = if here == "n2" { Route::Blackhole } else { remote("n2", "192.0.2.2") };
            assert_eq!(route(&state, "10.0.2.0/24"), Some(&expected), "{here} {cidrs}");
            assert!(cidrs == "10.0.2.0/24" || route(&state, cidrs).is_none(), "{here} {cidrs}");
        }
        // Within one Node it is nobody else's business, and what is apart stays.
        let apart = n3("10.0.4.0/24 10.0.4.0/22 10.0.5.0/24");
        let driver = Driver::with(here, &[n1.clone(), n2.clone(), apart]);
        assert_eq!(driver.state().conflicts.len(), 1, "{:?}", driver.state().conflicts);
    }
}

#[test]
fn of_two_nodes_with_one_prefix_or_address_the_older_has_it() {
    let of = |name: &str, created| made(node(name, "192.0.2.3", "10.0.3.0/24"), created);
    let winner = |driver: &Driver| {
        let state = driver.state();
        let of = |prefix| match state.routes.get(&net(prefix)).expect("a route") {
            Route::RemotePod { node, .. } | Route::RemoteHost { node } => node.clone(),
            said => panic!("{said:?}"),
        };
        let node = of("192.0.2.3/32");
        let (winner, losers) = conflict(&state, "192.0.2.3/32").expect("reported");
        assert!(winner.contains(node.as_str()) && !losers[0].contains(node.as_str()), "{winner} {losers:?}");
        assert_eq!(of("10.0.3.0/24"), node);
        let loser = if node.as_str() == "zz" { "aa" } else { "zz" };
        assert_eq!(refusal(&state, loser, "10.0.3.0/24"), Some(ObjectId::Node(node)));
        winner
    };
    let mut driver = Driver::with("n1", &with([of("zz", 100)]));
    driver.step(&[of("aa", 200)]);
    assert!(winner(&driver).contains("zz"), "the name is no age");
    driver.step(&[of("aa", 100)]);
    assert!(winner(&driver).contains("aa"), "but decides between two of one age");
    driver.step(&[of("aa", 300)]);
    assert!(winner(&driver).contains("zz"), "one that was made anew is as old as the new one");
    driver.step(&[gone(&of("zz", 100)).expect("an object")]);
    let state = driver.state();
    assert_eq!(route(&state, "10.0.3.0/24"), Some(&remote("aa", "192.0.2.3")));
    assert!(state.conflicts.is_empty(), "{:?}", state.conflicts);
}

/// A Node's prefix that would take the nodes' own addresses, or everybody's, away makes no route on any other node.
#[test]
fn a_prefix_that_has_a_nodes_address_is_refused_and_hurts_nobody_else() {
    let why = |state: &State, prefix: &str| -> String {
        let key = Contested::PodPrefix("n3".into(), net(prefix));
        let conflict = state.conflicts.get(&key).unwrap_or_else(|| panic!("{prefix}: {:?}", state.conflicts));
        assert_eq!(key.reason(), Some("PodCIDRRefused"));
        format!("{key} {}", key.explain(conflict))
    };
    for (prefix, said) in [
        ("192.0.2.0/24", "podCIDR 192.0.2.0/24 of Node n3 is refused: its own InternalIP is in it"),
        ("192.0.2.2", "is refused: it meets an address or a prefix of the older Node n2"),
        ("0.0.0.0/0", "is refused: it is every address there is"),
        ("::/0", "is refused: it is every address there is"),
        ("198.51.100.0/24", "is refused: an address of interfaces of this node is in it"),
    ] {
        let of_own = Object::OwnAddresses(nets("192.0.2.1/24 198.51.100.1/24"));
        let wrong = node("n3", "192.0.2.3 fd01::3", &format!("{prefix} 10.0.3.0/24"));
        let inside = pod("shop/in", "192.0.2.77").on("n3").unreported().object();
        let state = expand(&with([of_own, wrong, inside]));
        assert_eq!(
            route(&state, prefix).filter(|it| matches!(it, Route::RemotePod { .. })),
            None,
            "{prefix}"
        );
        assert_eq!(route(&state, "192.0.2.77"), None, "nor does it give addresses");
        assert!(why(&state, prefix).contains(said), "{}", why(&state, prefix));
        assert_eq!(route(&state, "10.0.3.0/24"), Some(&remote("n3", "192.0.2.3")), "its other one is right");
        assert_eq!(route(&state, "10.0.2.0/24"), Some(&remote("n2", "192.0.2.2")), "and so are others'");
    }
    let tunnel = Object::OwnAddresses(nets("192.0.2.1/24 10.0.3.64/32"));
    let state = expand(&with([tunnel, node("n3", "192.0.2.3", "10.0.3.0/24")]));
    assert_eq!(route(&state, "10.0.3.0/24"), Some(&remote("n3", "192.0.2.3")), "what another plugin left");
    assert_eq!(route(&state, "10.0.3.64"), Some(&Route::Host));
    let mut driver = Driver::with("n1", &with([node("n3", "192.0.2.3", "192.0.2.0/24")]));
    driver.step(&[node("n3", "192.0.2.3", "10.0.3.0/24")]);
    assert!(driver.state().conflicts.is_empty(), "{:?}", driver.state().conflicts);
}

#[test]
fn a_node_that_comes_later_does_not_take_the_prefix_away_that_has_its_address() {
    let old = made(node("n3", "192.0.2.3", "10.0.3.0/24"), 100);
    let late = |created| made(node("n4", "10.0.3.7", "10.0.4.0/24"), created);
    let state = expand(&with([old.clone(), late(200)]));
    assert_eq!(route(&state, "10.0.3.0/24"), Some(&remote("n3", "192.0.2.3")));
    let state = expand(&with([old, late(50)]));
    assert_eq!(route(&state, "10.0.3.0/24"), None, "the address was there first");
}

#[test]
fn a_pool_of_exactly_this_nodes_pods_is_still_a_pool() {
    let state = expand(&with([pool("same", "10.0.1.0/24", true)]));
    assert_eq!(route(&state, "10.0.1.0/24"), Some(&Route::Pool { nat_outgoing: true }));
    assert!(state.conflicts.is_empty(), "{:?}", state.conflicts);
}

#[test]
fn addresses_of_this_nodes_pods_that_none_has_are_told_apart_from_the_pools() {
    let state = expand(&with([pool("all", "10.0.0.0/16", true)]));
    assert_eq!(route(&state, "10.0.1.0/24"), Some(&Route::Blackhole));
    assert_eq!(route(&state, "fd00:1::/64"), Some(&Route::Blackhole));
}

#[test]
fn an_attached_pod_has_a_route_for_each_address_after_its_endpoint() {
    let objects = with(pod("shop/a", "10.0.1.5 fd00:1::5").local());
    let state = expand(&objects);
    assert_eq!(route(&state, "10.0.1.5"), Some(&Route::LocalPod(pod_id("shop/a"))));
    assert_eq!(route(&state, "fd00:1::5"), Some(&Route::LocalPod(pod_id("shop/a"))));
    let said = Driver::new("n1").step(&objects);
    let endpoint = said.iter().position(|i| matches!(i, Intent::Endpoint(..))).expect("said");
    let local =
        said.iter().position(|i| matches!(i, Intent::Route(_, Some(Route::LocalPod(_))))).expect("said");
    assert!(endpoint < local);
}

#[test]
fn a_pod_elsewhere_needs_a_route_only_outside_its_nodes_prefixes() {
    let state = expand(&with([
        pod("shop/in", "10.0.2.5").on("n2").object(),
        pod("shop/out", "10.0.9.5 fd00:2::5").on("n2").object(),
        pod("shop/borrowed", "10.0.1.77").on("n2").object(),
        pod("shop/lost", "10.0.7.1").on("n7").object(),
        pod("shop/host", "192.0.2.2").on("n2").host_network().object(),
        pod("shop/here", "10.0.1.9").object(),
    ]));
    assert_eq!(route(&state, "10.0.2.5"), None);
    assert_eq!(route(&state, "10.0.9.5"), Some(&remote("n2", "192.0.2.2")));
    assert_eq!(route(&state, "fd00:2::5"), None);
    let borrowed = "as those of pods that another plugin has set up before Tortie came";
    assert_eq!(route(&state, "10.0.1.77"), Some(&remote("n2", "192.0.2.2")), "{borrowed}");
    assert_eq!(route(&state, "10.0.7.1"), None, "of a node that does not exist");
    assert_eq!(route(&state, "10.0.1.9"), None, "not attached: nowhere to send it");
    assert!(state.conflicts.is_empty(), "{:?}", state.conflicts);
}

#[test]
fn an_address_of_a_pod_in_its_nodes_prefix_is_not_anothers_elsewhere() {
    let n3 = node("n3", "192.0.2.3", "10.0.3.0/24");
    let evil = pod("x/evil", "10.0.2.5").on("n3").object();
    let victim = pod("x/victim", "10.0.2.5").on("n2").object();
    let state = expand(&with([n3.clone(), evil.clone(), victim.clone()]));
    assert_eq!(route(&state, "10.0.2.5"), None, "the prefix says it all");
    let mut driver = Driver::with("n1", &with([n3, evil, victim.clone()]));
    let shown = |driver: &Driver| -> Vec<String> {
        let state = driver.state();
        state.conflicts.iter().map(|(what, who)| format!("{what}: {}", what.explain(who))).collect()
    };
    assert_eq!(shown(&driver), ["address 10.0.2.5: held by Pod x/victim, also claimed by Pod x/evil"]);
    driver.step(&[pod("x/next", "10.0.2.5").on("n2").object()]);
    assert_eq!(shown(&driver), ["address 10.0.2.5: held by Pod x/next, also claimed by Pod x/evil"]);
    driver.step(&[gone(&victim).expect("an object"), gone(&pod("x/next", "").object()).expect("an object")]);
    assert_eq!(
        route(&driver.state(), "10.0.2.5"),
        Some(&remote("n3", "192.0.2.3")),
        "nobody else's any more"
    );
    assert_eq!(shown(&driver), [""; 0]);
}

#[test]
fn pods_of_a_node_that_does_not_exist_claim_nothing_until_it_does() {
    let left = [pod("x/left", "10.0.9.5").on("n7").object(), pod("x/there", "10.0.9.5").on("n2").object()];
    let mut driver = Driver::with("n1", &with(left));
    assert_eq!(route(&driver.state(), "10.0.9.5"), Some(&remote("n2", "192.0.2.2")));
    assert!(driver.state().conflicts.is_empty());
    driver.step(&[node("n7", "192.0.2.7", "")]);
    assert!(conflict(&driver.state(), "10.0.9.5").is_some());
}

#[test]
fn a_node_that_takes_over_the_prefix_of_its_pods_makes_their_routes_needless() {
    let out = pod("shop/out", "10.0.9.5").on("n2").object();
    let wider = node("n2", "192.0.2.2", "10.0.2.0/24 10.0.9.0/24");
    let state = expand(&with([out, wider]));
    assert_eq!(route(&state, "10.0.9.5"), None);
    assert_eq!(route(&state, "10.0.9.0/24"), Some(&remote("n2", "192.0.2.2")));
}

#[test]
fn ranges_of_services_are_routes_that_everything_known_in_them_shadows() {
    let state = expand(&with([
        service_cidr("kubernetes", "10.96.0.0/12 fd96::/108"),
        service_cidr("more", "10.96.0.0/12 192.0.2.0/24 10.0.2.0/24"),
        pool("same", "10.96.0.0/12", true),
        pool("around", "10.0.0.0/8", true),
    ]));
    assert_eq!(route(&state, "10.96.0.0/12"), Some(&Route::Services));
    assert_eq!(route(&state, "fd96::/108"), Some(&Route::Services));
    assert_eq!(route(&state, "192.0.2.0/24"), Some(&Route::Services));
    assert_eq!(route(&state, "192.0.2.1"), Some(&Route::Host));
    assert_eq!(route(&state, "10.0.2.0/24"), Some(&remote("n2", "192.0.2.2")), "pods are there");
    assert_eq!(route(&state, "10.0.0.0/8"), Some(&Route::Pool { nat_outgoing: true }));
    let reported: Vec<String> = state.conflicts.keys().map(ToString::to_string).collect();
    assert_eq!(reported, ["range 192.0.2.0/24 of ServiceCIDR more"]);
}

#[test]
fn a_range_of_services_that_has_more_in_it_is_reported_while_it_does() {
    let said = |driver: &Driver| -> Vec<String> {
        let state = driver.state();
        state.conflicts.iter().map(|(what, who)| format!("{what} {}", what.explain(who))).collect()
    };
    let all = "0.0.0.0/0 ::/0 10.96.0.0/12 10.0.0.0/8 192.0.2.0/24 fd01::/64";
    let mut driver = Driver::with("n3", &[service_cidr("wide", all), pool("main", "10.244.0.0/16", true)]);
    driver.step(&[node("n3", "192.0.2.7 fd01::7", "")]);
    let reported = said(&driver);
    let expected = [
        "range 0.0.0.0/0 of ServiceCIDR wide is every address there is: what pods",
        "range 10.0.0.0/8 of ServiceCIDR wide has addresses of IPPool main in it: ",
        "range 192.0.2.0/24 of ServiceCIDR wide has addresses of Node n3 in it: ",
        "range ::/0 of ServiceCIDR wide is every address there is: ",
        "range fd01::/64 of ServiceCIDR wide has addresses of Node n3 in it: ",
    ];
    assert_eq!(reported.len(), expected.len(), "{reported:#?}");
    for (said, expected) in reported.iter().zip(expected) {
        assert!(
            said.starts_with(expected) && said.contains("(no-service), unless serviceLoopPrevention is"),
            "{said}"
        );
    }
    assert!(driver.state().conflicts.keys().all(|it| it.reason() == Some("RangeTooWide")));
    driver.step(&[gone(&node("n3", "192.0.2.7 fd01::7", "")).expect("an object")]);
    assert_eq!(said(&driver).len(), 3, "{:#?}", said(&driver));
    driver.step(&[service_cidr("wide", "10.96.0.0/12")]);
    assert_eq!(said(&driver), Vec::<String>::new());
}

#[test]
fn pools_are_routes_that_others_may_shadow() {
    let state = expand(&with([
        pool("big", "10.0.0.0/16", true),
        pool("same", "10.0.2.0/24", true),
        pool("six", "fd00::/16", false),
    ]));
    assert_eq!(route(&state, "10.0.0.0/16"), Some(&Route::Pool { nat_outgoing: true }));
    assert_eq!(route(&state, "fd00::/16"), Some(&Route::Pool { nat_outgoing: false }));
    assert_eq!(route(&state, "10.0.2.0/24"), Some(&remote("n2", "192.0.2.2")));
    assert!(state.conflicts.is_empty(), "{:?}", state.conflicts);
}

#[test]
fn two_pods_with_one_address_have_one_winner_and_a_report_until_it_ends() {
    let objects =
        with(pod("shop/a", "10.0.1.5").local().into_iter().chain(pod("shop/b", "10.0.1.5").local()));
    let state = expand(&objects);
    assert_eq!(route(&state, "10.0.1.5"), Some(&Route::LocalPod(pod_id("shop/a"))));
    let (winner, losers) = conflict(&state, "10.0.1.5").expect("reported");
    assert!(winner.contains("Attachment") && losers.len() == 1, "{winner} {losers:?}");
    let shown: Vec<String> =
        state.conflicts.iter().map(|(what, who)| format!("{what}: {}", what.explain(who))).collect();
    assert_eq!(shown, ["address 10.0.1.5: held by attached Pod shop/a, also claimed by attached Pod shop/b"]);

    let mut driver = Driver::with("n1", &objects);
    driver.step(&[gone(&attachment("shop/a", "")).expect("an object")]);
    assert_eq!(route(&driver.state(), "10.0.1.5"), Some(&Route::LocalPod(pod_id("shop/b"))));
    assert!(driver.state().conflicts.is_empty());
}

#[test]
fn two_nodes_with_one_prefix_or_address_have_one_winner_and_a_report() {
    let state = expand(&with([node("n3", "192.0.2.2", "10.0.2.0/24"), node("n4", "192.0.2.1", "")]));
    assert_eq!(route(&state, "10.0.2.0/24"), Some(&remote("n2", "192.0.2.2")));
    assert_eq!(route(&state, "192.0.2.2"), Some(&Route::RemoteHost { node: "n2".into() }));
    assert_eq!(route(&state, "192.0.2.1"), Some(&Route::Host), "this node's own address stays its own");
    assert_eq!(state.conflicts.len(), 3);
}

#[test]
fn a_pod_that_claims_the_nodes_address_does_not_get_it() {
    let state = expand(&with(pod("shop/thief", "192.0.2.1").local()));
    assert_eq!(route(&state, "192.0.2.1"), Some(&Route::Host));
    assert!(conflict(&state, "192.0.2.1").is_some());
}

#[test]
fn an_address_that_passes_to_another_pod_in_one_batch_always_leads_to_an_endpoint() {
    let mut driver = Driver::with("n1", &with(pod("shop/a", "10.0.1.5").local()));
    let [attached, object] = pod("shop/b", "10.0.1.5").local();
    let [old, old_object] = pod("shop/a", "10.0.1.5").local();
    let said = driver.step(&[
        gone(&old).expect("an object"),
        gone(&old_object).expect("an object"),
        attached,
        object,
    ]);
    assert!(
        matches!(
            said.as_slice(),
            [Intent::Endpoint(_, Some(_)), Intent::Route(_, Some(_)), Intent::Endpoint(_, None)]
        ),
        "{said:?}"
    );
}
