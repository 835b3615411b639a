//! Rule lists as programs in slots, and the classes they ask about.
//!
//! Owns: which slot holds which list, what is in force there, and since which version.
//! Does not: load programs, or know endpoints.
//! Invariant: a list is in force only after every class it can meet has its row in it; what cannot be
//! compiled or loaded leaves the last good program in its slot, and the sets it asks about with their members.

mod adopt;
mod clean;

use crate::classes::ClassTables;
use crate::delta::{Now, Written};
use crate::dirty::{Dirty, Retry};
use crate::kernel::Kernel;
use crate::program_name::program_name;
use crate::rules::{RuleIds, action_name, direction_name};
use crate::saved::{Saved, SavedProgram, put};
use crate::table::TableError;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use tortie_abi::counter::Counter;
use tortie_abi::maps::POLICY_SLOTS;
use tortie_abi::policy::NO_RULE;
use tortie_intent::{List, ListId, SetChange, SetId};
use tortie_policy::classes::{ClassChange, ClassId, Classes};
use tortie_policy::compile::{Absorbed, CompileError, CompiledList, Limits, compile};

/// What is in force for a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InForce {
    /// Slot of its program.
    pub slot: u32,
    /// Changes whenever a verdict may have changed.
    pub version: u64,
}

/// Why a list could not be put in force.
enum Refusal {
    /// It does not fit: the same list fits only among other classes, and finding that out takes long.
    Compiler(String),
    /// The kernel has no room now, or another reason that passes.
    Kernel(String),
}

impl From<CompileError> for Refusal {
    fn from(error: CompileError) -> Self {
        Self::Compiler(error.to_string())
    }
}

#[derive(Debug)]
struct Installed {
    slot: u32,
    name: String,
    list: Arc<List>,
    compiled: CompiledList,
    rules: Vec<u32>,
    /// The program that was there before the agent started, unchanged.
    adopted: bool,
}

#[derive(Debug)]
struct ListState {
    wanted: Option<Arc<List>>,
    /// The policies it is made of, as people know them.
    names: String,
    installed: Option<Installed>,
    version: u64,
    /// Members of its sets have changed, and the entries are not all written yet.
    touched: bool,
    retry: Option<Retry>,
    /// The sets under which [`Policies::by_set`] has it.
    indexed: BTreeSet<SetId>,
}

/// All lists of this node.
#[derive(Debug)]
pub struct Policies {
    classes: Classes,
    tables: ClassTables,
    lists: BTreeMap<ListId, ListState>,
    by_set: HashMap<SetId, BTreeSet<ListId>>,
    /// Sets that go with the last list that asks about them.
    departing: BTreeSet<SetId>,
    rules: RuleIds,
    limits: Limits,
    taken: BTreeSet<u32>,
    /// Slots with programs that nothing wants any more.
    leftover: BTreeSet<u32>,
    retired: Vec<ClassId>,
    /// A program that could not be taken away.
    clean_retry: Option<Retry>,
    versions: u64,
}

impl Policies {
    /// With the ids that were known before.
    pub fn new(saved: &Saved) -> Self {
        Self {
            classes: Classes::new(),
            tables: ClassTables::default(),
            lists: BTreeMap::new(),
            by_set: HashMap::new(),
            departing: BTreeSet::new(),
            rules: RuleIds::restore(&saved.rules, saved.last_rule),
            limits: Limits::default(),
            taken: BTreeSet::new(),
            leftover: BTreeSet::new(),
            retired: Vec::new(),
            clean_retry: None,
            versions: 0,
        }
    }

    /// A set changes. One that goes while a list in force asks about it goes when that list does.
    pub fn set(&mut self, id: SetId, change: &SetChange) {
        match change {
            SetChange::Create => {
                if self.departing.remove(&id) {
                    self.classes.remove(id);
                }
                self.classes.create(id);
            }
            SetChange::Update { add, remove } => self.classes.update(id, add, remove),
            SetChange::Remove if self.by_set.contains_key(&id) => {
                self.departing.insert(id);
                return;
            }
            SetChange::Remove => self.classes.remove(id),
        }
        for list in self.by_set.get(&id).into_iter().flatten() {
            if let Some(state) = self.lists.get_mut(list) {
                state.touched = true;
            }
        }
    }

