//! The stand-in passes the contract of the kernel's maps.

use tortie_abi::v4;
use tortie_testkit::fake_table::{FakeTable, Faults, Kind, Mode, Prefix, RawMap as _, contract};

const ROOM: usize = contract::ROOM as usize;

fn table(kind: Kind) -> FakeTable<u32, u64> {
    FakeTable::new(kind, ROOM, &Faults::default())
}

#[derive(Clone, Copy, PartialEq)]
struct Key(v4::PrefixKey);

fn key(bits: u32, length: u32) -> Key {
    Key(v4::PrefixKey { prefix_length: length, address: std::net::Ipv4Addr::from(bits).into() })
}

impl Prefix for Key {
    fn length(&self) -> u32 {
        self.0.prefix_length
    }

    fn contains(&self, other: &Self) -> bool {
        let bits = |key: &Self| u32::from_be_bytes(key.0.address.octets());
        let differ = (bits(self) ^ bits(other)).checked_shr(32 - self.length()).unwrap_or(0);
        self.length() <= other.length() && differ == 0
    }
}

#[test]
fn the_stand_in_keeps_the_contract() {
    contract::existence_is_respected(&table(Kind::Hash));
    contract::a_full_hash_refuses_new_keys(&table(Kind::Hash));
    contract::a_full_lru_drops_old_keys(&table(Kind::Lru));
    contract::a_trie_finds_the_longest_prefix(&FakeTable::trie(ROOM, &Faults::default()), key);
    contract::a_trie_has_one_element_for_each_prefix(&FakeTable::trie(ROOM, &Faults::default()), key);
    contract::a_table_reports_what_failed_and_goes_on(&mut table(Kind::Hash));
    contract::an_array_lists_what_is_not_zero(&mut table(Kind::Array));
    contract::a_large_table_is_listed_whole(&mut FakeTable::new(Kind::Hash, 3000, &Faults::default()), 3000);
}

#[test]
fn faults_come_when_they_are_asked_for_and_change_nothing() {
    let faults = Faults::default();
    let table: FakeTable<u32, u64> = FakeTable::new(Kind::Hash, ROOM, &faults);
    faults.fail_at(1);
    assert_eq!(table.update(1, 1, Mode::Any), Ok(()));
    assert_eq!(table.update(2, 2, Mode::Any), Err(5));
    assert_eq!(table.update(3, 3, Mode::Any), Ok(()));
    faults.die_at(1);
    assert_eq!(table.remove(1), Ok(()));
    assert_eq!(table.remove(3), Err(5));
    assert_eq!(table.update(4, 4, Mode::Any), Err(5));
    faults.clear();
    assert_eq!(table.count(), 1);
}
