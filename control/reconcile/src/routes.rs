//! The longest-prefix map of addresses, and the next hops it names.
//!
//! Owns: slots of next hops. Does not: find the way to a node; the host does and says so.
//! Invariant: a route names a next hop only after its record is in the kernel, and the record goes only
//! after no route names it, and a while later: flows name it too. Where no way is known, the host's own stack decides. A
//! change costs what it changes, however many nodes there are.

mod wanted;

#[cfg(test)]
mod tests;

use crate::classes::{prefix4, prefix6};
use crate::delta::{DeltaTracker, Now, Part, Written};
use crate::dirty::Dirty;
use crate::kernel::Kernel;
use crate::saved::{Saved, SavedNextHop, put};
use crate::slots::{Slots, Use};
use crate::table::{Table, TableError};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;
use tortie_abi::endpoint::NextHop;
use tortie_abi::maps::NEXT_HOP_SLOTS;
use tortie_abi::route::{self, Kind, flags};
use tortie_abi::{Target, v4, v6};
use tortie_intent::Route;
use tortie_model::{NodeName, WorkloadId};
use tortie_wire::{Be32, Ip4, Ip6};
use wanted::{Wanted, destination};

/// So long the next hop stays of a node that no route leads to any more. Its Node, or an address of it, may be away for a
/// moment, and connections with its pods are none that are over; when it comes back they find what they name. As long as a
/// peer that speaks to somebody who is gone is told so (`TELL_TICKS` of the sweep).
const STAYS: Duration = Duration::from_secs(300);

/// How packets get to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// Interface that leads there.
    pub ifindex: u32,
    /// Largest IP packet that fits, in bytes.
    pub mtu_bytes: u32,
    /// The neighbour on that interface: the node itself or a router.
    pub neighbour: IpAddr,
}

#[derive(Clone, Copy, Debug)]
struct Hop {
    used: Use,
    way: Option<Way>,
}

/// All routes and next hops.
#[derive(Debug)]
pub struct Routes {
    wanted: Wanted,
    pools: BTreeMap<IpNet, bool>,
    dirty: BTreeSet<IpNet>,
    local: BTreeMap<WorkloadId, Target>,
    ways: BTreeMap<IpAddr, Way>,
    hops: BTreeMap<IpAddr, Hop>,
    /// Nodes whose next hop is to be worked out anew.
    changed: BTreeSet<IpAddr>,
    /// Nodes that other nodes have taken the place of since [`Routes::resolve`].
    replaced: BTreeSet<IpAddr>,
    /// Nodes whose next hop goes at this time, when no route in the kernel names it. `None`: time is yet to be read.
    leaving: BTreeMap<IpAddr, Option<Now>>,
    slots: Slots,
    /// Slots have been given out or taken back since they were saved.
    unsaved: bool,
    no_slot: BTreeSet<IpAddr>,
    route4: DeltaTracker<v4::PrefixKey, route::Route>,
    route6: DeltaTracker<v6::PrefixKey, route::Route>,
    next_hop: DeltaTracker<u32, NextHop>,
}

impl Routes {
    /// With the slots that were known before.
    pub fn new(saved: &Saved) -> Self {
        Self::with_slots(saved, Slots::new(NEXT_HOP_SLOTS))
    }

    fn with_slots(saved: &Saved, mut slots: Slots) -> Self {
        let mut hops = BTreeMap::new();
        for hop in &saved.next_hops {
            let used = Use { slot: hop.slot, incarnation: hop.incarnation };
            if slots.adopt(used) {
                hops.insert(hop.address, Hop { used, way: None });
            }
        }
        for (slot, incarnation) in &saved.free_next_hops {
            slots.remember(Use { slot: *slot, incarnation: *incarnation });
        }
        Self {
            wanted: Wanted::default(),
            changed: hops.keys().copied().collect(),
            replaced: BTreeSet::new(),
            leaving: BTreeMap::new(),
            unsaved: true,
            pools: BTreeMap::new(),
            dirty: BTreeSet::new(),
            local: BTreeMap::new(),
            ways: BTreeMap::new(),
            hops,
            slots,
            no_slot: BTreeSet::new(),
            route4: DeltaTracker::new(),
            route6: DeltaTracker::new(),
            next_hop: DeltaTracker::new(),
        }
    }

    /// A route changes.
    pub fn want(&mut self, net: IpNet, route: Option<Route>) {
        let pool = match &route {
            Some(Route::Pool { nat_outgoing }) => Some(*nat_outgoing),
            _ => None,
        };
        if self.pools.get(&net).copied() != pool {
            match pool {
                Some(nat_outgoing) => self.pools.insert(net, nat_outgoing),
                None => self.pools.remove(&net),
            };
            // The flags of everything inside depend on it.
            self.dirty.extend(self.wanted.prefixes().filter(|inner| net.contains(*inner)));
        }
        self.dirty.insert(net);
        let [before, after] = self.wanted.set(net, route);
        if after.is_some() && before != after {
            self.replaced.extend(before);
        }
        self.changed.extend([before, after].into_iter().flatten());
    }