    /// A list changes.
    pub fn list(&mut self, id: ListId, list: Option<Arc<List>>) {
        let state = self.lists.entry(id).or_insert_with(|| ListState {
            wanted: None,
            names: String::new(),
            installed: None,
            version: 0,
            touched: false,
            retry: None,
            indexed: BTreeSet::new(),
        });
        if let Some(list) = &list {
            state.names = policy_names(list);
        }
        state.wanted = list;
        state.retry = None;
        self.index(id);
    }

    /// Which sets a list asks about: those of what is wanted and of what is in force.
    fn index(&mut self, id: ListId) {
        self.unindex(id);
        let Some(state) = self.lists.get_mut(&id) else { return };
        let installed = state.installed.as_ref().map(|i| &i.list);
        state.indexed = state.wanted.iter().chain(installed).flat_map(|list| sets_of(list)).collect();
        for set in &state.indexed {
            self.by_set.entry(*set).or_default().insert(id);
        }
    }

    fn unindex(&mut self, id: ListId) {
        let sets =
            self.lists.get_mut(&id).map(|state| std::mem::take(&mut state.indexed)).unwrap_or_default();
        for set in sets {
            if let Some(lists) = self.by_set.get_mut(&set) {
                lists.remove(&id);
                if lists.is_empty() {
                    self.by_set.remove(&set);
                }
            }
        }
    }

    /// What is in force for a list; `None`: nothing yet.
    pub fn in_force(&self, id: ListId) -> Option<InForce> {
        let state = self.lists.get(&id)?;
        Some(InForce { slot: state.installed.as_ref()?.slot, version: state.version })
    }

    /// What is in force in a slot, whether or not its list is still wanted.
    pub fn in_force_at(&self, slot: u32) -> Option<InForce> {
        let there =
            |state: &&ListState| state.installed.as_ref().is_some_and(|installed| installed.slot == slot);
        self.lists.values().find(there).map(|state| InForce { slot, version: state.version })
    }

    /// The list could not be put in force.
    pub fn is_refused(&self, id: ListId) -> bool {
        self.lists.get(&id).is_some_and(|state| state.retry.is_some())
    }

    /// Whether some list is refused: an agent that starts does not know the older one that may be in force in its place.
    pub fn is_any_refused(&self) -> bool {
        self.lists.values().any(|s| s.retry.is_some() && s.wanted.is_some() && !s.is_settled())
    }

    /// Whether what is in force is what is wanted, members included.
    pub fn is_settled(&self, id: ListId) -> bool {
        self.lists.get(&id).is_some_and(|state| !state.touched && state.is_settled())
    }

    /// The list's program was there before the agent started and has not changed.
    pub fn is_adopted(&self, id: ListId) -> bool {
        let installed = self.lists.get(&id).and_then(|state| state.installed.as_ref());
        installed.is_some_and(|installed| installed.adopted)
    }

    /// The class of an address, as the tables have it or are about to.
    pub fn class_of(&self, address: std::net::IpAddr) -> ClassId {
        self.classes.class_of(address)
    }

    /// How many addresses have a class: IPv4, IPv6.
    pub fn addresses(&self) -> [usize; 2] {
        self.classes.exact_entries()
    }

    fn next_version(&mut self) -> u64 {
        self.versions += 1;
        self.versions
    }

    /// New classes get their rows in every list in force, then addresses get their classes. Endpoint
    /// records that hold classes are next, and only then [`Policies::install`].
    pub fn write_classes(&mut self, kernel: &mut Kernel, now: Now) -> Written {
        let changes = self.classes.take_changes();
        let born: Vec<(ClassId, Arc<[SetId]>)> = changes.born;
        if !born.is_empty() {
            let ids: Vec<ListId> = self.lists.keys().copied().collect();
            for id in ids {
                self.absorb(id, &born, kernel, now);
            }
        }
        for entry in &changes.entries {
            self.tables.want(entry);
        }
        self.retired.extend(changes.retired);
        self.tables.apply(kernel, now)
    }

