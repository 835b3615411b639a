//! This node's pods beside their policy: that what the plugin made on the host's side stays, and which have no network.
//!
//! Does not: make or remove a pod's interface; the plugin does. Their routes are [`super::host_routes`]' business.
//! Invariant: of a pod that is just starting or going nothing is said.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use tortie::cni::{GATEWAY_V6, of_host_side};
use tortie_host::sysctl;
use tortie_model::workload::Attachment;
use tortie_model::{NodeName, Object, WorkloadId};

use super::node::Node;

/// Between the end of a pod's network and that of its object.
const GRACE: Duration = Duration::from_secs(10);

/// Pods that run here as their objects say, each with the time since when it is not attached.
#[derive(Debug, Default)]
pub struct Running(BTreeMap<WorkloadId, Option<Instant>>);

impl Running {
    /// The store has said something. A pod has addresses once the plugin has made its network.
    pub fn heard(&mut self, here: &NodeName, object: &Object) {
        let Object::Workload(change) = object else { return };
        let runs = change.value.as_ref().is_some_and(|pod| {
            pod.node.as_ref() == Some(here) && !pod.host_network && !pod.addresses.is_empty()
        });
        match runs {
            true => _ = self.0.entry(change.key.clone()).or_default(),
            false => _ = self.0.remove(&change.key),
        }
    }

    /// Compares them with those that are attached.
    pub fn compare(&mut self, attached: &BTreeMap<WorkloadId, Attachment>, now: Instant) {
        for (id, since) in &mut self.0 {
            *since = if attached.contains_key(id) { None } else { since.or(Some(now)) };
        }
    }

    /// Those that have not been attached for a while.
    pub fn without_network(&self, now: Instant) -> impl Iterator<Item = &WorkloadId> {
        let long = move |since: &Option<Instant>| since.is_some_and(|since| now - since >= GRACE);
        self.0.iter().filter(move |(_, since)| long(since)).map(|(id, _)| id)
    }
}

impl Node {
    /// Pods that can reach nobody, each with what to do.
    pub fn cut_off(&self) -> Vec<String> {
        let broken = self.attachments.all().iter().filter_map(|(id, attachment)| {
            let interface = &attachment.interface;
            match self.devices.by_name(interface) {
                None => Some(format!(
                    "pod {id} has no network: its interface {interface} is gone; delete the pod so that it is made anew"
                )),
                Some(device) if !device.up => Some(format!(
                    "pod {id} has no network: its interface {interface} is switched off; ip link set {interface} up"
                )),
                Some(_) => None,
            }
        });
        let unknown = self.running.without_network(Instant::now()).map(|id| {
            let place = self.attachments.place(id);
            format!(
                "pod {id} has no network: its record {place} is not there; delete the pod so that it is made anew"
            )
        });
        broken.chain(unknown).collect()
    }

    /// Sees which pods are not attached.
    pub fn compare_pods(&mut self) {
        self.running.compare(self.attachments.all(), Instant::now());
    }

    /// Puts back what the plugin sets on the host's side and somebody has changed; `found` are all addresses there are.
    pub async fn mend_host_sides(&self, found: &[(u32, IpNet)]) {
        for (id, attachment) in self.attachments.all() {
            let interface = &attachment.interface;
            let Some(device) = self.devices.by_name(interface).filter(|device| device.up) else { continue };
            let has = |family: fn(&IpAddr) -> bool| attachment.addresses.iter().any(family);
            let (v4, v6) = (has(IpAddr::is_ipv4), has(IpAddr::is_ipv6));
            for (name, value) in of_host_side(interface, v4, v6) {
                match sysctl::set(&name, value) {
                    Ok(false) => {}
                    Ok(true) => {
                        tracing::warn!(pod = %id, name, value, "somebody changed a setting; put back")
                    }
                    Err(error) => tracing::warn!(pod = %id, %error, "its interface is not as it should be"),
                }
            }
            let gateway = IpAddr::V6(GATEWAY_V6);
            let is_there = || found.iter().any(|(index, it)| (*index, it.addr()) == (device.index, gateway));
            if v6 && !is_there() {
                match self.netlink.add_address(device.index, gateway, 64).await {
                    Ok(()) => {
                        tracing::warn!(pod = %id, interface, "somebody removed the gateway's address; put back")
                    }
                    Err(error) => tracing::warn!(pod = %id, %error, "its interface is not as it should be"),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tortie_model::{Change, workload::Workload};

    use super::*;

    const HERE: &str = "node1";

    fn pod(node: &str, address: Option<&str>, host_network: bool) -> Object {
        let workload = Workload {
            uid: None,
            node: Some(NodeName::new(node)),
            addresses: address.map(|text| text.parse().unwrap()).into_iter().collect(),
            reported: true,
            labels: Default::default(),
            service_account: String::new(),
            ports: Vec::new(),
            host_ports: None,
            host_network,
        };
        Object::Workload(Change { key: WorkloadId::new("shop", "front"), value: Some(Arc::new(workload)) })
    }

    fn attached() -> BTreeMap<WorkloadId, Attachment> {
        let attachment = Attachment {
            uid: None,
            interface: "cali1".into(),
            mac: [2, 0, 0, 0, 0, 1],
            host_mac: [0xee; 6],
            addresses: Vec::new(),
            container_id: "c1".into(),
        };
        [(WorkloadId::new("shop", "front"), attachment)].into()
    }

    /// Whether it is told of, so long after it was said.
    fn told(running: &mut Running, attached: &BTreeMap<WorkloadId, Attachment>, after: Duration) -> bool {
        let now = Instant::now();
        running.compare(attached, now);
        running.without_network(now + after).count() == 1
    }

    #[test]
    fn a_pod_that_runs_here_without_an_attachment_is_told_of_after_a_while() {
        let (mut running, nobody) = (Running::default(), BTreeMap::new());
        running.heard(&HERE.into(), &pod(HERE, Some("10.65.0.2"), false));
        assert!(!told(&mut running, &nobody, GRACE / 2));
        assert!(told(&mut running, &nobody, GRACE * 2));
        assert!(!told(&mut running, &attached(), GRACE * 2));
        assert!(!told(&mut running, &nobody, GRACE / 2), "it begins anew");
        let Object::Workload(change) = pod(HERE, None, false) else { unreachable!() };
        running.heard(&HERE.into(), &Object::Workload(Change { value: None, ..change }));
        assert!(!told(&mut running, &nobody, GRACE * 2), "it has gone");
    }

    #[test]
    fn a_pod_that_is_starting_or_elsewhere_or_on_the_hosts_network_is_not() {
        for pod in [
            pod(HERE, None, false),
            pod("node2", Some("10.65.1.2"), false),
            pod(HERE, Some("192.0.2.1"), true),
        ] {
            let mut running = Running::default();
            running.heard(&HERE.into(), &pod);
            assert!(!told(&mut running, &BTreeMap::new(), GRACE * 2), "{pod:?}");
        }
    }
}