    /// A workload of this node has an endpoint record, another one, or none any more.
    pub fn set_local(&mut self, id: &WorkloadId, target: Option<Target>) {
        if self.local.get(id).copied() == target {
            return;
        }
        match target {
            Some(target) => self.local.insert(id.clone(), target),
            None => self.local.remove(id),
        };
        self.dirty.extend(self.wanted.to_workload(id));
    }

    /// The workloads of this node that have targets.
    pub fn local_workloads(&self) -> Vec<WorkloadId> {
        self.local.keys().cloned().collect()
    }

    /// Addresses whose ways are wanted: every node that a route leads to.
    pub fn destinations(&self) -> BTreeSet<IpAddr> {
        self.wanted.nodes().collect()
    }

    /// Another one whenever [`Routes::destinations`] or [`Routes::remote_prefixes`] may be other ones.
    pub fn version(&self) -> u64 {
        self.wanted.version()
    }

    /// The way to a node; `None`: no way is known.
    pub fn set_way(&mut self, node: IpAddr, way: Option<Way>) {
        if self.ways.get(&node).copied() == way {
            return;
        }
        match way {
            Some(way) => self.ways.insert(node, way),
            None => self.ways.remove(&node),
        };
        self.dirty.extend(self.wanted.to_node(&node));
        self.changed.insert(node);
    }

    /// Prefixes of other nodes' pods with the node and its address: what the host's own stack needs to know.
    pub fn remote_prefixes(&self) -> BTreeMap<IpNet, (NodeName, IpAddr)> {
        self.wanted.remote_pods().collect()
    }

    /// Reads the kernel's side. The first time, records that no name is known for are left to be removed.
    pub fn read(&mut self, kernel: &mut Kernel) -> Result<(), TableError> {
        let records = kernel.next_hop.list()?;
        let known: BTreeSet<u16> = self.hops.values().map(|hop| hop.used.slot).collect();
        for (slot, record) in &records {
            if let Ok(slot) = u16::try_from(*slot) {
                let used = Use { slot, incarnation: record.id.incarnation() };
                if !known.contains(&slot) && self.slots.adopt(used) {
                    self.slots.free(slot);
                    self.unsaved = true;
                }
            }
        }
        self.next_hop.found(records);
        self.route4.found(kernel.route4.list()?);
        self.route6.found(kernel.route6.list()?);
        Ok(())
    }

    /// Takes next hops over that are in the kernel and that no name is known for, since the file may have been lost: each
    /// says its node. Once, before any slot is given out.
    pub fn recover(&mut self, kernel: &mut Kernel) -> Result<(), TableError> {
        for (slot, record) in kernel.next_hop.list()? {
            let Ok(slot) = u16::try_from(slot) else { continue };
            let (used, node) = (Use { slot, incarnation: record.id.incarnation() }, node_of(&record));
            if !self.hops.contains_key(&node) && self.slots.adopt(used) {
                self.hops.insert(node, Hop { used, way: None });
                self.changed.insert(node);
                self.dirty.extend(self.wanted.to_node(&node));
                self.unsaved = true;
            }
        }
        Ok(())
    }

    /// Gives new next hops their slots.
    pub fn allocate(&mut self) {
        self.changed.append(&mut self.no_slot);
        for node in &self.changed {
            let Some(way) = self.ways.get(node).filter(|_| self.wanted.leads_to(node)) else { continue };
            if let Some(hop) = self.hops.get_mut(node) {
                hop.way = Some(*way);
                continue;
            }
            match self.slots.take() {
                Some(used) => {
                    self.hops.insert(*node, Hop { used, way: Some(*way) });
                    self.dirty.extend(self.wanted.to_node(node));
                    self.unsaved = true;
                }
                None => _ = self.no_slot.insert(*node),
            }
        }
    }

    /// Who waits for a slot gets those of the nodes that have been gone for longest.
    fn make_room(&mut self) {
        if self.no_slot.is_empty() {
            return;
        }
        let mut gone: Vec<&mut Option<Now>> = self.leaving.values_mut().collect();
        gone.sort_unstable_by_key(|until| until.unwrap_or(Now::MAX));
        gone.into_iter().take(self.no_slot.len()).for_each(|until| *until = Some(Now::ZERO));
    }

