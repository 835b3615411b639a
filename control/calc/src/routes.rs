//! Whose every address is.
//!
//! Owns: routes of pods, nodes and pools, and the conflicts between them. Does not: know endpoints' rules.
//! Invariant: one route for a prefix, the best claimant's; a conflict is reported while it lasts.

use crate::claims::Claims;
use crate::conflicts::{Conflict, Conflicts, Contested};
use crate::origins::{Origins, Unfounded};
use crate::outbox::{Outbox, Phase};
use crate::pods::Pod;
use crate::prefixes::Prefixes;
use crate::wide::Wide;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use tortie_intent::{Intent, Route};
use tortie_model::node::Node;
use tortie_model::pool::Pool;
use tortie_model::workload::Workload;
use tortie_model::{NodeName, ObjectId, RangesId, SliceId, WorkloadId};

/// Why somebody claims a prefix; the first wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Host,
    LocalPod,
    /// Pods of this node have routes of their own. Nobody else may have the prefix; a pool that is no wider keeps its route.
    OwnPodCidr,
    RemoteHost,
    /// No route: a pod elsewhere whose address its node's prefix says. Who is outside of its node's prefixes does not get
    /// it; pods of one node that follow each other may both have it for a moment, as their kubelet reports.
    PodOfPrefix,
    /// As above, of a pod whose kubelet does not report the address: it has it alone or not at all.
    UnreportedPodOfPrefix,
    RemotePod,
    /// As above, of a pod whose kubelet does not report the address: another pod's word is better.
    UnreportedPod,
    RemotePodCidr,
    /// As a pool says of its prefix something else than whose it is: shadowed by all others without a conflict.
    Services,
    /// As above; a pool around Services still says the same of its other addresses.
    Pool,
}

impl Rank {
    const fn is_background(self) -> bool {
        matches!(self, Self::Services | Self::Pool)
    }

    /// It is about one address.
    const fn is_address(self) -> bool {
        match self {
            Self::Host | Self::LocalPod | Self::RemoteHost => true,
            Self::PodOfPrefix | Self::UnreportedPodOfPrefix => true,
            Self::RemotePod | Self::UnreportedPod => true,
            Self::OwnPodCidr | Self::RemotePodCidr | Self::Services | Self::Pool => false,
        }
    }
}

/// Who claims: of one rank the older comes first, and of one age the smaller name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Claimant {
    rank: Rank,
    /// When a Node was made, in seconds; 0 of everything else.
    created: i64,
    id: ObjectId,
}

impl Claimant {
    const fn of(rank: Rank, id: ObjectId) -> Self {
        Self { rank, created: 0, id }
    }
}

/// All routes.
#[derive(Debug)]
pub(crate) struct Routes {
    here: NodeName,
    nodes: BTreeMap<NodeName, Node>,
    /// Addresses, prefixes or ages of Nodes have changed, or this node's interfaces.
    nodes_differ: bool,
    prefixes: Prefixes,
    origins: Origins,
    wide: Wide,
    /// Up to which version of the origins the claims of pods are right.
    judged: u64,
    /// How often this node's prefixes have changed.
    own_prefixes: u64,
    /// Pods on each other node.
    pods_on: BTreeMap<NodeName, BTreeMap<WorkloadId, Arc<Workload>>>,
    /// The other node that a pod is in `pods_on` of.
    node_of: BTreeMap<WorkloadId, NodeName>,
    /// Pods that are said to be here and are not attached.
    unattached: BTreeSet<WorkloadId>,
    /// Pods of which it may have changed whether their addresses are theirs.
    doubtful: BTreeSet<WorkloadId>,
    claims: Claims<IpNet, Claimant, Option<Route>>,
    claimed: BTreeMap<Claimant, Box<[IpNet]>>,
    dirty: BTreeSet<IpNet>,
    /// Nodes that have changed.
    touched: BTreeSet<NodeName>,
    said: BTreeMap<IpNet, Route>,
}

