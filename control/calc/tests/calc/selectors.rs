//! Which pods policies apply to, and which pods are in sets.

use crate::support::build::*;
use crate::support::driver::Driver;
use crate::support::expand::expand;
use crate::support::state::{RulesState, State};
use std::collections::BTreeSet;
use tortie_intent::{Intent, Member, SetChange};
use tortie_model::Object;

fn base() -> Vec<Object> {
    let mut objects = vec![
        namespace("shop", "team=blue"),
        namespace("other", "team=red"),
        node("n2", "192.0.2.2", "10.0.2.0/24 fd00::2:0/112"),
        ingress("shop/p", "app=db", vec![rule(vec![pods("app=back")], vec![])]),
        pod("shop/back", "10.0.2.1 fd00::2:1").labels("app=back").on("n2").object(),
        pod("other/back", "10.0.2.2").labels("app=back").on("n2").object(),
    ];
    objects.extend(pod("shop/db", "10.0.1.1 fd00::1:1").labels("app=db").local());
    objects
}

fn with(more: impl IntoIterator<Item = Object>) -> Vec<Object> {
    base().into_iter().chain(more).collect()
}

/// The only set's members.
fn members(state: &State) -> Vec<String> {
    assert_eq!(state.sets.len(), 1, "{:?}", state.sets);
    state.sets.iter().flatten().map(|net| net.addr().to_string()).collect()
}

fn ingress_of<'a>(state: &'a State, id: &str) -> &'a RulesState {
    &state.endpoints[&pod_id(id)].1
}

#[test]
fn a_pod_peer_is_the_pods_of_the_policys_own_namespace_in_both_families() {
    assert_eq!(members(&expand(&base())), ["10.0.2.1", "fd00::2:1"]);
}

#[test]
fn a_pod_that_changes_its_label_leaves_the_set() {
    let state = expand(&with([pod("shop/back", "10.0.2.1").labels("app=front").on("n2").object()]));
    assert_eq!(members(&state), [""; 0]);
}

#[test]
fn a_pod_without_an_address_joins_when_it_has_one() {
    let late = || pod("shop/late", "10.0.2.7").labels("app=back").on("n2");
    let mut none = late();
    none.1.addresses.clear();
    assert_eq!(members(&expand(&with([none.clone().object()]))), ["10.0.2.1", "fd00::2:1"]);
    let state = expand(&with([none.object(), late().object()]));
    assert_eq!(members(&state), ["10.0.2.1", "10.0.2.7", "fd00::2:1"]);
}

#[test]
fn a_pod_on_the_hosts_network_is_in_no_set() {
    let state = expand(&with([pod("shop/h", "192.0.2.1").labels("app=back").host_network().object()]));
    assert_eq!(members(&state), ["10.0.2.1", "fd00::2:1"]);
}

#[test]
fn the_attachments_addresses_win_over_the_pod_status() {
    let here = pod("shop/b2", "10.0.1.7").labels("app=back").object();
    let state = expand(&with([here.clone(), attachment("shop/b2", "10.0.1.8 fd00::1:8")]));
    assert_eq!(members(&state), ["10.0.1.8", "10.0.2.1", "fd00::1:8", "fd00::2:1"]);
    let gone = gone(&attachment("shop/b2", "10.0.1.8")).expect("an object");
    let state = expand(&with([here, attachment("shop/b2", "10.0.1.8"), gone]));
    assert_eq!(members(&state), ["10.0.1.7", "10.0.2.1", "fd00::2:1"]);
}

#[test]
fn the_attachment_of_a_pod_that_moved_to_another_node_says_nothing_of_its_addresses() {
    let moved = pod("shop/b2", "10.0.2.8").labels("app=back").on("n2").object();
    let state = expand(&with([moved, attachment("shop/b2", "10.0.1.8")]));
    assert_eq!(members(&state), ["10.0.2.1", "10.0.2.8", "fd00::2:1"]);
    assert_eq!(*ingress_of(&state, "shop/b2"), RulesState::Unknown, "whatever still runs here");
}

