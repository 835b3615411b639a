//! Workloads of this node: their records, and the programs on their interfaces.
//!
//! Owns: slots, generations, and when an endpoint is ready. Does not: attach programs or compile policy.
//! Invariant: a record is READY only while both programs are on the interface and both policies are in
//! force; a workload interface without an endpoint carries programs that drop.

mod guards;
mod record;
mod side;

use guards::Guards;
use record::{is_of, others_ready, record, target};
use side::Side;

use crate::delta::{DeltaTracker, Now, Part, Written};
use crate::dirty::{Dirty, Retry};
use crate::generations::Generations;
use crate::kernel::{HookError, Kernel};
use crate::policies::Policies;
use crate::saved::{Saved, SavedEndpoint, put};
use crate::slots::{Slots, Use};
use crate::table::TableError;
use std::collections::{BTreeMap, BTreeSet};
use tortie_abi::Target;
use tortie_abi::endpoint::{Endpoint, NO_PROGRAM, endpoint_flags};
use tortie_abi::maps::ENDPOINT_SLOTS;
use tortie_intent::{Endpoint as Wanted, Rules};
use tortie_model::WorkloadId;

/// The slot whose record stays empty: interfaces with its preamble drop everything.
pub const GUARD_SLOT: u32 = 0;

#[derive(Debug)]
struct State {
    wanted: Wanted,
    used: Use,
    egress: Side,
    ingress: Side,
    /// Interface and index that carry this slot's programs.
    hooked: Option<(String, u32)>,
    retry: Option<Retry>,
}

/// Whether a workload can be let go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Programs and policy are in force, as of this generation.
    Ready {
        /// The greater of its two generations.
        generation: u32,
    },
    /// Not known: no intent for it has come.
    Unknown,
    /// Its policy cannot be known.
    NoPod,
    /// Its interface is not there.
    NoInterface,
    /// Something is yet to be written; why it failed, if it did.
    Waiting(String),
}

/// All workloads of this node.
#[derive(Debug)]
pub struct Endpoints {
    saved: BTreeMap<(WorkloadId, String), Use>,
    wanted: BTreeMap<WorkloadId, Wanted>,
    states: BTreeMap<WorkloadId, State>,
    no_slot: BTreeSet<WorkloadId>,
    slots: Slots,
    generations: Generations,
    guards: Guards,
    records: DeltaTracker<u32, Endpoint>,
}

impl Endpoints {
    /// With the slots and generations that were known before.
    pub fn new(saved: &Saved) -> Self {
        let mut slots = Slots::new(ENDPOINT_SLOTS);
        let mut known = BTreeMap::new();
        for endpoint in &saved.endpoints {
            let used = Use { slot: endpoint.slot, incarnation: endpoint.incarnation };
            if slots.adopt(used) {
                let id = WorkloadId::new(endpoint.namespace.as_str(), endpoint.name.as_str());
                known.insert((id, endpoint.container_id.clone()), used);
            }
        }
        for (slot, incarnation) in &saved.free_endpoints {
            slots.remember(Use { slot: *slot, incarnation: *incarnation });
        }
        Self {
            saved: known,
            wanted: BTreeMap::new(),
            states: BTreeMap::new(),
            no_slot: BTreeSet::new(),
            slots,
            generations: Generations::new(saved.generation_ceiling),
            guards: Guards::default(),
            records: DeltaTracker::new(),
        }
    }

    /// A workload changes.
    pub fn want(&mut self, id: WorkloadId, endpoint: Option<Wanted>) {
        match endpoint {
            Some(endpoint) => self.wanted.insert(id, endpoint),
            None => self.wanted.remove(&id),
        };
    }

    /// The start of workload interfaces' names.
    pub fn set_prefix(&mut self, prefix: &str) {
        self.guards.set_prefix(prefix);
    }

    /// Interfaces that the node itself speaks by: whatever their names, none of them is a workload's.
    pub fn set_nodes_own(&mut self, interfaces: BTreeSet<String>) {
        self.guards.set_nodes_own(interfaces);
    }