impl Routes {
    /// Of the node `here`.
    pub(crate) fn new(here: NodeName) -> Self {
        Self {
            here,
            nodes: BTreeMap::new(),
            nodes_differ: false,
            prefixes: Prefixes::default(),
            origins: Origins::default(),
            wide: Wide::default(),
            judged: 0,
            own_prefixes: 0,
            pods_on: BTreeMap::new(),
            node_of: BTreeMap::new(),
            unattached: BTreeSet::new(),
            doubtful: BTreeSet::new(),
            claims: Claims::default(),
            claimed: BTreeMap::new(),
            dirty: BTreeSet::new(),
            touched: BTreeSet::new(),
            said: BTreeMap::new(),
        }
    }

    /// How many nodes there are.
    pub(crate) fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// A pool is as given from now on.
    pub(crate) fn set_pool(&mut self, name: Arc<str>, pool: Option<Pool>) {
        self.origins.set_pool(&name, pool.as_ref());
        let wanted =
            pool.map(|pool| (pool.cidr.trunc(), Some(Route::Pool { nat_outgoing: pool.nat_outgoing })));
        self.claim(Claimant::of(Rank::Pool, ObjectId::Pool(name)), wanted.into_iter().collect());
    }

    /// Services have their addresses from these ranges from now on.
    pub(crate) fn set_ranges(&mut self, id: RangesId, nets: Vec<IpNet>) {
        self.origins.set_services(&id, &nets);
        let wanted = nets.into_iter().map(|net| (net, Some(Route::Services))).collect();
        self.claim(Claimant::of(Rank::Services, ObjectId::Ranges(id)), wanted);
    }

    /// A slice says these addresses of API servers from now on; `None`: it does not.
    pub(crate) fn set_servers(&mut self, id: &SliceId, addresses: Option<Vec<IpAddr>>) {
        self.origins.set_servers(id, addresses);
    }

    /// This node's interfaces have these addresses from now on.
    pub(crate) fn set_own(&mut self, addresses: Vec<IpNet>) {
        self.origins.set_own(addresses);
        self.nodes_differ = true;
        let said = self.nodes.get(&self.here).map(|node| node.addresses.clone());
        self.claim_own(&said.unwrap_or_default());
    }

    /// What is on its interfaces is this node's as well as what its Node says.
    fn claim_own(&mut self, said: &[IpAddr]) {
        let all = said.iter().copied().chain(self.origins.own().iter().flat_map(taken_in));
        let wanted = all.map(|address| (IpNet::from(address), Some(Route::Host))).collect();
        self.claim(Claimant::of(Rank::Host, ObjectId::Node(self.here.clone())), wanted);
    }

    /// A node is as given from now on.
    pub(crate) fn set_node(&mut self, name: &NodeName, node: Option<Node>) {
        let before = match node {
            Some(node) => self.nodes.insert(name.clone(), node),
            None => self.nodes.remove(name),
        };
        let before = before.as_ref();
        let now = self.nodes.get(name);
        let of_routes = |node: &Node| (node.addresses.clone(), node.pod_cidrs.clone(), node.created);
        self.nodes_differ |= before.map(of_routes) != now.map(of_routes);
        let created = now.map(|node| node.created).unwrap_or_default();
        if let Some(before) = before.map(|node| node.created).filter(|it| *it != created) {
            for rank in [Rank::RemoteHost, Rank::RemotePodCidr] {
                let claimant = Claimant { rank, created: before, id: ObjectId::Node(name.clone()) };
                self.claim(claimant, BTreeMap::new());
            }
        }
        self.touched.insert(name.clone());
        self.claim_node(name);
    }

