//! ADD and CHECK: what a pod gets, and that it gets nothing without protection.

use std::fs;
use std::net::UdpSocket;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use tortie::agent_api::{ErrorCode, Request, Response};

use crate::world::{Pod, World, json_of, names};

#[test]
fn a_pod_is_wired_as_calicos_plugin_does_it() {
    let world = World::new();
    let _agent = world.willing_agent();
    let pod = Pod::new("front");
    let added = world.add(&pod).unwrap().unwrap();

    let host = &world.ip_json("link show type veth")[0];
    // printf 'shop.front' | sha1sum | cut -c1-11
    assert_eq!(host["ifname"], "cali9bdb279545d");
    assert_eq!((&host["address"], &host["mtu"]), (&json!("ee:ee:ee:ee:ee:ee"), &json!(1450)));
    assert_eq!(world.routes(), ["10.65.0.2", "fd00:65::2"]);
    let route = &world.ip_json("route show 10.65.0.2")[0];
    assert_eq!((&route["dev"], &route["scope"]), (&host["ifname"], &json!("link")));

    let inside = &json_of(&pod.netns, "addr show dev eth0")[0];
    assert_eq!((&inside["mtu"], &inside["operstate"]), (&json!(1450), &json!("UP")));
    assert_eq!(added["interfaces"][1]["mac"], inside["address"]);
    let addresses = inside["addr_info"].as_array().unwrap();
    let has = |address: &str, length: u8| {
        addresses
            .iter()
            .any(|a| a["local"] == address && a["prefixlen"] == length && a["tentative"].is_null())
    };
    assert!(has("10.65.0.2", 32) && has("fd00:65::2", 128), "{addresses:?}");

    let routes = json_of(&pod.netns, "route show");
    assert_eq!(names(&routes, "dst"), ["default", "169.254.1.1"]);
    assert_eq!((&routes[0]["gateway"], &routes[1]["scope"]), (&json!("169.254.1.1"), &json!("link")));
    let default = &json_of(&pod.netns, "-6 route show default")[0];
    assert_eq!(default["gateway"], "fe80::ecee:eeff:feee:eeee");

    let sysctl = |key: &str| {
        let path = format!("/proc/sys/net/{}", key.replace("VETH", "cali9bdb279545d"));
        world.host.run(|| fs::read_to_string(path).unwrap().trim().to_owned())
    };
    assert_eq!(sysctl("ipv4/conf/VETH/proxy_arp"), "1");
    assert_eq!(sysctl("ipv4/neigh/VETH/proxy_delay"), "0");
    assert_eq!(sysctl("ipv4/conf/VETH/forwarding"), "1");
    assert_eq!(sysctl("ipv6/conf/VETH/forwarding"), "1");
    assert_eq!(sysctl("ipv6/conf/VETH/accept_ra"), "0");
    assert_eq!(sysctl("ipv6/conf/VETH/accept_dad"), "0");
}

#[test]
fn pod_and_node_reach_each_other_over_both_families_at_once() {
    let world = World::new();
    let _agent = world.willing_agent();
    let pod = Pod::new("front");
    world.host.ip("addr add 192.0.2.1/32 dev lo");
    world.host.ip("addr add 2001:db8::1/128 dev lo nodad");
    world.add(&pod).unwrap();
    for (node, pods) in [("192.0.2.1", "10.65.0.2"), ("2001:db8::1", "fd00:65::2")] {
        let server = world.host.run(|| UdpSocket::bind((node, 5000)).unwrap());
        let client = pod.netns.run(|| UdpSocket::bind((pods, 0)).unwrap());
        for socket in [&server, &client] {
            socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        }
        client.send_to(b"question", (node, 5000)).unwrap();
        let mut buffer = [0; 16];
        let (len, from) = server.recv_from(&mut buffer).unwrap_or_else(|e| panic!("{pods} to {node}: {e}"));
        assert_eq!((&buffer[..len], from.ip().to_string()), (&b"question"[..], pods.to_owned()));
        server.send_to(b"answer", from).unwrap();
        let (len, _) = client.recv_from(&mut buffer).unwrap_or_else(|e| panic!("{node} to {pods}: {e}"));
        assert_eq!(&buffer[..len], b"answer");
    }
}