    /// Those that were said last.
    pub fn nodes_own(&self) -> &BTreeSet<String> {
        self.guards.nodes_own()
    }

    /// An interface has this index, or is gone.
    pub fn interface(&mut self, name: &str, ifindex: Option<u32>) {
        self.guards.interface(name, ifindex);
        let same = |hooked: &(String, u32)| hooked.0 != name || Some(hooked.1) == ifindex;
        for state in self.states.values_mut() {
            if !state.hooked.as_ref().is_none_or(same) {
                state.hooked = None;
            }
            if state.wanted.interface == name {
                state.retry = None;
            }
        }
    }

    /// Reads the kernel's side.
    pub fn read(&mut self, kernel: &mut Kernel) -> Result<(), TableError> {
        let records = kernel.endpoint.list()?;
        for (slot, record) in &records {
            self.generations.seen(record.egress_generation);
            self.generations.seen(record.ingress_generation);
            let Ok(slot) = u16::try_from(*slot) else { continue };
            // A record without a name: its slot stays away from new workloads until it is removed.
            let used = Use { slot, incarnation: record.id.incarnation() };
            if self.slots.adopt(used) {
                self.slots.free(slot);
            }
        }
        self.records.found(records);
        self.read_hooks(kernel);
        Ok(())
    }

    fn read_hooks(&mut self, kernel: &mut Kernel) {
        let found = match kernel.hooks.list() {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, "the programs on interfaces cannot be listed; they are attached anew");
                Vec::new()
            }
        };
        let by_name: BTreeMap<&str, (u32, u32)> =
            found.iter().map(|(name, ifindex, slot)| (name.as_str(), (*ifindex, *slot))).collect();
        for state in self.states.values_mut() {
            let carried = by_name.get(state.wanted.interface.as_str());
            let ours = carried.filter(|(_, slot)| *slot == u32::from(state.used.slot));
            state.hooked = ours.map(|(ifindex, _)| (state.wanted.interface.clone(), *ifindex));
        }
        let guarded = by_name.iter().filter(|(_, (_, slot))| *slot == GUARD_SLOT);
        self.guards.found(guarded.map(|(name, (ifindex, _))| ((*name).to_owned(), *ifindex)).collect());
    }

    /// Looks for records in the kernel that no name is known for: the file may have been lost. Whose record it is beyond
    /// doubt goes on with it; nobody else gets its slot while the record is there. Once, before any slot is given out.
    pub fn recover(&mut self, kernel: &mut Kernel) -> Result<(), TableError> {
        let records = kernel.endpoint.list()?;
        let mut owners: BTreeMap<u32, (&WorkloadId, &Wanted)> = BTreeMap::new();
        for (id, wanted) in &self.wanted {
            if let Some(ifindex) = self.guards.index(&wanted.interface) {
                owners.insert(ifindex, (id, wanted));
            }
        }
        let mut incarnation = 0;
        for (slot, record) in &records {
            incarnation = incarnation.max(record.id.incarnation());
            let Ok(slot) = u16::try_from(*slot) else { continue };
            let used = Use { slot, incarnation: record.id.incarnation() };
            if !self.slots.adopt(used) {
                continue;
            }
            let owner =
                owners.get(&record.ifindex).filter(|(_, wanted)| is_of(record, wanted, record.ifindex));
            if let Some((id, wanted)) = owner {
                self.saved.entry(((*id).clone(), wanted.container_id.clone())).or_insert(used);
            }
        }
        let generations = records.iter().flat_map(|(_, r)| [r.egress_generation, r.ingress_generation]);
        if self.generations.found(generations) {
            tracing::warn!(
                from = self.generations.last(),
                "the saved policy generations are not those of this node; others begin far from those in use"
            );
            self.slots.forgot(incarnation);
        }
        Ok(())
    }

    /// Gives new workloads their slots; one that was set up anew is a new one.
    pub fn allocate(&mut self) {
        self.no_slot.clear();
        let gone = |(id, state): (&WorkloadId, &State)| {
            let same = self.wanted.get(id).is_some_and(|w| w.container_id == state.wanted.container_id);
            (!same).then(|| id.clone())
        };
        for id in self.states.iter().filter_map(gone).collect::<Vec<_>>() {
            self.states.remove(&id);
        }
        for (id, wanted) in &self.wanted {
            if let Some(state) = self.states.get_mut(id) {
                state.wanted = wanted.clone();
                continue;
            }
            let known = self.saved.remove(&(id.clone(), wanted.container_id.clone()));
            let Some(used) = known.or_else(|| self.slots.take()) else {
                self.no_slot.insert(id.clone());
                continue;
            };
            let state = State {
                wanted: wanted.clone(),
                used,
                egress: Side::default(),
                ingress: Side::default(),
                hooked: None,
                retry: None,
            };
            self.states.insert(id.clone(), state);
        }
        self.generations.reserve(self.states.len().saturating_mul(4).saturating_add(64));
    }

    /// Records of workloads that are gone are no longer READY before their interfaces carry another's
    /// programs. A slot is free for others only when the record is gone.
    fn retire(&mut self) {
        let used: BTreeSet<u32> = self.states.values().map(|state| u32::from(state.used.slot)).collect();
        let ready = |(slot, record): (&u32, &Endpoint)| {
            let retired = Endpoint { flags: record.flags & !endpoint_flags::READY, ..*record };
            (!used.contains(slot) && retired != *record).then_some((*slot, retired))
        };
        for (slot, record) in self.records.actual_entries().filter_map(ready).collect::<Vec<_>>() {
            self.records.want(slot, Some(record));
        }
    }

    /// What was in force before the agent started goes on where it fits. Once, after [`Policies::adopt`].
    pub fn adopt(&mut self, kernel: &mut Kernel, policies: &Policies) -> Result<(), TableError> {
        self.read(kernel)?;
        for state in self.states.values_mut() {
            let Some(record) = self.records.actual(&u32::from(state.used.slot)) else { continue };
            if record.id == target(state.used) {
                let wanted = &state.wanted;
                state.egress.adopt(wanted.egress, record.egress_program, record.egress_generation, policies);
                state.ingress.adopt(
                    wanted.ingress,
                    record.ingress_program,
                    record.ingress_generation,
                    policies,
                );
            }
        }
        Ok(())
    }

    /// Works out what the records should be, from what is in force by now, and writes them.
    pub fn write(&mut self, kernel: &mut Kernel, policies: &Policies, now: Now) -> Written {
        self.retire();
        for state in self.states.values_mut() {
            state.egress.advance(state.wanted.egress, policies, &mut self.generations);
            state.ingress.advance(state.wanted.ingress, policies, &mut self.generations);
            let ifindex = self.guards.index(&state.wanted.interface);
            self.records.want(u32::from(state.used.slot), Some(record(state, ifindex, policies)));
        }
        self.records.apply(&mut kernel.endpoint, Part::Upserts, now, |_, _| true)
    }

    /// Puts the programs on interfaces that do not carry them yet.
    pub fn attach(&mut self, kernel: &mut Kernel, now: Now) -> Written {
        let mut written = Written::default();
        for state in self.states.values_mut() {
            let Some(ifindex) = self.guards.index(&state.wanted.interface) else {
                state.hooked = None;
                continue;
            };
            let name = &state.wanted.interface;
            let there = state.hooked.as_ref().is_some_and(|(n, i)| n == name && *i == ifindex);
            let slot = u32::from(state.used.slot);
            if there
                || others_ready(&self.records, ifindex, slot)
                || state.retry.as_ref().is_some_and(|retry| retry.at > now)
            {
                continue;
            }
            match kernel.hooks.attach(name, ifindex, u32::from(state.used.slot)) {
                Ok(()) => {
                    state.hooked = Some((name.clone(), ifindex));
                    state.retry = None;
                    self.guards.forget(name);
                    written.done += 1;
                }
                // The message that it is gone is on its way.
                Err(HookError::Gone) => {}
                Err(error) => {
                    state.retry = Some(Retry::after(state.retry.take(), error.to_string(), now));
                    written.failed += 1;
                }
            }
        }
        let owned = self.states.values().map(|state| state.wanted.interface.as_str()).collect();
        let is_needed = |ifindex| others_ready(&self.records, ifindex, GUARD_SLOT);
        written += self.guards.attach(kernel, &owned, is_needed, now);
        written
    }

    /// Interfaces that should carry programs of ours in both directions, by name.
    pub fn hooked(&self) -> BTreeMap<&str, u32> {
        let states = self.states.values().filter_map(|state| state.hooked.as_ref());
        let guarded = self.guards.guarded().iter().map(|(name, ifindex)| (name.as_str(), *ifindex));
        states.map(|(name, ifindex)| (name.as_str(), *ifindex)).chain(guarded).collect()
    }

    /// Somebody took programs off an interface: they are put back before anything else changes, so that what
    /// still works goes on. Where that fails, [`Endpoints::attach`] tries again.
    pub fn put_back(&mut self, kernel: &mut Kernel, name: &str) -> Result<(), HookError> {
        let on = |state: &&mut State| state.hooked.as_ref().is_some_and(|(hooked, _)| hooked == name);
        let state = self.states.values_mut().find(on);
        let slot = state.as_ref().map_or(GUARD_SLOT, |state| u32::from(state.used.slot));
        let hooked = state.as_ref().and_then(|state| state.hooked.as_ref().map(|(_, ifindex)| *ifindex));
        let Some(ifindex) = hooked.or_else(|| self.guards.guarded().get(name).copied()) else {
            return Ok(());
        };
        let result = kernel.hooks.attach(name, ifindex, slot);
        if result.is_err() {
            if let Some(state) = state {
                state.hooked = None;
            }
            self.guards.forget(name);
        }
        result
    }

    /// Empties the records of workloads that are gone; not those that routes in the kernel name, which `named` says.
    pub fn clean(&mut self, kernel: &mut Kernel, named: impl FnOnce() -> BTreeSet<u32>, now: Now) -> Written {
        let used: BTreeSet<u32> = self.states.values().map(|state| u32::from(state.used.slot)).collect();
        let desired = self.records.desired_entries().map(|(slot, _)| *slot);
        let known: BTreeSet<u32> =
            desired.chain(self.records.actual_entries().map(|(slot, _)| *slot)).collect();
        let gone: Vec<u32> = known.difference(&used).copied().collect();
        for slot in &gone {
            self.records.want(*slot, None);
        }
        let named = if self.records.pending_count() > 0 { named() } else { BTreeSet::new() };
        let free = |slot: &u32, _: Option<&Endpoint>| !named.contains(slot);
        let written = self.records.apply(&mut kernel.endpoint, Part::Deletes, now, free);
        for slot in gone {
            if self.records.actual(&slot).is_none() {
                self.release(slot);
            }
        }
        self.forget_saved();
        written
    }

    fn release(&mut self, slot: u32) {
        if let Ok(slot) = u16::try_from(slot) {
            self.slots.free(slot);
        }
    }

    /// Workloads of the file that nobody wants any more.
    fn forget_saved(&mut self) {
        for (_, used) in std::mem::take(&mut self.saved) {
            if self.records.actual(&u32::from(used.slot)).is_none() {
                self.slots.free(used.slot);
            }
        }
    }

    /// Slots of policy programs that records in the kernel name.
    pub fn named_programs(&self) -> BTreeSet<u32> {
        let named = self.records.actual_entries().flat_map(|(_, r)| [r.egress_program, r.ingress_program]);
        named.filter(|slot| *slot != NO_PROGRAM).collect()
    }

    /// The targets of all workloads that have a record.
    pub fn targets(&self) -> BTreeMap<WorkloadId, Target> {
        self.states.iter().map(|(id, state)| (id.clone(), target(state.used))).collect()
    }

    /// The record of this target is in the kernel.
    pub fn is_written(&self, target: Target) -> bool {
        self.records.actual(&target.slot()).is_some_and(|record| record.id == target)
    }

    /// Whether a workload can be let go.
    pub fn readiness(&self, id: &WorkloadId, policies: &Policies) -> Readiness {
        let Some(state) = self.states.get(id) else {
            return match self.no_slot.contains(id) {
                true => Readiness::Waiting(format!("all {ENDPOINT_SLOTS} endpoint slots are taken")),
                false => Readiness::Unknown,
            };
        };
        let wanted = &state.wanted;
        if wanted.egress == Rules::Unknown || wanted.ingress == Rules::Unknown {
            return Readiness::NoPod;
        }
        if self.guards.index(&wanted.interface).is_none() {
            return Readiness::NoInterface;
        }
        let slot = u32::from(state.used.slot);
        let in_force = state.hooked.is_some()
            && state.egress.is_settled(wanted.egress, policies)
            && state.ingress.is_settled(wanted.ingress, policies)
            && self.records.is_settled(&slot)
            && self.records.actual(&slot).is_some_and(|record| record.flags & endpoint_flags::READY != 0);
        match (in_force, &state.retry) {
            (true, _) => {
                Readiness::Ready { generation: state.egress.generation.max(state.ingress.generation) }
            }
            (false, Some(retry)) => Readiness::Waiting(retry.error.clone()),
            (false, None) => Readiness::Waiting(String::new()),
        }
    }

    /// How many workloads are wanted here, and how many of them are ready.
    pub fn counts(&self, policies: &Policies) -> (usize, usize) {
        let ready = |id: &&WorkloadId| matches!(self.readiness(id, policies), Readiness::Ready { .. });
        (self.wanted.len(), self.wanted.keys().filter(ready).count())
    }

    /// Container id of a workload, when it is known.
    pub fn container_id(&self, id: &WorkloadId) -> Option<&str> {
        self.wanted.get(id).map(|wanted| wanted.container_id.as_str())
    }

    /// The last generation handed out.
    pub fn generation(&self) -> u32 {
        self.generations.last()
    }

    /// What is not as wanted. A missing Pod or interface is not for the data plane to mend.
    pub fn dirty(&self, policies: &Policies) -> Vec<Dirty> {
        let mut dirty = Vec::new();
        for id in self.wanted.keys() {
            if let Readiness::Waiting(reason) = self.readiness(id, policies) {
                let attempts = self.states.get(id).and_then(|s| s.retry.as_ref()).map_or(0, |r| r.attempts);
                dirty.push(Dirty { object: format!("endpoint {id}"), reason, attempts });
            }
        }
        dirty.extend(self.guards.dirty());
        dirty.extend(Dirty::of_tracker("endpoint slot", &self.records));
        dirty
    }

    /// When the next failed write may be tried again.
    pub fn next_retry(&self) -> Option<Now> {
        let hooks = self.states.values().filter_map(|state| state.retry.as_ref());
        let retries = hooks.chain(self.guards.retries()).map(|retry| retry.at);
        retries.chain(self.records.next_retry()).min()
    }

    /// For the file; `false`: it is as it was.
    pub fn save(&self, saved: &mut Saved) -> bool {
        let one = |id: &WorkloadId, container: &str, interface: &str, used: Use| SavedEndpoint {
            slot: used.slot,
            incarnation: used.incarnation,
            namespace: id.namespace.to_string(),
            name: id.name.to_string(),
            container_id: container.to_owned(),
            interface: interface.to_owned(),
        };
        let known = self.saved.iter().map(|((id, container), used)| one(id, container, "", *used));
        let states = self.states.iter();
        let current = states.map(|(id, s)| one(id, &s.wanted.container_id, &s.wanted.interface, s.used));
        let free = self.slots.free_slots().map(|used| (used.slot, used.incarnation)).collect();
        put(&mut saved.endpoints, current.chain(known).collect())
            | put(&mut saved.free_endpoints, free)
            | put(&mut saved.generation_ceiling, self.generations.ceiling())
    }
}
