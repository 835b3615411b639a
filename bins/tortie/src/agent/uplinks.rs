//! The interfaces by which the network reaches this node: whether `bpfDataIfacePattern` names them.
//!
//! Does not: attach; [`Devices`] does. Pure.
//! Invariant: a bond or a bridge is guarded by its parts, which its packets pass.

use std::collections::BTreeSet;
use std::net::IpAddr;

use tortie_host::netlink::Device;

use super::devices::{Devices, LOOPBACK};
use super::own_addresses::OwnAddresses;

/// Why nothing from outside reaches Services on this node, if so: for each of the node's addresses whose interface carries no
/// programs, or because there is none that does. `is_pods` knows pods' interfaces.
pub fn left_out(
    devices: &Devices,
    own: &OwnAddresses,
    node: &[IpAddr],
    is_pods: impl Fn(&str) -> bool,
) -> Vec<String> {
    let Some(pattern) = devices.pattern() else { return Vec::new() };
    let guarded = |device: &Device| {
        let is_part = |part: &Device| part.controller == Some(device.index);
        devices.is_data(&device.name) || devices.data().any(is_part)
    };
    let with_address = |address: &IpAddr| {
        let device = own.interfaces_of(*address).filter_map(|index| devices.by_index(index)).next()?;
        Some((device, *address)).filter(|_| device.index != LOOPBACK && !guarded(device))
    };
    let told: Vec<String> = node
        .iter()
        .filter_map(with_address)
        .map(|(device, address)| {
            format!(
                "nothing from outside reaches Services at {address}: its interface {} carries no programs, since \
                 bpfDataIfacePattern ({pattern}) does not match it; set it in the FelixConfiguration so that it does",
                device.name
            )
        })
        .collect();
    if !told.is_empty() || devices.data().next().is_some() {
        return told;
    }
    let is_candidate =
        |device: &&Device| devices.kind(&device.name) == Devices::WORKLOAD && !is_pods(&device.name);
    let candidates: Vec<&str> = devices.all().filter(is_candidate).map(|device| &*device.name).collect();
    let candidates = if candidates.is_empty() { "none".to_owned() } else { candidates.join(", ") };
    vec![format!(
        "nothing from outside reaches Services on this node: no interface matches bpfDataIfacePattern ({pattern}); set it in the \
         FelixConfiguration so that it matches the uplink; interfaces that are no pod's: {candidates}"
    )]
}

/// Interfaces that the node itself speaks by: they carry programs as such, have addresses, or are parts of another. A pod's
/// host side is none of that.
pub fn nodes_own(devices: &Devices, own: &OwnAddresses) -> BTreeSet<String> {
    let addressed = own.interfaces().filter_map(|index| devices.by_index(index));
    let parts = devices.all().filter(|device| device.controller.is_some());
    devices.hosts().map(|it| it.device).chain(addressed).chain(parts).map(|it| it.name.clone()).collect()
}

/// What is wrong with an `interfacePrefix` that names the node's own interfaces.
pub fn taken_for_pods(nodes_own: &BTreeSet<String>, prefix: &str) -> Option<String> {
    let named: Vec<&str> =
        nodes_own.iter().map(String::as_str).filter(|name| name.starts_with(prefix)).collect();
    (!named.is_empty() && !prefix.is_empty()).then(|| {
        format!(
            "interfacePrefix ({prefix}) is also how this node's own interfaces are called ({}), which no pod has: they are left \
             alone; set it in the FelixConfiguration to how pods' interfaces begin and no other does",
            named.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(index: u32, name: &str) -> Device {
        Device { index, name: name.into(), mtu_bytes: 1500, up: true, controller: None, xdp: None }
    }

    /// What is said of a node with loopback, a pod and these interfaces, whose address is on the second.
    fn told(pattern: &str, interfaces: &[Device], address_at: Option<u32>) -> Vec<String> {
        let mut devices = Devices::new();
        devices.set_pattern(pattern);
        for device in [device(LOOPBACK, "lo"), device(9, "cali1")].into_iter().chain(interfaces.to_vec()) {
            devices.insert(device);
        }
        let mut own = OwnAddresses::default();
        own.all(address_at.map(|index| (index, "192.0.2.1/24".parse().unwrap())).into_iter().collect());
        left_out(&devices, &own, &["192.0.2.1".parse().unwrap()], |name| name == "cali1")
    }

    #[test]
    fn a_pattern_that_does_not_match_the_interface_of_the_nodes_address_is_told_with_both() {
        for others in [&[][..], &[device(3, "eth1")]] {
            let interfaces = [&[device(2, "uplink")], others].concat();
            let told = told("^eth.*", &interfaces, Some(2));
            let [told] = &told[..] else { panic!("{told:?}") };
            for part in ["192.0.2.1", "uplink", "bpfDataIfacePattern (^eth.*)"] {
                assert!(told.contains(part), "{part}: {told}");
            }
        }
        assert_eq!(told("^eth.*", &[device(2, "eth0")], Some(2)), [""; 0]);
    }

    #[test]
    fn where_no_interface_matches_those_are_named_that_could_be_the_uplink() {
        for address_at in [None, Some(LOOPBACK)] {
            let told = told("^ensX$", &[device(2, "ens3"), device(3, "docker0")], address_at);
            let [told] = &told[..] else { panic!("{told:?}") };
            assert!(told.ends_with("docker0, ens3") && told.contains("(^ensX$)"), "{told}");
        }
        assert_eq!(
            told("^ens.*", &[device(2, "ens3")], None),
            [""; 0],
            "the address may be gone for a moment"
        );
    }

    #[test]
    fn the_nodes_own_interfaces_are_no_pods_whatever_they_are_called() {
        let mut devices = Devices::new();
        devices.set_pattern("^eth.*");
        let part = Device { controller: Some(4), ..device(5, "cali-part") };
        let all = [(LOOPBACK, "lo"), (2, "eth0"), (3, "cali-plain"), (4, "cali-addressed")];
        for device in all.map(|(index, name)| device(index, name)).into_iter().chain([part]) {
            devices.insert(device);
        }
        let mut own = OwnAddresses::default();
        own.all(vec![(4, "192.0.2.1/24".parse().unwrap())]);
        let own = nodes_own(&devices, &own);
        assert_eq!(own.iter().collect::<Vec<_>>(), ["cali-addressed", "cali-part", "eth0", "lo"]);
        let told = taken_for_pods(&own, "cali-").unwrap();
        assert!(told.contains("(cali-addressed, cali-part)") && told.contains("(cali-)"), "{told}");
        assert_eq!((taken_for_pods(&own, "cali-plain"), taken_for_pods(&own, "")), (None, None));
    }

    #[test]
    fn a_bridge_with_the_address_is_guarded_by_its_part() {
        let part = Device { controller: Some(2), ..device(3, "eth0") };
        assert_eq!(told("^eth.*", &[device(2, "br0"), part], Some(2)), [""; 0]);
        assert_eq!(told("^eth.*", &[device(2, "br0"), device(3, "eth0")], Some(2)).len(), 1);
    }
}
