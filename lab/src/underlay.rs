//! The network between the machines: nodes on one subnet behind a router, outside machines on two more.
//!
//! Owns: namespaces, links, addresses, routes and sysctls of nodes, router and outside machines.
//! Does not: touch pods.
//! Invariant: no link is ever made in the namespace of the host.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use ipnet::IpNet;

use crate::error::Result;
use crate::ip::Batch;
use crate::names::LabName;
use crate::netns;
use crate::plan::{Client, Dataplane, Family, Node, Plan, of_family};

/// Builds all of it.
pub fn build(name: &LabName, plan: &Plan) -> Result<()> {
    let router = name.machine("router");
    machine(&router, true)?;
    let mut batch = Batch::default();
    batch.add("link add br0 type bridge forward_delay 0 mcast_snooping 0");
    batch.add(format!("link set br0 mtu {} up", plan.mtu_bytes));
    add_addresses(&mut batch, "br0", &plan.gateways);
    batch.run(&router)?;
    for node in &plan.nodes {
        build_node(name, plan, node)?;
    }
    for client in &plan.clients {
        build_client(name, plan, client)?;
    }
    Ok(())
}

fn build_node(name: &LabName, plan: &Plan, node: &Node) -> Result<()> {
    let (router, namespace) = (name.machine("router"), name.machine(&node.name));
    machine(&namespace, true)?;
    let mut batch = Batch::default();
    cable(&mut batch, plan, &node.name, &namespace);
    batch.add(format!("link set {} master br0", node.name));
    for cidr in &node.pod_cidrs {
        batch.add(route("add", cidr, node));
    }
    batch.run(&router)?;

    let mut batch = Batch::default();
    attach(&mut batch, &node.addresses, &plan.gateways);
    if node.dataplane == Dataplane::Plain {
        // The agent would do this; the baseline has none.
        for other in plan.nodes.iter().filter(|other| other.index != node.index) {
            other.pod_cidrs.iter().for_each(|cidr| {
                batch.add(route("add", cidr, other));
            });
        }
    }
    batch.run(&namespace)
}

/// A machine on the nodes' subnet that is no node: the control plane's.
pub fn build_machine(name: &LabName, plan: &Plan, machine_name: &str, addresses: &[IpNet]) -> Result<()> {
    let namespace = name.machine(machine_name);
    machine(&namespace, false)?;
    plug_in(name, plan, machine_name, &namespace, addresses)
}

/// A machine that is not on any subnet yet. It has its addresses nevertheless, so that what runs on it can talk to itself
/// whichever cable comes and goes.
pub fn build_lone_machine(namespace: &str, addresses: &[IpNet]) -> Result<()> {
    machine(namespace, false)?;
    let mut batch = Batch::default();
    let alone: Vec<IpNet> = addresses.iter().map(|address| address.addr().into()).collect();
    add_addresses(&mut batch, "lo", &alone);
    batch.run(namespace)
}

/// Brings a machine that is there onto the nodes' subnet. A cable it still has from elsewhere is pulled.
pub fn move_machine(
    name: &LabName,
    plan: &Plan,
    machine_name: &str,
    namespace: &str,
    addresses: &[IpNet],
) -> Result<()> {
    let mut batch = Batch::default();
    batch.add("link delete eth0");
    // Mostly it has gone with the router at its other end.
    let _ = batch.run(namespace);
    plug_in(name, plan, machine_name, namespace, addresses)
}

fn plug_in(
    name: &LabName,
    plan: &Plan,
    machine_name: &str,
    namespace: &str,
    addresses: &[IpNet],
) -> Result<()> {
    let mut batch = Batch::default();
    cable(&mut batch, plan, machine_name, namespace);
    batch.add(format!("link set {machine_name} master br0"));
    batch.run(&name.machine("router"))?;
    let mut batch = Batch::default();
    attach(&mut batch, addresses, &plan.gateways);
    batch.run(namespace)
}