    /// What a Node and its pods have, with those prefixes of it that are its own.
    fn claim_node(&mut self, name: &NodeName) {
        let node = self.nodes.get(name).cloned().unwrap_or_default();
        let prefixes = self.prefixes.of(name, Some(&node));
        let id = ObjectId::Node(name.clone());
        if *name == self.here {
            self.claim_own(&node.addresses);
            let prefixes = prefixes.into_iter().map(|prefix| (prefix, Some(Route::Blackhole))).collect();
            self.claim(Claimant::of(Rank::OwnPodCidr, id), prefixes);
            self.own_prefixes = self.own_prefixes.wrapping_add(1);
            self.doubtful.extend(self.unattached.iter().cloned());
            return;
        }
        let created = node.created;
        let host = Some(Route::RemoteHost { node: name.clone() });
        let hosts = node.addresses.iter().map(|a| (IpNet::from(*a), host.clone())).collect();
        self.claim(Claimant { rank: Rank::RemoteHost, created, id: id.clone() }, hosts);
        let to = |prefix: IpNet| (prefix, Some(remote_pod(name, Some(&node), prefix.addr())));
        let prefixes = prefixes.into_iter().map(to).collect();
        self.claim(Claimant { rank: Rank::RemotePodCidr, created, id }, prefixes);
        let pods: Vec<WorkloadId> =
            self.pods_on.get(name).into_iter().flat_map(BTreeMap::keys).cloned().collect();
        pods.iter().for_each(|pod| self.claim_remote(pod));
        self.doubtful.extend(pods);
    }

    /// Everything has been taken in: judges again what depends on several objects.
    pub(crate) fn settle(&mut self, conflicts: &mut Conflicts) {
        if self.nodes_differ || self.judged != self.origins.version() {
            self.wide.judge(&self.origins, &self.nodes, conflicts);
        }
        if std::mem::take(&mut self.nodes_differ) {
            let others = self.prefixes.judge(&self.here, self.origins.own(), &self.nodes, conflicts);
            others.iter().for_each(|name| self.claim_node(name));
        }
        if self.judged != self.origins.version() {
            self.judged = self.origins.version();
            let pods: Vec<WorkloadId> = self.node_of.keys().cloned().collect();
            pods.iter().for_each(|pod| self.claim_remote(pod));
            self.doubtful.extend(pods);
            self.doubtful.extend(self.unattached.iter().cloned());
        }
    }

    /// Whether a pod's word for an address of its own counts; `reported`: its kubelet says so too.
    pub(crate) fn judge(&self, node: &NodeName, reported: bool, address: IpAddr) -> Result<(), Unfounded> {
        let prefixes = self.prefixes.of(node, self.nodes.get(node));
        self.origins.judge(&prefixes, reported, address)
    }

    /// Another one whenever [`Routes::judge`] may say something else of a pod of this node.
    pub(crate) fn judgement(&self) -> (u64, u64) {
        (self.origins.version(), self.own_prefixes)
    }

    /// Where pods' addresses come from.
    pub(crate) fn origins(&self) -> &Origins {
        &self.origins
    }

    /// Whether an address that a pod says is its own, and not another's. `said`: by this Pod; `None`: it is attached here,
    /// and has it.
    pub(crate) fn is_held(&self, id: &WorkloadId, said: Option<&Workload>, address: IpAddr) -> bool {
        let exists = |node: &NodeName| *node == self.here || self.nodes.contains_key(node);
        let is_founded = |said: &Workload| {
            let node = said.node.as_ref().filter(|node| exists(node));
            node.is_some_and(|node| self.judge(node, said.reported, address).is_ok())
        };
        if !said.is_none_or(is_founded) {
            return false;
        }
        let net = IpNet::from(address);
        let mut claimants = self.claims.claimants(&net).filter(|it| it.rank.is_address());
        let Some(first) = claimants.next() else { return true };
        let is_its = |claimant: &Claimant| match &claimant.id {
            ObjectId::Workload(who) | ObjectId::Attachment(who) => who == id,
            _ => false,
        };
        is_its(first)
            || (first.rank == Rank::PodOfPrefix && claimants.any(|it| it.rank == first.rank && is_its(it)))
    }

    /// Pods of which [`Routes::is_held`] may say something else since this was last asked.
    pub(crate) fn take_doubtful(&mut self) -> BTreeSet<WorkloadId> {
        let mut doubtful = std::mem::take(&mut self.doubtful);
        if !self.dirty.is_empty() {
            doubtful.extend(self.unattached.iter().cloned());
        }
        let claimants = self.dirty.iter().flat_map(|net| self.claims.claimants(net));
        doubtful.extend(claimants.filter_map(|claimant| match &claimant.id {
            ObjectId::Workload(id) | ObjectId::Attachment(id) => Some(id.clone()),
            _ => None,
        }));
        doubtful
    }

