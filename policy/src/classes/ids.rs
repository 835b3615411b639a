//! Class numbers: one for each combination of memberships in use.

use super::ClassId;
use crate::form::SetId;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use tortie_abi::policy::NO_CLASS;

#[derive(Debug)]
struct Slot {
    sets: Arc<[SetId]>,
    /// Entries that have this class.
    entries: usize,
    /// Said to be born, not yet said to be retired.
    announced: bool,
}

/// A new class and its sets.
type Born = (ClassId, Arc<[SetId]>);

/// Gives numbers out and takes them back.
#[derive(Debug)]
pub struct Ids {
    slots: Vec<Option<Slot>>,
    by_sets: HashMap<Arc<[SetId]>, ClassId>,
    free: BTreeSet<ClassId>,
    quarantined: BTreeSet<ClassId>,
    unsettled: BTreeSet<ClassId>,
}

impl Ids {
    pub fn new() -> Self {
        let nothing: Arc<[SetId]> = Arc::new([]);
        let slot = Slot { sets: nothing.clone(), entries: 1, announced: true };
        Self {
            slots: vec![Some(slot)],
            by_sets: HashMap::from([(nothing, NO_CLASS)]),
            free: BTreeSet::new(),
            quarantined: BTreeSet::new(),
            unsettled: BTreeSet::new(),
        }
    }

    /// One more entry has these memberships (sorted).
    pub fn acquire(&mut self, sets: &[SetId]) -> ClassId {
        let class = match self.by_sets.get(sets) {
            Some(class) => *class,
            None => self.insert(sets.into()),
        };
        if let Some(slot) = self.slot_mut(class) {
            slot.entries += 1;
            if slot.entries == 1 {
                self.unsettled.insert(class);
            }
        }
        class
    }

    /// As [`Ids::acquire`], and the stored list of the sets, for an entry that has no others.
    pub fn acquire_shared(&mut self, sets: Vec<SetId>) -> (ClassId, Arc<[SetId]>) {
        let class = self.acquire(&sets);
        let stored = self.sets_of(class).cloned();
        (class, stored.unwrap_or_else(|| sets.into()))
    }

    fn insert(&mut self, sets: Arc<[SetId]>) -> ClassId {
        let slot = Some(Slot { sets: sets.clone(), entries: 0, announced: false });
        let class = match self.free.pop_first() {
            Some(class) => class,
            None => {
                self.slots.push(None);
                (self.slots.len() - 1) as ClassId
            }
        };
        if let Some(place) = self.slots.get_mut(class as usize) {
            *place = slot;
        }
        self.by_sets.insert(sets, class);
        class
    }

    /// One entry less has this class. One that nobody was told of is forgotten at once: while many sets
    /// are filled, most combinations are such.
    pub fn release(&mut self, class: ClassId) {
        let Some(slot) = self.slot_mut(class) else { return };
        slot.entries = slot.entries.saturating_sub(1);
        match (slot.entries, slot.announced) {
            (0, true) => {
                self.unsettled.insert(class);
            }
            (0, false) => {
                self.unsettled.remove(&class);
                self.forget(class);
                self.free.insert(class);
            }
            _ => {}
        }
    }

    fn slot_mut(&mut self, class: ClassId) -> Option<&mut Slot> {
        self.slots.get_mut(class as usize).and_then(Option::as_mut)
    }

    pub fn sets_of(&self, class: ClassId) -> Option<&Arc<[SetId]>> {
        self.slots.get(class as usize).and_then(Option::as_ref).map(|slot| &slot.sets)
    }

    /// The stored list of these sets, shared with the class where there is one.
    pub fn share(&self, sets: Vec<SetId>) -> Arc<[SetId]> {
        match self.by_sets.get_key_value(&*sets) {
            Some((shared, _)) => shared.clone(),
            None => sets.into(),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (ClassId, &[SetId])> {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(|(class, slot)| {
            slot.as_ref().filter(|slot| slot.entries > 0).map(|slot| (class as ClassId, &*slot.sets))
        })
    }

    /// Which classes came and which went since the last time.
    pub fn settle(&mut self) -> (Vec<Born>, Vec<ClassId>) {
        let (mut born, mut retired) = (Vec::new(), Vec::new());
        for class in std::mem::take(&mut self.unsettled) {
            let Some(slot) = self.slot_mut(class) else { continue };
            if slot.entries == 0 {
                self.forget(class);
                self.quarantined.insert(class);
                retired.push(class);
            } else if !slot.announced {
                slot.announced = true;
                born.push((class, slot.sets.clone()));
            }
        }
        (born, retired)
    }

    fn forget(&mut self, class: ClassId) {
        if let Some(slot) = self.slots.get_mut(class as usize).and_then(Option::take) {
            self.by_sets.remove(&slot.sets);
        }
    }

    /// Gives each class its wished number, where it has one, and otherwise one that is neither wished nor
    /// reserved. Only for classes that nobody has been told of yet. Returns the new number of each.
    pub fn renumber(
        &mut self,
        wish: &BTreeMap<ClassId, ClassId>,
        reserved: &BTreeSet<ClassId>,
    ) -> HashMap<ClassId, ClassId> {
        let wished: BTreeSet<ClassId> = wish.values().copied().collect();
        let mut fresh = (1..).filter(|number| !wished.contains(number) && !reserved.contains(number));
        let mut moved = HashMap::from([(NO_CLASS, NO_CLASS)]);
        let mut slots: BTreeMap<ClassId, Slot> = BTreeMap::new();
        for (class, slot) in std::mem::take(&mut self.slots).into_iter().enumerate() {
            let (class, Some(slot)) = (class as ClassId, slot) else { continue };
            let number = match wish.get(&class) {
                _ if class == NO_CLASS => NO_CLASS,
                Some(number) => *number,
                None => fresh.next().unwrap_or(class),
            };
            moved.insert(class, number);
            slots.insert(number, slot);
        }
        // Reserved numbers have a place too, and are never free: what the kernel still knows by them is not
        // to become something new.
        let last = slots.keys().last().into_iter().chain(reserved.last()).max();
        let length = last.map_or(1, |class| *class as usize + 1);
        self.free = (0..length as ClassId)
            .filter(|class| !slots.contains_key(class) && !reserved.contains(class))
            .collect();
        self.slots = (0..length as ClassId).map(|class| slots.remove(&class)).collect();
        let renamed = |class: &ClassId| moved.get(class).copied().unwrap_or(*class);
        self.by_sets.values_mut().for_each(|class| *class = renamed(class));
        self.unsettled = self.unsettled.iter().map(renamed).collect();
        moved
    }

    pub fn recycle(&mut self, retired: &[ClassId]) {
        for class in retired {
            if self.quarantined.remove(class) {
                self.free.insert(*class);
            }
        }
    }
}
