//! DEL, GC and STATUS.

use std::fs::{self, File};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tortie::agent_api::{ErrorCode, Request, Response};

use crate::world::{Pod, World};

#[test]
fn del_removes_everything_and_a_second_del_has_nothing_to_do() {
    let world = World::new();
    let agent = world.willing_agent();
    let pod = Pod::new("front");
    world.add(&pod).unwrap();
    assert_eq!((world.interfaces().len(), world.addresses_in_use()), (1, 2));
    assert_eq!(world.del(&pod), Ok(None));
    world.assert_nothing_left();
    let asked = agent.asked();
    assert!(matches!(&asked[1], Request::EndpointGone { name, .. } if name == "front"), "{asked:?}");
    assert_eq!(world.del(&pod), Ok(None));
    assert_eq!(agent.asked().len(), 2);
}

#[test]
fn del_of_a_pod_that_never_was_succeeds() {
    let world = World::new();
    assert_eq!(world.del(&Pod::new("front")), Ok(None));
    world.assert_nothing_left();
}

#[test]
fn del_works_without_agent_namespace_and_names() {
    let world = World::new();
    let agent = world.willing_agent();
    let pod = Pod::new("front");
    world.add(&pod).unwrap();
    drop(agent);
    fs::remove_file(world.run_dir().join("agent.sock")).unwrap();
    let mut vars = world.vars("DEL", Some(&pod));
    drop(pod);
    vars.remove("CNI_NETNS");
    vars.remove("CNI_ARGS");
    let config = world.config("1.1.0").to_string();
    let answer = world.host.run(|| tortie::cni::run(|name| vars.get(name).cloned(), config.as_bytes()));
    assert_eq!(answer, Ok(None));
    world.assert_nothing_left();
}

#[test]
fn del_without_a_record_still_removes_the_pair_that_leads_to_the_container() {
    let world = World::new();
    let _agent = world.willing_agent();
    let pod = Pod::new("front");
    world.add(&pod).unwrap();
    fs::remove_file(world.run_dir().join("endpoints/shop_front.json")).unwrap();
    world.del(&pod).unwrap();
    world.assert_nothing_left();
}

#[test]
fn a_late_del_of_the_old_sandbox_leaves_the_new_one_alone() {
    for record_of_new_one_lost in [false, true] {
        let world = World::new();
        let _agent = world.willing_agent();
        let old = Pod::new("front");
        world.add(&old).unwrap();
        let new = old.next_sandbox();
        let added = world.add(&new).unwrap().unwrap();
        if record_of_new_one_lost {
            let record = world.run_dir().join("endpoints/shop_front.json");
            let kept = fs::read(&record).unwrap();
            fs::remove_file(&record).unwrap();
            // Somebody else's interface of the same name does not make the veth on the node the old sandbox's.
            old.netns.ip("link add eth0 type veth peer name other");
            world.del(&old).unwrap();
            fs::write(&record, kept).unwrap();
        } else {
            world.del(&old).unwrap();
        }
        assert_eq!(
            world.addresses_in_use(),
            2,
            "the old sandbox's addresses are given back, the new one's are not"
        );
        assert_eq!(world.check(&new, &added), Ok(None));
        world.del(&new).unwrap();
        world.assert_nothing_left();
    }
}

/// Its own DEL may never come, and GC knows of it no more.
#[test]
fn a_new_sandbox_gives_back_what_the_one_before_had() {
    let mut world = World::new();
    let agent = world.willing_agent();
    let old = Pod::new("front");
    world.add(&old).unwrap();
    let new = old.next_sandbox();
    let added = world.add(&new).unwrap().unwrap();
    assert!(
        matches!(&agent.asked()[1], Request::EndpointGone { container_id, .. } if *container_id == old.container)
    );
    assert_eq!((world.addresses_in_use(), world.routes().len(), world.interfaces().len()), (2, 2, 1));
    world.del(&old).unwrap();
    assert_eq!((world.check(&new, &added), world.addresses_in_use()), (Ok(None), 2));
    world.del(&new).unwrap();
    world.assert_nothing_left();

    let flag = world.dir.path().join("broken");
    world.plugin("moody", &answers(&format!("[ -e {} ] && exit 1; true", flag.display()), &["1.0.0"]));
    world.changes.insert("ipam".into(), json!({"type": "moody"}));
    world.add(&old).unwrap();
    fs::write(&flag, "").unwrap();
    assert_eq!(world.add(&new).unwrap_err()["code"], 5);
    assert_eq!(world.records()[0].container_id, old.container, "GC must be able to find it");
    fs::remove_file(&flag).unwrap();
    world.add(&new).unwrap();
    assert_eq!(world.records()[0].container_id, new.container);
}

#[test]
fn addresses_that_cannot_be_given_back_are_tried_again_at_the_next_del() {
    let mut world = World::new();
    let _agent = world.willing_agent();
    let flag = world.dir.path().join("broken");
    world.plugin("moody", &answers(&format!("[ -e {} ] && exit 1; true", flag.display()), &["1.0.0"]));
    world.changes.insert("ipam".into(), json!({"type": "moody"}));
    let pod = Pod::new("front");
    world.add(&pod).unwrap();
    fs::write(&flag, "").unwrap();
    assert_eq!(world.del(&pod).unwrap_err()["code"], 5);
    assert!(world.interfaces().is_empty(), "the pod keeps no network while its addresses wait");
    assert_eq!(world.records().len(), 1, "GC must be able to find it");
    fs::remove_file(&flag).unwrap();
    world.del(&pod).unwrap();
    world.assert_nothing_left();
}

