//! Maps under their names: found again, put back, larger and smaller.

use super::{Pins, passing};
use std::path::Path;
use tortie_abi::flow::State;
use tortie_abi::maps::{ALL, FLOW4, MapSpec, ROUTE4, ROUTE6};
use tortie_abi::{Tick, v4};
use tortie_host::bpf::{self, Map, MapDef, Update};
use tortie_host::bpffs;
use tortie_host::maps::{Maps, MapsError, Size, Sizes, pin_name};
use zerocopy::{FromBytes as _, IntoBytes as _};

#[test]
fn a_map_that_lost_its_pin_is_pinned_again_and_is_the_same_map() {
    let pins = Pins::new();
    let maps = Maps::open(&pins.0, &small()).expect("maps");
    assert!(maps.pin_again().is_empty());
    let ids = |maps: &Maps| maps.iter().map(|(name, map)| (name, map.info().id)).collect::<Vec<_>>();
    for spec in [FLOW4, ROUTE4] {
        std::fs::remove_file(pins.0.join("maps").join(pin_name(&spec))).expect("the pin");
    }
    let again = maps.pin_again();
    assert!(again.iter().all(|(_, result)| result.is_ok()), "{again:?}");
    assert_eq!(again.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["flow4", "route4"]);
    std::fs::remove_dir_all(pins.0.join("maps")).expect("all of them");
    assert_eq!(maps.pin_again().len(), ALL.len());
    assert!(maps.pin_again().is_empty());
    let next = Maps::open(&pins.0, &small()).expect("maps");
    assert!(next.created().is_empty(), "{:?}", next.created());
    assert_eq!(ids(&next), ids(&maps));
}

pub fn small() -> Sizes {
    ALL.iter()
        .filter(|spec| spec.max_entries > 4096 && !["policy", "rule_counter", "event"].contains(&spec.name))
        .map(|spec| (spec.name, Size::Fixed(4096)))
        .collect()
}

#[test]
fn maps_are_used_again_when_they_fit() {
    let pins = Pins::new();
    let first = Maps::open(&pins.0, &small()).expect("maps");
    assert_eq!(first.created().len(), ALL.len());
    let second = Maps::open(&pins.0, &small()).expect("maps");
    assert!(second.created().is_empty());
    for spec in ALL {
        let ids = [&first, &second].map(|maps| maps.get(spec.name).expect("map").info().id);
        assert_eq!(ids[0], ids[1], "{}", spec.name);
    }
}

#[test]
fn a_resized_map_keeps_its_content_and_one_that_is_too_full_keeps_its_size() {
    let pins = Pins::new();
    let maps = Maps::open(&pins.0, &small()).expect("maps");
    let flows = maps.get("flow4").expect("map");
    let (key_bytes, value_bytes) = (FLOW4.key_bytes as usize, FLOW4.value_bytes as usize);
    for number in 0..100u8 {
        flows.update(&vec![number; key_bytes], &vec![number; value_bytes], Update::Any).expect("update");
    }
    let mut larger = small();
    larger.insert("flow4", Size::Fixed(8192));
    let mut maps = Maps::open(&pins.0, &larger).expect("maps");
    maps.leave_followed().expect("leave");
    assert_eq!(maps.created(), ["flow4"]);
    let flows = maps.get("flow4").expect("map");
    assert_eq!(flows.info().max_entries, 8192);
    let mut value = vec![0; value_bytes];
    for number in 0..100u8 {
        assert!(flows.lookup(&vec![number; key_bytes], &mut value).expect("lookup"));
        assert_eq!(value[0], number);
    }
    larger.insert("flow4", Size::Fixed(50));
    let maps = Maps::open(&pins.0, &larger).expect("maps");
    assert_eq!(maps.kept_size(), [("flow4", 8192)]);
    assert!(maps.created().is_empty());
}

/// Which says otherwise than a hash table that it is full.
#[test]
fn a_table_of_routes_that_holds_more_than_its_new_size_keeps_the_old_one() {
    let pins = Pins::new();
    let mut sizes = small();
    sizes.insert("route4", Size::Fixed(64));
    let maps = Maps::open(&pins.0, &sizes).expect("maps");
    let routes = maps.get("route4").expect("map");
    for last in 0..20u8 {
        let key = [32, 0, 0, 0, 10, 0, 0, last];
        routes.update(&key, &vec![0; ROUTE4.value_bytes as usize], Update::Any).expect("update");
    }
    for (size, kept) in [(4, &[("route4", 64)][..]), (20, &[])] {
        sizes.insert("route4", Size::Fixed(size));
        let maps = Maps::open(&pins.0, &sizes).expect("maps");
        assert_eq!(maps.kept_size(), kept, "{size}");
        assert_eq!(maps.get("route4").expect("map").count().expect("count"), 20);
    }
}

