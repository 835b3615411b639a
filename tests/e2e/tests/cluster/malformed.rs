//! Packets that no honest pod sends: each is dropped, and counted under its own reason.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tortie_lab::{Lab, Where};
use tortie_testkit::packet::{
    Extension, PacketBuilder, SRC_MAC, neighbour_solicitation, router_advertisement,
};
use tortie_wire::tcp::TcpFlags;
use tortie_wire::{Ip6, Mac};

use crate::frames;
use crate::verbs::{cluster, said, status};
use tortie_tests_e2e::{items, tortie_lab};

const WORLD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: rogue}
spec: {nodeName: node1, containers: [{name: c, image: any}]}
---
apiVersion: v1
kind: Pod
metadata: {name: server}
spec: {nodeName: node2, containers: [{name: c, image: any, ports: [{containerPort: 80}]}]}
";

struct Ends {
    own4: Ipv4Addr,
    own6: Ipv6Addr,
    to4: Ipv4Addr,
    to6: Ipv6Addr,
}

fn ends(lab: &Lab) -> Ends {
    let both = |pod: &str| {
        let all = lab.attachment("default", pod).expect("attached").addresses;
        match all.as_slice() {
            [IpAddr::V4(four), IpAddr::V6(six)] | [IpAddr::V6(six), IpAddr::V4(four)] => (*four, *six),
            other => panic!("{pod}: {other:?}"),
        }
    };
    let ((own4, own6), (to4, to6)) = (both("rogue"), both("server"));
    Ends { own4, own6, to4, to6 }
}

/// The reason, and a frame that must be dropped for it.
fn wrong_frames(ends: &Ends) -> Vec<(&'static str, Vec<u8>)> {
    let four = || PacketBuilder::ipv4(ends.own4, ends.to4);
    let six = || PacketBuilder::ipv6(ends.own6, ends.to6);
    let syn = |packet: PacketBuilder| packet.tcp(4000, 80).flags(TcpFlags::SYN);
    let ethertype = |mut frame: Vec<u8>, kind: [u8; 2]| {
        frame[12..14].copy_from_slice(&kind);
        frame
    };
    let foreign4 = Ipv4Addr::new(10, 244, 1, 77);
    let foreign6: Ipv6Addr = "fd00:244:1::77".parse().expect("an address");
    let router6 = Ip6::link_local_of(Mac([0xee; 6])).into();
    vec![
        ("unknown-ethertype", ethertype(syn(four()).build(), [0x12, 0x34])),
        ("vlan-tag", syn(four().vlan(7)).build()),
        ("ip-truncated", syn(four()).patch_ip(2, &[0x05, 0xdc]).build()),
        ("ip-truncated", syn(six()).patch_ip(4, &[0x05, 0xdc]).build()),
        ("ip-version", syn(four()).patch_ip(0, &[0x65]).build()),
        ("ip-version", syn(six()).patch_ip(0, &[0x40]).build()),
        ("ip-header-length", syn(four()).patch_ip(0, &[0x44]).build()),
        (
            "extension-headers",
            (0..40).fold(six(), |packet, _| packet.extension(Extension::Destination(0))).tcp(1, 2).build(),
        ),
        ("transport-truncated", four().udp(4000, 53).patch_transport(4, &[0, 4]).build()),
        ("transport-truncated", six().udp(4000, 53).patch_transport(4, &[0, 4]).build()),
        ("transport-truncated", syn(four()).patch_transport(12, &[0xf0]).build()),
        ("tcp-flags", four().tcp(4000, 80).flags(TcpFlags(0x03)).build()),
        ("tcp-flags", six().tcp(4000, 80).flags(TcpFlags(0x00)).build()),
        ("martian", syn(PacketBuilder::ipv4(Ipv4Addr::LOCALHOST, ends.to4)).build()),
        ("martian", syn(PacketBuilder::ipv4(Ipv4Addr::new(224, 0, 0, 9), ends.to4)).build()),
        ("martian", syn(PacketBuilder::ipv6(Ipv6Addr::LOCALHOST, ends.to6)).build()),
        ("fragment-without-first", four().udp(4000, 53).payload(&[0; 64]).fragment(512, false).id(9).build()),
        ("source-spoofed", syn(PacketBuilder::ipv4(foreign4, ends.to4)).build()),
        ("source-spoofed", syn(PacketBuilder::ipv4(ends.to4, ends.own4)).build()),
        ("source-spoofed", syn(PacketBuilder::ipv6(foreign6, ends.to6)).build()),
        ("source-spoofed", syn(PacketBuilder::ipv6(ends.to6, ends.own6)).build()),
        ("source-spoofed", neighbour_solicitation(SRC_MAC, foreign6, router6)),
        ("source-spoofed", neighbour_solicitation(SRC_MAC, "fe80::77".parse().expect("an address"), router6)),
        ("router-impersonation", router_advertisement(SRC_MAC, "fe80::1".parse().expect("an address"))),
        ("no-flow", four().tcp(4001, 80).flags(TcpFlags::ACK).build()),
        ("no-flow", six().tcp(4001, 80).flags(TcpFlags::ACK).build()),
        (
            "icmp-unrelated",
            four().port_unreachable(&PacketBuilder::ipv4(ends.to4, ends.own4).udp(7, 8).build_ip()).build(),
        ),
        ("ttl-exceeded", syn(four().ttl(1)).build()),
        ("ttl-exceeded", syn(six().ttl(1)).build()),
    ]
}

