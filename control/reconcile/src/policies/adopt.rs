//! What the kernel has already: taken over when the agent starts, looked at again when somebody may have changed it.
//!
//! Owns: which programs and class numbers go on. Does not: write anything.
//! Invariant: only a program that would be compiled the same is a list's; every other slot is left over.

use super::{Installed, Policies, class_in, rule_at};
use crate::kernel::Kernel;
use crate::program_name::program_name;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use tortie_intent::ListId;
use tortie_policy::classes::ClassId;
use tortie_policy::compile::compile;

/// Classes beyond this are not taken over from the kernel: the numbers index tables.
const MAX_ADOPTED_CLASS: ClassId = 1 << 20;

impl Policies {
    /// Reads what is in the kernel and takes over what fits. Once, before anything is written.
    pub fn adopt(&mut self, kernel: &mut Kernel) -> Result<(), crate::TableError> {
        self.tables.read(kernel)?;
        self.adopt_classes();
        let mut by_name: HashMap<String, u32> = HashMap::new();
        for (slot, name) in kernel.programs.list()? {
            self.taken.insert(slot);
            self.leftover.insert(slot);
            by_name.insert(name, slot);
        }
        let ids: Vec<ListId> = self.lists.keys().copied().collect();
        for id in ids {
            self.adopt_list(id, &mut by_name);
        }
        Ok(())
    }

    /// Gives every class the number that the kernel's entries already have, where that is possible.
    fn adopt_classes(&mut self) {
        let (mut wish, mut used) = (BTreeMap::new(), BTreeSet::new());
        for entry in self.classes.dump() {
            let (Some(mine), Some(theirs)) = (class_in(&entry), self.tables.actual(&entry)) else { continue };
            let fits = theirs != 0 && theirs < MAX_ADOPTED_CLASS;
            if fits && !wish.contains_key(&mine) && used.insert(theirs) {
                wish.insert(mine, theirs);
            }
        }
        let foreign: BTreeSet<ClassId> =
            self.tables.actual_classes().filter(|class| *class < MAX_ADOPTED_CLASS).collect();
        self.classes.renumber(&wish, &foreign);
    }

    fn adopt_list(&mut self, id: ListId, by_name: &mut HashMap<String, u32>) {
        let Some(wanted) = self.lists.get(&id).and_then(|state| state.wanted.clone()) else { return };
        let Ok(rules) = self.acquire_rules(&wanted) else { return };
        let compiled = compile(&wanted, &self.classes, &|index| rule_at(&rules, index), &self.limits);
        let found = compiled.ok().and_then(|(memory, compiled)| {
            let name = program_name(&compiled);
            by_name.remove(&name).map(|slot| (memory, name, slot))
        });
        let Some((compiled, name, slot)) = found else {
            self.rules.release(&rules);
            return;
        };
        self.leftover.remove(&slot);
        let version = self.next_version();
        if let Some(state) = self.lists.get_mut(&id) {
            state.installed = Some(Installed { slot, name, list: wanted, compiled, rules, adopted: true });
            state.version = version;
        }
    }

    /// Resynchronisation: reads the tables and slots again; what somebody changed becomes pending.
    pub fn reread(&mut self, kernel: &mut Kernel) -> Result<(), crate::TableError> {
        self.tables.read(kernel)?;
        let found: HashMap<u32, String> = kernel.programs.list()?.into_iter().collect();
        for state in self.lists.values_mut() {
            if state.installed.as_ref().is_some_and(|i| found.get(&i.slot) != Some(&i.name)) {
                state.retry = None;
                if let Some(installed) = &mut state.installed {
                    installed.name.clear();
                }
            }
        }
        for slot in found.into_keys() {
            if self.taken.insert(slot) {
                self.leftover.insert(slot);
            }
        }
        Ok(())
    }
}
