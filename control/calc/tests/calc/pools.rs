//! Pods of this node outside every pool.

use crate::support::build::*;
use crate::support::driver::Driver;
use crate::support::expand::{expand, expand_on};
use crate::support::state::State;
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
    let (what, who) = state.conflicts.first_key_value().expect("reported");
    assert!(what.explain(who).starts_with("is outside every IPPool; extend a pool"), "{}", what.explain(who));
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
    driver.step(&[gone(&main).expect("an object")]);
    assert!(outside(&driver.state()).is_empty());
}