#[test]
fn gc_removes_what_the_runtime_no_longer_knows_and_nothing_else() {
    let world = World::new();
    let _agent = world.willing_agent();
    let (kept, lost) = (Pod::new("kept"), Pod::new("lost"));
    let added = world.add(&kept).unwrap().unwrap();
    world.add(&lost).unwrap();
    let foreign = Pod::new("foreign");
    let mut other_network = world.config("1.1.0");
    other_network["name"] = json!("other");
    other_network["ipam"]["ranges"] = json!([[{"subnet": "10.66.0.0/24"}]]);
    world.call("ADD", &other_network, Some(&foreign)).unwrap();

    assert_eq!(world.call("GC", &valid(&world, &[&kept]), None), Ok(None));
    let names: Vec<_> = world.records().into_iter().map(|record| record.name).collect();
    assert_eq!(names, ["foreign", "kept"]);
    assert_eq!((world.interfaces().len(), world.addresses_in_use()), (2, 2));
    assert_eq!(world.check(&kept, &added), Ok(None));
    assert_eq!(world.call("GC", &valid(&world, &[&kept]), None), Ok(None));
}

#[test]
fn gc_without_a_list_removes_nothing() {
    let world = World::new();
    let _agent = world.willing_agent();
    world.add(&Pod::new("front")).unwrap();
    assert_eq!(world.call("GC", &world.config("1.1.0"), None).unwrap_err()["code"], 7);
    assert_eq!(world.records().len(), 1);
}

#[test]
fn gc_and_status_are_passed_on_to_an_address_plugin_that_knows_them() {
    let mut world = World::new();
    let _agent = world.willing_agent();
    world.plugin("modern", &answers("true", &["1.0.0", "1.1.0"]));
    world.changes.insert("ipam".into(), json!({"type": "modern"}));
    world.add(&Pod::new("front")).unwrap();
    world.call("GC", &valid(&world, &[]), None).unwrap();
    world.call("STATUS", &world.config("1.1.0"), None).unwrap();
    assert_eq!(world.plugin_log("modern"), ["VERSION", "ADD", "GC", "STATUS"]);
    world.assert_nothing_left();
}

#[test]
fn gc_goes_on_after_a_failure_and_reports_it() {
    let mut world = World::new();
    let _agent = world.willing_agent();
    let fails_for = "[ $CNI_CONTAINERID = sandbox-of-a ] && exit 1; true";
    world.plugin("moody", &answers(fails_for, &["1.0.0"]));
    world.changes.insert("ipam".into(), json!({"type": "moody"}));
    for name in ["a", "b"] {
        world.add(&Pod::new(name)).unwrap();
    }
    let error = world.call("GC", &valid(&world, &[]), None).unwrap_err();
    assert_eq!(error["code"], 103, "{error}");
    assert!(error["details"].as_str().unwrap().contains("shop/a"), "{error}");
    assert_eq!(world.records().len(), 1);
}

#[test]
fn status_says_whether_add_would_work() {
    let mut world = World::new();
    let status = |world: &World| world.call("STATUS", &world.config("1.1.0"), None);
    let error = status(&world).unwrap_err();
    assert_eq!(error["code"], 50, "{error}");
    assert!(error["msg"].as_str().unwrap().contains("agent.sock"), "{error}");
    let _starting =
        world.agent(|_| Some(Response::refused(ErrorCode::NotReady, "the store is not read yet")));
    assert_eq!(status(&world).unwrap_err()["code"], 50);
    let _agent = world.willing_agent();
    assert_eq!(status(&world), Ok(None));
    world.changes.insert("ipam".into(), json!({"type": "missing"}));
    assert_eq!(status(&world).unwrap_err()["code"], 50);
}

#[test]
fn status_misses_an_agent_only_when_it_stays_away() {
    let world = World::new();
    let status = || world.call("STATUS", &world.config("1.1.0"), None);
    let _agent = world.willing_agent();
    assert_eq!(status(), Ok(None));
    fs::remove_file(world.run_dir().join("agent.sock")).unwrap();
    assert_eq!(status(), Ok(None), "it may be being replaced");
    let _starting =
        world.agent(|_| Some(Response::refused(ErrorCode::NotReady, "the store is not read yet")));
    assert_eq!(status(), Ok(None), "the new one is on its way");
    let served = File::options().write(true).open(world.run_dir().join("served")).unwrap();
    served.set_modified(SystemTime::now() - Duration::from_secs(31)).unwrap();
    assert_eq!(status().unwrap_err()["code"], 50, "it is not coming back");
}

/// The configuration of a GC that says that only `pods` are still there.
fn valid(world: &World, pods: &[&Pod]) -> Value {
    let list: Vec<_> =
        pods.iter().map(|pod| json!({"containerID": pod.container, "ifname": "eth0"})).collect();
    let mut config = world.config("1.1.0");
    config["cni.dev/valid-attachments"] = json!(list);
    config
}

/// An address plugin that gives one address to sandboxes of `a` and another to the rest, speaks `versions`, and at DEL does `del`.
fn answers(del: &str, versions: &[&str]) -> String {
    let versions = json!({"cniVersion": "1.0.0", "supportedVersions": versions});
    format!(
        "case $CNI_CONTAINERID in *-a) last=1;; *) last=2;; esac\n\
         case $CNI_COMMAND in\n\
         VERSION) echo '{versions}';;\n\
         ADD) echo '{{\"cniVersion\":\"1.0.0\",\"ips\":[{{\"address\":\"10.65.9.'$last'/24\"}}]}}';;\n\
         DEL) {del};;\n\
         esac"
    )
}
