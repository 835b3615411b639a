//! Compiled policy in the kernel: the verifier takes it, and it decides as the evaluator does. Needs root.

mod attach;
mod kernel;
mod scale;

use kernel::{Kernel, returned_by};
use std::net::IpAddr;
use tortie_abi::policy::{NO_RULE, PolicyIo, Verdict};
use tortie_abi::stage;
use tortie_host::policy::LoadedPolicy;
use tortie_policy::classes::Classes;
use tortie_policy::compile::{Form, compile};
use tortie_policy::evaluate::Packet;
use tortie_policy::form::{Action, Direction, Family, List};
use tortie_policy::testing::world::{Source, World};
use tortie_policy::testing::{absorb, classes_of, expected, limits_of, policy_io, rule_id};

/// Compares every packet of a world; returns how many there were.
fn compare(kernel: &Kernel, loaded: &LoadedPolicy, world: &World, classes: &Classes) -> u64 {
    for (remote, packet) in &world.packets {
        let (code, io) = kernel.run(loaded, &policy_io(classes, *remote, packet));
        let (resume, verdict, rule) = expected(world, *remote, packet);
        assert_eq!(
            (code, io.verdict, io.rule),
            (returned_by(resume), verdict, rule),
            "{remote} {packet:?}\n{world:#?}"
        );
    }
    world.packets.len() as u64
}

/// One random world in one form, with changes of members taken in while the program is in force.
fn run_world(kernel: &Kernel, seed: u64, form: Form) -> u64 {
    let source = &mut Source::seeded(seed);
    let mut world = World::new(source);
    let mut classes = classes_of(&world);
    classes.take_changes();
    let (mut list, compiled) =
        compile(&world.list, &classes, &rule_id, &limits_of(form)).expect("a small list fits");
    let loaded = kernel.load(&compiled);
    let mut compared = compare(kernel, &loaded, &world, &classes);
    world.change_members(source, &mut classes);
    if let Some(writes) = absorb(&mut classes, &mut list) {
        writes.iter().for_each(|write| loaded.write(write).expect("the table takes it"));
        compared += compare(kernel, &loaded, &world, &classes);
    }
    compared
}

#[test]
fn a_hundred_thousand_decisions_of_random_lists_are_the_evaluators() {
    let kernel = Kernel::new();
    let (mut compared, mut seed) = (0, 0x7071_7465);
    while compared < 100_000 {
        for form in [Form::Table, Form::Vectors] {
            compared += run_world(&kernel, seed, form);
        }
        seed += 1;
    }
    println!("{compared} decisions compared");
}

fn empty(default: Action) -> List {
    List { direction: Direction::Ingress, policies: Vec::new(), rules: Vec::new(), default }
}

fn web() -> (IpAddr, Packet) {
    let packet = Packet {
        family: Family::V4,
        protocol: 6,
        source_port: 40_000,
        destination_port: 80,
        icmp_type: 0,
        icmp_code: 0,
    };
    ("10.0.0.1".parse().expect("an address"), packet)
}

fn loaded(kernel: &Kernel, list: &List, classes: &Classes) -> LoadedPolicy {
    kernel.load(&compile(list, classes, &rule_id, &limits_of(Form::Table)).expect("it fits").1)
}

#[test]
fn an_empty_list_gives_its_default() {
    let (kernel, classes, (remote, packet)) = (Kernel::new(), Classes::new(), web());
    for (default, verdict) in [(Action::Allow, Verdict::Allow), (Action::Deny, Verdict::Deny)] {
        let program = loaded(&kernel, &empty(default), &classes);
        let (code, io) = kernel.run(&program, &policy_io(&classes, remote, &packet));
        assert_eq!((code, io.verdict, io.rule), (returned_by(stage::RESUME4), verdict as u32, NO_RULE));
    }
}

#[test]
fn a_class_that_the_list_does_not_know_is_denied() {
    let (kernel, classes, (remote, packet)) = (Kernel::new(), Classes::new(), web());
    let program = loaded(&kernel, &empty(Action::Allow), &classes);
    for class in [1, 63, 64, 1 << 20, u32::MAX] {
        let io = PolicyIo { remote_class: class, ..policy_io(&classes, remote, &packet) };
        let (code, io) = kernel.run(&program, &io);
        let denied = (returned_by(stage::RESUME4), Verdict::Deny as u32, NO_RULE);
        assert_eq!((code, io.verdict, io.rule), denied, "class {class}");
    }
}

#[test]
fn a_packet_of_no_family_and_one_that_nothing_takes_over_are_dropped() {
    let (kernel, classes, (remote, packet)) = (Kernel::new(), Classes::new(), web());
    let program = loaded(&kernel, &empty(Action::Allow), &classes);
    let io = policy_io(&classes, remote, &packet);
    assert_eq!(kernel.run(&program, &PolicyIo { family: 0, ..io }).0, 2);
    assert!(kernel.stage.delete(&stage::RESUME4.to_ne_bytes()).expect("a slot of stage"));
    assert_eq!(kernel.run(&program, &io).0, 2);
}
