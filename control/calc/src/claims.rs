//! Who claims a key that only one can have.
//!
//! Owns: all claims and the winner among them. Does not: judge, the smallest claimant wins; remember what somebody claims.
//! Invariant: the winner depends on the claims alone, not on their order in time.

use foldhash::HashMap;
use litemap::LiteMap;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hash;

/// Claims of claimants `C` on keys `K`.
#[derive(Debug)]
pub(crate) struct Claims<K, C, V> {
    /// Nearly always there is one.
    by_key: HashMap<K, LiteMap<C, V>>,
}

impl<K, C, V> Default for Claims<K, C, V> {
    fn default() -> Self {
        Self { by_key: HashMap::default() }
    }
}

impl<K: Ord + Hash + Clone, C: Ord + Clone, V: PartialEq> Claims<K, C, V> {
    /// From now on `claimant`, who has `claimed` some, claims these keys and no other. Returns the keys where something
    /// changed.
    pub(crate) fn set(
        &mut self,
        claimant: &C,
        claimed: &mut Box<[K]>,
        wanted: BTreeMap<K, V>,
    ) -> BTreeSet<K> {
        let old = std::mem::replace(claimed, wanted.keys().cloned().collect());
        let lost = old.into_iter().filter(|key| !wanted.contains_key(key));
        let mut changed: BTreeSet<K> = lost.collect();
        changed.iter().for_each(|key| self.drop_claim(key, claimant));
        for (key, value) in wanted {
            let claims = self.by_key.entry(key.clone()).or_insert_with(|| LiteMap::with_capacity(1));
            if claims.get(claimant) != Some(&value) {
                claims.insert(claimant.clone(), value);
                changed.insert(key);
            }
        }
        changed
    }

    /// Who wants the key, the winner first.
    pub(crate) fn claimants(&self, key: &K) -> impl Iterator<Item = &C> {
        self.by_key.get(key).into_iter().flat_map(LiteMap::keys)
    }

    /// Who wants the key, and with what, in the order of the claimants.
    pub(crate) fn of(&self, key: &K) -> impl Iterator<Item = (&C, &V)> {
        self.by_key.get(key).into_iter().flat_map(LiteMap::iter)
    }

    fn drop_claim(&mut self, key: &K, claimant: &C) {
        if let Some(claims) = self.by_key.get_mut(key) {
            claims.remove(claimant);
            if claims.is_empty() {
                self.by_key.remove(key);
            }
        }
    }
}
