//! Routes of the host's own stack: to other nodes' pods, and to this node's.
//!
//! Invariant: only routes with our protocol number are touched, and one of another's to the same prefix is reported; nothing is
//! removed before the datastore is in sync. A route to an interface is removed only where that is the interface of a pod that is
//! known, and leads to another address than the pod's: the plugin makes routes before the agent has heard of their pod.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use tortie_host::netlink::{Netlink, NetlinkError, Via};
use tortie_model::NodeName;
use tortie_reconcile::Reconciler;

use super::attachments::Attachments;
use super::devices::Devices;
use super::ways::Ways;

const RETRY: Duration = Duration::from_secs(1);
/// Whoever has the prefix may have it for long, and who it is costs a list of all routes.
const RETRY_TAKEN: Duration = Duration::from_secs(10);

/// Of the prefixes, of the ways to their nodes, and of the pods attached here.
pub type Version = (u64, u64, u64);

/// What there should be.
#[derive(Debug, Default)]
pub struct Desired {
    routes: BTreeMap<IpNet, Via>,
    /// Of those to other nodes' pods, whose.
    nodes: BTreeMap<IpNet, NodeName>,
    /// The interfaces of which every route is among them.
    pods: BTreeSet<u32>,
}

/// Desired and actual routes.
pub struct HostRoutes {
    actual: Option<BTreeMap<IpNet, Via>>,
    /// What they were made from; `None`: some could not be made, or are others by now.
    version: Option<Version>,
    /// What was tried last; `None`: something has changed since.
    tried: Option<Version>,
    errors: BTreeMap<IpNet, String>,
    /// Prefixes that somebody else has a route to. Nothing can be done about them here, so nobody waits for them.
    taken: BTreeMap<IpNet, String>,
    retry_at: Option<Instant>,
}

impl HostRoutes {
    /// Nothing known.
    pub fn new() -> Self {
        Self {
            actual: None,
            version: None,
            tried: None,
            errors: BTreeMap::new(),
            taken: BTreeMap::new(),
            retry_at: None,
        }
    }

    /// The kernel's side is read again next time.
    pub fn invalidate(&mut self) {
        self.actual = None;
        self.tried = None;
    }

    /// What the kernel says of one of our routes: it is there, or is there no more.
    pub fn noticed(&mut self, net: IpNet, via: Via, there: bool) {
        let Some(actual) = &mut self.actual else { return };
        let known = actual.get(&net) == Some(&via);
        if known == there {
            return;
        }
        let before = if there { actual.insert(net, via) } else { None };
        if !there && known {
            actual.remove(&net);
        }
        // The first one to a pod is the plugin's; whether it is right is seen when the pod is known.
        let new_pod = there && before.is_none() && matches!(via, Via::Device(_));
        if !new_pod {
            (self.version, self.tried) = (None, None);
        }
    }

    /// A pod's interface has come, is gone, or was switched off or on: of the routes that go with it the kernel says nothing.
    pub fn interface(&mut self, index: u32) {
        if let Some(actual) = &mut self.actual {
            actual.retain(|_, via| *via != Via::Device(index));
        }
        (self.version, self.tried) = (None, None);
    }

    /// Makes the routes what they should be. They are asked for where their version is another one.
    pub async fn apply(
        &mut self,
        version: Version,
        desired: impl FnOnce() -> Desired,
        netlink: &Netlink,
    ) -> usize {
        if self.actual.is_some() && self.version == Some(version) {
            return 0;
        }
        if self.actual.is_none() {
            match netlink.routes().await {
                Ok(routes) => self.actual = Some(routes),
                Err(error) => {
                    tracing::warn!(%error, "our routes cannot be listed");
                    self.retry_at = Some(Instant::now() + RETRY);
                    return 0;
                }
            }
        }
        let Some(actual) = &mut self.actual else { return 0 };
        if self.retry_at.is_some_and(|at| at > Instant::now()) && self.tried == Some(version) {
            return 0;
        }
        let (mut written, mut errors, mut taken) = (0, BTreeMap::new(), BTreeMap::new());
        let desired = desired();
        for Step { net, found, wanted } in steps(actual, &desired) {
            let result = match (wanted, found) {
                (Some(wanted), _) => netlink.set_route(net, found, wanted).await,
                (None, Some(found)) => netlink.remove_route(net, found).await,
                (None, None) => continue,
            };
            match (result, wanted) {
                (Ok(()), Some(wanted)) => drop(actual.insert(net, wanted)),
                (Ok(()), None) => drop(actual.remove(&net)),
                // It goes just now; should it come back, that is told.
                (Err(error), Some(Via::Device(_))) if error.is_of_no_interface() => continue,
                (Err(error), _) => {
                    let said = said(&error, desired.nodes.get(&net));
                    match error {
                        NetlinkError::Taken { .. } => taken.insert(net, said),
                        NetlinkError::Socket(_) | NetlinkError::Request { .. } => errors.insert(net, said),
                    };
                    continue;
                }
            }
            written += 1;
        }
        let pause = match (errors.is_empty(), taken.is_empty()) {
            (false, _) => Some(RETRY),
            (true, false) => Some(RETRY_TAKEN),
            (true, true) => None,
        };
        self.retry_at = pause.map(|pause| Instant::now() + pause);
        self.version = pause.is_none().then_some(version);
        self.tried = Some(version);
        for said in taken.iter().filter(|(net, _)| !self.taken.contains_key(net)).map(|(_, said)| said) {
            tracing::warn!("{said}");
        }
        (self.errors, self.taken) = (errors, taken);
        written
    }

    /// Routes that could not be written, with the reason.
    pub fn errors(&self) -> &BTreeMap<IpNet, String> {
        &self.errors
    }

