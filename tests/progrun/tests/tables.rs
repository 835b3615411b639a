//! The kernel's maps keep the contract that the stand-in keeps. Needs root.

use std::os::fd::AsFd as _;
use tortie_abi::v4;
use tortie_host::bpf::{Map, MapDef, Update};
use tortie_host::maps::{Maps, Sizes};
use tortie_host::tables::BpfTable;
use tortie_reconcile::Table as _;
use tortie_testkit::fake_table::{Mode, Prefix, RawMap, contract};
use zerocopy::{FromBytes as _, Immutable, IntoBytes};

const HASH: u32 = 1;
const ARRAY: u32 = 2;
const LRU: u32 = 9;
const TRIE: u32 = 11;
const NO_PREALLOC: u32 = 1;
/// Each CPU has its own list of free elements: a small LRU map drops early.
const NO_COMMON_LRU: u32 = 1 << 1;

fn map(kind: u32, key_bytes: u32, max_entries: u32, flags: u32) -> Map {
    let def = MapDef { name: "tt_contract", kind, key_bytes, value_bytes: 8, max_entries, flags };
    Map::create(&def).expect("creating a map needs root (CAP_BPF)")
}

#[derive(Clone, Copy, PartialEq, IntoBytes, Immutable)]
#[repr(transparent)]
struct Key(v4::PrefixKey);

fn key(bits: u32, length: u32) -> Key {
    Key(v4::PrefixKey { prefix_length: length, address: std::net::Ipv4Addr::from(bits).into() })
}

impl Prefix for Key {
    fn length(&self) -> u32 {
        self.0.prefix_length
    }

    fn contains(&self, _: &Self) -> bool {
        unreachable!("the kernel compares")
    }
}

struct Real(Map);

impl<K: IntoBytes + Immutable> RawMap<K, u64> for Real {
    fn update(&self, key: K, value: u64, mode: Mode) -> Result<(), i32> {
        let mode = match mode {
            Mode::Any => Update::Any,
            Mode::Create => Update::Create,
            Mode::Replace => Update::Replace,
        };
        self.0.update(key.as_bytes(), value.as_bytes(), mode).map_err(|e| e.raw_os_error().unwrap())
    }

    fn remove(&self, key: K) -> Result<(), i32> {
        match self.0.delete(key.as_bytes()) {
            Ok(true) => Ok(()),
            Ok(false) => Err(2),
            Err(error) => Err(error.raw_os_error().unwrap()),
        }
    }

    fn lookup(&self, key: K) -> Result<Option<u64>, i32> {
        let mut value = [0; 8];
        match self.0.lookup(key.as_bytes(), &mut value) {
            Ok(found) => Ok(found.then(|| u64::read_from_bytes(&value).unwrap())),
            Err(error) => Err(error.raw_os_error().unwrap()),
        }
    }

    fn count(&self) -> usize {
        let mut next = vec![0; self.0.info().key_bytes as usize];
        let mut previous: Option<Vec<u8>> = None;
        let mut count = 0;
        while self.0.next_key(previous.as_deref(), &mut next).unwrap() {
            previous = Some(next.clone());
            count += 1;
        }
        count
    }
}

fn real(kind: u32, flags: u32) -> Real {
    Real(map(kind, 4, contract::ROOM, flags))
}

#[test]
fn hash_tables_keep_the_contract() {
    for flags in [0, NO_PREALLOC] {
        contract::existence_is_respected(&real(HASH, flags));
        contract::a_full_hash_refuses_new_keys(&real(HASH, flags));
    }
}

#[test]
fn lru_tables_keep_the_contract() {
    contract::existence_is_respected(&real(LRU, 0));
    contract::a_full_lru_drops_old_keys(&real(LRU, NO_COMMON_LRU));
}

#[test]
fn tries_keep_the_contract() {
    let trie = || Real(map(TRIE, 8, contract::ROOM, NO_PREALLOC));
    contract::a_trie_finds_the_longest_prefix(&trie(), key);
    contract::a_trie_has_one_element_for_each_prefix(&trie(), key);
}

#[test]
fn the_reconcilers_tables_keep_the_contract() {
    let table = |kind, max, flags| BpfTable::<u32, u64>::new(map(kind, 4, max, flags)).expect("sizes fit");
    for flags in [0, NO_PREALLOC] {
        contract::a_table_reports_what_failed_and_goes_on(&mut table(HASH, contract::ROOM, flags));
    }
    contract::an_array_lists_what_is_not_zero(&mut table(ARRAY, contract::ROOM, 0));
    contract::a_large_table_is_listed_whole(&mut table(HASH, 50_000, NO_PREALLOC), 50_000);
    contract::a_large_table_is_listed_whole(&mut table(ARRAY, 10_000, 0), 10_000);
}

/// Unread, it is empty by its word; whatever happens to it from then on is seen.
#[test]
fn a_new_map_is_read_from_the_second_time_on_or_once_it_is_written() {
    let new = || {
        let map = map(HASH, 4, 8, NO_PREALLOC);
        let of_others = Real(map.try_clone().expect("another descriptor"));
        (BpfTable::<u32, u64>::of_new(map).expect("sizes fit"), of_others)
    };
    let (mut table, of_others) = new();
    assert_eq!(table.list(), Ok(vec![]));
    of_others.update(1u32, 10, Mode::Any).expect("room");
    assert_eq!(table.list(), Ok(vec![(1, 10)]));

    let (mut table, _) = new();
    assert_eq!(table.upsert(&[(2, 20)]), []);
    assert_eq!(table.list(), Ok(vec![(2, 20)]));
}

#[test]
fn maps_are_new_to_the_first_who_asks() {
    let maps = Maps::anonymous(&Sizes::new()).expect("maps");
    assert_eq!(maps.take_new().len(), tortie_abi::maps::ALL.len());
    assert_eq!(maps.take_new(), Vec::<&str>::new());
}

#[test]
fn a_map_of_other_sizes_is_no_such_table() {
    let map = map(HASH, 4, 8, 0);
    assert!(map.as_fd().try_clone_to_owned().is_ok());
    assert!(BpfTable::<u64, u64>::new(map).is_err());
}
