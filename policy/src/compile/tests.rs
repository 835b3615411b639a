//! Sentences about the choice of form, bounds, and classes that come later.

use super::*;
use crate::evaluate::evaluate;
use crate::form::{Action, Clause, Direction, Member, Origin, PortRange, Protocol, Rule};
use crate::synthetic::{Shape, Synthetic};
use crate::testing::interpreter::Machine;
use crate::testing::world::Source;
use crate::testing::{policy_io, rule_id};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

fn rule(policy: &str, sets: &[u32], port: u16) -> Rule {
    Rule {
        action: Action::Allow,
        family: None,
        protocol: Protocol::Is(6),
        remote: vec![Clause { sets: sets.iter().map(|set| SetId(*set)).collect(), negated: false }],
        destination_ports: vec![PortRange { first: port, last: port }],
        not_destination_ports: Vec::new(),
        source_ports: Vec::new(),
        not_source_ports: Vec::new(),
        icmp: None,
        origin: Arc::new(Origin {
            tier: "default".into(),
            policy: policy.into(),
            rule: 0,
            ..Origin::default()
        }),
    }
}

fn list(rules: Vec<Rule>) -> List {
    List { direction: Direction::Ingress, policies: Vec::new(), rules, default: Action::Deny }
}

fn pod(number: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + number))
}

/// Pod n is in set n.
fn classes(pods: u32) -> Classes {
    let mut classes = Classes::new();
    (0..pods).for_each(|n| classes.update(SetId(n), &[Member::from(pod(n))], &[]));
    classes.take_changes();
    classes
}

fn made(list: &List, classes: &Classes, limits: &Limits) -> (CompiledList, Compiled) {
    compile(list, classes, &rule_id, limits).expect("it fits")
}

#[test]
fn a_table_is_chosen_while_rows_times_columns_fit() {
    let (list, classes) = (list(vec![rule("a", &[0], 80), rule("a", &[1], 81)]), classes(3));
    let with = |cells| made(&list, &classes, &Limits { cells, ..Limits::default() }).1;
    let table = with(9);
    assert_eq!((table.form, table.rows, table.columns), (Form::Table, 3, 3));
    assert_eq!(with(8).form, Form::Vectors);
}

#[test]
fn a_chain_longer_than_allowed_makes_vectors() {
    let synthetic = Synthetic::new(Shape::SourcePorts, 500);
    let with = |chain| made(&synthetic.list, &Classes::new(), &Limits { chain, ..Limits::default() }).1.form;
    // No class is in any set: nothing to chain.
    assert_eq!(with(4), Form::Table);
    let classes = classes(100);
    let with = |chain| made(&synthetic.list, &classes, &Limits { chain, ..Limits::default() }).1.form;
    assert_eq!((with(4), with(1024)), (Form::Vectors, Form::Table));
}

#[test]
fn the_same_list_compiles_to_the_same_bytes() {
    let synthetic = Synthetic::new(Shape::Pairs, 200);
    let once = || made(&synthetic.list, &classes(200), &Limits::default()).1;
    assert_eq!(once(), once());
}

#[test]
fn a_class_with_a_known_row_is_one_write_and_a_known_class_none() {
    let list = list(vec![rule("a", &[0, 1], 80)]);
    let mut classes = classes(2);
    let (mut compiled, _) = made(&list, &classes, &Limits::default());
    classes.update(SetId(7), &[Member::from(pod(0))], &[]);
    let (class, sets) = classes.take_changes().born.remove(0);
    let Absorbed::Writes(writes) = compiled.absorb(class, &sets) else { panic!("there is room") };
    assert_eq!(writes.iter().map(|write| write.map).collect::<Vec<_>>(), [MapRef::Rows]);
    assert_eq!(compiled.absorb(class, &sets), Absorbed::Writes(Vec::new()));
}

#[test]
fn a_new_row_is_in_place_before_the_class_points_to_it() {
    for cells in [0, 1 << 20] {
        let list = list(vec![rule("a", &[0], 80), rule("a", &[1], 81)]);
        let (mut compiled, _) = made(&list, &classes(2), &Limits { cells, ..Limits::default() });
        let Absorbed::Writes(writes) = compiled.absorb(40, &[SetId(0), SetId(1)]) else {
            panic!("there is room")
        };
        let order: Vec<MapRef> = writes.iter().map(|write| write.map).collect();
        assert_eq!(order, [if cells == 0 { MapRef::RowBits } else { MapRef::Cells }, MapRef::Rows]);
    }
}

#[test]
fn a_class_beyond_the_table_and_a_row_too_many_ask_for_a_new_compilation() {
    let rules: Vec<Rule> = (0..200u32).map(|set| rule("a", &[set], 80 + set as u16)).collect();
    let (mut compiled, _) = made(&list(rules.clone()), &Classes::new(), &Limits::default());
    assert_eq!(compiled.absorb(64, &[SetId(0)]), Absorbed::Recompile);
    assert_eq!(compiled.absorb(1, &[]), Absorbed::Recompile, "once outgrown, always");
    let (mut compiled, _) = made(&list(rules), &Classes::new(), &Limits::default());
    let absorbed = (1..60).take_while(|n| compiled.absorb(*n, &[SetId(*n)]) != Absorbed::Recompile).count();
    assert_eq!(absorbed, 8, "one row and room for eight more");
}