#[test]
fn a_pin_that_is_something_else_is_named_and_not_touched() {
    let pins = Pins::new();
    let path = pins.0.join("maps").join(pin_name(&ROUTE4));
    std::fs::create_dir_all(path.parent().expect("a directory")).expect("directory");
    let def = MapDef { name: "other", kind: 1, key_bytes: 4, value_bytes: 4, max_entries: 1, flags: 0 };
    let other = Map::create(&def).expect("map");
    bpf::pin(&other, &path).expect("pin");
    let error = Maps::open(&pins.0, &small()).expect_err("another definition");
    assert!(matches!(error, MapsError::OtherDefinition { .. }), "{error}");
    assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    assert_eq!(bpf::get_map(&path).expect("still there").info().id, other.info().id);
    // A program under a map's name, too.
    std::fs::remove_file(&path).expect("remove");
    bpf::pin(&passing("odd"), &path).expect("pin");
    let error = Maps::open(&pins.0, &small()).expect_err("no map");
    assert!(matches!(error, MapsError::OtherDefinition { .. }), "{error}");
}

#[test]
fn maps_of_other_versions_go_and_strangers_stay() {
    let pins = Pins::new();
    Maps::open(&pins.0, &small()).expect("maps");
    let def = MapDef { name: "old", kind: 1, key_bytes: 4, value_bytes: 4, max_entries: 1, flags: 0 };
    let old = Map::create(&def).expect("map");
    for name in ["flow4_v0", "stranger"] {
        bpf::pin(&old, &pins.0.join("maps").join(name)).expect("pin");
    }
    assert_eq!(Maps::remove_outdated(&pins.0).expect("remove"), ["flow4_v0"]);
    assert!(pins.0.join("maps/stranger").exists() && pins.0.join("maps").join(pin_name(&FLOW4)).exists());
}

#[test]
fn a_directory_elsewhere_is_refused_with_what_to_do() {
    let error = bpffs::ensure(Path::new("/tmp/not-a-bpf-file-system")).expect_err("not a BPF file system");
    assert!(error.to_string().contains("mount -t bpf"), "{error}");
}

/// An element of the flow table that a test tells from others.
fn element(number: u8) -> [Vec<u8>; 2] {
    [vec![number; FLOW4.key_bytes as usize], vec![number; FLOW4.value_bytes as usize]]
}

fn put(map: &Map, number: u8) {
    let [key, value] = element(number);
    map.update(&key, &value, Update::Any).expect("update");
}

fn has(map: &Map, number: u8) -> bool {
    let [key, mut value] = element(number);
    map.lookup(&key, &mut value).expect("lookup")
}

fn growing(least: u32) -> Sizes {
    let mut sizes = small();
    sizes.insert("flow4", Size::Growing { least, needed: 0, is_new: false });
    sizes
}

fn followed(pins: &Pins, spec: &MapSpec) -> bool {
    pins.0.join("maps").join(format!("{}_old", pin_name(spec))).exists()
}

#[test]
fn a_crowded_map_is_followed_by_a_larger_one_that_catches_up_with_it() {
    let pins = Pins::new();
    let maps = Maps::open(&pins.0, &growing(32)).expect("maps");
    let before = maps.get("flow4").expect("map");
    (0..24).for_each(|number| put(before, number));
    let same = Maps::open(&pins.0, &growing(32)).expect("maps");
    assert!(same.created().is_empty(), "three quarters are not too many");
    put(before, 24);
    let mut larger = Maps::open(&pins.0, &growing(32)).expect("maps");
    assert_eq!(
        (larger.created(), larger.get("flow4").expect("map").info().max_entries),
        (&["flow4"][..], 64)
    );
    assert!(followed(&pins, &FLOW4));
    // Programs are still those of the map before.
    put(before, 25);
    larger.catch_up().expect("catch up");
    put(before, 26);
    larger.leave_followed().expect("leave");
    assert!(!followed(&pins, &FLOW4));
    put(before, 27);
    larger.catch_up().expect("nothing to catch up with");
    let after = larger.get("flow4").expect("map");
    let there: Vec<u8> = (0..28).filter(|number| has(after, *number)).collect();
    assert_eq!(there, (0..27).collect::<Vec<_>>());
}

/// A flow whose last packet came then.
fn seen(map: &Map, number: u8, at: u32) {
    let mut pair = v4::FlowPair::NONE;
    pair.ways[0].core.state = State::Established as u8;
    pair.ways[0].core.last_seen = Tick(at);
    map.update(&element(number)[0], pair.as_bytes(), Update::Any).expect("update");
}

fn last_seen(map: &Map, number: u8) -> Tick {
    let [key, mut value] = element(number);
    assert!(map.lookup(&key, &mut value).expect("lookup"));
    v4::FlowPair::read_from_bytes(&value).expect("a flow").ways[0].core.last_seen
}