    /// Works out what the tables should hold.
    pub fn resolve(&mut self) {
        for node in std::mem::take(&mut self.changed) {
            let Some(hop) = self.hops.get_mut(&node) else { continue };
            hop.way = self.ways.get(&node).copied().filter(|_| self.wanted.leads_to(&node));
            let slot = u32::from(hop.used.slot);
            if let Some(way) = hop.way {
                self.next_hop.want(slot, Some(record(node, hop.used, &way)));
                self.leaving.remove(&node);
                continue;
            }
            // As it is in the kernel: an agent before this one may have written it.
            let id = Target::next_hop(hop.used.slot, hop.used.incarnation);
            let there = self.next_hop.actual(&slot).copied().filter(|hop| hop.id == id);
            self.next_hop.want(slot, there);
            let until = self.leaving.entry(node).or_insert(None);
            // What its pods' addresses are behind now is not where they were.
            if self.replaced.contains(&node) {
                *until = Some(Now::ZERO);
            }
        }
        self.replaced.clear();
        for net in std::mem::take(&mut self.dirty) {
            let value = self.wanted.get(&net).and_then(|route| self.value(&net, route));
            match net {
                IpNet::V4(net) => self.route4.want(prefix4(net), value),
                IpNet::V6(net) => self.route6.want(prefix6(net), value),
            }
        }
    }

    fn value(&self, net: &IpNet, route: &Route) -> Option<route::Route> {
        let hop = |node: Option<IpAddr>| {
            let hop = node.and_then(|node| self.hops.get(&node)).filter(|hop| hop.way.is_some());
            hop.map_or(Target::HOST, |hop| Target::next_hop(hop.used.slot, hop.used.incarnation))
        };
        let (kind, target) = match route {
            // Without a record the host's own stack has the pod's route, and its programs drop.
            Route::LocalPod(id) => (Kind::LocalPod, *self.local.get(id)?),
            Route::RemotePod { .. } => (Kind::RemotePod, hop(destination(net, route))),
            Route::RemoteHost { .. } => (Kind::RemoteHost, hop(destination(net, route))),
            Route::Host => (Kind::Host, Target::HOST),
            Route::Pool { .. } => (Kind::Pool, Target::HOST),
            Route::Services => (Kind::Services, Target::HOST),
            Route::Blackhole => (Kind::Blackhole, Target::HOST),
        };
        Some(route::Route { target, kind: kind as u8, flags: self.pool_flags(net), _zero: 0 })
    }

    fn pool_flags(&self, net: &IpNet) -> u8 {
        // The longest pool around it; pools do not overlap in practice.
        let around = self.pools.iter().filter(|(pool, _)| pool.contains(net));
        match around.max_by_key(|(pool, _)| pool.prefix_len()) {
            Some((_, true)) => flags::IN_POOL | flags::NAT_OUTGOING,
            Some((_, false)) => flags::IN_POOL,
            None => 0,
        }
    }

    /// Next hops, then the routes whose next hop is there. `ready` says which endpoint records are.
    pub fn write(&mut self, kernel: &mut Kernel, now: Now, ready: impl Fn(Target) -> bool) -> Written {
        let mut written = self.next_hop.apply(&mut kernel.next_hop, Part::Upserts, now, |_, _| true);
        let next_hop = &self.next_hop;
        let admit = |route: Option<&route::Route>| {
            route.is_some_and(|route| match route.target.kind() {
                tortie_abi::target::TargetKind::NextHop => {
                    next_hop.actual(&route.target.slot()).is_some_and(|hop| hop.id == route.target)
                }
                tortie_abi::target::TargetKind::Endpoint => ready(route.target),
                _ => true,
            })
        };
        written += self.route4.apply(&mut kernel.route4, Part::Upserts, now, |_, route| admit(route));
        written += self.route6.apply(&mut kernel.route6, Part::Upserts, now, |_, route| admit(route));
        written
    }

    /// Routes, then the next hops that no route in the kernel names.
    pub fn clean(&mut self, kernel: &mut Kernel, now: Now) -> Written {
        let mut written = self.route4.apply(&mut kernel.route4, Part::Deletes, now, |_, _| true);
        written += self.route6.apply(&mut kernel.route6, Part::Deletes, now, |_, _| true);
        if written.done > 0 {
            self.route4.retry_full();
            self.route6.retry_full();
        }
        written += self.clean_hops(&mut kernel.next_hop, now);
        written
    }

    fn clean_hops(&mut self, table: &mut (impl Table<u32, NextHop> + ?Sized), now: Now) -> Written {
        let mut written = Written::default();
        self.let_go(now);
        if self.next_hop.pending_count() > 0 {
            let named = self.named();
            let free = |slot: &u32, _: Option<&NextHop>| !named.contains(slot);
            written = self.next_hop.apply(table, Part::Deletes, now, free);
        }
        self.free_slots();
        written
    }

