//! Slots with incarnations: small numbers that name a record, and never name two things to one flow.
//!
//! Invariant: a slot given out again has another incarnation; slot 0 is never given out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use tortie_abi::Target;

/// One use of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Use {
    /// Slot.
    pub slot: u16,
    /// Which use of it.
    pub incarnation: u16,
}

/// Gives slots out.
#[derive(Clone, Debug)]
pub struct Slots {
    size: u16,
    /// The last incarnation of every slot ever used.
    last: BTreeMap<u16, u16>,
    taken: BTreeSet<u16>,
    /// Slots used before and free now, longest free first.
    freed: VecDeque<u16>,
    fresh: u16,
    /// What counts as the last incarnation of a slot of which nothing is known.
    before: u16,
}

impl Slots {
    /// Slots 1 to `size - 1`.
    pub fn new(size: u32) -> Self {
        let size = u16::try_from(size).unwrap_or(u16::MAX);
        Self {
            size,
            last: BTreeMap::new(),
            taken: BTreeSet::new(),
            freed: VecDeque::new(),
            fresh: 1,
            before: 0,
        }
    }

    /// A slot that is in use already. `false`: it is taken or out of range.
    pub fn adopt(&mut self, used: Use) -> bool {
        if used.slot == 0 || used.slot >= self.size || !self.taken.insert(used.slot) {
            return false;
        }
        self.freed.retain(|slot| *slot != used.slot);
        self.last.insert(used.slot, used.incarnation);
        true
    }

    /// What is known of a slot that is free now.
    pub fn remember(&mut self, used: Use) {
        if used.slot != 0 && used.slot < self.size && !self.taken.contains(&used.slot) {
            self.last.insert(used.slot, used.incarnation);
            self.freed.push_back(used.slot);
        }
    }

    /// Earlier uses are not known, the greatest incarnation that is left of them is `seen`: others begin far from those
    /// that flows may still name.
    pub fn forgot(&mut self, seen: u16) {
        self.before = (seen % Target::MAX_INCARNATION + LEAP) % Target::MAX_INCARNATION;
    }

    /// A new use of a free slot; `None`: all are taken.
    pub fn take(&mut self) -> Option<Use> {
        while self.fresh < self.size && self.last.contains_key(&self.fresh) {
            self.fresh += 1;
        }
        let slot = if self.fresh < self.size { self.fresh } else { self.freed.pop_front()? };
        self.taken.insert(slot);
        let incarnation = next(self.last.get(&slot).copied().unwrap_or(self.before));
        self.last.insert(slot, incarnation);
        Some(Use { slot, incarnation })
    }

    /// The slot's record is gone from the kernel.
    pub fn free(&mut self, slot: u16) {
        if self.taken.remove(&slot) {
            self.freed.push_back(slot);
        }
    }

    /// The last incarnation of each free slot, longest free first.
    pub fn free_slots(&self) -> impl Iterator<Item = Use> {
        self.freed.iter().filter_map(|slot| {
            self.last.get(slot).map(|incarnation| Use { slot: *slot, incarnation: *incarnation })
        })
    }
}

/// More uses than a slot has while a flow of its first one lives.
const LEAP: u16 = 1 << 12;

const fn next(incarnation: u16) -> u16 {
    if incarnation >= Target::MAX_INCARNATION { 1 } else { incarnation + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_comes_back_with_another_incarnation_and_as_late_as_possible() {
        let mut slots = Slots::new(4);
        let first: Vec<Use> = std::iter::from_fn(|| slots.take()).collect();
        assert_eq!(first.iter().map(|u| u.slot).collect::<Vec<_>>(), [1, 2, 3]);
        slots.free(2);
        slots.free(1);
        assert_eq!(slots.take(), Some(Use { slot: 2, incarnation: 2 }));
        assert_eq!(slots.take(), Some(Use { slot: 1, incarnation: 2 }));
        assert_eq!(slots.take(), None);
    }

    #[test]
    fn an_incarnation_is_never_zero() {
        let mut slots = Slots::new(2);
        slots.remember(Use { slot: 1, incarnation: Target::MAX_INCARNATION });
        assert_eq!(slots.take(), Some(Use { slot: 1, incarnation: 1 }));
    }

    #[test]
    fn what_is_forgotten_is_not_begun_again() {
        let mut slots = Slots::new(3);
        assert!(slots.adopt(Use { slot: 1, incarnation: 7 }));
        slots.forgot(7);
        assert_eq!(slots.take(), Some(Use { slot: 2, incarnation: 7 + LEAP + 1 }));
        slots.free(1);
        assert_eq!(slots.take(), Some(Use { slot: 1, incarnation: 8 }));
        slots.forgot(Target::MAX_INCARNATION);
        assert!((1..=Target::MAX_INCARNATION).contains(&next(slots.before)));
    }

    #[test]
    fn what_was_in_use_before_a_restart_is_not_given_out() {
        let mut slots = Slots::new(3);
        assert!(slots.adopt(Use { slot: 1, incarnation: 5 }));
        assert!(!slots.adopt(Use { slot: 1, incarnation: 6 }));
        assert!(!slots.adopt(Use { slot: 0, incarnation: 1 }));
        assert_eq!(slots.take(), Some(Use { slot: 2, incarnation: 1 }));
        assert_eq!(slots.take(), None);
        slots.free(1);
        assert_eq!(slots.take(), Some(Use { slot: 1, incarnation: 6 }));
    }
}
