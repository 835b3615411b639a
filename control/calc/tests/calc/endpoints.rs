//! Endpoints and their lists.

use crate::support::build::*;
use crate::support::driver::Driver;
use crate::support::expand::expand;
use crate::support::state::RulesState;
use std::sync::Arc;
use tortie_intent::{Endpoint, Intent, List, Rules};
use tortie_model::Object;
use tortie_model::workload::PodUid;
use tortie_policy::form::{Action, PortRange, Protocol};

fn endpoint_of<'a>(driver: &'a Driver, id: &str) -> &'a Endpoint {
    &driver.folded.endpoints[&pod_id(id)]
}

#[test]
fn a_pod_that_no_policy_selects_is_open() {
    let objects: Vec<Object> = pod("shop/a", "10.0.1.1").local().into();
    let state = expand(&objects);
    let (endpoint, ingress, egress) = &state.endpoints[&pod_id("shop/a")];
    assert_eq!((ingress, egress), (&RulesState::AllowAll, &RulesState::AllowAll));
    assert_eq!(endpoint.addresses, [ip("10.0.1.1")]);
}

#[test]
fn an_attachment_without_its_pod_is_closed_until_the_pod_is_known() {
    let [attached, object] = pod("shop/a", "10.0.1.1").local();
    let state = expand(std::slice::from_ref(&attached));
    let (_, ingress, egress) = &state.endpoints[&pod_id("shop/a")];
    assert_eq!((ingress, egress), (&RulesState::Unknown, &RulesState::Unknown));
    let mut driver = Driver::with("n1", &[attached]);
    driver.step(std::slice::from_ref(&object));
    assert_eq!(endpoint_of(&driver, "shop/a").ingress, Rules::AllowAll);
    driver.step(&[gone(&object).expect("an object")]);
    assert_eq!(endpoint_of(&driver, "shop/a").ingress, Rules::Unknown);
}

#[test]
fn a_pod_is_closed_while_its_namesake_of_before_is_all_that_is_known() {
    let uid = |digit: &str| PodUid::parse(&format!("0000000{digit}-0000-4000-8000-000000000000"));
    let known_as = |digit| {
        let mut pod = pod("shop/a", "10.0.1.1");
        pod.1.uid = uid(digit);
        pod.object()
    };
    let attached_as = |digit| {
        let Object::Attachment(mut change) = attachment("shop/a", "10.0.1.1") else { unreachable!() };
        Arc::make_mut(change.value.as_mut().expect("an attachment")).uid = uid(digit);
        Object::Attachment(change)
    };
    let mut driver = Driver::with("n1", &[known_as("1"), attached_as("1")]);
    assert_eq!(endpoint_of(&driver, "shop/a").ingress, Rules::AllowAll);
    driver.step(&[attached_as("2")]);
    assert_eq!(endpoint_of(&driver, "shop/a").ingress, Rules::Unknown);
    driver.step(&[known_as("2")]);
    assert_eq!(endpoint_of(&driver, "shop/a").ingress, Rules::AllowAll);
    // Who does not tell is believed.
    driver.step(&[attachment("shop/a", "10.0.1.1")]);
    assert_eq!(endpoint_of(&driver, "shop/a").ingress, Rules::AllowAll);
}

#[test]
fn a_pod_on_the_hosts_network_or_not_attached_is_no_endpoint() {
    let objects = [
        pod("shop/host", "192.0.2.1").host_network().object(),
        pod("shop/away", "10.0.2.1").on("n2").object(),
        pod("shop/soon", "10.0.1.9").object(),
    ];
    assert!(expand(&objects).endpoints.is_empty());
}

#[test]
fn isolation_is_by_direction_and_no_rule_means_nobody() {
    let mut objects: Vec<Object> = pod("shop/a", "10.0.1.1").local().into();
    objects.push(ingress("shop/deny", "", vec![]));
    expand(&objects);
    let driver = Driver::with("n1", &objects);
    let Rules::List(list) = endpoint_of(&driver, "shop/a").ingress else { panic!("isolated") };
    let list = &driver.folded.lists[&list];
    assert!(list.rules.is_empty() && list.default == Action::Deny);
    assert_eq!(endpoint_of(&driver, "shop/a").egress, Rules::AllowAll);
}

