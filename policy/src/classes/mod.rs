//! Address classes: all addresses with the same set memberships share one number.
//!
//! Owns: which entries the class maps of the kernel must hold, kept up to date member by member.
//! Does not: write maps, or know rules.
//! Invariant: [`Classes::class_of`] (an exact entry, else the longest prefix, else [`NO_CLASS`]) names
//! exactly the sets of which some member contains the address.
//!
//! A single address is an exact entry, anything shorter a prefix entry; the class of an entry includes the
//! memberships of the prefixes around it, so that the packet path needs only the innermost entry.
//!
//! Bounds. Classes ≤ distinct combinations of memberships ≤ entries. One member added or removed costs
//! O(sets of that entry + prefix lengths in use); where it is a prefix and changes a combination, also
//! O(entries inside it), reported in [`Changes::visited`]. Memory: an entry and its sets, a class and its sets.
//!
//! Order for the caller, so that no packet meets a half-made class: rows of `born` in every list, then
//! `entries`, then whatever else refers to classes (endpoint records), then [`Classes::recycle`] `retired`.

mod ids;
mod table;

use crate::form::{Member, SetId};
use ids::Ids;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use table::{FamilyTable, Key};
use tortie_abi::policy::NO_CLASS;

/// Number of a class, as in `PolicyIo::remote_class`.
pub type ClassId = u32;

/// One write to the class maps; `None` deletes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClassChange {
    /// In `class_addr`.
    Address {
        /// The address.
        address: IpAddr,
        /// Its class.
        class: Option<ClassId>,
    },
    /// In `class_net`.
    Prefix {
        /// The prefix.
        net: IpNet,
        /// The class of the addresses that have no longer match.
        class: Option<ClassId>,
    },
}

/// What happened since the last time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Classes that are new, with the sets they stand for.
    pub born: Vec<(ClassId, Arc<[SetId]>)>,
    /// Entries to write, in the order of addresses.
    pub entries: Vec<ClassChange>,
    /// Classes that no entry has any more; they are not used again before [`Classes::recycle`].
    pub retired: Vec<ClassId>,
    /// Entries looked at: what the changes cost.
    pub visited: usize,
}

impl Changes {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.born.is_empty() && self.entries.is_empty() && self.retired.is_empty()
    }
}

/// The classes of all addresses in any set.
#[derive(Debug)]
pub struct Classes {
    members: HashMap<SetId, HashSet<Member>>,
    v4: FamilyTable,
    v6: FamilyTable,
    ids: Ids,
    /// The class that the kernel knows, of every entry touched since the last time.
    touched: BTreeMap<(bool, Key), Option<ClassId>>,
    visited: usize,
}

impl Default for Classes {
    fn default() -> Self {
        Self::new()
    }
}

impl Classes {
    /// No sets.
    pub fn new() -> Self {
        Self {
            members: HashMap::new(),
            v4: FamilyTable::new(32),
            v6: FamilyTable::new(128),
            ids: Ids::new(),
            touched: BTreeMap::new(),
            visited: 0,
        }
    }

    /// A set exists, with no members; nothing happens when it exists already.
    pub fn create(&mut self, set: SetId) {
        self.members.entry(set).or_default();
    }

    /// Members come and go. Host bits of members are ignored; a member added twice is there once.
    pub fn update(&mut self, set: SetId, add: &[Member], remove: &[Member]) {
        for member in remove.iter().map(IpNet::trunc) {
            if self.members.get_mut(&set).is_some_and(|members| members.remove(&member)) {
                self.change(set, member, false);
            }
        }
        for member in add.iter().map(IpNet::trunc) {
            if self.members.entry(set).or_default().insert(member) {
                self.change(set, member, true);
            }
        }
    }

    /// A set is gone, with its members.
    pub fn remove(&mut self, set: SetId) {
        for member in self.members.remove(&set).unwrap_or_default() {
            self.change(set, member, false);
        }
    }

    fn change(&mut self, set: SetId, member: Member, join: bool) {
        let (v6, table) = match member {
            IpNet::V4(_) => (false, &mut self.v4),
            IpNet::V6(_) => (true, &mut self.v6),
        };
        let touched = &mut self.touched;
        let mut note = |key: Key, class: Option<ClassId>| {
            touched.entry((v6, key)).or_insert(class);
        };
        self.visited += table.change(&mut self.ids, set, Key::of(member), join, &mut note);
    }

    /// What the two look-ups of the packet path give for an address.
    pub fn class_of(&self, address: IpAddr) -> ClassId {
        let table = if address.is_ipv4() { &self.v4 } else { &self.v6 };
        table.class_of(table::bits_of(address)).unwrap_or(NO_CLASS)
    }

    /// The sets that a class stands for; `None`: there is no such class.
    pub fn sets_of(&self, class: ClassId) -> Option<&[SetId]> {
        self.ids.sets_of(class).map(|sets| &**sets)
    }

    /// Every class, [`NO_CLASS`] first.
    pub fn iter(&self) -> impl Iterator<Item = (ClassId, &[SetId])> {
        self.ids.iter()
    }

    /// How many entries the class maps hold: exact and prefix.
    pub fn entries(&self) -> (usize, usize) {
        (self.v4.exact_len() + self.v6.exact_len(), self.v4.net_len() + self.v6.net_len())
    }

    /// How many of them are exact: IPv4, IPv6.
    pub fn exact_entries(&self) -> [usize; 2] {
        [self.v4.exact_len(), self.v6.exact_len()]
    }

    /// Every entry: what the class maps hold once all changes are written.
    pub fn dump(&self) -> Vec<ClassChange> {
        let of = |v6: bool, table: &FamilyTable| -> Vec<ClassChange> {
            table.iter().filter_map(|(key, class)| key.change(v6, Some(class))).collect()
        };
        [of(false, &self.v4), of(true, &self.v6)].concat()
    }

    /// The changes since the last time, nothing twice.
    pub fn take_changes(&mut self) -> Changes {
        let mut entries = Vec::with_capacity(self.touched.len());
        for ((v6, key), before) in std::mem::take(&mut self.touched) {
            let now = if v6 { self.v6.entry_class(key) } else { self.v4.entry_class(key) };
            if now != before {
                entries.extend(key.change(v6, now));
            }
        }
        let (born, retired) = self.ids.settle();
        Changes { born, entries, retired, visited: std::mem::take(&mut self.visited) }
    }

    /// After a restart: gives classes the numbers that the kernel's tables already have for their entries.
    /// `wish` says which; each number at most once. The others get numbers that are neither wished nor in
    /// `reserved`. Only before the first [`Classes::take_changes`].
    pub fn renumber(&mut self, wish: &BTreeMap<ClassId, ClassId>, reserved: &BTreeSet<ClassId>) {
        let moved = self.ids.renumber(wish, reserved);
        let number = |class: ClassId| moved.get(&class).copied().unwrap_or(class);
        self.v4.renumber(number);
        self.v6.renumber(number);
    }

    /// The numbers of retired classes may be given out again: nothing in the kernel refers to them.
    pub fn recycle(&mut self, retired: &[ClassId]) {
        self.ids.recycle(retired);
    }
}

#[cfg(test)]
mod tests;
