//! The measured Services and their EndpointSlices.
//!
//! Owns: their names and addresses. Does not: store them; a directory or an API server does.
//! Invariant: the same number is always the same Service.

use serde_json::{Value, json};
use tortie_lab::Object;

pub const NAMESPACE: &str = "bench";
/// More do not fit into the laboratory's range of Service addresses.
pub const MOST: i64 = 50_000;
/// Services beyond the measured ones, whose endpoints change and that nobody connects to.
pub const MOVING: std::ops::Range<u32> = 50_000..50_010;
/// Endpoints of a Service in the measurements of the agent.
pub const ENDPOINTS: u32 = 5;

/// The first of the addresses that are given out here: others take theirs from the lower end of the range.
const FIRST: u32 = 16 << 8;

/// The Service's addresses, of both families.
pub fn vips(number: u32) -> [String; 2] {
    let [.., high, low] = (FIRST + number).to_be_bytes();
    [format!("10.96.{high}.{low}"), format!("fd00:96::{high:x}{low:02x}")]
}

pub fn name(number: u32) -> String {
    format!("s{number}")
}

/// On port 80, with addresses of its own in these families.
pub fn service(number: u32, dual: bool) -> Object {
    let [v4, v6] = vips(number);
    let mut spec = json!({"ports": [{"port": 80}], "clusterIP": v4, "clusterIPs": [v4], "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack"});
    if dual {
        spec = json!({"ports": [{"port": 80}], "clusterIP": v4, "clusterIPs": [v4, v6],
            "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack"});
    }
    Object::make("v1", "Service", Some(NAMESPACE), &name(number), json!({"spec": spec}))
}

/// A Service, its slices and its addresses as an API server stores them, each with its directory there.
pub fn stored(number: u32, service: Object, slices: Vec<Object>) -> Vec<(&'static str, Object)> {
    let addresses = service.value().pointer("/spec/clusterIPs").and_then(Value::as_array);
    let addresses: Vec<_> = addresses.into_iter().flatten().filter_map(Value::as_str).collect();
    let ours = json!({"resource": "services", "namespace": NAMESPACE, "name": name(number)});
    let address = |address: &&str| {
        let rest = json!({"spec": {"parentRef": ours}});
        let mut object = Object::make("networking.k8s.io/v1", "IPAddress", None, address, rest);
        let family = if address.contains(':') { "IPv6" } else { "IPv4" };
        object.set(&["metadata", "labels", "ipaddress.kubernetes.io/ip-family"], json!(family));
        object
            .set(&["metadata", "labels", "ipaddress.kubernetes.io/managed-by"], json!("ipallocator.k8s.io"));
        ("ipaddresses", object)
    };
    let addresses: Vec<_> = addresses.iter().map(address).collect();
    let slices = slices.into_iter().map(|slice| ("endpointslices", slice));
    let mut all: Vec<_> = addresses.into_iter().chain([("services/specs", service)]).chain(slices).collect();
    for (kind, (_, object)) in (0..).zip(&mut all) {
        object.set(&["metadata", "uid"], json!(format!("00000000-0000-4000-800{kind}-{number:012}")));
        object.set(&["metadata", "creationTimestamp"], json!("2026-01-01T00:00:00Z"));
    }
    all
}

/// With these addresses, all ready, on `port`.
pub fn slice(number: u32, family: &str, addresses: &[String], port: u16) -> Object {
    let endpoint = |address: &String| json!({"addresses": [address], "conditions": {"ready": true}});
    let endpoints: Vec<Value> = addresses.iter().map(endpoint).collect();
    let rest = json!({"addressType": family, "ports": [{"port": port, "name": "", "protocol": "TCP"}],
        "endpoints": endpoints});
    let service = name(number);
    let called = format!("{service}-{}", family.to_ascii_lowercase());
    let mut slice = Object::make("discovery.k8s.io/v1", "EndpointSlice", Some(NAMESPACE), &called, rest);
    slice.set(&["metadata", "labels", "kubernetes.io/service-name"], json!(service));
    slice
}

/// Addresses of pods of other nodes, over and over. `turn` moves the last of them.
pub fn elsewhere(number: u32, turn: u32) -> Vec<String> {
    let address = |index: u32| {
        let index = index % 57_000;
        format!("10.244.{}.{}", 20 + index / 250, 1 + index % 250)
    };
    let mut addresses: Vec<String> = (0..ENDPOINTS - 1).map(|n| address(number * ENDPOINTS + n)).collect();
    // The same Service comes again after a round number of turns, where an address must not: a prime many.
    let turned = turn % 2_477;
    addresses.push(match turn {
        0 => format!("10.244.10.{}", 1 + number % 250),
        _ => format!("10.{}.{}.{}", 245 + turned / 250, turned % 250, 1 + number % 250),
    });
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipnet::{Ipv4Net, Ipv6Net};
    use std::collections::BTreeSet;
    use std::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn every_service_has_addresses_of_its_own_in_the_laboratorys_ranges() {
        let (v4, v6): (Ipv4Net, Ipv6Net) =
            ("10.96.0.0/16".parse().unwrap(), "fd00:96::/112".parse().unwrap());
        let mut seen = BTreeSet::new();
        for number in 0..MOVING.end {
            let [four, six] = vips(number);
            assert!(v4.contains(&four.parse::<Ipv4Addr>().unwrap()), "{number}: {four}");
            assert!(v6.contains(&six.parse::<Ipv6Addr>().unwrap()), "{number}: {six}");
            assert!(seen.insert(four) && seen.insert(six), "{number}");
        }
    }

    #[test]
    fn a_turn_moves_the_last_endpoint_alone() {
        let (first, second, third) = (elsewhere(7, 0), elsewhere(7, 1), elsewhere(7, 2));
        assert_eq!(first.len(), ENDPOINTS as usize);
        assert_eq!(first[..4], second[..4]);
        assert!(first[4] != second[4] && second[4] != third[4] && first[4] != third[4]);
        assert!((1..=50).all(|thousands| elsewhere(7, 1 + thousands * 1000)[4] != second[4]));
    }
}
