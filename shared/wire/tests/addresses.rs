//! What kind an address is, against the standard library.

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use tortie_wire::{Ip4, Ip6, Mac};

fn check4(address: Ipv4Addr) {
    let ours = Ip4::from(address);
    assert_eq!(Ipv4Addr::from(ours), address);
    assert_eq!(ours.octets(), address.octets());
    assert_eq!(ours.is_loopback(), address.is_loopback(), "{address}");
    assert_eq!(ours.is_multicast(), address.is_multicast(), "{address}");
    assert_eq!(ours.is_unspecified(), address.is_unspecified(), "{address}");
    assert_eq!(ours.is_broadcast(), address.is_broadcast(), "{address}");
    assert_eq!(ours.is_link_local(), address.is_link_local(), "{address}");
    assert_eq!(ours.is_this_network(), address.octets()[0] == 0, "{address}");
    assert_eq!(ours.is_reserved(), address.octets()[0] >= 240 && !address.is_broadcast(), "{address}");
    assert_eq!(ours.to_string(), address.to_string());
}

fn check6(address: Ipv6Addr) {
    let ours = Ip6::from(address);
    let segments = address.segments();
    assert_eq!(Ipv6Addr::from(ours), address);
    assert_eq!(ours.octets(), address.octets());
    assert_eq!(ours.is_loopback(), address.is_loopback(), "{address}");
    assert_eq!(ours.is_multicast(), address.is_multicast(), "{address}");
    assert_eq!(ours.is_unspecified(), address.is_unspecified(), "{address}");
    assert_eq!(ours.is_link_local(), address.is_unicast_link_local(), "{address}");
    assert_eq!(ours.is_v4_mapped(), address.to_ipv4_mapped().is_some(), "{address}");
    let scope = segments[0] & 0x000f;
    assert_eq!(
        ours.is_link_scope_multicast(),
        address.is_multicast() && [1, 2].contains(&scope),
        "{address}"
    );
    assert_eq!(ours.to_string(), address.to_string());
}

#[test]
fn the_borders_of_every_special_range_are_exact() {
    for border in [
        "0.0.0.0",
        "1.0.0.0",
        "127.0.0.0",
        "128.0.0.0",
        "169.254.0.0",
        "169.255.0.0",
        "224.0.0.0",
        "240.0.0.0",
    ] {
        let border: Ipv4Addr = border.parse().unwrap();
        check4(border);
        check4(Ipv4Addr::from(u32::from(border).wrapping_sub(1)));
        check4(Ipv4Addr::from(u32::from(border).wrapping_add(1)));
    }
    for border in [
        "::",
        "::1",
        "::2",
        "::ffff:0:0",
        "::1:0:0:0",
        "fe80::",
        "fec0::",
        "ff00::",
        "ff01::",
        "ff02::",
        "ff03::",
        "ff12::",
    ] {
        let border: Ipv6Addr = border.parse().unwrap();
        check6(border);
        check6(Ipv6Addr::from(u128::from(border).wrapping_sub(1)));
        check6(Ipv6Addr::from(u128::from(border).wrapping_add(1)));
    }
}

#[test]
fn the_group_of_a_solicited_address_is_that_of_rfc_4291() {
    let address: Ipv6Addr = "4037::01:800:200e:8c6c".parse().unwrap();
    assert_eq!(Ip6::from(address).solicited_node().to_string(), "ff02::1:ff0e:8c6c");
}

#[test]
fn group_addresses_of_ethernet_are_recognised() {
    assert!(Mac::BROADCAST.is_broadcast() && Mac::BROADCAST.is_group());
    assert!(Mac([0x33, 0x33, 0, 0, 0, 1]).is_group());
    assert!(!Mac([0xee; 6]).is_group());
    assert_eq!(Mac([0xee, 0, 1, 2, 3, 4]).to_string(), "ee:00:01:02:03:04");
}

proptest! {
    #[test]
    fn any_ipv4_address_is_what_the_standard_library_says(n in any::<u32>()) {
        check4(n.into());
    }

    #[test]
    fn any_ipv6_address_is_what_the_standard_library_says(n in any::<u128>(), sparse in any::<bool>()) {
        check6(if sparse { (n & (0xffff << 112 | 0xffff)).into() } else { n.into() });
    }
}

#[test]
fn an_interface_names_itself_on_its_link_by_its_ethernet_address() {
    let address = Ip6::link_local_of(Mac([0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde]));
    assert_eq!(address, Ip6::from("fe80::3656:78ff:fe9a:bcde".parse::<Ipv6Addr>().unwrap()));
}