    /// A pod is as given from now on; `None`: gone.
    pub(crate) fn set_pod(&mut self, id: &WorkloadId, pod: Option<&Pod>) {
        let attached = pod.and_then(|pod| pod.attachment.as_ref());
        let local = attached.iter().flat_map(|attachment| &attachment.addresses);
        let local = local.map(|address| (IpNet::from(*address), Some(Route::LocalPod(id.clone()))));
        self.claim(Claimant::of(Rank::LocalPod, ObjectId::Attachment(id.clone())), local.collect());

        if let Some(old) = self.node_of.remove(id)
            && let Some(pods) = self.pods_on.get_mut(&old)
        {
            pods.remove(id);
            if pods.is_empty() {
                self.pods_on.remove(&old);
            }
        }
        let workload = pod.and_then(Pod::networked);
        match attached.is_none() && workload.is_some_and(|w| w.node.as_ref() == Some(&self.here)) {
            true => self.unattached.insert(id.clone()),
            false => self.unattached.remove(id),
        };
        let elsewhere = workload.and_then(|w| w.node.clone()).filter(|node| *node != self.here);
        if let (Some(workload), Some(node)) = (workload, elsewhere) {
            self.node_of.insert(id.clone(), node.clone());
            self.pods_on.entry(node).or_default().insert(id.clone(), workload.clone());
        }
        self.claim_remote(id);
    }

    /// Ends a flush: says what changed and reports conflicts.
    pub(crate) fn finish(&mut self, out: &mut Outbox, conflicts: &mut Conflicts) {
        for net in std::mem::take(&mut self.dirty) {
            self.report(net, conflicts);
            let route = self.route(&net).cloned();
            if self.said.get(&net) == route.as_ref() {
                continue;
            }
            match &route {
                Some(route) => _ = self.said.insert(net, route.clone()),
                None => _ = self.said.remove(&net),
            }
            let phase = match route {
                Some(Route::LocalPod(_)) => Phase::LocalRoute,
                Some(_) => Phase::Route,
                None => Phase::RouteRemove,
            };
            out.push(phase, Intent::Route(net, route));
        }
        for name in std::mem::take(&mut self.touched) {
            self.report_node(name, conflicts);
        }
        let key = Contested::NoNode(self.here.clone());
        match self.nodes.is_empty() || self.nodes.contains_key(&self.here) {
            true => _ = conflicts.remove(&key),
            false => _ = conflicts.insert(key, Conflict { winner: None, losers: Vec::new() }),
        }
    }

    /// What is in force: the first claim that says a route.
    fn route(&self, net: &IpNet) -> Option<&Route> {
        let mut claims = self.claims.of(net);
        let (first, route) = claims.next()?;
        match first.rank {
            Rank::OwnPodCidr => {
                let around = claims.find(|(claimant, _)| claimant.rank.is_background());
                around.map_or(route, |(_, route)| route).as_ref()
            }
            Rank::PodOfPrefix | Rank::UnreportedPodOfPrefix => {
                claims.find(|(claimant, _)| !claimant.rank.is_address())?.1.as_ref()
            }
            _ => route.as_ref(),
        }
    }

    fn claim(&mut self, claimant: Claimant, wanted: BTreeMap<IpNet, Option<Route>>) {
        let mut claimed = self.claimed.remove(&claimant).unwrap_or_default();
        self.dirty.extend(self.claims.set(&claimant, &mut claimed, wanted));
        if !claimed.is_empty() {
            self.claimed.insert(claimant, claimed);
        }
    }