fn build_client(name: &LabName, plan: &Plan, client: &Client) -> Result<()> {
    let (router, namespace) = (name.machine("router"), name.machine(&client.name));
    machine(&namespace, false)?;
    let mut batch = Batch::default();
    cable(&mut batch, plan, &client.name, &namespace);
    add_addresses(&mut batch, &client.name, &client.gateways);
    batch.run(&router)?;
    let mut batch = Batch::default();
    attach(&mut batch, &client.addresses, &client.gateways);
    batch.run(&namespace)
}

/// The router's next hop for a prefix: what BGP or MetalLB would announce. Repeating it moves the prefix.
pub fn announce(name: &LabName, prefix: &IpNet, node: &Node) -> Result<()> {
    let mut batch = Batch::default();
    batch.add(route("replace", prefix, node));
    batch.run(&name.machine("router"))
}

/// A namespace with loopback up and the sysctls of a real machine.
fn machine(namespace: &str, forwards: bool) -> Result<()> {
    netns::create(namespace)?;
    let mut batch = Batch::default();
    batch.add("link set lo up");
    batch.run(namespace)?;
    netns::run_in(&netns::path(namespace), move || sysctls(forwards))
}

/// Written inside the namespace: /proc/sys/net shows the namespace of whoever opens it.
fn sysctls(forwards: bool) -> anyhow::Result<()> {
    let forwarding = if forwards { "1" } else { "0" };
    let always = [
        ("ipv4/ip_forward", forwarding),
        ("ipv6/conf/all/forwarding", forwarding),
        ("ipv6/conf/all/accept_dad", "0"),
        ("ipv6/conf/default/accept_dad", "0"),
        ("ipv6/conf/default/dad_transmits", "0"),
        ("ipv6/conf/default/accept_ra", "0"),
        ("ipv6/conf/default/router_solicitations", "0"),
        ("ipv4/conf/all/rp_filter", "0"),
        ("ipv4/conf/default/rp_filter", "0"),
        // The bridge and the router share a subnet with the nodes; redirects would rewrite their routes.
        ("ipv4/conf/all/send_redirects", "0"),
        ("ipv4/conf/default/send_redirects", "0"),
        ("ipv4/conf/all/accept_redirects", "0"),
        ("ipv4/conf/default/accept_redirects", "0"),
        ("ipv4/ping_group_range", "0 2147483647"),
        // The answer "unreachable" must not depend on how many were asked in this second.
        ("ipv4/icmp_ratelimit", "0"),
        ("ipv6/icmp/ratelimit", "0"),
        ("ipv4/icmp_msgs_per_sec", "100000"),
        ("ipv4/icmp_msgs_burst", "100000"),
    ];
    for (key, value) in always {
        let path = Path::new("/proc/sys/net").join(key);
        // A kernel without IPv6, or with a limit that is not per namespace, has fewer of these.
        if path.exists() {
            fs::write(&path, value).with_context(|| format!("sysctl net/{key}={value}"))?;
        }
    }
    Ok(())
}

fn cable(batch: &mut Batch, plan: &Plan, near: &str, namespace: &str) {
    let mtu = plan.mtu_bytes;
    batch.add(format!("link add {near} mtu {mtu} type veth peer name eth0 mtu {mtu} netns {namespace}"));
    batch.add(format!("link set {near} up"));
}

fn attach(batch: &mut Batch, addresses: &[IpNet], gateways: &[IpNet]) {
    batch.add("link set eth0 up");
    add_addresses(batch, "eth0", addresses);
    for gateway in gateways {
        batch.add(format!("route add default via {}", gateway.addr()));
    }
}

fn add_addresses(batch: &mut Batch, link: &str, addresses: &[IpNet]) {
    for address in addresses {
        let nodad = if Family::of(&address.addr()) == Family::Ipv6 { " nodad" } else { "" };
        batch.add(format!("address add {address} dev {link}{nodad}"));
    }
}

fn route(verb: &str, prefix: &IpNet, node: &Node) -> String {
    let family = Family::of(&prefix.addr());
    match of_family(&node.addresses, family) {
        Some(via) => format!("route {verb} {prefix} via {via}"),
        None => format!("route {verb} unreachable {prefix}"),
    }
}
