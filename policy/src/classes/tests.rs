//! Sentences about classes, and random histories against brute force.

use super::*;
use crate::evaluate::Members;
use proptest::prelude::*;

fn net(text: &str) -> Member {
    text.parse().unwrap()
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn sets(classes: &Classes, text: &str) -> Vec<u32> {
    classes.sets_of(classes.class_of(address(text))).unwrap().iter().map(|set| set.0).collect()
}

#[test]
fn an_entry_includes_the_memberships_of_the_prefixes_around_it() {
    let mut classes = Classes::new();
    classes.update(SetId(1), &[net("10.0.0.0/8")], &[]);
    classes.update(SetId(2), &[net("10.1.0.0/16")], &[]);
    classes.update(SetId(3), &[net("10.1.0.1/32")], &[]);
    assert_eq!(sets(&classes, "10.1.0.1"), [1, 2, 3]);
    assert_eq!(sets(&classes, "10.1.0.2"), [1, 2]);
    assert_eq!(sets(&classes, "10.2.0.0"), [1]);
    assert_eq!(classes.class_of(address("11.0.0.0")), NO_CLASS);
    assert_eq!(classes.class_of(address("::a01:1")), NO_CLASS, "families are apart");
}

#[test]
fn addresses_with_equal_memberships_share_a_class_across_families() {
    let mut classes = Classes::new();
    classes.update(SetId(1), &[net("10.0.0.1/32"), net("fd00::/8")], &[]);
    assert_eq!(classes.class_of(address("10.0.0.1")), classes.class_of(address("fd12::1")));
    assert_eq!(classes.take_changes().born.len(), 1);
}

#[test]
fn a_prefix_that_comes_and_goes_changes_what_it_covers_and_says_how_much_that_was() {
    let mut classes = Classes::new();
    let pods: Vec<Member> = (0..100u8).map(|i| net(&format!("10.0.0.{i}/32"))).collect();
    classes.update(SetId(1), &pods, &[]);
    classes.take_changes();
    classes.update(SetId(2), &[net("10.0.0.0/24")], &[]);
    let changes = classes.take_changes();
    assert_eq!((changes.born.len(), changes.retired.len()), (2, 1), "{changes:?}");
    assert_eq!((changes.entries.len(), changes.visited), (101, 101));
    classes.update(SetId(2), &[], &[net("10.0.0.0/24")]);
    assert_eq!(classes.take_changes().entries.len(), 101);
    assert_eq!(sets(&classes, "10.0.0.7"), [1]);
}

#[test]
fn one_member_among_a_hundred_thousand_costs_one_entry() {
    let mut classes = Classes::new();
    let pod = |i: u32| Member::from(IpAddr::V4(std::net::Ipv4Addr::from_bits(0x0a00_0000 + i)));
    classes.update(SetId(1), &(0..100_000).map(pod).collect::<Vec<_>>(), &[]);
    classes.take_changes();
    classes.update(SetId(2), &[pod(5)], &[]);
    let changes = classes.take_changes();
    assert_eq!((changes.entries.len(), changes.visited), (1, 1));
}

#[test]
fn a_retired_number_is_not_given_out_before_it_is_recycled() {
    let mut classes = Classes::new();
    classes.update(SetId(1), &[net("10.0.0.1/32")], &[]);
    let first = classes.take_changes().born[0].0;
    classes.remove(SetId(1));
    assert_eq!(classes.take_changes().retired, [first]);
    classes.update(SetId(2), &[net("10.0.0.2/32")], &[]);
    assert_ne!(classes.take_changes().born[0].0, first);
    classes.recycle(&[first]);
    classes.update(SetId(3), &[net("10.0.0.3/32")], &[]);
    assert_eq!(classes.take_changes().born[0].0, first);
}

#[test]
fn a_change_and_its_opposite_are_no_change() {
    let mut classes = Classes::new();
    classes.update(SetId(1), &[net("10.0.0.0/8"), net("10.0.0.1/32")], &[]);
    classes.take_changes();
    classes.update(SetId(2), &[net("10.0.0.0/9")], &[]);
    classes.update(SetId(2), &[], &[net("10.0.0.0/9")]);
    assert!(classes.take_changes().is_empty());
}

#[test]
fn adding_twice_and_removing_what_is_not_there_do_nothing() {
    let mut classes = Classes::new();
    classes.update(SetId(1), &[net("10.0.0.1/8"), net("10.0.0.0/8")], &[net("1.1.1.1/32")]);
    classes.update(SetId(1), &[], &[net("10.9.9.9/8")]);
    assert!(classes.take_changes().is_empty());
    assert_eq!(classes.entries(), (0, 0));
}

/// What the kernel holds: only what the changes said.
#[derive(Default)]
struct Kernel {
    addresses: BTreeMap<IpAddr, ClassId>,
    nets: BTreeMap<IpNet, ClassId>,
    classes: BTreeMap<ClassId, Vec<SetId>>,
}

impl Kernel {
    fn apply(&mut self, changes: &Changes) {
        for (class, sets) in &changes.born {
            assert!(self.classes.insert(*class, sets.to_vec()).is_none(), "class {class} was in use");
        }
        for change in &changes.entries {
            match *change {
                ClassChange::Address { address, class: Some(class) } => {
                    self.addresses.insert(address, class);
                }
                ClassChange::Address { address, class: None } => {
                    self.addresses.remove(&address).expect("deletes what is there");
                }
                ClassChange::Prefix { net, class: Some(class) } => {
                    self.nets.insert(net, class);
                }
                ClassChange::Prefix { net, class: None } => {
                    self.nets.remove(&net).expect("deletes what is there");
                }
            }
        }
        for class in &changes.retired {
            self.classes.remove(class).expect("only a known class retires");
        }
    }

    fn sets(&self, address: IpAddr) -> Vec<SetId> {
        let longest = || {
            let nets = self.nets.iter().filter(|(net, _)| net.contains(&address));
            nets.max_by_key(|(net, _)| net.prefix_len()).map(|(_, class)| *class)
        };
        match self.addresses.get(&address).copied().or_else(longest) {
            Some(class) => self.classes[&class].clone(),
            None => Vec::new(),
        }
    }
}

#[derive(Clone, Debug)]
enum Operation {
    Update(SetId, Vec<Member>, Vec<Member>),
    Remove(SetId),
    Apply { recycle: bool },
}

/// Few addresses and many lengths, so that entries meet.
fn member() -> impl Strategy<Value = Member> {
    let v4 = (0..8u32, prop::sample::select(vec![0u8, 8, 28, 29, 30, 31, 32, 32, 32])).prop_map(
        |(low, length)| IpNet::new(std::net::Ipv4Addr::from_bits(0x0a00_0000 | low).into(), length).unwrap(),
    );
    let v6 = (0..8u128, prop::sample::select(vec![0u8, 64, 126, 127, 128, 128])).prop_map(|(low, length)| {
        IpNet::new(std::net::Ipv6Addr::from_bits(0xfd00 << 112 | low).into(), length).unwrap()
    });
    prop_oneof![v4, v6]
}

fn operation() -> impl Strategy<Value = Operation> {
    let set = || (0..6u32).prop_map(SetId);
    let members = || prop::collection::vec(member(), 0..5);
    prop_oneof![
        6 => (set(), members(), members()).prop_map(|(set, add, remove)| Operation::Update(set, add, remove)),
        1 => set().prop_map(Operation::Remove),
        2 => any::<bool>().prop_map(|recycle| Operation::Apply { recycle }),
    ]
}

fn probes() -> Vec<IpAddr> {
    let v4 = (0..10u32).map(|low| IpAddr::V4(std::net::Ipv4Addr::from_bits(0x0a00_0000 | low)));
    let v6 = (0..10u128).map(|low| IpAddr::V6(std::net::Ipv6Addr::from_bits(0xfd00 << 112 | low)));
    v4.chain(v6).chain([address("11.0.0.1"), address("fe80::1")]).collect()
}

proptest! {
    #[test]
    fn after_any_history_the_kernel_maps_give_the_memberships(history in prop::collection::vec(operation(), 1..40)) {
        let (mut classes, mut members, mut kernel) = (Classes::new(), Members::default(), Kernel::default());
        for operation in history.iter().chain([&Operation::Apply { recycle: true }]) {
            match operation {
                Operation::Update(set, add, remove) => {
                    classes.update(*set, add, remove);
                    let now = members.sets.entry(*set).or_default();
                    now.retain(|member| !remove.iter().any(|r| r.trunc() == *member));
                    add.iter().map(IpNet::trunc).for_each(|m| if !now.contains(&m) { now.push(m) });
                }
                Operation::Remove(set) => {
                    classes.remove(*set);
                    members.sets.remove(set);
                }
                Operation::Apply { recycle } => {
                    let changes = classes.take_changes();
                    kernel.apply(&changes);
                    if *recycle {
                        classes.recycle(&changes.retired);
                    }
                    for address in probes() {
                        prop_assert_eq!(kernel.sets(address), members.of(address));
                    }
                }
            }
            for address in probes() {
                prop_assert_eq!(classes.sets_of(classes.class_of(address)).unwrap(), members.of(address));
            }
        }
        prop_assert_eq!(classes.dump().len(), kernel.addresses.len() + kernel.nets.len());
        prop_assert_eq!(classes.iter().count(), kernel.classes.len() + 1);
    }
}

#[test]
fn after_a_restart_classes_take_the_numbers_that_the_tables_have() {
    let mut classes = Classes::new();
    classes.update(SetId(1), &[net("10.0.0.1/32"), net("10.0.0.2/32")], &[]);
    classes.update(SetId(2), &[net("10.0.0.2/32"), net("10.3.0.0/16")], &[]);
    classes.update(SetId(3), &[net("10.0.0.3/32")], &[]);
    let before = [classes.class_of(address("10.0.0.1")), classes.class_of(address("10.0.0.2"))];
    let wish = BTreeMap::from([(before[0], 9), (before[1], before[0])]);
    classes.renumber(&wish, &BTreeSet::from([before[0], before[1], 1, 2, 3, 9]));
    assert_eq!(classes.class_of(address("10.0.0.1")), 9);
    assert_eq!(classes.class_of(address("10.0.0.2")), before[0]);
    assert_eq!(sets(&classes, "10.0.0.2"), [1, 2]);
    assert_eq!(sets(&classes, "10.3.0.1"), [2]);
    assert!(classes.class_of(address("10.0.0.3")) > 3, "reserved numbers stay unused");
    let changes = classes.take_changes();
    assert_eq!(changes.entries.len(), 4);
    assert!(changes.born.iter().all(|(class, sets)| classes.sets_of(*class) == Some(&**sets)));
    classes.update(SetId(4), &[net("10.0.0.4/32")], &[]);
    let born = classes.take_changes().born;
    assert!(!born.is_empty() && classes.sets_of(born[0].0) == Some(&[SetId(4)][..]));
}

#[test]
fn a_number_that_the_kernel_still_knows_is_never_given_out_after_a_restart() {
    let mut classes = Classes::new();
    classes.update(SetId(1), &[net("10.0.0.1/32")], &[]);
    classes.renumber(&BTreeMap::new(), &BTreeSet::from([2, 5]));
    classes.update(SetId(2), &(10..20).map(|n| net(&format!("10.0.0.{n}/32"))).collect::<Vec<_>>(), &[]);
    (10..19u32).for_each(|n| classes.update(SetId(n), &[net(&format!("10.0.0.{n}/32"))], &[]));
    let numbers: Vec<ClassId> = classes.take_changes().born.iter().map(|(class, _)| *class).collect();
    assert_eq!(numbers, [1, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13], "neither 2 nor 5");
}