    /// Routes that are not made because somebody else has one to the prefix, with the owner.
    pub fn taken(&self) -> impl Iterator<Item = &String> {
        self.taken.values()
    }

    /// When what failed is tried again.
    pub fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }
}

/// To other nodes' pods by the neighbour on the way to the node, and to this node's pods as far as their interfaces are
/// there and up.
pub fn desired(
    reconciler: &Reconciler,
    ways: &Ways,
    attachments: &Attachments,
    devices: &Devices,
) -> Desired {
    let mut desired = Desired::default();
    for (net, (node, address)) in reconciler.remote_prefixes() {
        if let Some(way) = ways.get(&address) {
            desired.routes.insert(net, Via::Gateway(way.neighbour));
            desired.nodes.insert(net, node);
        }
    }
    for attachment in attachments.all().values() {
        let Some(device) = devices.by_name(&attachment.interface).filter(|device| device.up) else {
            continue;
        };
        let via = Via::Device(device.index);
        desired.routes.extend(attachment.addresses.iter().map(|address| (IpNet::from(*address), via)));
        desired.pods.insert(device.index);
    }
    desired
}

fn said(error: &NetlinkError, node: Option<&NodeName>) -> String {
    match node {
        Some(node) => format!("{error}; the host does not reach these pods of Node {node}"),
        None => error.to_string(),
    }
}

/// One thing to be done.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    net: IpNet,
    found: Option<Via>,
    /// `None`: it goes.
    wanted: Option<Via>,
}

fn steps(actual: &BTreeMap<IpNet, Via>, desired: &Desired) -> Vec<Step> {
    let nets: BTreeSet<IpNet> = actual.keys().chain(desired.routes.keys()).copied().collect();
    let may_be_of_a_new_pod = |via: Option<Via>| match via {
        Some(Via::Device(index)) => !desired.pods.contains(&index),
        Some(Via::Gateway(_)) | None => false,
    };
    let step = |net: IpNet| {
        let (found, wanted) = (actual.get(&net).copied(), desired.routes.get(&net).copied());
        let stays = found == wanted || (wanted.is_none() && may_be_of_a_new_pod(found));
        (!stays).then_some(Step { net, found, wanted })
    };
    nets.into_iter().filter_map(step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION: Version = (1, 1, 1);

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn gateway(text: &str) -> Via {
        Via::Gateway(text.parse().unwrap())
    }

    /// One to another node's pods, one to a pod here.
    fn known() -> HostRoutes {
        let actual =
            [(net("10.65.1.0/24"), gateway("192.0.2.2")), (net("10.65.0.5/32"), Via::Device(7))].into();
        HostRoutes { actual: Some(actual), version: Some(VERSION), ..HostRoutes::new() }
    }

    fn todo(routes: &HostRoutes) -> Vec<IpNet> {
        let actual = routes.actual.as_ref().unwrap();
        match routes.version {
            Some(_) => Vec::new(),
            None => {
                let routes = known().actual.unwrap();
                let desired = Desired { routes, pods: [7].into(), ..Desired::default() };
                steps(actual, &desired).into_iter().map(|step| step.net).collect()
            }
        }
    }

    #[test]
    fn a_route_that_is_gone_or_leads_elsewhere_is_made_again() {
        for (name, via) in [("10.65.1.0/24", gateway("192.0.2.2")), ("10.65.0.5/32", Via::Device(7))] {
            let mut routes = known();
            routes.noticed(net(name), via, true);
            assert_eq!(todo(&routes), [], "{name}: our own word");
            routes.noticed(net(name), Via::Device(9), false);
            assert_eq!(todo(&routes), [], "{name}: another one is gone");
            routes.noticed(net(name), via, false);
            assert_eq!(todo(&routes), [net(name)], "gone");
            let mut routes = known();
            routes.noticed(net(name), Via::Device(9), true);
            assert_eq!(todo(&routes), [net(name)], "elsewhere");
        }
    }

    #[test]
    fn an_interface_that_was_switched_off_and_on_has_lost_its_routes() {
        let mut routes = known();
        routes.interface(7);
        assert_eq!(todo(&routes), [net("10.65.0.5/32")]);
    }

    #[test]
    fn the_route_of_a_pod_that_nobody_has_spoken_of_yet_stays_and_costs_nothing() {
        let mut routes = known();
        routes.noticed(net("10.65.0.6/32"), Via::Device(8), true);
        assert_eq!(todo(&routes), []);
        routes.invalidate();
        routes.actual = Some([(net("10.65.0.6/32"), Via::Device(8))].into());
        let desired = Desired::default();
        assert_eq!(steps(routes.actual.as_ref().unwrap(), &desired), []);
        let stranger = [(net("10.65.9.0/24"), gateway("192.0.2.9"))].into();
        assert_eq!(steps(&stranger, &desired).len(), 1, "but not one to a node that is gone");
    }

    /// Of its sandbox before this one, whose interface had the same name: another pod may get that address.
    #[test]
    fn a_route_of_a_known_pods_interface_to_an_address_that_is_not_the_pods_goes() {
        let actual: BTreeMap<_, _> = [("10.65.0.5/32", 7), ("10.65.0.4/32", 7), ("10.65.0.6/32", 8)]
            .map(|(name, index)| (net(name), Via::Device(index)))
            .into();
        let routes = [(net("10.65.0.5/32"), Via::Device(7))].into();
        let desired = Desired { routes, pods: [7].into(), ..Desired::default() };
        let gone = Step { net: net("10.65.0.4/32"), found: Some(Via::Device(7)), wanted: None };
        assert_eq!(steps(&actual, &desired), [gone]);
    }
}