#[test]
fn namespaces_are_selected_by_their_labels_and_reselected_when_these_change() {
    let policy =
        |namespaces| ingress("shop/p", "app=db", vec![rule(vec![pods_of(namespaces, "app=back")], vec![])]);
    let of = |namespaces, more: Vec<Object>| {
        members(&expand(&with([policy(namespaces)].into_iter().chain(more)))).join(" ")
    };
    assert_eq!(of("", vec![]), "10.0.2.1 10.0.2.2 fd00::2:1", "the empty selector is every namespace");
    assert_eq!(of("team=red", vec![]), "10.0.2.2");
    assert_eq!(of("team=red", vec![namespace("other", "team=blue")]), "");
    assert_eq!(of("team=red", vec![namespace("shop", "team=red")]), "10.0.2.1 10.0.2.2 fd00::2:1");
    assert_eq!(of("!team", vec![namespace("shop", "")]), "10.0.2.1 fd00::2:1");
    assert_eq!(of("team!=red", vec![]), "10.0.2.1 fd00::2:1");
}

#[test]
fn a_namespace_that_is_not_known_is_selected_by_nothing_not_even_by_an_absent_label() {
    let stranger = pod("nowhere/x", "10.0.2.9").labels("app=back").on("n2").object();
    for namespaces in ["", "!team", "team!=red"] {
        let policy = ingress("shop/p", "app=db", vec![rule(vec![pods_of(namespaces, "app=back")], vec![])]);
        let state = expand(&with([policy, stranger.clone()]));
        assert!(!members(&state).contains(&"10.0.2.9".into()), "{namespaces:?}");
    }
}

#[test]
fn selectors_that_ask_the_same_share_one_set() {
    let one = rule(vec![pods("app=back"), pods("app=back")], vec![]);
    let mut spelled = selector("");
    spelled.match_expressions.push(tortie_model::selector::Requirement {
        key: "app".into(),
        operator: tortie_model::selector::Operator::In(BTreeSet::from(["back".into()])),
    });
    let other = tortie_model::policy::Peer::Pods { namespaces: None, pods: spelled };
    let state = expand(&with([
        ingress("shop/q", "app=db", vec![one]),
        egress("shop/r", "app=db", vec![rule(vec![other], vec![])]),
    ]));
    assert_eq!(members(&state), ["10.0.2.1", "fd00::2:1"]);
    let driver =
        Driver::with("n1", &with([ingress("shop/q", "app=db", vec![rule(vec![pods("app=back")], vec![])])]));
    assert_eq!(driver.folded.sets.len(), 1);
}

#[test]
fn a_member_stays_while_one_of_two_pods_brings_it() {
    let twin = pod("shop/twin", "10.0.2.1").labels("app=back").on("n2").object();
    let mut driver = Driver::with("n1", &with([twin.clone()]));
    assert_eq!(members(&driver.state()), ["10.0.2.1", "fd00::2:1"]);
    let said = driver.step(&[gone(&twin).expect("an object")]);
    assert_eq!(said, [], "the other pod still has the address");
}

#[test]
fn a_policy_that_applies_to_nothing_here_needs_no_sets() {
    let mut driver = Driver::with("n1", &base());
    let away = pod("shop/db", "10.0.1.1").labels("app=other").object();
    driver.step(&[away]);
    assert!(driver.folded.sets.is_empty() && driver.folded.lists.is_empty());
    assert_eq!(*ingress_of(&driver.state(), "shop/db"), RulesState::AllowAll);
}

#[test]
fn a_pod_that_moves_between_two_sets_of_one_rule_is_added_before_it_is_removed() {
    let peers = vec![pods("app=back"), pods("app=front")];
    let mut driver = Driver::with("n1", &with([ingress("shop/p", "app=db", vec![rule(peers, vec![])])]));
    let said = driver.step(&[pod("shop/back", "10.0.2.1 fd00::2:1").labels("app=front").on("n2").object()]);
    let both: Vec<Member> = vec![net("10.0.2.1"), net("fd00::2:1")];
    let [Intent::Set(new, first), Intent::Set(old, second)] = said.as_slice() else { panic!("{said:?}") };
    assert_eq!(*first, SetChange::Update { add: both.clone(), remove: vec![] });
    assert_eq!(*second, SetChange::Update { add: vec![], remove: both });
    assert_ne!(new, old);
}