/// The writes of a new row were lost, a later write pointed a class to it: deny, whatever the default is.
#[test]
fn a_row_that_nobody_has_written_denies() {
    for cells in [0, 1 << 20] {
        let list = List { default: Action::Allow, ..list(vec![rule("a", &[0], 80)]) };
        let (mut compiled_list, compiled) = made(&list, &classes(0), &Limits { cells, ..Limits::default() });
        let mut machine = Machine::new(&compiled);
        let Absorbed::Writes(writes) = compiled_list.absorb(1, &[SetId(0)]) else { panic!("there is room") };
        writes.iter().filter(|write| write.map == MapRef::Rows).for_each(|write| machine.write(write));
        let packet = Synthetic::new(Shape::Ports, 1).last().1;
        for (class, verdict) in [(0, 2), (1, 1)] {
            let mut io = policy_io(&Classes::new(), pod(0), &packet);
            io.remote_class = class;
            machine.run(&compiled.program, &mut io);
            assert_eq!((io.verdict, io.rule), (verdict, 0), "class {class}");
        }
    }
}

#[test]
fn a_forgotten_class_is_denied_until_it_is_born_again() {
    let list = List { default: Action::Allow, ..list(Vec::new()) };
    let classes = classes(1);
    let (mut compiled_list, compiled) = made(&list, &classes, &Limits::default());
    let mut machine = Machine::new(&compiled);
    let packet = Synthetic::new(Shape::Ports, 1).last().1;
    let verdict = |machine: &Machine| {
        let mut io = policy_io(&classes, pod(0), &packet);
        machine.run(&compiled.program, &mut io);
        io.verdict
    };
    assert_eq!(verdict(&machine), 2);
    let class = classes.class_of(pod(0));
    machine.write(&compiled_list.forget(class).expect("it had a row"));
    assert_eq!(verdict(&machine), 1);
    let Absorbed::Writes(writes) = compiled_list.absorb(class, &[SetId(0)]) else { panic!("there is room") };
    writes.iter().for_each(|write| machine.write(write));
    assert_eq!(verdict(&machine), 2);
}

fn refused(list: &List, limits: Limits) -> CompileError {
    compile(list, &classes(100), &rule_id, &limits).expect_err("it does not fit")
}

#[test]
fn a_list_over_the_memory_bound_names_its_largest_policy() {
    let mut rules: Vec<Rule> = (0..50u32).map(|set| rule("NetworkPolicy shop/big", &[set], 80)).collect();
    rules.push(rule("NetworkPolicy shop/small", &[99], 81));
    let error = refused(&list(rules), Limits { table_bytes: 1000, ..Limits::default() });
    assert_eq!((&*error.policy, error.rules), ("NetworkPolicy shop/big", 51));
    assert!(matches!(error.pressure, Pressure::Memory { allowed: 1000, .. }), "{error}");
}

#[test]
fn too_many_rules_ports_and_source_ports_are_refused_each_by_its_name() {
    let ports = Synthetic::new(Shape::Ports, 100).list;
    let pressure = |list: &List, limits| refused(list, limits).pressure;
    assert_eq!(pressure(&ports, Limits { atoms: 99, ..Limits::default() }), Pressure::Rules);
    assert_eq!(pressure(&ports, Limits { working_bytes: 1000, ..Limits::default() }), Pressure::Services);
    let sources = Synthetic::new(Shape::SourcePorts, 2000).list;
    let residuals = Pressure::Residuals { found: 2000, allowed: 1024 };
    assert_eq!(pressure(&sources, Limits { cells: 0, ..Limits::default() }), residuals);
}

/// Random labels make every pod a class of its own and every row different: the worst case.
#[test]
fn random_labels_cost_no_more_than_a_class_and_a_row_for_each_pod() {
    const PODS: u32 = 500;
    const SELECTORS: u32 = 100;
    let source = &mut Source::seeded(1);
    let mut classes = Classes::new();
    for set in 0..SELECTORS {
        let members: Vec<Member> =
            (0..PODS).filter(|_| source.below(3) == 0).map(|n| Member::from(pod(n))).collect();
        classes.update(SetId(set), &members, &[]);
    }
    let list = list((0..SELECTORS).map(|set| rule("a", &[set], 1000 + (set % 50) as u16)).collect());
    assert_eq!(classes.iter().count(), PODS as usize + 1);
    for cells in [0, 1 << 20] {
        let (_, compiled) = made(&list, &classes, &Limits { cells, ..Limits::default() });
        assert_eq!((compiled.rows, compiled.columns), (PODS as usize + 1, 51));
        let machine = Machine::new(&compiled);
        for n in 0..PODS {
            let mut packet = Synthetic::new(Shape::Ports, 1).last().1;
            packet.destination_port = 1000 + source.below(51) as u16;
            let mut io = policy_io(&classes, pod(n), &packet);
            machine.run(&compiled.program, &mut io);
            let sets = classes.sets_of(classes.class_of(pod(n))).expect("a class");
            let decision = evaluate(&list, &|set| sets.contains(&set), &packet);
            assert_eq!(io.rule, decision.rule.map_or(0, rule_id));
        }
    }
}
