//! Consistent-hash tables ("Maglev: A Fast and Reliable Software Network Load Balancer", section 3.4).
//!
//! Owns: which back end stands at which place. Does not: know tables of the kernel.
//! Invariant: the same back ends give the same table on every node and in every version; the shares of any two differ by
//! one place at most.

/// Places for each of the back ends that a Service may have: with that many no share is more than 1 % off.
const PLACES_EACH: u32 = 100;

/// How many places a table has that is made for so many back ends: a prime number, so that every step through it meets
/// every place.
pub(super) fn places(endpoints: u32) -> u32 {
    let is_prime = |n: u32| (2..).take_while(|d| d * d <= n).all(|d| !n.is_multiple_of(d));
    (endpoints.max(1).saturating_mul(PLACES_EACH)..).find(|n| is_prime(*n)).unwrap_or(u32::MAX)
}

/// For each place the index of a back end, given what each is known by. `None`: there is none.
pub(super) fn table(identities: &[u128], places: u32) -> Option<Vec<usize>> {
    const FREE: usize = usize::MAX;
    let mut walks: Vec<Walk> = identities.iter().map(|identity| Walk::new(*identity, places)).collect();
    let mut table = vec![FREE; places as usize];
    if walks.is_empty() {
        return None;
    }
    // In turn each takes the next place of its own order that is free.
    for index in (0..walks.len()).cycle().take(table.len()) {
        let walk = &mut walks[index];
        while table[walk.at as usize] != FREE {
            walk.step(places);
        }
        table[walk.at as usize] = index;
    }
    Some(table)
}

/// The order in which a back end prefers places.
struct Walk {
    at: u32,
    skip: u32,
}

impl Walk {
    fn new(identity: u128, places: u32) -> Self {
        let first = mix((identity >> 64) as u64 ^ mix(identity as u64));
        let below = |hash: u64, bound: u32| ((u128::from(hash) * u128::from(bound)) >> 64) as u32;
        Self { at: below(first, places), skip: 1 + below(mix(first), places.saturating_sub(1)) }
    }

    fn step(&mut self, places: u32) {
        self.at = ((u64::from(self.at) + u64::from(self.skip)) % u64::from(places)) as u32;
    }
}

/// The last step of SplitMix64.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

#[cfg(test)]
mod tests {
    use super::{mix, places, table};
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// By back end, how often it stands in the table.
    fn shares(identities: &[u128], places: u32) -> Vec<usize> {
        let mut shares = vec![0; identities.len()];
        table(identities, places).unwrap().into_iter().for_each(|index| shares[index] += 1);
        shares
    }

    /// The back end at each place.
    fn standing(identities: &[u128], places: u32) -> Vec<u128> {
        table(identities, places).unwrap().into_iter().map(|index| identities[index]).collect()
    }

    fn different(a: &[u128], b: &[u128]) -> usize {
        a.iter().zip(b).filter(|(a, b)| a != b).count()
    }

    fn backends(most: usize) -> impl Strategy<Value = BTreeSet<u128>> {
        prop::collection::btree_set(any::<u128>(), 1..most)
    }

    #[test]
    fn a_table_has_a_prime_number_of_places() {
        assert_eq!([places(0), places(1), places(100), places(3000)], [101, 101, 10_007, 300_007]);
    }

    #[test]
    fn without_back_ends_there_is_no_table() {
        assert_eq!(table(&[], 101), None);
    }

    #[test]
    fn the_table_of_some_back_ends_is_what_it_was_in_every_version_before() {
        let identities: Vec<u128> = (0..5).map(|n| 0xa00_0001_0000 + n).collect();
        let first: Vec<usize> = table(&identities, 101).unwrap().into_iter().take(12).collect();
        assert_eq!(first, TABLE);
    }

    const TABLE: [usize; 12] = [1, 0, 2, 4, 3, 3, 2, 4, 3, 3, 0, 3];

    #[test]
    fn neighbouring_addresses_are_no_worse_than_any_others() {
        let places = places(100);
        let all: Vec<u128> = (0..100).map(|n| (0x0af4_0000 + n) << 16 | 8080).collect();
        let before = standing(&all, places);
        for gone in [0, 50, 99] {
            let mut left = all.clone();
            left.remove(gone);
            let moved = different(&before, &standing(&left, places));
            assert!(moved * 100 < before.len() * 4, "{moved} of {} places change", before.len());
        }
    }

    /// Two orders that happen to go the same way can move more, however seldom: fixed back ends, and how far they are off
    /// taken together.
    #[test]
    fn a_back_end_that_goes_takes_few_others_places_along() {
        let places = places(100);
        let mut moved: Vec<usize> = (2..=100)
            .map(|count| {
                let identity =
                    |n: u64| u128::from(mix(count << 32 | n)) << 64 | u128::from(mix(n << 32 | count));
                let all: Vec<u128> = (0..count).map(identity).collect();
                let gone = all[all.len() / 2];
                let left: Vec<u128> = all.iter().copied().filter(|identity| *identity != gone).collect();
                let before = standing(&all, places);
                let own = before.iter().filter(|identity| **identity == gone).count();
                different(&before, &standing(&left, places)) - own
            })
            .collect();
        moved.sort_unstable();
        let percent = |moved: usize| moved as f64 * 100.0 / f64::from(places);
        let (median, high) = (percent(moved[49]), percent(moved[94]));
        assert!(median < 1.6 && high < 2.5, "half change {median} % or more, one in twenty {high} %");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn every_place_is_taken_and_shares_differ_by_one_at_most(all in backends(120)) {
            let all: Vec<u128> = all.into_iter().collect();
            let shares = shares(&all, 1009);
            let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
            prop_assert!(most - least <= 1);
            prop_assert_eq!(shares.iter().sum::<usize>(), 1009);
        }

        #[test]
        fn no_share_of_a_hundred_is_more_than_one_percent_off(seed in any::<u128>()) {
            let all: Vec<u128> = (0..100).map(|n| seed.wrapping_add(n * 0x1_0001)).collect();
            let fair = f64::from(places(100)) / 100.0;
            for share in shares(&all, places(100)) {
                prop_assert!((share as f64 - fair).abs() / fair <= 0.01, "{share} places instead of {fair}");
            }
        }
    }
}