#[test]
fn blocks_and_their_exceptions_are_sets_and_equal_ones_are_shared() {
    let peers = || vec![block("10.0.0.0/8", "10.1.0.0/16 10.2.0.0/16"), block("10.0.0.0/8", "")];
    let again = vec![block("10.0.0.0/8", "10.2.0.0/16 10.1.0.0/16"), block("fd00::/8", "")];
    let driver = Driver::with(
        "n1",
        &with([
            ingress("shop/p", "app=db", vec![rule(peers(), vec![])]),
            ingress("shop/q", "", vec![rule(again, vec![])]),
        ]),
    );
    let sets: BTreeSet<String> = driver.folded.sets.values().map(|set| format!("{set:?}")).collect();
    let expected = ["{10.0.0.0/8}", "{10.1.0.0/16, 10.2.0.0/16}", "{fd00::/8}"];
    assert_eq!(sets.into_iter().collect::<Vec<_>>(), expected);
    assert_eq!(driver.folded.sets.len(), 3);
    expand(&with([ingress("shop/p", "app=db", vec![rule(peers(), vec![])])]));
}

/// Labels of a pod that says an address of another's.
fn with_claim(more: impl IntoIterator<Item = Object>) -> Vec<Object> {
    let n3 = node("n3", "192.0.2.3", "10.0.3.0/24");
    with(
        [n3, pod("shop/evil", "10.0.3.1 10.0.2.2").labels("app=back").on("n3").object()]
            .into_iter()
            .chain(more),
    )
}

#[test]
fn who_says_the_address_of_a_pod_in_its_nodes_prefix_brings_no_labels_to_it() {
    assert_eq!(members(&expand(&with_claim([]))), ["10.0.2.1", "10.0.3.1", "fd00::2:1"]);
    let mut driver = Driver::with("n1", &with_claim([]));
    driver.step(&[node("n2", "192.0.2.2", "")]);
    assert_eq!(
        members(&driver.state()),
        ["10.0.2.1", "10.0.3.1", "fd00::2:1"],
        "shop/back comes first there"
    );
    driver.step(&[gone(&pod("other/back", "").object()).expect("an object")]);
    assert_eq!(members(&driver.state()), ["10.0.2.1", "10.0.2.2", "10.0.3.1", "fd00::2:1"], "nobody else's");
    driver.step(&[node("n4", "10.0.2.2", "")]);
    assert_eq!(members(&driver.state()), ["10.0.2.1", "10.0.3.1", "fd00::2:1"], "an address of a node");
}

#[test]
fn who_says_the_address_of_a_pod_that_is_attached_here_brings_no_labels_to_it() {
    let evil = pod("shop/a-first", "10.0.1.1").labels("app=back").on("n2").object();
    assert_eq!(members(&expand(&with([evil.clone()]))), ["10.0.2.1", "fd00::2:1"]);
    let twin = pod("shop/a-twin", "10.0.1.1").labels("app=back").local();
    let mut driver = Driver::with("n1", &with(twin.clone()));
    assert_eq!(members(&driver.state()), ["10.0.1.1", "10.0.2.1", "fd00::2:1"], "it comes first");
    driver.step(&[attachment("shop/a", "10.0.1.1")]);
    assert_eq!(members(&driver.state()), ["10.0.2.1", "fd00::2:1"], "another does");
}

#[test]
fn pods_of_a_node_that_does_not_exist_bring_nothing_until_it_does() {
    let n2 = node("n2", "192.0.2.2", "10.0.2.0/24 fd00::2:0/112");
    let mut driver = Driver::with("n1", &base());
    driver.step(&[gone(&n2).expect("an object")]);
    assert_eq!(members(&driver.state()), [""; 0]);
    driver.step(&[n2]);
    assert_eq!(members(&driver.state()), ["10.0.2.1", "fd00::2:1"]);
}