#[test]
fn a_pod_of_one_family_gets_nothing_of_the_other() {
    for (subnet, absent) in [("10.65.0.0/24", "fd00:65::2"), ("fd00:65::/112", "10.65.0.2")] {
        let mut world = World::new();
        let _agent = world.willing_agent();
        let ipam =
            json!({"type": "host-local", "dataDir": world.addresses_dir(), "ranges": [[{"subnet": subnet}]]});
        world.changes.insert("ipam".into(), ipam);
        let pod = Pod::new("front");
        let added = world.add(&pod).unwrap().unwrap();
        assert_eq!(added["ips"].as_array().unwrap().len(), 1);
        assert_eq!(added["routes"].as_array().unwrap().len(), 1);
        assert!(!world.routes().contains(&absent.to_owned()));
        world.check(&pod, &added).unwrap();
        world.del(&pod).unwrap();
        world.assert_nothing_left();
    }
}

#[test]
fn addresses_are_usable_at_once_also_where_duplicate_detection_is_forced() {
    let world = World::new();
    let _agent = world.willing_agent();
    let pod = Pod::new("front");
    for netns in [&world.host, &pod.netns] {
        netns.run(|| fs::write("/proc/sys/net/ipv6/conf/all/accept_dad", "1").unwrap());
    }
    world.add(&pod).unwrap();
    let address = |netns, wanted: &str| {
        let addresses = json_of(netns, "-6 addr show to fd00:65::/112");
        let gateways = json_of(netns, "-6 addr show to fe80::ecee:eeff:feee:eeee");
        let lists =
            [addresses, gateways].map(|list| list[0]["addr_info"].as_array().cloned().unwrap_or_default());
        lists
            .concat()
            .into_iter()
            .find(|address| address["local"] == wanted)
            .unwrap_or_else(|| panic!("{wanted}"))
    };
    assert_eq!(address(&world.host, "fe80::ecee:eeff:feee:eeee")["tentative"], json!(null));
    assert_eq!(address(&pod.netns, "fd00:65::2")["tentative"], json!(null));
}

#[test]
fn no_pod_can_advertise_itself_to_the_node_as_a_router() {
    for subnet in ["10.65.0.0/24", "fd00:65::/112"] {
        let mut world = World::new();
        let _agent = world.willing_agent();
        let ipam =
            json!({"type": "host-local", "dataDir": world.addresses_dir(), "ranges": [[{"subnet": subnet}]]});
        world.changes.insert("ipam".into(), ipam);
        world.add(&Pod::new("front")).unwrap();
        let accepts = "/proc/sys/net/ipv6/conf/cali9bdb279545d/accept_ra";
        assert_eq!(world.host.run(|| fs::read_to_string(accepts).unwrap()).trim(), "0", "{subnet}");
    }
}

#[test]
fn without_an_mtu_in_the_configuration_the_kernels_default_is_used_and_reported() {
    let mut world = World::new();
    let _agent = world.willing_agent();
    world.changes.insert("mtu".into(), json!(0));
    let pod = Pod::new("front");
    let added = world.add(&pod).unwrap().unwrap();
    assert_eq!(
        (&added["interfaces"][0]["mtu"], &added["interfaces"][1]["mtu"]),
        (&json!(1500), &json!(1500))
    );
}

#[test]
fn an_mtu_too_small_for_ipv6_is_refused_before_anything_is_made() {
    let mut world = World::new();
    let _agent = world.willing_agent();
    world.changes.insert("mtu".into(), json!(1200));
    let error = world.add(&Pod::new("front")).unwrap_err();
    assert_eq!(error["code"], 7, "{error}");
    world.assert_nothing_left();
}

#[test]
fn a_repeated_add_gives_the_same_answer_and_no_second_address() {
    let world = World::new();
    let agent = world.willing_agent();
    let pod = Pod::new("front");
    let first = world.add(&pod).unwrap();
    let index = world.ip_json("link show type veth")[0]["ifindex"].clone();
    assert_eq!(world.add(&pod).unwrap(), first);
    assert_eq!(world.ip_json("link show type veth")[0]["ifindex"], index, "the veth was made anew");
    assert_eq!(world.addresses_in_use(), 2);
    assert_eq!(agent.asked().len(), 2);
}

