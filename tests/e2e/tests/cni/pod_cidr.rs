//! One configuration for every node: the prefixes are what this node's agent wrote down.

use std::fs;
use std::thread;
use std::time::Duration;

use ipnet::IpNet;
use serde_json::{Value, json};
use tortie::pod_cidrs::{self, PodCidrs};

use crate::world::{Pod, World};

fn world_with(ipam: Value) -> World {
    let mut world = World::new();
    let mut ipam = ipam;
    ipam["type"] = json!("host-local");
    ipam["dataDir"] = json!(world.addresses_dir());
    world.changes.insert("ipam".to_owned(), ipam);
    world
}

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn addresses(added: &Value) -> Vec<&str> {
    added["ips"].as_array().unwrap().iter().map(|ip| ip["address"].as_str().unwrap()).collect()
}

#[test]
fn a_pod_gets_an_address_of_each_of_its_nodes_prefixes() {
    let world = world_with(json!({"subnet": "usePodCidr"}));
    let _agent = world.willing_agent();
    PodCidrs::publish(world.run_dir(), &nets(&["10.65.3.0/24", "fd00:65:0:3::/64"])).unwrap();
    let pod = Pod::new("front");
    let added = world.add(&pod).unwrap().unwrap();
    assert_eq!(addresses(&added), ["10.65.3.2/32", "fd00:65:0:3::2/128"]);
    assert_eq!(world.check(&pod, &added), Ok(None));
    world.del(&pod).unwrap();
    world.assert_nothing_left();
}

#[test]
fn ranges_as_calico_writes_them_choose_the_family() {
    let world = world_with(json!({"ranges": [[{"subnet": "usePodCidrIPv6"}]]}));
    let _agent = world.willing_agent();
    PodCidrs::publish(world.run_dir(), &nets(&["10.65.3.0/24", "fd00:65:0:3::/64"])).unwrap();
    let pod = Pod::new("front");
    assert_eq!(addresses(&world.add(&pod).unwrap().unwrap()), ["fd00:65:0:3::2/128"]);
    world.del(&pod).unwrap();
    world.assert_nothing_left();
}

#[test]
fn a_pod_waits_for_the_first_word_of_its_node() {
    let world = world_with(json!({"subnet": "usePodCidr"}));
    let _agent = world.willing_agent();
    let pod = Pod::new("early");
    let added = thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(400));
            PodCidrs::publish(world.run_dir(), &nets(&["10.65.3.0/24"])).unwrap();
        });
        world.add(&pod).unwrap().unwrap()
    });
    assert_eq!(addresses(&added), ["10.65.3.2/32"]);
    world.del(&pod).unwrap();
}

#[test]
fn without_prefixes_nobody_gets_an_address_and_the_error_says_where_to_look() {
    let mut world = world_with(json!({"subnet": "usePodCidr"}));
    world.changes.insert("readyTimeoutSeconds".to_owned(), json!(0.2));
    let _agent = world.willing_agent();
    let pod = Pod::new("front");
    let error = world.add(&pod).unwrap_err();
    assert_eq!(error["code"], 11, "{error}");
    assert!(error["msg"].as_str().unwrap().contains("spec.podCIDRs"), "{error}");
    let status = world.call("STATUS", &world.config("1.1.0"), None).unwrap_err();
    assert_eq!(status["code"], 50, "{status}");
    world.assert_nothing_left();
    PodCidrs::publish(world.run_dir(), &nets(&["10.65.3.0/24"])).unwrap();
    assert_eq!(world.call("STATUS", &world.config("1.1.0"), None), Ok(None));
}

#[test]
fn a_pod_is_taken_away_also_when_its_nodes_prefixes_are_forgotten() {
    let world = world_with(json!({"subnet": "usePodCidr"}));
    let _agent = world.willing_agent();
    PodCidrs::publish(world.run_dir(), &nets(&["10.65.3.0/24", "fd00:65:0:3::/64"])).unwrap();
    let (one, two) = (Pod::new("one"), Pod::new("two"));
    world.add(&one).unwrap();
    world.add(&two).unwrap();
    fs::remove_file(pod_cidrs::path(world.run_dir())).unwrap();
    world.del(&one).unwrap();
    assert_eq!(world.addresses_in_use(), 2);
    let mut config = world.config("1.1.0");
    config["cni.dev/valid-attachments"] = json!([]);
    world.call("GC", &config, None).unwrap();
    world.assert_nothing_left();
}
