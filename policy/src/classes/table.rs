//! The entries of one address family, exact and prefix, in the order of addresses.

use super::ids::Ids;
use super::{ClassChange, ClassId};
use crate::form::{Member, SetId};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// A prefix: its leading bits at the low end of `bits`' family width, and their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    bits: u128,
    length: u8,
}

/// An address as a number.
pub fn bits_of(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

impl Key {
    pub fn of(member: Member) -> Self {
        Self { bits: bits_of(member.network()), length: member.prefix_len() }
    }

    /// As the caller sees it.
    pub fn change(self, v6: bool, class: Option<ClassId>) -> Option<ClassChange> {
        let address = match v6 {
            false => IpAddr::V4(Ipv4Addr::from_bits(self.bits as u32)),
            true => IpAddr::V6(Ipv6Addr::from_bits(self.bits)),
        };
        if self.length == if v6 { 128 } else { 32 } {
            return Some(ClassChange::Address { address, class });
        }
        IpNet::new(address, self.length).ok().map(|net| ClassChange::Prefix { net, class })
    }
}

#[derive(Debug)]
struct Entry {
    /// Sets that have this very member, sorted, not empty.
    own: Arc<[SetId]>,
    /// Those and the ones of the prefixes around it.
    class: ClassId,
}

/// Entries of one family.
#[derive(Debug)]
pub struct FamilyTable {
    width: u8,
    exact: BTreeMap<u128, Entry>,
    nets: BTreeMap<Key, Entry>,
    /// How many prefixes there are of each length.
    lengths: [usize; 129],
}

impl FamilyTable {
    pub fn new(width: u8) -> Self {
        Self { width, exact: BTreeMap::new(), nets: BTreeMap::new(), lengths: [0; 129] }
    }

    pub fn exact_len(&self) -> usize {
        self.exact.len()
    }

    pub fn net_len(&self) -> usize {
        self.nets.len()
    }

    pub fn class_of(&self, address: u128) -> Option<ClassId> {
        match self.exact.get(&address) {
            Some(entry) => Some(entry.class),
            None => self.around(address, self.width).map(|entry| entry.class),
        }
    }

    pub fn entry_class(&self, key: Key) -> Option<ClassId> {
        self.entry(key).map(|entry| entry.class)
    }

    pub fn iter(&self) -> impl Iterator<Item = (Key, ClassId)> {
        let width = self.width;
        let exact =
            self.exact.iter().map(move |(bits, entry)| (Key { bits: *bits, length: width }, entry.class));
        exact.chain(self.nets.iter().map(|(key, entry)| (*key, entry.class)))
    }

    /// Classes have other numbers now.
    pub fn renumber(&mut self, number: impl Fn(ClassId) -> ClassId) {
        for entry in self.exact.values_mut().chain(self.nets.values_mut()) {
            entry.class = number(entry.class);
        }
    }

    fn entry(&self, key: Key) -> Option<&Entry> {
        if key.length == self.width { self.exact.get(&key.bits) } else { self.nets.get(&key) }
    }

    /// The longest prefix shorter than `length` around an address.
    fn around(&self, address: u128, length: u8) -> Option<&Entry> {
        let lengths = self.lengths.iter().enumerate().take(usize::from(length)).rev();
        lengths.filter(|(_, count)| **count > 0).find_map(|(length, _)| {
            let length = length as u8;
            self.nets.get(&Key { bits: self.masked(address, length), length })
        })
    }

    fn masked(&self, address: u128, length: u8) -> u128 {
        address & !self.host_mask(length)
    }

    fn host_mask(&self, length: u8) -> u128 {
        match self.width - length {
            128 => u128::MAX,
            host_bits => (1 << host_bits) - 1,
        }
    }

    /// `set` gets or loses the member `key`. `note` is told each entry's class before its first change.
    /// Returns how many entries were looked at.
    pub fn change(
        &mut self,
        ids: &mut Ids,
        set: SetId,
        key: Key,
        join: bool,
        note: &mut impl FnMut(Key, Option<ClassId>),
    ) -> usize {
        let outer = self.around(key.bits, key.length).map(|entry| entry.class);
        let before = self.entry_class(key);
        let mut own = self.entry(key).map_or_else(Vec::new, |entry| entry.own.to_vec());
        match (own.binary_search(&set), join) {
            (Err(place), true) => own.insert(place, set),
            (Ok(place), false) => drop(own.remove(place)),
            _ => return 1,
        }
        note(key, before);
        let after = if own.is_empty() {
            self.delete(key);
            None
        } else {
            let (class, own) = match outer {
                Some(_) => (ids.acquire(&union(&own, outer, ids)), ids.share(own)),
                None => ids.acquire_shared(own),
            };
            self.put(key, Entry { own, class });
            Some(class)
        };
        if let Some(class) = before {
            ids.release(class);
        }
        // What lies inside sees this entry's class, or without this entry the one around it.
        if key.length == self.width || before.or(outer) == after.or(outer) {
            return 1;
        }
        1 + self.refresh_inside(ids, key, note)
    }

    fn put(&mut self, key: Key, entry: Entry) {
        if key.length == self.width {
            self.exact.insert(key.bits, entry);
        } else if self.nets.insert(key, entry).is_none()
            && let Some(count) = self.lengths.get_mut(usize::from(key.length))
        {
            *count += 1;
        }
    }

    fn delete(&mut self, key: Key) {
        if key.length == self.width {
            self.exact.remove(&key.bits);
        } else if self.nets.remove(&key).is_some()
            && let Some(count) = self.lengths.get_mut(usize::from(key.length))
        {
            *count -= 1;
        }
    }

    /// Classes of the entries inside `key`, outer prefixes before inner ones.
    fn refresh_inside(
        &mut self,
        ids: &mut Ids,
        key: Key,
        note: &mut impl FnMut(Key, Option<ClassId>),
    ) -> usize {
        let last = key.bits | self.host_mask(key.length);
        let within = Key { bits: key.bits, length: key.length + 1 }..=Key { bits: last, length: self.width };
        let nets: Vec<Key> = self.nets.range(within).map(|(key, _)| *key).collect();
        let width = self.width;
        let addresses = self.exact.range(key.bits..=last).map(|(bits, _)| Key { bits: *bits, length: width });
        let inside: Vec<Key> = nets.into_iter().chain(addresses).collect();
        for key in &inside {
            self.refresh(ids, *key, note);
        }
        inside.len()
    }

    fn refresh(&mut self, ids: &mut Ids, key: Key, note: &mut impl FnMut(Key, Option<ClassId>)) {
        let outer = self.around(key.bits, key.length).map(|entry| entry.class);
        let Some((own, before)) = self.entry(key).map(|entry| (entry.own.clone(), entry.class)) else {
            return;
        };
        let class = ids.acquire(&union(&own, outer, ids));
        ids.release(before);
        if class != before {
            note(key, Some(before));
            self.put(key, Entry { own, class });
        }
    }
}

/// The sets of an entry and of the class around it, sorted.
fn union(own: &[SetId], outer: Option<ClassId>, ids: &Ids) -> Vec<SetId> {
    let mut sets = own.to_vec();
    if let Some(outer) = outer.and_then(|class| ids.sets_of(class)) {
        sets.extend(outer.iter());
        sets.sort();
        sets.dedup();
    }
    sets
}
