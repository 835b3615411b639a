//! Where pods' addresses come from.
//!
//! Owns: pools, and what else an address may belong to. Does not: know pods or make routes.
//! Invariant: a pod's word for an address is not enough: its node's prefix or a pool must have it, or, where there is no pool,
//! the kubelet must report it. Whoever may change a pod may write its annotations, and only its kubelet its status.

use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use tortie_model::pool::Pool;
use tortie_model::{ObjectId, RangesId, SliceId};

/// What an address can come from, apart from Nodes' prefixes.
#[derive(Debug, Default)]
pub(crate) struct Origins {
    pools: BTreeMap<Arc<str>, IpNet>,
    services: BTreeMap<RangesId, Vec<IpNet>>,
    /// The API servers, by the slices that say so.
    servers: BTreeMap<SliceId, Vec<IpAddr>>,
    /// This node's interfaces, with their networks.
    own: Vec<IpNet>,
    /// Another one whenever a judgement may be.
    version: u64,
}

/// An address is not a pod's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unfounded {
    /// Whose it is; `None`: nobody's that is known.
    pub(crate) holder: Option<ObjectId>,
}

impl Origins {
    /// Another one whenever [`Origins::judge`] may say something else.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// A pool is as given from now on. A disabled one gives no new addresses; those it gave are still its own.
    pub(crate) fn set_pool(&mut self, name: &Arc<str>, pool: Option<&Pool>) {
        let range = pool.filter(|pool| pool.for_pods).map(|pool| pool.cidr.trunc());
        self.changed(|it| replace(&mut it.pools, name, range));
    }

    /// Services have their addresses from these ranges from now on.
    pub(crate) fn set_services(&mut self, id: &RangesId, nets: &[IpNet]) {
        let nets = (!nets.is_empty()).then(|| nets.to_vec());
        self.changed(|it| replace(&mut it.services, id, nets));
    }

    /// A slice says these addresses of API servers from now on.
    pub(crate) fn set_servers(&mut self, id: &SliceId, addresses: Option<Vec<IpAddr>>) {
        self.changed(|it| replace(&mut it.servers, id, addresses));
    }

    /// This node's interfaces have these addresses from now on.
    pub(crate) fn set_own(&mut self, addresses: Vec<IpNet>) {
        self.changed(|it| {
            it.own != addresses && {
                it.own = addresses;
                true
            }
        });
    }

    /// Where pods have their addresses from.
    pub(crate) fn pools(&self) -> impl Iterator<Item = (&Arc<str>, &IpNet)> {
        self.pools.iter()
    }

    /// Where Services have their addresses from.
    pub(crate) fn services(&self) -> impl Iterator<Item = (&RangesId, IpNet)> {
        self.services.iter().flat_map(|(id, nets)| nets.iter().map(move |net| (id, net.trunc())))
    }

    /// This node's interfaces have these addresses.
    pub(crate) fn own(&self) -> &[IpNet] {
        &self.own
    }

    /// Whether a pod may have the address; `reported`: its kubelet says so.
    pub(crate) fn judge(&self, prefixes: &[IpNet], reported: bool, address: IpAddr) -> Result<(), Unfounded> {
        if prefixes.iter().any(|prefix| prefix.contains(&address)) {
            return Ok(());
        }
        if let Some(holder) = self.holder(address) {
            return Err(Unfounded { holder: Some(holder) });
        }
        match self.is_in_pool(address) {
            Some(true) => Ok(()),
            Some(false) => Err(Unfounded { holder: None }),
            None if self.own.iter().any(|net| net.contains(&address)) => {
                Err(Unfounded { holder: Some(ObjectId::OwnAddresses) })
            }
            None => reported.then_some(()).ok_or(Unfounded { holder: None }),
        }
    }

    /// Whether a pool has the address; `None`: there are no pools of its family.
    pub(crate) fn is_in_pool(&self, address: IpAddr) -> Option<bool> {
        let mut of_family = self.pools.values().filter(|range| range.addr().is_ipv6() == address.is_ipv6());
        let first = of_family.next()?;
        Some(first.contains(&address) || of_family.any(|range| range.contains(&address)))
    }

    /// Services or the API server, whichever has the address.
    fn holder(&self, address: IpAddr) -> Option<ObjectId> {
        let of_services =
            self.services.iter().find(|(_, nets)| nets.iter().any(|net| net.contains(&address)));
        let of_servers = || self.servers.iter().find(|(_, all)| all.contains(&address));
        of_services
            .map(|(id, _)| ObjectId::Ranges(id.clone()))
            .or_else(|| of_servers().map(|(id, _)| ObjectId::Slice(id.clone())))
    }

    fn changed(&mut self, change: impl FnOnce(&mut Self) -> bool) {
        if change(self) {
            self.version = self.version.wrapping_add(1);
        }
    }
}

/// Whether that is something else.
fn replace<K: Ord + Clone, V: PartialEq + Clone>(
    map: &mut BTreeMap<K, V>,
    key: &K,
    value: Option<V>,
) -> bool {
    let before = match value.clone() {
        Some(value) => map.insert(key.clone(), value),
        None => map.remove(key),
    };
    before != value
}
