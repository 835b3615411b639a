//! What nobody wants any more goes away.
//!
//! Owns: when a slot is empty again and a class's number free. Does not: decide what is wanted.
//! Invariant: a program that a record in the kernel names stays; a number is given back when no program knows it.

use super::{Policies, Refusal};
use crate::delta::{Now, Written};
use crate::dirty::Retry;
use crate::kernel::Kernel;
use std::collections::BTreeSet;
use tortie_intent::ListId;

impl Policies {
    /// Takes away programs that no endpoint record names and no list wants. `named` are the slots that records in the
    /// kernel name.
    pub fn clean(&mut self, kernel: &mut Kernel, named: &BTreeSet<u32>, now: Now) -> Written {
        let mut written = Written::default();
        let gone: Vec<ListId> =
            self.lists.iter().filter(|(_, state)| state.wanted.is_none()).map(|(id, _)| *id).collect();
        for id in gone {
            let slot = self.lists.get(&id).and_then(|state| state.installed.as_ref()).map(|i| i.slot);
            if slot.is_some_and(|slot| named.contains(&slot)) {
                continue;
            }
            self.unindex(id);
            if let Some(installed) = self.lists.remove(&id).and_then(|state| state.installed) {
                self.rules.release(&installed.rules);
                self.leftover.insert(installed.slot);
            }
        }
        if self.clean_retry.as_ref().is_none_or(|retry| retry.at <= now) {
            written += self.clear_leftover(kernel, named, now);
        }
        self.rules.collect();
        written
    }

    /// Lets go of sets that no list asks about any more, wanted or in force; whether there was one. Before the next
    /// [`Policies::write_classes`].
    pub fn drop_sets(&mut self) -> bool {
        let (before, by_set, classes) = (self.departing.len(), &self.by_set, &mut self.classes);
        self.departing.retain(|set| {
            let is_asked = by_set.contains_key(set);
            if !is_asked {
                classes.remove(*set);
            }
            is_asked
        });
        self.departing.len() < before
    }

    fn clear_leftover(&mut self, kernel: &mut Kernel, named: &BTreeSet<u32>, now: Now) -> Written {
        let mut written = Written::default();
        let mut failure = None;
        for slot in self.leftover.clone().difference(named) {
            match kernel.programs.clear(*slot) {
                Ok(()) => {
                    written.done += 1;
                    self.leftover.remove(slot);
                    self.taken.remove(slot);
                }
                Err(error) => {
                    written.failed += 1;
                    failure = Some(format!("slot {slot}: {error}"));
                }
            }
        }
        let before = self.clean_retry.take();
        self.clean_retry = failure.map(|error| Retry::after(before, error, now));
        written
    }

    /// Gives the numbers of retired classes back.
    pub fn recycle(&mut self, kernel: &mut Kernel, now: Now) {
        if self.retired.is_empty() || self.tables.pending_count() > 0 {
            return;
        }
        let retired = std::mem::take(&mut self.retired);
        let mut failed = Vec::new();
        for (id, state) in &mut self.lists {
            let Some(installed) = &mut state.installed else { continue };
            let writes: Vec<_> =
                retired.iter().filter_map(|class| installed.compiled.forget(*class)).collect();
            if writes.is_empty() {
                continue;
            }
            if let Err(error) = kernel.programs.write(installed.slot, &writes) {
                // The next load of this list starts from the classes as they are then.
                installed.name.clear();
                failed.push((*id, error.to_string()));
            }
        }
        match failed.is_empty() {
            true => self.classes.recycle(&retired),
            false => self.retired = retired,
        }
        for (id, error) in failed {
            self.fail(id, Refusal::Kernel(error), now);
        }
    }
}