#[test]
fn policies_add_up_in_the_order_of_their_names_and_rules_keep_their_numbers() {
    let mut objects: Vec<Object> = pod("shop/a", "10.0.1.1").local().into();
    let rule_for = |n| rule(vec![], vec![port(TCP, n)]);
    objects.push(ingress("shop/zebra", "", vec![rule_for(3)]));
    objects.push(ingress("shop/ant", "", vec![rule_for(1), rule_for(2)]));
    expand(&objects);
    let driver = Driver::with("n1", &objects);
    let list = driver.folded.lists.values().next().expect("a list");
    let origins =
        list.rules.iter().map(|r| (r.origin.policy.as_str(), r.origin.rule, r.origin.tier.as_str()));
    assert_eq!(
        origins.collect::<Vec<_>>(),
        [
            ("NetworkPolicy shop/ant", 0, "default"),
            ("NetworkPolicy shop/ant", 1, "default"),
            ("NetworkPolicy shop/zebra", 0, "default")
        ]
    );
}

#[test]
fn endpoints_with_the_same_policies_share_a_list() {
    let mut objects: Vec<Object> = pod("shop/a", "10.0.1.1").local().into();
    objects.extend(pod("shop/b", "10.0.1.2").local());
    objects.extend(pod("shop/c", "10.0.1.3").labels("x=1").local());
    objects.push(ingress("shop/p", "", vec![rule(vec![pods("x=1")], vec![])]));
    objects.push(ingress("shop/q", "x=1", vec![]));
    expand(&objects);
    let driver = Driver::with("n1", &objects);
    assert_eq!(endpoint_of(&driver, "shop/a").ingress, endpoint_of(&driver, "shop/b").ingress);
    let lists: Vec<&List> = driver.folded.lists.values().map(|list| &**list).collect();
    let [of_both, with_another] = lists[..] else { panic!("{lists:?}") };
    assert_eq!(of_both.rules, with_another.rules, "a policy without rules adds nothing but its name");
    assert_eq!(of_both.policies, ["NetworkPolicy shop/p"]);
    assert_eq!(with_another.policies, ["NetworkPolicy shop/p", "NetworkPolicy shop/q"]);
}

#[test]
fn ports_of_one_protocol_are_merged_into_one_rule() {
    let mut objects: Vec<Object> = pod("shop/a", "10.0.1.1").local().into();
    let many = vec![
        port(TCP, 443),
        ports(TCP, 80, 90),
        ports(TCP, 85, 100),
        port(TCP, 101),
        any_port(UDP),
        port(UDP, 53),
        ports(SCTP, 65_000, 65_535),
    ];
    objects.push(ingress(
        "shop/p",
        "",
        vec![rule(vec![pods("a=1"), pods("a=2"), block("10.0.0.0/8", "")], many)],
    ));
    expand(&objects);
    let driver = Driver::with("n1", &objects);
    let list = driver.folded.lists.values().next().expect("a list");
    let range = |first, last| PortRange { first, last };
    let rules: Vec<_> = list.rules.iter().map(|r| (r.protocol, r.destination_ports.clone())).collect();
    assert_eq!(
        rules,
        [
            (Protocol::Is(6), vec![range(80, 101), range(443, 443)]),
            (Protocol::Is(17), vec![]),
            (Protocol::Is(132), vec![range(65_000, 65_535)]),
        ]
    );
    assert!(
        list.rules.iter().all(|r| r.remote.len() == 1 && r.remote[0].sets.len() == 3),
        "one clause of three sets"
    );
}

#[test]
fn a_rule_without_ports_is_for_every_protocol() {
    let mut objects: Vec<Object> = pod("shop/a", "10.0.1.1").local().into();
    objects.push(egress("shop/p", "", vec![rule(vec![], vec![])]));
    let driver = Driver::with("n1", &objects);
    let rule = &driver.folded.lists.values().next().expect("a list").rules[0];
    assert_eq!((rule.protocol, rule.remote.len()), (Protocol::Any, 0));
}

#[test]
fn a_new_incarnation_of_a_pod_is_one_change() {
    let [attached, object] = pod("shop/a", "10.0.1.1").local();
    let mut driver = Driver::with("n1", &[attached.clone(), object.clone()]);
    let Object::Attachment(mut change) = attached.clone() else { unreachable!("an attachment") };
    if let Some(value) = change.value.as_mut().map(std::sync::Arc::make_mut) {
        value.container_id = "c2".into();
    }
    let again = Object::Attachment(change);
    let said =
        driver.step(&[gone(&attached).expect("an object"), gone(&object).expect("an object"), again, object]);
    assert!(matches!(said.as_slice(), [Intent::Endpoint(_, Some(e))] if e.container_id == "c2"), "{said:?}");
}
