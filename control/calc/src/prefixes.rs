//! Which of the prefixes that Nodes claim for their pods are theirs.
//!
//! Owns: the judgement. Does not: make routes or know pods.
//! Invariant: a prefix that would take a node's own addresses, or everybody's, away is nobody's. One of two Nodes is in the
//! wrong where one's prefix has the other's address or meets the other's prefix; it is the younger one, and the older keeps
//! what it has. All nodes judge alike, so that they lead a pod's packets to one place.

use crate::conflicts::{Conflict, Conflicts, Contested};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use tortie_model::node::Node;
use tortie_model::{NodeName, ObjectId};

/// A Node and a prefix of it.
type Claim = (NodeName, IpNet);

/// The prefixes that are refused, each with whoever has what it would take; `None`: it is every address there is.
#[derive(Debug, Default)]
pub(crate) struct Prefixes {
    refused: BTreeMap<Claim, Option<ObjectId>>,
}

impl Prefixes {
    /// Judges all; gives the Nodes of which another judgement has been made.
    pub(crate) fn judge(
        &mut self,
        here: &NodeName,
        own: &[IpNet],
        nodes: &BTreeMap<NodeName, Node>,
        conflicts: &mut Conflicts,
    ) -> BTreeSet<NodeName> {
        let hosts = Hosts::of(nodes);
        let (mut refused, mut given) = (BTreeMap::new(), Given::default());
        let mut by_age: Vec<(&NodeName, &Node)> = nodes.iter().collect();
        by_age.sort_by_key(|(_, node)| node.created);
        for (name, node) in by_age {
            let own = if name == here { &[] } else { own };
            for prefix in node.pod_cidrs.iter().map(IpNet::trunc) {
                let objection = hosts.objection(name, node, prefix, own);
                if let Some(holder) = objection.or_else(|| given.objection(name, prefix)) {
                    refused.insert((name.clone(), prefix), holder);
                } else {
                    given.insert(name, prefix);
                }
            }
        }
        let before = std::mem::replace(&mut self.refused, refused);
        for (name, prefix) in before.keys() {
            conflicts.remove(&Contested::PodPrefix(name.clone(), *prefix));
        }
        for ((name, prefix), winner) in &self.refused {
            let conflict = Conflict { winner: winner.clone(), losers: vec![ObjectId::Node(name.clone())] };
            conflicts.insert(Contested::PodPrefix(name.clone(), *prefix), conflict);
        }
        let differs = |(claim, holder): &(&Claim, &Option<ObjectId>),
                       other: &BTreeMap<Claim, Option<ObjectId>>| {
            other.get(*claim) != Some(*holder)
        };
        let gone = before.iter().filter(|entry| differs(entry, &self.refused));
        let new = self.refused.iter().filter(|entry| differs(entry, &before));
        gone.chain(new).map(|((name, _), _)| name.clone()).collect()
    }

    /// The prefixes of a Node that are its own.
    pub(crate) fn of(&self, name: &NodeName, node: Option<&Node>) -> Vec<IpNet> {
        let prefixes = node.into_iter().flat_map(|node| &node.pod_cidrs).map(IpNet::trunc);
        prefixes.filter(|prefix| !self.refused.contains_key(&(name.clone(), *prefix))).collect()
    }
}

/// The oldest Node of each address.
struct Hosts<'a>(BTreeMap<IpAddr, (i64, &'a NodeName)>);

impl<'a> Hosts<'a> {
    fn of(nodes: &'a BTreeMap<NodeName, Node>) -> Self {
        let mut hosts: BTreeMap<IpAddr, (i64, &NodeName)> = BTreeMap::new();
        for (name, node) in nodes {
            for address in &node.addresses {
                let oldest = hosts.entry(*address).or_insert((node.created, name));
                *oldest = (*oldest).min((node.created, name));
            }
        }
        Self(hosts)
    }

    /// Why a Node may not have the prefix: all it has is in it, or an address of its own, of an older Node, or of this node's
    /// interfaces.
    fn objection(
        &self,
        name: &NodeName,
        node: &Node,
        prefix: IpNet,
        own: &[IpNet],
    ) -> Option<Option<ObjectId>> {
        if prefix.prefix_len() == 0 {
            return Some(None);
        }
        if node.addresses.iter().any(|address| prefix.contains(address)) {
            return Some(Some(ObjectId::Node(name.clone())));
        }
        let mut inside = self.0.range(prefix.network()..=prefix.broadcast()).map(|(_, host)| host);
        if let Some((_, holder)) = inside.find(|(created, _)| *created <= node.created) {
            return Some(Some(ObjectId::Node((*holder).clone())));
        }
        // An address without a network, such as those of other plugins' tunnels, takes no packets but its own.
        let mut networks = own.iter().filter(|net| net.prefix_len() < net.max_prefix_len());
        networks.any(|net| prefix.contains(&net.addr())).then_some(Some(ObjectId::OwnAddresses))
    }
}

/// The prefixes of older Nodes. They do not meet; of those of one Node that do, the widest is here.
#[derive(Default)]
struct Given<'a>(BTreeMap<IpNet, &'a NodeName>);

impl<'a> Given<'a> {
    fn insert(&mut self, name: &'a NodeName, prefix: IpNet) {
        if self.around(prefix).is_none() {
            let inside: Vec<IpNet> = self.inside(prefix).map(|(net, _)| net).collect();
            inside.iter().for_each(|net| _ = self.0.remove(net));
            self.0.insert(prefix, name);
        }
    }

    /// The Node that has a prefix around this one or in it.
    fn objection(&self, name: &NodeName, prefix: IpNet) -> Option<Option<ObjectId>> {
        let met = self.around(prefix).into_iter().chain(self.inside(prefix));
        let holder = met.map(|(_, holder)| holder).find(|holder| *holder != name)?;
        Some(Some(ObjectId::Node(holder.clone())))
    }

    fn around(&self, prefix: IpNet) -> Option<(IpNet, &'a NodeName)> {
        let (net, name) = self.0.range(..=prefix).next_back()?;
        net.contains(&prefix).then_some((*net, *name))
    }

    fn inside(&self, prefix: IpNet) -> impl Iterator<Item = (IpNet, &'a NodeName)> {
        self.0
            .range(prefix..)
            .take_while(move |(net, _)| prefix.contains(*net))
            .map(|(net, name)| (*net, *name))
    }
}
