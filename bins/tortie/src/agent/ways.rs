//! The ways to other nodes, as the host's own stack knows them.
//!
//! Invariant: a way is asked for again after every change of routing, but not more often than bursts of
//! changes deserve. One that the stack has lost stays the last one known: a link goes down and comes back, an address is
//! renewed, and what waits for that is no connection that is over.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use tortie_host::netlink::Netlink;
use tortie_reconcile::{Reconciler, Way};

use super::devices::Devices;

/// Pause between two rounds of questions when there are many nodes.
const PAUSE: Duration = Duration::from_millis(100);
/// Up to this many nodes, every change is followed at once.
const FEW: usize = 64;

/// Known ways.
pub struct Ways {
    known: BTreeMap<IpAddr, Option<Way>>,
    /// Those that the stack has lost.
    lost: BTreeSet<IpAddr>,
    /// Of the routes that they are known for.
    routes: Option<u64>,
    /// Counts changes of them.
    version: u64,
    stale: bool,
    asked: Option<Instant>,
}

impl Ways {
    /// None known.
    pub fn new() -> Self {
        Self {
            known: BTreeMap::new(),
            lost: BTreeSet::new(),
            routes: None,
            version: 0,
            stale: false,
            asked: None,
        }
    }

    /// Routing has changed.
    pub fn invalidate(&mut self) {
        self.stale = true;
    }

    /// When stale ways are due.
    pub fn due(&self) -> Option<Instant> {
        let asked = self.asked.filter(|_| self.known.len() > FEW);
        self.stale.then(|| asked.map_or_else(Instant::now, |asked| asked + PAUSE))
    }

    /// Asks for what is missing or due; gives what has changed.
    pub async fn refresh(
        &mut self,
        reconciler: &Reconciler,
        netlink: &Netlink,
        devices: &Devices,
    ) -> Vec<(IpAddr, Option<Way>)> {
        let routes = Some(reconciler.routes_version());
        let all = self.due().is_some_and(|due| due <= Instant::now());
        if !all && self.routes == routes {
            return Vec::new();
        }
        self.routes = routes;
        let wanted = reconciler.destinations();
        self.known.retain(|node, _| wanted.contains(node));
        self.lost.retain(|node| wanted.contains(node));
        let mut changed = Vec::new();
        for node in wanted {
            if !all && self.known.contains_key(&node) {
                continue;
            }
            let way = match netlink.reach(node).await {
                Ok(reach) => reach.and_then(|reach| {
                    let device = devices.by_index(reach.ifindex)?;
                    Some(Way {
                        ifindex: reach.ifindex,
                        mtu_bytes: device.mtu_bytes,
                        neighbour: reach.neighbour,
                    })
                }),
                Err(error) => {
                    tracing::warn!(%node, %error, "the way to a node is not known");
                    None
                }
            };
            let before = self.known.get(&node).copied().flatten();
            if before.is_some() && way.is_none() {
                self.lost.insert(node);
                continue;
            }
            self.lost.remove(&node);
            if self.known.insert(node, way) != Some(way) {
                changed.push((node, way));
            }
        }
        if all {
            self.stale = false;
            self.asked = Some(Instant::now());
        }
        self.version = self.version.wrapping_add(changed.len() as u64);
        changed
    }

    /// Another one whenever a way is.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Nodes that the host's own stack has no way to any more.
    pub fn lost(&self) -> impl Iterator<Item = &IpAddr> {
        self.lost.iter()
    }

    /// The way to a node.
    pub fn get(&self, node: &IpAddr) -> Option<Way> {
        self.known.get(node).copied().flatten()
    }
}