    fn absorb(&mut self, id: ListId, born: &[(ClassId, Arc<[SetId]>)], kernel: &mut Kernel, now: Now) {
        let Some(installed) = self.lists.get_mut(&id).and_then(|state| state.installed.as_mut()) else {
            return;
        };
        let mut writes = Vec::new();
        let mut fits = true;
        for (class, sets) in born {
            match installed.compiled.absorb(*class, sets) {
                Absorbed::Writes(more) => writes.extend(more),
                Absorbed::Recompile => {
                    fits = false;
                    break;
                }
            }
        }
        if fits && (writes.is_empty() || kernel.programs.write(installed.slot, &writes).is_ok()) {
            return;
        }
        let (list, slot) = (installed.list.clone(), installed.slot);
        // Until it is loaded again, this program denies the new classes.
        installed.name.clear();
        if let Err(error) = self.put(id, &list, Some(slot), kernel) {
            self.fail(id, error, now);
        }
    }

    /// Lists that are not in force as wanted.
    pub fn install(&mut self, kernel: &mut Kernel, now: Now) -> Written {
        let mut written = Written::default();
        let due = |(id, state): (&ListId, &ListState)| {
            let waits = state.retry.as_ref().is_some_and(|retry| retry.at > now);
            let list = || state.wanted.as_ref().or(state.installed.as_ref().map(|installed| &installed.list));
            (!state.is_settled() && !waits).then(list).flatten().map(|list| (*id, list.clone()))
        };
        let due: Vec<(ListId, Arc<List>)> = self.lists.iter().filter_map(due).collect();
        for (id, list) in due {
            let slot = self.lists.get(&id).and_then(|state| state.installed.as_ref()).map(|i| i.slot);
            match self.put(id, &list, slot, kernel) {
                Ok(()) => written.done += 1,
                Err(error) => {
                    written.failed += 1;
                    self.fail(id, error, now);
                }
            }
        }
        self.settle_members();
        written
    }

    /// Lists whose sets' entries are all written count as changed from now on.
    fn settle_members(&mut self) {
        if self.tables.pending_count() > 0 {
            return;
        }
        let touched: Vec<ListId> = self.lists.iter().filter(|(_, s)| s.touched).map(|(id, _)| *id).collect();
        for id in touched {
            let version = self.next_version();
            if let Some(state) = self.lists.get_mut(&id) {
                state.touched = false;
                state.version = version;
            }
        }
    }

    fn fail(&mut self, id: ListId, refusal: Refusal, now: Now) {
        if let Some(state) = self.lists.get_mut(&id) {
            let before = state.retry.take();
            state.retry = Some(match refusal {
                Refusal::Compiler(error) => Retry::seldom(before, error, now),
                Refusal::Kernel(error) => Retry::after(before, error, now),
            });
        }
    }

    /// Compiles and installs; the slot keeps what it had when something goes wrong.
    fn put(
        &mut self,
        id: ListId,
        list: &Arc<List>,
        slot: Option<u32>,
        kernel: &mut Kernel,
    ) -> Result<(), Refusal> {
        let rules = self.acquire_rules(list)?;
        let (slot, name, compiled) = match self.load(list, slot, &rules, kernel) {
            Ok(loaded) => loaded,
            Err(error) => {
                self.rules.release(&rules);
                return Err(error);
            }
        };
        let version = self.next_version();
        let Some(state) = self.lists.get_mut(&id) else { return Ok(()) };
        let list = list.clone();
        let before = state.installed.replace(Installed { slot, name, list, compiled, rules, adopted: false });
        state.version = version;
        // The one before, with room for more, says nothing about the one that is wanted.
        if state.is_settled() {
            state.retry = None;
        }
        if let Some(before) = before {
            self.rules.release(&before.rules);
        }
        self.index(id);
        Ok(())
    }

    /// Ids for the rules of a list. One with more rules than may be numbered is refused before it takes anybody's.
    fn acquire_rules(&mut self, list: &List) -> Result<Vec<u32>, Refusal> {
        if list.rules.len() > self.limits.atoms {
            compile(list, &self.classes, &|_| NO_RULE, &self.limits)?;
        }
        Ok(self.rules.acquire(list))
    }

