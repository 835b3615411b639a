//! Ranges of Services that have in them what is no Service's.
//!
//! Owns: what is reported. Does not: refuse them; as with Calico what a range has in it and no Service has is dropped.
//! Invariant: a range is reported exactly while it is every address there is, or a pool or a node's address is in it. One that is
//! the same as another prefix is a conflict of claims.

use crate::conflicts::{Conflict, Conflicts, Contested};
use crate::origins::Origins;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use tortie_model::node::Node;
use tortie_model::{NodeName, ObjectId};

/// What was said of ranges.
#[derive(Debug, Default)]
pub(crate) struct Wide {
    reported: BTreeSet<Contested>,
}

impl Wide {
    /// Judges all ranges.
    pub(crate) fn judge(
        &mut self,
        origins: &Origins,
        nodes: &BTreeMap<NodeName, Node>,
        conflicts: &mut Conflicts,
    ) {
        let mut found = BTreeMap::new();
        for (id, range) in origins.services() {
            if let Some(winner) = inside(range, origins, nodes) {
                let losers = vec![ObjectId::Ranges(id.clone())];
                found.insert(Contested::Range(id.clone(), range), Conflict { winner, losers });
            }
        }
        let before = std::mem::replace(&mut self.reported, found.keys().cloned().collect());
        for key in before.difference(&self.reported) {
            conflicts.remove(key);
        }
        conflicts.extend(found);
    }
}

/// Whoever has something in the range that is no Service's; `Some(None)`: everybody.
fn inside(range: IpNet, origins: &Origins, nodes: &BTreeMap<NodeName, Node>) -> Option<Option<ObjectId>> {
    if range.prefix_len() == 0 {
        return Some(None);
    }
    let pool = origins.pools().find(|(_, pool)| range != **pool && range.contains(*pool));
    if let Some((name, _)) = pool {
        return Some(Some(ObjectId::Pool(name.clone())));
    }
    let is_more = range.prefix_len() < range.max_prefix_len();
    let of_node =
        nodes.iter().find(|(_, node)| is_more && node.addresses.iter().any(|it| range.contains(it)));
    of_node.map(|(name, _)| Some(ObjectId::Node(name.clone())))
}
