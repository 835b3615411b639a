//! The ways to other nodes, as the host's own stack knows them.
//!
//! Invariant: a way is asked for again after every change of routing, but not more often than bursts of
//! changes deserve.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use tortie_host::netlink::Netlink;
use tortie_reconcile::Way;

use super::devices::Devices;

/// Pause between two rounds of questions when there are many nodes.
const PAUSE: Duration = Duration::from_millis(100);
/// Up to this many nodes, every change is followed at once.
const FEW: usize = 64;

/// Known ways.
pub struct Ways {
    known: BTreeMap<IpAddr, Option<Way>>,
    stale: bool,
    asked: Option<Instant>,
}

impl Ways {
    /// None known.
    pub fn new() -> Self {
        Self { known: BTreeMap::new(), stale: false, asked: None }
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
        wanted: BTreeSet<IpAddr>,
        netlink: &Netlink,
        devices: &Devices,
    ) -> Vec<(IpAddr, Option<Way>)> {
        self.known.retain(|node, _| wanted.contains(node));
        let all = self.due().is_some_and(|due| due <= Instant::now());
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
            if self.known.insert(node, way) != Some(way) {
                changed.push((node, way));
            }
        }
        if all {
            self.stale = false;
            self.asked = Some(Instant::now());
        }
        changed
    }

    /// The way to a node.
    pub fn get(&self, node: &IpAddr) -> Option<Way> {
        self.known.get(node).copied().flatten()
    }
}
