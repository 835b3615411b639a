//! What every map of a kind does: the same sentences for the stand-in and for the kernel.
//!
//! Each function takes a fresh map with room for [`ROOM`] elements.

use super::{Mode, Prefix, RawMap};
use tortie_reconcile::{Table, TableError};

/// Elements that a map of the contract has room for.
pub const ROOM: u32 = 64;

const E2BIG: i32 = 7;
const EEXIST: i32 = 17;
const ENOENT: i32 = 2;

/// Create and replace, each only where it applies.
pub fn existence_is_respected(map: &impl RawMap<u32, u64>) {
    assert_eq!(map.update(1, 10, Mode::Replace), Err(ENOENT));
    assert_eq!(map.update(1, 10, Mode::Create), Ok(()));
    assert_eq!(map.update(1, 11, Mode::Create), Err(EEXIST));
    assert_eq!(map.lookup(1), Ok(Some(10)));
    assert_eq!(map.update(1, 12, Mode::Replace), Ok(()));
    assert_eq!(map.update(1, 13, Mode::Any), Ok(()));
    assert_eq!(map.lookup(1), Ok(Some(13)));
    assert_eq!(map.remove(1), Ok(()));
    assert_eq!(map.remove(1), Err(ENOENT));
    assert_eq!(map.lookup(1), Ok(None));
}

/// A full hash table refuses the new and keeps the old.
pub fn a_full_hash_refuses_new_keys(map: &impl RawMap<u32, u64>) {
    for key in 0..ROOM {
        assert_eq!(map.update(key, u64::from(key), Mode::Any), Ok(()));
    }
    assert_eq!(map.update(ROOM, 0, Mode::Any), Err(E2BIG));
    assert_eq!(map.update(3, 33, Mode::Any), Ok(()), "replacing needs no room");
    assert_eq!(map.count(), ROOM as usize);
    assert_eq!(map.remove(5), Ok(()));
    assert_eq!(map.update(ROOM, 1, Mode::Any), Ok(()), "a removal makes room");
}

/// A full LRU hash takes the new and drops something old.
pub fn a_full_lru_drops_old_keys(map: &impl RawMap<u32, u64>) {
    for key in 0..ROOM * 4 {
        assert_eq!(map.update(key, u64::from(key), Mode::Any), Ok(()));
        assert_eq!(map.lookup(key), Ok(Some(u64::from(key))), "the newest is there");
    }
    assert!(map.count() <= ROOM as usize);
    assert_eq!(map.lookup(0), Ok(None), "the oldest is not");
}

/// A trie gives the longest prefix; removing it uncovers the next. `key(bits, length)` makes keys.
pub fn a_trie_finds_the_longest_prefix<K: Copy + Prefix>(
    map: &impl RawMap<K, u64>,
    key: impl Fn(u32, u32) -> K,
) {
    let address = key(0x0a01_0203, 32);
    for (bits, length) in [(0, 0), (0x0a00_0000, 8), (0x0a01_0000, 16), (0x0a01_0203, 32), (0x0b00_0000, 8)] {
        assert_eq!(map.update(key(bits, length), u64::from(length), Mode::Any), Ok(()));
    }
    for (bits, length) in [(0x0a01_0203, 32), (0x0a01_0000, 16), (0x0a00_0000, 8), (0, 0)] {
        assert_eq!(map.lookup(address), Ok(Some(u64::from(length))));
        assert_eq!(map.remove(key(bits, length)), Ok(()));
    }
    assert_eq!(map.lookup(address), Ok(None));
    assert_eq!(map.remove(key(0, 0)), Err(ENOENT));
    assert_eq!(map.count(), 1);
}

/// Keys that differ in no significant bit are one key; the same bits with another length are another.
pub fn a_trie_has_one_element_for_each_prefix<K: Copy + Prefix>(
    map: &impl RawMap<K, u64>,
    key: impl Fn(u32, u32) -> K,
) {
    assert_eq!(map.update(key(0x0a01_0000, 16), 1, Mode::Any), Ok(()));
    assert_eq!(map.update(key(0x0a01_0000, 16), 2, Mode::Any), Ok(()));
    assert_eq!(map.update(key(0x0a01_0000, 17), 3, Mode::Any), Ok(()));
    assert_eq!(map.count(), 2);
    assert_eq!(map.lookup(key(0x0a01_8000, 32)), Ok(Some(2)));
    assert_eq!(map.lookup(key(0x0a01_7fff, 32)), Ok(Some(3)));
}

/// The reconciler's table over a hash.
pub fn a_table_reports_what_failed_and_goes_on(table: &mut impl Table<u32, u64>) {
    let entries: Vec<(u32, u64)> = (0..ROOM + 3).map(|key| (key, u64::from(key))).collect();
    let failed = table.upsert(&entries);
    assert_eq!(failed.len(), 3);
    assert!(failed.iter().all(|(index, error)| *index >= ROOM as usize && *error == TableError::Full));
    assert!(table.upsert(&[(3, 33)]).is_empty(), "replacing needs no room");
    assert!(table.delete(&[1, 1000, 2]).is_empty(), "removing what is not there is no failure");
    assert!(table.upsert(&[(1000, 5)]).is_empty());
    let mut listed = table.list().expect("a readable table");
    listed.sort_unstable();
    let mut expected: Vec<(u32, u64)> =
        (0..ROOM).filter(|key| ![1, 2].contains(key)).map(|key| (key, u64::from(key))).collect();
    expected[1].1 = 33;
    expected.push((1000, 5));
    assert_eq!(listed, expected);
}

/// The reconciler's table over an array: zeroes are no element.
pub fn an_array_lists_what_is_not_zero(table: &mut impl Table<u32, u64>) {
    assert_eq!(table.list(), Ok(Vec::new()));
    assert!(table.upsert(&[(2, 7), (5, 8), (2, 9)]).is_empty());
    let mut listed = table.list().expect("a readable table");
    listed.sort_unstable();
    assert_eq!(listed, [(2, 9), (5, 8)]);
    assert!(table.delete(&[2, 3]).is_empty());
    assert_eq!(table.list(), Ok(vec![(5, 8)]));
}

/// A table of many elements is listed whole.
pub fn a_large_table_is_listed_whole(table: &mut impl Table<u32, u64>, size: u32) {
    let entries: Vec<(u32, u64)> = (0..size).map(|key| (key, u64::from(key) + 1)).collect();
    assert!(table.upsert(&entries).is_empty());
    let mut listed = table.list().expect("a readable table");
    listed.sort_unstable();
    assert!(listed == entries, "{} of {size} elements, or others", listed.len());
}