    fn load(
        &mut self,
        list: &List,
        slot: Option<u32>,
        rules: &[u32],
        kernel: &mut Kernel,
    ) -> Result<(u32, String, CompiledList), Refusal> {
        let zeroes: Vec<(u32, Counter)> =
            self.rules.take_new().into_iter().map(|id| (id, Counter::default())).collect();
        if !zeroes.is_empty() {
            // A counter that keeps an old number is no reason to leave a policy out of force.
            for (index, error) in kernel.rule_counter.upsert(&zeroes) {
                tracing::warn!(%error, rule = ?zeroes.get(index).map(|z| z.0), "a rule's counter could not be reset");
            }
        }
        let (memory, compiled) = compile(list, &self.classes, &|index| rule_at(rules, index), &self.limits)?;
        let slot = slot.or_else(|| self.free_slot()).ok_or_else(|| {
            Refusal::Kernel(format!(
                "all {POLICY_SLOTS} slots for policy programs are taken; use fewer distinct policies on this node"
            ))
        })?;
        let name = program_name(&compiled);
        let refused = |error: TableError| Refusal::Kernel(error.to_string());
        kernel.programs.install(slot, &name, &compiled).map_err(refused)?;
        self.taken.insert(slot);
        Ok((slot, name, memory))
    }

    fn free_slot(&self) -> Option<u32> {
        (0..POLICY_SLOTS).find(|slot| !self.taken.contains(slot))
    }

    /// What is not as wanted, and why.
    pub fn dirty(&self) -> Vec<Dirty> {
        let mut dirty = Vec::new();
        for state in self.lists.values() {
            if state.wanted.is_none() {
                continue;
            }
            if let Some(retry) = &state.retry {
                dirty.push(Dirty::failed(format!("policy {}", state.names), retry));
            } else if !state.is_settled() {
                dirty.push(Dirty::waiting(format!("policy {}", state.names)));
            }
        }
        dirty.extend(self.clean_retry.as_ref().map(|retry| Dirty::failed("unused policy program", retry)));
        dirty.extend(Dirty::of_tracker("class_addr4", &self.tables.addr4));
        dirty.extend(Dirty::of_tracker("class_addr6", &self.tables.addr6));
        dirty.extend(Dirty::of_tracker("class_net4", &self.tables.net4));
        dirty.extend(Dirty::of_tracker("class_net6", &self.tables.net6));
        dirty
    }

    /// When the next failed write may be tried again.
    pub fn next_retry(&self) -> Option<Now> {
        let lists = self.lists.values().filter_map(|state| state.retry.as_ref()).map(|retry| retry.at);
        let tables = [
            self.tables.addr4.next_retry(),
            self.tables.addr6.next_retry(),
            self.tables.net4.next_retry(),
            self.tables.net6.next_retry(),
        ];
        let clean = self.clean_retry.as_ref().map(|retry| retry.at);
        lists.chain(tables.into_iter().flatten()).chain(clean).min()
    }

    /// For the file; `false`: it is as it was.
    pub fn save(&mut self, saved: &mut Saved) -> bool {
        let rules = self.rules.save(saved);
        let installed = self.lists.values().filter_map(|state| state.installed.as_ref());
        let programs = installed
            .map(|installed| SavedProgram {
                slot: installed.slot,
                name: installed.name.clone(),
                direction: direction_name(installed.list.direction).to_owned(),
                rules: installed.rules.clone(),
                default: action_name(installed.list.default).to_owned(),
                policies: installed.list.policies.clone(),
            })
            .collect();
        rules | put(&mut saved.programs, programs)
    }
}

impl ListState {
    fn is_settled(&self) -> bool {
        match (&self.wanted, &self.installed) {
            (Some(wanted), Some(installed)) => !installed.name.is_empty() && *wanted == installed.list,
            // It may have to stay for a while.
            (None, Some(installed)) => !installed.name.is_empty(),
            (None, None) => true,
            (Some(_), None) => false,
        }
    }
}

fn sets_of(list: &List) -> impl Iterator<Item = SetId> {
    list.rules.iter().flat_map(|rule| &rule.remote).flat_map(|clause| clause.sets.iter().copied())
}

fn rule_at(rules: &[u32], index: usize) -> u32 {
    rules.get(index).copied().unwrap_or(NO_RULE)
}

fn class_in(entry: &ClassChange) -> Option<ClassId> {
    match entry {
        ClassChange::Address { class, .. } | ClassChange::Prefix { class, .. } => *class,
    }
}

/// The policies that a list is made of, as people know them.
fn policy_names(list: &List) -> String {
    format!("{} ({})", list.policies.join(", "), direction_name(list.direction))
}