#[test]
fn a_repeated_add_repairs_what_is_gone() {
    let world = World::new();
    let _agent = world.willing_agent();
    let pod = Pod::new("front");
    let first = world.add(&pod).unwrap().unwrap();
    world.host.ip("link del cali9bdb279545d");
    let second = world.add(&pod).unwrap().unwrap();
    assert_eq!(second["ips"], first["ips"]);
    world.check(&pod, &second).unwrap();
    world.del(&pod).unwrap();
    world.assert_nothing_left();
}

#[test]
fn an_add_that_was_killed_half_way_does_not_stand_in_the_way_of_the_next() {
    let world = World::new();
    let _agent = world.willing_agent();
    let pod = Pod::new("front");
    // What it left: addresses taken, a veth made, no record.
    let added = world.add(&pod).unwrap().unwrap();
    fs::remove_file(world.run_dir().join("endpoints/shop_front.json")).unwrap();
    let again = world.add(&pod).unwrap().unwrap();
    assert_eq!(again["interfaces"][0], added["interfaces"][0]);
    assert_eq!(world.addresses_in_use(), 2);
    world.check(&pod, &again).unwrap();
    world.del(&pod).unwrap();
    world.assert_nothing_left();
}

#[test]
fn the_agent_is_asked_when_the_record_is_there_and_the_interface_too() {
    let world = World::new();
    let (record, host) = (world.run_dir().join("endpoints/shop_front.json"), world.host.path());
    let agent = world.agent(move |_| {
        let interface = std::process::Command::new("nsenter")
            .arg(format!("--net={}", host.display()))
            .args(["ip", "link", "show", "dev", "cali9bdb279545d"])
            .output()
            .unwrap();
        let there = record.is_file() && interface.status.success();
        Some(if there { Response::ready(7) } else { Response::refused(ErrorCode::Other, "too early") })
    });
    let pod = Pod::new("front");
    world.add(&pod).unwrap();
    let asked = agent.asked();
    let [Request::EndpointReady { namespace, name, container_id, interface, addresses, timeout_millis }] =
        &asked[..]
    else {
        panic!("{asked:?}");
    };
    assert_eq!((namespace.as_str(), name.as_str()), ("shop", "front"));
    assert_eq!((container_id, interface.as_str()), (&pod.container, "cali9bdb279545d"));
    assert_eq!(addresses, &world.records()[0].addresses);
    assert!((1..=3000).contains(timeout_millis));
}

#[test]
fn an_agent_that_comes_late_but_in_time_is_waited_for() {
    let world = World::new();
    let pod = Pod::new("front");
    thread::scope(|scope| {
        let adding = scope.spawn(|| world.add(&pod));
        thread::sleep(Duration::from_millis(300));
        let _agent = world.willing_agent();
        adding.join().unwrap().unwrap();
    });
    assert_eq!(world.records().len(), 1);
}

#[test]
fn without_protection_in_time_add_fails_and_leaves_nothing_behind() {
    for (case, expected) in
        [("absent", 11), ("silent", 11), ("timeout", 11), ("starting", 11), ("unknown pod", 101)]
    {
        let mut world = World::new();
        world.changes.insert("readyTimeoutSeconds".into(), json!(0.4));
        let _agent = match case {
            "absent" => None,
            "silent" => Some(world.agent(|_| None)),
            "timeout" => {
                Some(world.agent(|_| Some(Response::refused(ErrorCode::Timeout, "policy is not in force"))))
            }
            "starting" => {
                Some(world.agent(|_| Some(Response::refused(ErrorCode::NotReady, "the store is not read"))))
            }
            _ => Some(world.agent(|_| Some(Response::refused(ErrorCode::UnknownPod, "no Pod shop/front")))),
        };
        let pod = Pod::new("front");
        let start = Instant::now();
        let error = world.add(&pod).unwrap_err();
        assert_eq!(error["code"], expected, "{case}: {error}");
        assert!(error["msg"].as_str().unwrap().contains("shop/front"), "{case}: {error}");
        assert!(start.elapsed() < Duration::from_secs(3), "{case}: {:?}", start.elapsed());
        world.assert_nothing_left();
        assert_eq!(json_of(&pod.netns, "link show type veth"), json!([]), "{case}");
    }
}

