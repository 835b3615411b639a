//! For tests and fuzz targets: random lists and packets, and an interpreter that runs compiled programs.
//!
//! Owns: [`check`], which compares a compiled list with the evaluator. Does not: ship in a binary.
//! Invariant: a disagreement panics with the list and the packet.

pub mod interpreter;
pub mod world;

use crate::classes::Classes;
use crate::compile::{Absorbed, Compiled, CompiledList, Form, Limits, TableWrite, compile};
use crate::evaluate::{Packet, evaluate};
use crate::form::Action;
use interpreter::{Machine, Outcome};
use std::net::IpAddr;
use tortie_abi::policy::{NO_RULE, PolicyIo, Verdict};
use tortie_abi::stage;
use world::{Source, World};
use zerocopy::FromZeros;

/// Rule ids of a test: far from list indices, so that one is not taken for the other.
pub fn rule_id(index: usize) -> u32 {
    1000 + index as u32 * 3
}

/// The input of a policy program, with the outputs poisoned.
pub fn policy_io(classes: &Classes, remote: IpAddr, packet: &Packet) -> PolicyIo {
    PolicyIo {
        remote_class: classes.class_of(remote),
        destination_port: packet.destination_port,
        source_port: packet.source_port,
        protocol: packet.protocol,
        icmp_type: packet.icmp_type,
        icmp_code: packet.icmp_code,
        family: if remote.is_ipv4() { 4 } else { 6 },
        verdict: 0xa5a5_a5a5,
        rule: 0xa5a5_a5a5,
        ..PolicyIo::new_zeroed()
    }
}

/// What the evaluator says a program must answer: stage, verdict and rule.
pub fn expected(world: &World, remote: IpAddr, packet: &Packet) -> (u32, u32, u32) {
    let decision = evaluate(&world.list, &|set| world.members.contains(set, remote), packet);
    let verdict = match decision.action {
        Action::Allow => Verdict::Allow,
        Action::Deny => Verdict::Deny,
    };
    let resume = if remote.is_ipv4() { stage::RESUME4 } else { stage::RESUME6 };
    (resume, verdict as u32, decision.rule.map_or(NO_RULE, rule_id))
}

/// Limits that force each form.
pub fn limits_of(form: Form) -> Limits {
    match form {
        Form::Table => Limits::default(),
        Form::Vectors => Limits { cells: 0, ..Limits::default() },
    }
}

/// The classes of a world's members.
pub fn classes_of(world: &World) -> Classes {
    let mut classes = Classes::new();
    for (set, members) in &world.members.sets {
        classes.create(*set);
        classes.update(*set, members, &[]);
    }
    classes
}

/// Compiles a world's list in a form and compares every packet; then members change, the compiled list
/// absorbs the new classes, and every packet is compared again.
pub fn check(source: &mut Source<'_>, form: Form) {
    let mut world = World::new(source);
    let mut classes = classes_of(&world);
    classes.take_changes();
    let (mut list, compiled) =
        compile(&world.list, &classes, &rule_id, &limits_of(form)).expect("a small list fits");
    assert_eq!(compiled.form, form);
    let mut machine = Machine::new(&compiled);
    compare(&world, &classes, &compiled, &machine);
    for _ in 0..source.below(3) {
        world.change_members(source, &mut classes);
        match absorb(&mut classes, &mut list) {
            Some(writes) => writes.iter().for_each(|write| machine.write(write)),
            None => return,
        }
        compare(&world, &classes, &compiled, &machine);
    }
}

/// The writes that take a change of classes into a list in force; `None`: it wants to be compiled again.
pub fn absorb(classes: &mut Classes, list: &mut CompiledList) -> Option<Vec<TableWrite>> {
    let changes = classes.take_changes();
    let mut all = Vec::new();
    for (class, sets) in &changes.born {
        match list.absorb(*class, sets) {
            Absorbed::Writes(writes) => all.extend(writes),
            Absorbed::Recompile => return None,
        }
    }
    all.extend(changes.retired.iter().filter_map(|class| list.forget(*class)));
    classes.recycle(&changes.retired);
    Some(all)
}

fn compare(world: &World, classes: &Classes, compiled: &Compiled, machine: &Machine) {
    for (remote, packet) in &world.packets {
        let mut io = policy_io(classes, *remote, packet);
        let outcome = machine.run(&compiled.program, &mut io);
        let (resume, verdict, rule) = expected(world, *remote, packet);
        assert_eq!(
            (outcome, io.verdict, io.rule),
            (Outcome::TailCall(resume), verdict, rule),
            "{remote} {packet:?}\n{:#?}\n{}",
            world.list,
            compiled.program
        );
    }
}

/// The body of the fuzz target: the input chooses list, members, changes and packets.
pub fn fuzz(input: &[u8]) {
    for form in [Form::Table, Form::Vectors] {
        check(&mut Source::from_bytes(input), form);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1500))]
        #[test]
        fn a_table_decides_as_the_evaluator(seed in any::<u64>()) {
            check(&mut Source::seeded(seed), Form::Table);
        }

        #[test]
        fn vectors_decide_as_the_evaluator(seed in any::<u64>()) {
            check(&mut Source::seeded(seed), Form::Vectors);
        }
    }
}
