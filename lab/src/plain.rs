//! Plain host routing: the baseline without any data plane of ours.
//!
//! Owns: addresses, a veth and routes for each pod of a node whose data plane is `plain`, and the sysctls of
//! every pod's namespace.
//! Does not: balance Services or enforce policy; nothing does on such a node.
//! Invariant: a pod is wired as the CNI plugin wires it, so that measurements differ in the data plane alone.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use anyhow::Context as _;
use ipnet::IpNet;

use crate::cluster::Attachment;
use crate::error::{Result, no};
use crate::ip::Batch;
use crate::lab::Lab;
use crate::names::hash;
use crate::netns;
use crate::plan::{Family, Node};

const HOST_MAC: &str = "ee:ee:ee:ee:ee:ee";
const V4_GATEWAY: &str = "169.254.1.1";
/// The link-local address that follows from [`HOST_MAC`].
const V6_GATEWAY: &str = "fe80::ecee:eeff:feee:eeee";

/// What a kubelet's sandbox has before the plugin is called.
pub fn sandbox(namespace: &str) -> Result<()> {
    let mut batch = Batch::default();
    batch.add("link set lo up");
    batch.run(namespace)?;
    netns::run_in(&netns::path(namespace), || {
        for (key, value) in [
            ("ipv4/ping_group_range", "0 2147483647"),
            ("ipv6/conf/default/accept_dad", "0"),
            ("ipv6/conf/default/accept_ra", "0"),
            ("ipv4/ip_unprivileged_port_start", "0"),
        ] {
            let path = std::path::Path::new("/proc/sys/net").join(key);
            if path.exists() {
                fs::write(&path, value).with_context(|| format!("sysctl net/{key}={value}"))?;
            }
        }
        Ok(())
    })
}

/// Wires a pod. Its addresses are free ones of the node's CIDRs.
pub fn attach(lab: &Lab, node: &Node, pod: &Attachment) -> Result<Vec<IpAddr>> {
    let addresses = allocate(lab, node)?;
    let (mtu, link) = (lab.state.plan.mtu_bytes, link_name(pod));
    let mut host = Batch::default();
    host.add(format!(
        "link add {link} address {HOST_MAC} mtu {mtu} type veth peer name eth0 mtu {mtu} netns {}",
        pod.netns
    ));
    host.add(format!("link set {link} addrgenmode eui64 up"));
    let mut inside = Batch::default();
    inside.add("link set eth0 up");
    for address in &addresses {
        match Family::of(address) {
            Family::Ipv4 => {
                host.add(format!("route add {address}/32 dev {link} scope link"));
                inside.add(format!("address add {address}/32 dev eth0"));
                inside.add(format!("neigh add {V4_GATEWAY} lladdr {HOST_MAC} dev eth0 nud permanent"));
                inside.add(format!("route add {V4_GATEWAY} dev eth0 scope link"));
                inside.add(format!("route add default via {V4_GATEWAY} dev eth0"));
            }
            Family::Ipv6 => {
                host.add(format!("route add {address}/128 dev {link}"));
                inside.add(format!("address add {address}/128 dev eth0 nodad"));
                inside.add(format!("neigh add {V6_GATEWAY} lladdr {HOST_MAC} dev eth0 nud permanent"));
                inside.add(format!("route add default via {V6_GATEWAY} dev eth0"));
            }
        }
    }
    let machine = lab.name.machine(&node.name);
    // The `ip` of a command that was killed may have been at work until now: what it left is in the way once.
    host.run(&machine).or_else(|_| detach(lab, node, pod).and_then(|()| host.run(&machine)))?;
    inside.run(&pod.netns)?;
    Ok(addresses)
}

/// Removes a pod's link, and with it its routes.
pub fn detach(lab: &Lab, node: &Node, pod: &Attachment) -> Result<()> {
    let namespace = lab.name.machine(&node.name);
    let link = link_name(pod);
    let there = netns::run_in(&netns::path(&namespace), {
        let link = link.clone();
        move || Ok(nix::net::if_::if_nametoindex(link.as_str()).is_ok())
    })?;
    for address in &pod.addresses {
        let _ = fs::remove_file(claims(lab, node).join(address.to_string()));
    }
    if !there {
        return Ok(());
    }
    let mut batch = Batch::default();
    batch.add(format!("link del {link}"));
    batch.run(&namespace)
}

fn link_name(pod: &Attachment) -> String {
    let digits = format!("{:016x}", hash(format!("{}.{}", pod.namespace, pod.name).as_bytes()));
    format!("plain{}", digits.get(..10).unwrap_or_default())
}

/// A file for each address in use keeps two pods that are attached at once from taking the same one.
fn allocate(lab: &Lab, node: &Node) -> Result<Vec<IpAddr>> {
    let directory = claims(lab, node);
    fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
    let claim = |address: &IpAddr| {
        fs::File::options().write(true).create_new(true).open(directory.join(address.to_string())).is_ok()
    };
    // .1 is left to a gateway, as host-local does.
    let free = |cidr: &IpNet| (2..=254).map(|offset| nth(cidr, offset)).find(claim);
    let found = node.pod_cidrs.iter();
    found.map(|cidr| free(cidr).ok_or_else(|| no!("{}: no address is left in {cidr}", node.name))).collect()
}

fn claims(lab: &Lab, node: &Node) -> PathBuf {
    lab.paths.node(&node.name).join("addresses")
}

fn nth(cidr: &IpNet, offset: u8) -> IpAddr {
    match cidr.network() {
        IpAddr::V4(base) => Ipv4Addr::from(u32::from(base) | u32::from(offset)).into(),
        IpAddr::V6(base) => Ipv6Addr::from(u128::from(base) | u128::from(offset)).into(),
    }
}
