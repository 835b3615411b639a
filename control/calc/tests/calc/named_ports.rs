//! Ports by name: the local endpoint's own for ingress, the peers' for egress.

use crate::support::build::*;
use crate::support::driver::Driver;
use crate::support::evaluate::admits;
use crate::support::expand::expand;
use tortie_model::Object;
use tortie_policy::form::Direction::{Egress, Ingress};
use tortie_policy::form::PortRange;

fn cluster(more: impl IntoIterator<Item = Object>) -> Driver {
    let mut objects = vec![namespace("shop", ""), node("n2", "192.0.2.2", "10.0.2.0/24")];
    objects.extend(pod("shop/db", "10.0.1.1").labels("app=db").port("sql", TCP, 5432).local());
    objects.extend(pod("shop/web", "10.0.1.2").labels("app=web").port("http", TCP, 8080).local());
    objects.push(pod("shop/old", "10.0.2.1").labels("app=db").port("sql", TCP, 3306).on("n2").object());
    objects.extend(more);
    expand(&objects);
    Driver::with("n1", &objects)
}

fn to(driver: &Driver, pod: &str, port: u16) -> bool {
    admits(&driver.folded, &pod_id(pod), Ingress, ip("10.0.9.9"), 6, port)
}

fn from(driver: &Driver, pod: &str, to: &str, port: u16) -> bool {
    admits(&driver.folded, &pod_id(pod), Egress, ip(to), 6, port)
}

fn everybody_to(name: &str) -> Object {
    ingress("shop/p", "", vec![rule(vec![], vec![named(TCP, name)])])
}

#[test]
fn an_ingress_name_is_the_endpoints_own_number() {
    let driver = cluster([everybody_to("sql")]);
    assert!(to(&driver, "shop/db", 5432));
    assert!(!to(&driver, "shop/db", 3306), "another pod's number");
    assert!(!to(&driver, "shop/web", 5432), "it has no such port: the rule cannot match");
}

#[test]
fn an_ingress_name_of_another_protocol_does_not_match() {
    let driver = cluster([ingress("shop/p", "", vec![rule(vec![], vec![named(UDP, "sql")])])]);
    assert!(!to(&driver, "shop/db", 5432));
    assert!(!admits(&driver.folded, &pod_id("shop/db"), Ingress, ip("10.0.9.9"), 17, 5432));
}

#[test]
fn several_containers_may_give_one_name_several_numbers() {
    let two = pod("shop/db", "10.0.1.1").labels("app=db").port("sql", TCP, 5432).port("sql", TCP, 5433);
    let driver = cluster([everybody_to("sql"), two.object()]);
    assert!(to(&driver, "shop/db", 5432) && to(&driver, "shop/db", 5433) && !to(&driver, "shop/db", 5434));
    let list = driver.folded.lists.values().find(|list| !list.rules.is_empty()).expect("a list");
    assert_eq!(list.rules[0].destination_ports, [PortRange { first: 5432, last: 5433 }], "merged");
}

#[test]
fn endpoints_share_a_list_when_their_named_ports_agree_where_it_matters() {
    let twin = pod("shop/twin", "10.0.1.3").port("sql", TCP, 5432).port("other", TCP, 1).local();
    let driver = cluster([everybody_to("sql")].into_iter().chain(twin));
    let list = |id: &str| driver.folded.endpoints[&pod_id(id)].ingress;
    assert_eq!(list("shop/db"), list("shop/twin"));
    assert_ne!(list("shop/db"), list("shop/web"));
}

#[test]
fn an_egress_name_is_each_peers_own_number() {
    let rules = vec![rule(vec![pods("app=db")], vec![named(TCP, "sql")])];
    let driver = cluster([egress("shop/p", "app=web", rules)]);
    assert!(from(&driver, "shop/web", "10.0.1.1", 5432) && from(&driver, "shop/web", "10.0.2.1", 3306));
    assert!(!from(&driver, "shop/web", "10.0.1.1", 3306), "the other pod's number");
    assert!(!from(&driver, "shop/web", "10.0.2.1", 5432));
}

#[test]
fn an_egress_name_without_peers_is_any_pods() {
    let driver = cluster([egress("shop/p", "app=web", vec![rule(vec![], vec![named(TCP, "sql")])])]);
    assert!(from(&driver, "shop/web", "10.0.1.1", 5432) && from(&driver, "shop/web", "10.0.2.1", 3306));
    assert!(!from(&driver, "shop/web", "10.0.9.9", 5432), "nobody knows the ports of what is no pod");
}

#[test]
fn an_egress_name_within_a_block_is_that_of_the_pods_there() {
    let rules = vec![rule(vec![block("10.0.0.0/16", "10.0.2.0/24")], vec![named(TCP, "sql"), port(TCP, 80)])];
    let driver = cluster([egress("shop/p", "app=web", rules)]);
    assert!(from(&driver, "shop/web", "10.0.1.1", 5432));
    assert!(!from(&driver, "shop/web", "10.0.2.1", 3306), "in the exception");
    assert!(from(&driver, "shop/web", "10.0.9.9", 80), "numbers need no pod");
}

#[test]
fn a_new_number_of_a_peer_makes_a_new_rule_and_its_last_pod_takes_it_away() {
    let rules = vec![rule(vec![pods("app=db")], vec![named(TCP, "sql")])];
    let mut driver = cluster([egress("shop/p", "app=web", rules)]);
    let before = driver.state();
    let odd = pod("shop/odd", "10.0.2.2").labels("app=db").port("sql", TCP, 9999).on("n2").object();
    driver.step(std::slice::from_ref(&odd));
    assert!(from(&driver, "shop/web", "10.0.2.2", 9999) && !from(&driver, "shop/web", "10.0.1.1", 9999));
    driver.step(&[gone(&odd).expect("an object")]);
    assert_eq!(driver.state(), before);
}

#[test]
fn a_name_next_to_every_port_of_its_protocol_adds_nothing() {
    let rules = vec![rule(vec![pods("app=db")], vec![named(TCP, "sql"), any_port(TCP)])];
    let driver = cluster([egress("shop/p", "app=web", rules)]);
    assert!(from(&driver, "shop/web", "10.0.1.1", 1));
    assert_eq!(driver.folded.sets.len(), 1, "no set for the name");
}
