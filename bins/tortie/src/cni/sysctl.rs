//! Owns: the sysctls of a veth's two sides. Does not: touch settings of the whole node; those are the agent's.
//! Invariant: they are written in the namespace of the calling thread.

use std::fs;
use std::path::Path;

use super::error::CniError;

/// A random delay of proxy ARP would keep the gateway's address unusable for a second.
const HOST_V4: [(&str, &str); 4] = [
    ("ipv4/conf/{}/proxy_arp", "1"),
    ("ipv4/neigh/{}/proxy_delay", "0"),
    // Loose: the data plane itself checks that sources are the pod's, and strict would judge its redirects.
    ("ipv4/conf/{}/rp_filter", "2"),
    ("ipv4/conf/{}/forwarding", "1"),
];
const HOST_V6: [(&str, &str); 2] = [("ipv6/conf/{}/disable_ipv6", "0"), ("ipv6/conf/{}/forwarding", "1")];
/// Before the host's side is up, also where the pod gets no IPv6 address: duplicate detection would keep the gateway's
/// unusable for a second, and a pod could send router advertisements to the node.
const HOST_QUIET: [(&str, &str); 2] = [("ipv6/conf/{}/accept_dad", "0"), ("ipv6/conf/{}/accept_ra", "0")];
const POD_V6: [(&str, &str); 3] = [
    ("ipv6/conf/{}/disable_ipv6", "0"),
    ("ipv6/conf/{}/accept_dad", "0"),
    // Nobody but the host is on the link, and it says nothing.
    ("ipv6/conf/{}/accept_ra", "0"),
];

/// The host's side before it is up.
pub fn host_side_quiet(interface: &str) -> Result<(), CniError> {
    let has_v6 = Path::new("/proc/sys/net/ipv6/conf").join(interface).is_dir();
    write_all(interface, if has_v6 { &HOST_QUIET } else { &[] })
}

/// The host's side for the families that the pod has.
pub fn host_side(interface: &str, v4: bool, v6: bool) -> Result<(), CniError> {
    of_host_side(interface, v4, v6).iter().try_for_each(|(name, value)| write(name, value))
}

/// The pod's side.
pub fn pod_side(interface: &str, v6: bool) -> Result<(), CniError> {
    write_all(interface, if v6 { &POD_V6 } else { &[] })
}

/// What [`host_side`] writes, by the names below `/proc/sys`: the agent sees to it that it stays so.
pub fn of_host_side(interface: &str, v4: bool, v6: bool) -> Vec<(String, &'static str)> {
    let v4 = if v4 { &HOST_V4[..] } else { &[] };
    let v6 = if v6 { &HOST_V6[..] } else { &[] };
    v4.iter().chain(v6).map(|(key, value)| (name(key, interface), *value)).collect()
}

/// Below `/proc/sys`.
fn name(key: &str, interface: &str) -> String {
    format!("net/{}", key.replace("{}", interface))
}

fn write_all(interface: &str, settings: &[(&str, &str)]) -> Result<(), CniError> {
    settings.iter().try_for_each(|(key, value)| write(&name(key, interface), value))
}

fn write(name: &str, value: &str) -> Result<(), CniError> {
    let path = format!("/proc/sys/{name}");
    fs::write(&path, value).map_err(CniError::io(format!("writing {value} to {path}")))
}
