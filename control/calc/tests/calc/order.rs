//! When things are said.

use crate::support::build::*;
use crate::support::driver::Driver;
use crate::support::expand::{Random, expand};
use tortie_intent::{Intent, SetChange};
use tortie_model::Object;
use tortie_model::settings::Settings;

fn small() -> Vec<Object> {
    let mut objects = vec![
        Object::Settings(Box::default()),
        namespace("shop", ""),
        node("n1", "192.0.2.1", "10.0.1.0/24"),
        node("n2", "192.0.2.2", "10.0.2.0/24"),
        pool("pool", "10.0.0.0/16", true),
        ingress("shop/p", "app=db", vec![rule(vec![pods("app=back")], vec![])]),
        pod("shop/back", "10.0.2.1").labels("app=back").on("n2").object(),
        service("shop/db", "10.96.0.1", &[("", TCP, 5432)]),
        slice("shop/db-1", "shop/db", &[("", TCP, 5432)], vec![endpoint("10.0.1.1", "rs")]),
    ];
    objects.extend(pod("shop/db", "10.0.1.1").labels("app=db").local());
    objects
}

#[test]
fn a_whole_cluster_ends_the_same_however_it_is_told() {
    let state = expand(&small());
    assert!(state.in_sync && state.settings.is_some());
}

#[test]
fn nothing_is_said_before_the_datastore_is_in_sync_and_that_comes_last() {
    let mut driver = Driver::before_sync("n1");
    assert_eq!(driver.step(&small()), []);
    driver.calc.in_sync();
    let said = driver.flush();
    assert!(matches!(said.first(), Some(Intent::Settings(_))));
    assert_eq!(said.last(), Some(&Intent::InSync));
    assert_eq!(said.iter().filter(|intent| **intent == Intent::InSync).count(), 1);
    driver.calc.in_sync();
    assert_eq!(driver.flush(), []);
}

#[test]
fn said_twice_is_said_once_and_come_and_gone_is_not_said() {
    let mut driver = Driver::with("n1", &small());
    assert_eq!(driver.step(&small()), []);
    let [attached, object] = pod("shop/new", "10.0.1.7").labels("app=db").local();
    let gone = |object: &Object| gone(object).expect("an object");
    let said = driver.step(&[attached.clone(), object.clone(), gone(&attached), gone(&object)]);
    assert_eq!(said, []);
    let twice = |mtu| Object::Settings(Box::new(Settings { mtu_bytes: Some(mtu), ..Settings::default() }));
    let said = driver.step(&[twice(1400), twice(1450)]);
    assert!(matches!(said.as_slice(), [Intent::Settings(s)] if s.mtu_bytes == Some(1450)), "{said:?}");
}

#[test]
fn a_pod_that_leaves_is_revoked_before_anything_that_can_fail() {
    let mut driver = Driver::with("n1", &small());
    let said = driver.step(&[
        pod("shop/back", "10.0.2.1").labels("app=none").on("n2").object(),
        ingress("shop/q", "app=db", vec![rule(vec![pods("app=other")], vec![])]),
        service("shop/new", "10.96.0.9", &[("", TCP, 80)]),
    ]);
    let revoked = said.iter().position(
        |i| matches!(i, Intent::Set(_, SetChange::Update { remove, .. }) if *remove == [net("10.0.2.1")]),
    );
    let can_fail =
        said.iter().position(|i| matches!(i, Intent::List(..) | Intent::Endpoint(..) | Intent::Service(..)));
    assert!(revoked.expect("revoked") < can_fail.expect("a list"), "{said:?}");
}

#[test]
fn a_pod_that_leaves_a_set_that_goes_in_the_same_batch_is_revoked_all_the_same() {
    let mut driver = Driver::with("n1", &small());
    let said = driver.step(&[
        pod("shop/back", "10.0.2.1").labels("app=none").on("n2").object(),
        ingress("shop/p", "app=db", vec![]),
    ]);
    assert!(
        matches!(said.first(), Some(Intent::Set(_, SetChange::Update { remove, .. })) if remove.len() == 1),
        "the old list may stay in force if the new one cannot be: {said:?}"
    );
}

/// Two runs of the same history say the same, word for word: nothing depends on addresses or hashes.
#[test]
fn the_same_history_is_told_in_the_same_words() {
    let history = Random::new(7).shuffled(&small());
    let tell = || {
        let mut driver = Driver::new("n1");
        history.iter().flat_map(|object| driver.step(std::slice::from_ref(object))).collect::<Vec<_>>()
    };
    assert_eq!(tell(), tell());
}