#[test]
fn a_failing_address_plugin_is_quoted_and_nothing_is_left() {
    let mut world = World::new();
    let _agent = world.willing_agent();
    world.plugin(
        "poor",
        r#"case $CNI_COMMAND in
           VERSION) echo '{"cniVersion":"1.0.0","supportedVersions":["1.0.0"]}';;
           ADD) echo '{"cniVersion":"1.0.0","code":11,"msg":"no addresses left","details":"in 10.65.0.0/30"}'; exit 1;;
           esac"#,
    );
    world.changes.insert("ipam".into(), json!({"type": "poor"}));
    let pod = Pod::new("front");
    let error = world.add(&pod).unwrap_err();
    assert_eq!((&error["code"], &error["details"]), (&json!(11), &json!("in 10.65.0.0/30")));
    assert!(error["msg"].as_str().unwrap().contains("no addresses left"), "{error}");
    world.assert_nothing_left();
    assert_eq!(world.plugin_log("poor").last().unwrap(), "DEL");
}

#[test]
fn an_address_plugin_that_dies_without_a_word_or_does_not_exist_is_named() {
    let mut world = World::new();
    let _agent = world.willing_agent();
    world.plugin("mute", r#"[ $CNI_COMMAND = VERSION ] && echo '{"supportedVersions":["1.1.0"]}' || exit 7"#);
    for (plugin, code) in [("mute", 5), ("missing", 50)] {
        world.changes.insert("ipam".into(), json!({"type": plugin}));
        let error = world.add(&Pod::new("front")).unwrap_err();
        assert_eq!(error["code"], code, "{error}");
        assert!(error["msg"].as_str().unwrap().contains(plugin), "{error}");
    }
    world.assert_nothing_left();
}

#[test]
fn a_namespace_that_is_gone_is_an_unknown_container_and_the_nodes_own_is_refused() {
    let world = World::new();
    let _agent = world.willing_agent();
    let pod = Pod::new("front");
    for (netns, code) in [("/run/netns/there-is-none", 3), ("/proc/thread-self/ns/net", 4)] {
        let mut vars = world.vars("ADD", Some(&pod));
        vars.insert("CNI_NETNS".into(), netns.into());
        let config = world.config("1.1.0").to_string();
        let answer = world.host.run(|| tortie::cni::run(|name| vars.get(name).cloned(), config.as_bytes()));
        assert_eq!(answer.unwrap_err()["code"], code, "{netns}");
    }
    assert!(world.interfaces().is_empty() && world.addresses_in_use() == 0);
}

#[test]
fn what_is_no_network_namespace_is_refused_before_the_sandbox_before_is_touched() {
    let world = World::new();
    let agent = world.willing_agent();
    let pod = Pod::new("front");
    let added = world.add(&pod).unwrap().unwrap();
    let file = world.run_dir().join("file");
    fs::write(&file, "").unwrap();
    for other in [file.to_str().unwrap(), "/proc/thread-self/ns/uts"] {
        let mut vars = world.vars("ADD", Some(&pod.next_sandbox()));
        vars.insert("CNI_NETNS".into(), other.into());
        let config = world.config("1.1.0").to_string();
        let answer = world.host.run(|| tortie::cni::run(|name| vars.get(name).cloned(), config.as_bytes()));
        let error = answer.unwrap_err();
        assert_eq!(error["code"], 4, "{error}");
        let message = error["msg"].as_str().unwrap();
        assert!(message.contains("CNI_NETNS") && message.contains("is no network namespace"), "{message}");
    }
    assert_eq!((world.check(&pod, &added), agent.asked().len()), (Ok(None), 1));
}

#[test]
fn an_interface_of_somebody_else_in_the_pod_is_not_touched() {
    let world = World::new();
    let _agent = world.willing_agent();
    let pod = Pod::new("front");
    pod.netns.ip("link add eth0 type veth peer name other");
    let error = world.add(&pod).unwrap_err();
    assert_eq!(error["code"], 5, "{error}");
    assert_eq!(names(&json_of(&pod.netns, "link show type veth"), "ifname").len(), 2);
    world.assert_nothing_left();
}

#[test]
fn a_second_interface_name_for_a_connected_container_is_refused_and_changes_nothing() {
    let world = World::new();
    let agent = world.willing_agent();
    let pod = Pod::new("front");
    let added = world.add(&pod).unwrap().unwrap();
    let second = |command: &str| {
        let mut vars = world.vars(command, Some(&pod));
        vars.insert("CNI_IFNAME".into(), "net1".into());
        let config = world.config("1.1.0").to_string();
        world.host.run(|| tortie::cni::run(|name| vars.get(name).cloned(), config.as_bytes()))
    };
    let error = second("ADD").unwrap_err();
    assert_eq!(error["code"], 4, "{error}");
    let message = error["msg"].as_str().unwrap();
    assert!(message.contains("CNI_IFNAME") && message.contains("connected as eth0"), "{message}");
    // Runtimes answer a failed ADD with DEL.
    second("DEL").unwrap();
    assert_eq!((world.check(&pod, &added), agent.asked().len()), (Ok(None), 1));
    assert_eq!(names(&json_of(&pod.netns, "link show type veth"), "ifname"), ["eth0"]);
    assert_eq!(world.addresses_in_use(), 2);
}

#[test]
fn an_address_that_another_pod_has_is_refused_and_the_other_pod_keeps_it() {
    let world = World::new();
    let _agent = world.willing_agent();
    let first = Pod::new("first");
    let added = world.add(&first).unwrap().unwrap();
    // Another network with the same range keeps its own books.
    let mut config = world.config("1.1.0");
    config["name"] = json!("other");
    let error = world.call("ADD", &config, Some(&Pod::new("second"))).unwrap_err();
    assert_eq!(error["code"], 104, "{error}");
    assert!(error["msg"].as_str().unwrap().contains("10.65.0.2"), "{error}");
    assert_eq!(world.check(&first, &added), Ok(None));
    world.del(&first).unwrap();
    world.assert_nothing_left();
}

#[test]
fn a_route_that_is_in_the_way_is_replaced() {
    let world = World::new();
    let _agent = world.willing_agent();
    world.host.ip("route add 10.65.0.2/32 dev lo");
    world.host.ip("-6 route add fd00:65::2/128 dev lo");
    let pod = Pod::new("front");
    let added = world.add(&pod).unwrap().unwrap();
    assert_eq!(world.check(&pod, &added), Ok(None));
    assert_eq!(world.routes(), ["10.65.0.2", "fd00:65::2"]);
}

#[test]
fn check_finds_each_thing_that_is_not_as_add_left_it() {
    let damages: [(&str, &str, &str); 8] = [
        ("host", "link set cali9bdb279545d down", "10.65.0.2"),
        ("host", "link set cali9bdb279545d address ee:ee:ee:ee:ee:01", "ee:ee:ee:ee:ee:01"),
        ("host", "route del 10.65.0.2", "10.65.0.2/32"),
        ("host", "-6 route del fd00:65::2", "fd00:65::2/128"),
        ("host", "link del cali9bdb279545d", "is gone"),
        ("pod", "addr del 10.65.0.2/32 dev eth0", "10.65.0.2"),
        ("pod", "-6 route del default", "::/0"),
        ("pod", "link set eth0 mtu 1400", "1400"),
    ];
    for (place, damage, expected) in damages {
        let world = World::new();
        let _agent = world.willing_agent();
        let pod = Pod::new("front");
        let added = world.add(&pod).unwrap().unwrap();
        assert_eq!(world.check(&pod, &added), Ok(None), "before {damage}");
        let netns = if place == "host" { &world.host } else { &pod.netns };
        netns.ip(damage);
        let error = world.check(&pod, &added).unwrap_err();
        assert_eq!(error["code"], 102, "{damage}: {error}");
        assert!(error["msg"].as_str().unwrap().contains(expected), "{damage}: {error}");
        world.del(&pod).unwrap();
    }
}

#[test]
fn check_compares_with_the_previous_result_and_the_address_plugin() {
    let world = World::new();
    let _agent = world.willing_agent();
    let pod = Pod::new("front");
    let added = world.add(&pod).unwrap().unwrap();
    let mut other = added.clone();
    other["ips"][0]["address"] = json!("10.65.0.99/32");
    assert_eq!(world.check(&pod, &other).unwrap_err()["code"], 102);
    assert_eq!(world.call("CHECK", &world.config("1.1.0"), Some(&pod)).unwrap_err()["code"], 7);
    assert_eq!(world.check(&pod.next_sandbox(), &added).unwrap_err()["code"], 102);
    fs::remove_file(world.addresses_dir().join("lab/10.65.0.2")).unwrap();
    fs::remove_file(world.addresses_dir().join("lab/fd00:65::2")).unwrap();
    let error = world.check(&pod, &added).unwrap_err();
    assert!(error["msg"].as_str().unwrap().contains("host-local"), "{error}");
}

#[test]
fn pods_added_at_the_same_time_do_not_disturb_each_other() {
    let world = World::new();
    let _agent = world.willing_agent();
    let pods: Vec<Pod> = (0..12).map(|i| Pod::new(&format!("front-{i}"))).collect();
    thread::scope(|scope| {
        for pod in &pods {
            scope.spawn(|| {
                let added = world.add(pod).unwrap().unwrap();
                world.check(pod, &added).unwrap();
            });
        }
    });
    let mut addresses: Vec<_> = world.records().into_iter().flat_map(|record| record.addresses).collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 24);
    thread::scope(|scope| {
        for pod in &pods {
            scope.spawn(|| world.del(pod).unwrap());
        }
    });
    world.assert_nothing_left();
}