#[test]
fn of_a_flow_that_both_maps_have_the_later_one_counts() {
    let pins = Pins::new();
    let maps = Maps::open(&pins.0, &growing(32)).expect("maps");
    let before = maps.get("flow4").expect("map");
    (0..25).for_each(|number| seen(before, number, 10));
    let larger = Maps::open(&pins.0, &growing(32)).expect("maps");
    let after = larger.get("flow4").expect("map");
    seen(after, 3, 12);
    seen(before, 3, 11);
    seen(before, 4, 11);
    // The clock's ticks begin again from time to time.
    seen(before, 5, u32::MAX);
    seen(after, 5, 3);
    larger.catch_up().expect("catch up");
    assert_eq!([3, 4, 5, 6].map(|number| last_seen(after, number).0), [12, 11, 3, 10]);
}

#[test]
fn a_smaller_map_that_fills_meanwhile_takes_what_it_can() {
    let pins = Pins::new();
    let maps = Maps::open(&pins.0, &growing(64)).expect("maps");
    let before = maps.get("flow4").expect("map");
    (0..20).for_each(|number| put(before, number));
    let mut smaller = small();
    smaller.insert("flow4", Size::Fixed(20));
    let kept = Maps::open(&pins.0, &smaller).expect("maps");
    assert_eq!(kept.kept_size(), [("flow4", 64)], "it would be crowded at once");
    smaller.insert("flow4", Size::Fixed(32));
    let mut maps = Maps::open(&pins.0, &smaller).expect("maps");
    (20..50).for_each(|number| put(before, number));
    maps.leave_followed().expect("leave");
    let after = maps.get("flow4").expect("map");
    assert_eq!((after.info().max_entries, after.count().expect("count")), (32, 32));
    assert!(!followed(&pins, &FLOW4));
}

#[test]
fn a_table_that_grew_takes_the_smaller_size_that_somebody_chose_once_it_fits() {
    let pins = Pins::new();
    let maps = Maps::open(&pins.0, &growing(32)).expect("maps");
    (0..25).for_each(|number| put(maps.get("flow4").expect("map"), number));
    let mut maps = Maps::open(&pins.0, &growing(32)).expect("maps");
    maps.leave_followed().expect("leave");
    let chosen = |least| {
        let mut sizes = small();
        sizes.insert("flow4", Size::Growing { least, needed: 0, is_new: true });
        let mut maps = Maps::open(&pins.0, &sizes).expect("maps");
        maps.leave_followed().expect("leave");
        (maps.get("flow4").expect("map").info().max_entries, maps.kept_size().to_vec())
    };
    assert_eq!(chosen(16), (64, vec![("flow4", 64)]), "it would be crowded at once");
    let flows = maps.get("flow4").expect("map");
    (0..13).for_each(|number| assert!(flows.delete(&element(number)[0]).expect("delete")));
    assert_eq!(chosen(16), (16, vec![]));
    let after = Maps::open(&pins.0, &growing(16)).expect("maps");
    assert!((13..25).all(|number| has(after.get("flow4").expect("map"), number)));
}

#[test]
fn an_agent_that_dies_before_its_programs_are_in_force_loses_no_flow_to_the_larger_map() {
    let pins = Pins::new();
    let maps = Maps::open(&pins.0, &growing(32)).expect("maps");
    let before = maps.get("flow4").expect("map");
    (0..25).for_each(|number| put(before, number));
    drop(Maps::open(&pins.0, &growing(32)).expect("maps"));
    put(before, 25);
    // Others of that directory go, this one does not.
    assert_eq!(Maps::remove_outdated(&pins.0).expect("outdated"), Vec::<String>::new());
    let mut next = Maps::open(&pins.0, &growing(128)).expect("maps");
    assert_eq!(next.get("flow4").expect("map").info().max_entries, 64, "one step at a time");
    assert!(!next.has_wanted_size("flow4") && next.has_wanted_size("flow6"));
    next.leave_followed().expect("leave");
    assert!(has(next.get("flow4").expect("map"), 25));
    assert!(!followed(&pins, &FLOW4));
    assert_eq!(Maps::open(&pins.0, &growing(128)).expect("maps").created(), ["flow4"]);
}

#[test]
fn only_maps_that_programs_write_are_kept_after_others_have_followed() {
    let pins = Pins::new();
    let mut sizes = small();
    Maps::open(&pins.0, &sizes).expect("maps");
    sizes.insert("frontend6", Size::Growing { least: 4096, needed: 4000, is_new: false });
    sizes.insert("route6", Size::Fixed(8192));
    let maps = Maps::open(&pins.0, &sizes).expect("maps");
    let size = |name| maps.get(name).expect("map").info().max_entries;
    assert_eq!([size("frontend6"), size("route6")], [8192, 8192]);
    assert!(!followed(&pins, &ROUTE6));
}