/// Packets dropped at a hook of the first node, by reason.
fn counted(lab: &Lab, hook: &str) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    for item in items(lab, "node1", &["counters", "list"]) {
        if item["hook"] == hook {
            let reason = item["reason"].as_str().expect("a reason").to_owned();
            *found.entry(reason).or_default() += item["packets"].as_u64().expect("packets");
        }
    }
    found
}

/// The reasons under which the first node counts frames that are sent.
fn counts(lab: &Lab, hook: &str, from: &Where, frames: &[Vec<u8>]) -> Vec<(String, u64)> {
    let before = counted(lab, hook);
    frames::send(lab, from, frames);
    let more = counted(lab, hook).into_iter().map(|(name, count)| {
        let known = before.get(&name).unwrap_or(&0);
        (name, count - known)
    });
    more.filter(|(_, count)| *count > 0).collect()
}

#[test]
fn every_malformed_or_spoofed_packet_of_a_pod_is_counted_under_its_own_reason() {
    let test = cluster(2, WORLD);
    let ends = ends(&test.lab);
    let rogue = Where::Pod("default".into(), "rogue".into());
    let mut wrong = Vec::new();
    for (number, (reason, frame)) in wrong_frames(&ends).into_iter().enumerate() {
        let more = counts(&test.lab, "from-workload", &rogue, &vec![frame; 5]);
        if more != [(reason.to_owned(), 5)] {
            wrong.push(format!("frame {number} should give 5 × {reason}: {more:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let reached = test.probe("pod:default/rogue", "pod:default/server", |_| {});
    assert!(reached.is_connected(), "what is right still passes: {reached:?}");
    assert_eq!(status(&test.lab, "node1").0, Some(0));
}

#[test]
fn a_pod_fills_the_table_of_neighbours_with_nobody_but_itself() {
    let test = cluster(2, WORLD);
    assert_eq!(counted(&test.lab, "from-workload"), BTreeMap::new(), "what pods say when they start passes");
    let ends = ends(&test.lab);
    let run = |at: &[&str], line: &str| {
        let output = tortie_lab(&test.lab.name, &[&["exec"], at, &["--", "sh", "-c", line]].concat());
        assert!(output.status.success(), "{line}: {}", said(&output));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let mac = run(&["rogue"], "cat /sys/class/net/eth0/address");
    let mac: Vec<u8> = mac.split(':').map(|byte| u8::from_str_radix(byte, 16).expect("a byte")).collect();
    let mac = Mac(mac.try_into().expect("six bytes"));
    let router = Ip6::link_local_of(Mac([0xee; 6])).into();
    let asked = |by| neighbour_solicitation(SRC_MAC, by, router);
    let invented = (0..500).map(|number| asked(Ipv6Addr::new(0xfe80, 0, 0, 0, 0x5000, 0, 0, number)));
    let own = [ends.own6, Ip6::link_local_of(mac).into()].map(asked);
    let rogue = Where::Pod("default".into(), "rogue".into());
    let frames: Vec<Vec<u8>> = invented.chain(own).collect();
    frames::send(&test.lab, &rogue, &frames);
    let interface = items(&test.lab, "node1", &["endpoints", "list"])[0]["interface"].clone();
    let list = format!("ip neighbour show nud all dev {}", interface.as_str().expect("an interface"));
    let known = run(&["--node", "node1"], &list);
    let with_mac: Vec<&str> = known.lines().filter(|line| line.contains(&SRC_MAC.to_string())).collect();
    assert_eq!(with_mac.len(), 2, "{known}");
    assert!(known.lines().count() < 10, "{known}");
}

#[test]
fn a_frame_with_a_tag_of_vlan_0_is_the_interfaces_own() {
    const PRIORITY: u16 = 0xa000;
    let test = cluster(2, WORLD);
    let ends = ends(&test.lab);
    let forged = |vlan| {
        let four = PacketBuilder::ipv4(ends.own4, ends.own4).mac(SRC_MAC, Mac([0xff; 6])).vlan(vlan);
        let six = PacketBuilder::ipv6(ends.own6, ends.own6).mac(SRC_MAC, Mac([0xff; 6])).vlan(vlan);
        [four, six].map(|packet| packet.tcp(4000, 80).flags(TcpFlags::SYN).build())
    };
    let tagged = |outer: u16, inner| {
        forged(inner).map(|mut frame| {
            frame.splice(12..12, [[0x81, 0x00], outer.to_be_bytes()].concat());
            frame
        })
    };
    let counts =
        |frames: [Vec<u8>; 2]| counts(&test.lab, "from-host-device", &Where::Node("node2".into()), &frames);
    assert_eq!(counts(forged(PRIORITY)), [("source-spoofed".to_owned(), 2)]);
    assert_eq!(counts(tagged(PRIORITY, PRIORITY)), [("vlan-tag".to_owned(), 2)]);
    for of_vlan in [forged(PRIORITY | 7), tagged(PRIORITY, 7), tagged(7, PRIORITY)] {
        assert_eq!(counts(of_vlan), []);
    }
}