    /// Routes of a pod elsewhere for those of its addresses that its node's prefixes do not say. A pod whose Node does not
    /// exist has none, and none for what is not its own.
    fn claim_remote(&mut self, id: &WorkloadId) {
        let mut wanted: BTreeMap<Rank, BTreeMap<IpNet, Option<Route>>> = BTreeMap::new();
        if let Some(name) = self.node_of.get(id)
            && let Some(node) = self.nodes.get(name)
            && let Some(workload) = self.pods_on.get(name).and_then(|pods| pods.get(id))
        {
            let (of_prefix, beyond) = match workload.reported {
                true => (Rank::PodOfPrefix, Rank::RemotePod),
                false => (Rank::UnreportedPodOfPrefix, Rank::UnreportedPod),
            };
            let prefixes = self.prefixes.of(name, Some(node));
            for address in &workload.addresses {
                let net = IpNet::from(*address);
                let is_founded = || self.origins.judge(&[], workload.reported, *address).is_ok();
                if prefixes.iter().any(|prefix| prefix.contains(address)) {
                    wanted.entry(of_prefix).or_default().insert(net, None);
                } else if is_founded() {
                    let route = remote_pod(name, Some(node), *address);
                    wanted.entry(beyond).or_default().insert(net, Some(route));
                }
            }
        }
        for rank in [Rank::PodOfPrefix, Rank::UnreportedPodOfPrefix, Rank::RemotePod, Rank::UnreportedPod] {
            let claimant = Claimant::of(rank, ObjectId::Workload(id.clone()));
            self.claim(claimant, wanted.remove(&rank).unwrap_or_default());
        }
    }

    fn report_node(&self, name: NodeName, conflicts: &mut Conflicts) {
        let lacks = |node: &Node| {
            let has = |cidr: &IpNet| node.addresses.iter().any(|a| a.is_ipv6() == cidr.addr().is_ipv6());
            node.addresses.is_empty() || !node.pod_cidrs.iter().all(has)
        };
        let losers = vec![ObjectId::Node(name.clone())];
        let lacking = self.nodes.get(&name).is_some_and(lacks);
        let key = Contested::NoNodeAddress(name);
        match lacking {
            true => _ = conflicts.insert(key, Conflict { winner: None, losers }),
            false => _ = conflicts.remove(&key),
        }
    }

    fn report(&self, net: IpNet, conflicts: &mut Conflicts) {
        let mut all = self.claims.claimants(&net);
        let first = all.next();
        let best = first.map(|first| first.rank);
        let rivals = all.filter(|rival| match best {
            Some(Rank::PodOfPrefix | Rank::UnreportedPodOfPrefix) => {
                rival.rank.is_address() && rival.rank != Rank::PodOfPrefix
            }
            _ => !rival.rank.is_background() || are_pools(rival.rank, best),
        });
        let losers: Vec<ObjectId> = rivals
            .map(|rival| &rival.id)
            .filter(|id| first.is_some_and(|first| first.id != **id))
            .cloned()
            .collect();
        match losers.is_empty() {
            true => _ = conflicts.remove(&Contested::Prefix(net)),
            false => {
                let winner = first.map(|first| first.id.clone());
                conflicts.insert(Contested::Prefix(net), Conflict { winner, losers });
            }
        }
    }
}

/// Two pools of one prefix, whose words about it may differ.
fn are_pools(rank: Rank, first: Option<Rank>) -> bool {
    rank == Rank::Pool && first == Some(Rank::Pool)
}

fn remote_pod(name: &NodeName, node: Option<&Node>, like: IpAddr) -> Route {
    let mut addresses = node.into_iter().flat_map(|node| &node.addresses);
    let next_hop = addresses.find(|address| address.is_ipv6() == like.is_ipv6()).copied();
    Route::RemotePod { node: name.clone(), next_hop }
}

/// What the kernel takes in for an address of an interface: itself, and what means everybody on its network, or in IPv6 the
/// routers there.
fn taken_in(own: &IpNet) -> impl Iterator<Item = IpAddr> + use<> {
    let everybody = match own {
        IpNet::V4(net) => (net.prefix_len() < 31).then(|| net.broadcast().into()),
        IpNet::V6(net) => (net.prefix_len() < 127).then(|| net.network().into()),
    };
    std::iter::once(own.addr()).chain(everybody)
}