    /// Next hops whose time has come are not wanted any more.
    fn let_go(&mut self, now: Now) {
        self.make_room();
        for (node, until) in &mut self.leaving {
            if *until.get_or_insert(now.saturating_add(STAYS)) <= now
                && let Some(hop) = self.hops.get(node)
            {
                self.next_hop.want(u32::from(hop.used.slot), None);
            }
        }
    }

    fn named(&self) -> BTreeSet<u32> {
        let targets4 = self.route4.actual_entries().map(|(_, route)| route.target);
        let targets = targets4.chain(self.route6.actual_entries().map(|(_, route)| route.target));
        let hops = targets.filter(|t| t.kind() == tortie_abi::target::TargetKind::NextHop);
        hops.map(Target::slot).collect()
    }

    fn free_slots(&mut self) {
        let (hops, next_hop, slots) = (&mut self.hops, &self.next_hop, &mut self.slots);
        self.leaving.retain(|node, _| {
            let Some(slot) = hops.get(node).map(|hop| hop.used.slot) else { return false };
            let number = u32::from(slot);
            let is_there = next_hop.actual(&number).is_some() || !next_hop.is_settled(&number);
            if !is_there {
                hops.remove(node);
                slots.free(slot);
                self.unsaved = true;
            }
            is_there
        });
    }

    /// The prefixes of endpoints in the kernel's routes.
    pub fn named_endpoints(&self) -> BTreeSet<u32> {
        let targets4 = self.route4.actual_entries().map(|(_, route)| route.target);
        let targets = targets4.chain(self.route6.actual_entries().map(|(_, route)| route.target));
        targets.filter(|t| t.kind() == tortie_abi::target::TargetKind::Endpoint).map(|t| t.slot()).collect()
    }

    /// What is not as wanted.
    pub fn dirty(&self) -> Vec<Dirty> {
        let full = |node: &IpAddr| Dirty {
            object: format!("next hop {node}"),
            reason: format!(
                "all {NEXT_HOP_SLOTS} slots are taken; its pods are reached through the host's stack"
            ),
            attempts: 1,
        };
        let mut dirty: Vec<Dirty> = self.no_slot.iter().map(full).collect();
        dirty.extend(Dirty::of_tracker("route4", &self.route4));
        dirty.extend(Dirty::of_tracker("route6", &self.route6));
        dirty.extend(Dirty::of_tracker("next_hop", &self.next_hop));
        dirty
    }

    /// When the next failed write may be tried again, or a next hop goes.
    pub fn next_retry(&self) -> Option<Now> {
        let retries = [self.route4.next_retry(), self.route6.next_retry(), self.next_hop.next_retry()];
        retries.into_iter().flatten().chain(self.next_leave()).min()
    }

    fn next_leave(&self) -> Option<Now> {
        let stays = |node: &IpAddr| {
            let slot = self.hops.get(node).map(|hop| u32::from(hop.used.slot));
            slot.is_some_and(|slot| self.next_hop.desired(&slot).is_some())
        };
        self.leaving.iter().filter(|(node, _)| stays(node)).filter_map(|(_, until)| *until).min()
    }

    /// For the file; `false`: it is as it was.
    pub fn save(&mut self, saved: &mut Saved) -> bool {
        if !std::mem::take(&mut self.unsaved) {
            return false;
        }
        let hop = |(node, hop): (&IpAddr, &Hop)| SavedNextHop {
            slot: hop.used.slot,
            incarnation: hop.used.incarnation,
            address: *node,
        };
        let free = self.slots.free_slots().map(|u| (u.slot, u.incarnation)).collect();
        put(&mut saved.next_hops, self.hops.iter().map(hop).collect()) | put(&mut saved.free_next_hops, free)
    }
}

/// The node of a record, as [`record`] writes it; no node has an IPv6 address that ends in zeroes.
fn node_of(hop: &NextHop) -> IpAddr {
    match hop.node {
        Ip6([first, Be32::ZERO, Be32::ZERO, Be32::ZERO]) => IpAddr::V4(Ip4(first).into()),
        node => IpAddr::V6(node.into()),
    }
}

fn record(node: IpAddr, used: Use, way: &Way) -> NextHop {
    let (address4, address6) = match way.neighbour {
        IpAddr::V4(address) => (address.into(), Ip6::default()),
        IpAddr::V6(address) => (Ip4::default(), address.into()),
    };
    NextHop {
        id: Target::next_hop(used.slot, used.incarnation),
        ifindex: way.ifindex,
        mtu_bytes: way.mtu_bytes,
        address4,
        address6,
        node: match node {
            IpAddr::V4(address) => Ip6([Ip4::from(address).0, Be32::ZERO, Be32::ZERO, Be32::ZERO]),
            IpAddr::V6(address) => address.into(),
        },
    }
}
