//! Which back end stands at which ordinal.
//!
//! Owns: the arrangement in groups. Does not: know tables.
//! Invariant: a back end that stays in its group's places stays where it is, so that a change of one back end
//! moves few others.

use foldhash::HashSet;
use std::hash::Hash;

/// Arranges groups one after the other, given how their members stood before.
pub(super) fn arrange<K: Copy + Eq + Hash>(before: &[K], groups: [Vec<K>; 3]) -> Vec<K> {
    if before.is_empty() {
        return groups.concat();
    }
    let mut arranged = Vec::with_capacity(groups.iter().map(Vec::len).sum());
    for group in groups {
        let start = arranged.len();
        let mut left: HashSet<K> = group.iter().copied().collect();
        let stays: Vec<Option<K>> = (start..start.saturating_add(group.len()))
            .map(|place| before.get(place).copied().filter(|key| left.remove(key)))
            .collect();
        let mut moves = group.into_iter().filter(|key| left.contains(key));
        arranged.extend(stays.into_iter().filter_map(|stay| stay.or_else(|| moves.next())));
    }
    arranged
}

#[cfg(test)]
mod tests {
    use super::arrange;

    fn changes(before: &[u32], after: &[u32]) -> usize {
        after.iter().enumerate().filter(|(place, key)| before.get(*place) != Some(key)).count()
    }

    #[test]
    fn a_back_end_that_leaves_is_replaced_by_one_other() {
        let before: Vec<u32> = (0..100).collect();
        let after = arrange(&before, [vec![], vec![], (0..100).filter(|key| *key != 7).collect()]);
        assert_eq!(after.len(), 99);
        assert_eq!(changes(&before, &after), 1);
    }

    #[test]
    fn a_back_end_that_comes_moves_at_most_one_for_each_group_behind_it() {
        let before: Vec<u32> = (0..100).collect();
        let (local, remote): (Vec<u32>, Vec<u32>) = (before[..10].to_vec(), before[10..].to_vec());
        let more = local.iter().copied().chain([100]).collect();
        let after = arrange(&before, [vec![], more, remote]);
        assert_eq!(after.len(), 101);
        assert_eq!(changes(&before, &after), 2);
        let mut sorted = after.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..=100).collect::<Vec<_>>());
    }

    #[test]
    fn groups_follow_one_another_whatever_was_before() {
        assert_eq!(arrange(&[9, 8, 7], [vec![1], vec![8, 2], vec![9]]), [1, 8, 2, 9]);
        assert_eq!(arrange::<u32>(&[1], [vec![], vec![], vec![]]), []);
    }
}