#[test]
fn a_pod_gets_nothing_when_its_record_finds_no_room() {
    let mut world = World::new();
    let addresses = tempfile::tempdir().unwrap();
    let ranges = json!([[{"subnet": "10.65.0.0/24"}], [{"subnet": "fd00:65::/112"}]]);
    let ipam = json!({"type": "host-local", "dataDir": addresses.path(), "ranges": ranges});
    world.changes.insert("ipam".into(), ipam);
    let mount = |arguments: &[&str]| {
        let done =
            std::process::Command::new(arguments[0]).args(&arguments[1..]).arg(world.run_dir()).status();
        assert!(done.unwrap().success(), "{arguments:?}");
    };
    mount(&["mount", "-t", "tmpfs", "-o", "size=64k,mode=755", "none"]);
    let _agent = world.willing_agent();
    let pod = Pod::new("front");
    // The directories are there, and a file has a name; only its content finds no room.
    let first = Pod::new("first");
    world.add(&first).unwrap();
    world.del(&first).unwrap();
    let fill = fs::File::create(world.run_dir().join("fill")).unwrap();
    while std::io::Write::write_all(&mut &fill, &[0; 4096]).is_ok() {}
    let refused = world.add(&pod).unwrap_err();
    // Its room is free only when nobody holds it open either.
    drop(fill);
    fs::remove_file(world.run_dir().join("fill")).unwrap();
    let left = (world.interfaces(), world.records().len());
    let given: Vec<_> = fs::read_dir(addresses.path().join("lab")).unwrap().flatten().collect();
    let given = given.iter().filter(|it| it.file_name().to_string_lossy().contains("10.65")).count();
    let added = world.add(&pod);
    let deleted = world.del(&pod);
    mount(&["umount", "-l"]);
    assert_eq!(refused["code"], 5, "{refused}");
    assert!(refused.to_string().contains("No space left on device"), "{refused}");
    assert_eq!((left.0.len(), left.1, given), (0, 0, 0), "{left:?}");
    assert!(added.is_ok() && deleted.is_ok(), "{added:?} {deleted:?}");
}
