//! Lists from one rule to ten thousand: accepted, right, and flat in time.

use crate::kernel::{Kernel, returned_by};
use std::time::Instant;
use tortie_abi::stage;
use tortie_host::policy_bench::measure;
use tortie_policy::classes::Classes;
use tortie_policy::compile::{Compiled, CompiledList, Form, Limits, compile};
use tortie_policy::evaluate::{Members, Packet, evaluate};
use tortie_policy::form::{Action, PortRange};
use tortie_policy::synthetic::{Shape, Synthetic};
use tortie_policy::testing::{policy_io, rule_id};

const SIZES: [u32; 7] = [1, 8, 10, 100, 1000, 5000, 10_000];

fn classes(synthetic: &Synthetic) -> Classes {
    let mut classes = Classes::new();
    for (set, members) in &synthetic.members.sets {
        classes.update(*set, members, &[]);
    }
    classes.take_changes();
    classes
}

fn compiled(synthetic: &Synthetic, classes: &Classes, limits: &Limits) -> (CompiledList, Compiled) {
    compile(&synthetic.list, classes, &rule_id, limits).unwrap_or_else(|error| panic!("{error}"))
}

fn forms(shape: Shape, size: u32) -> Vec<Limits> {
    let vectors = Limits { cells: 0, ..Limits::default() };
    // More residual conditions than bit vectors take.
    if shape == Shape::SourcePorts && size > 1000 {
        vec![Limits::default()]
    } else {
        vec![Limits::default(), vectors]
    }
}

fn check(kernel: &Kernel, synthetic: &Synthetic, limits: &Limits) {
    let classes = classes(synthetic);
    let started = Instant::now();
    let (_, compiled) = compiled(synthetic, &classes, limits);
    let compile_time = started.elapsed();
    let started = Instant::now();
    let loaded = kernel.load(&compiled);
    let info = loaded.program().info().expect("info");
    println!(
        "{:5} rules {:?}: {:?} {} x {}, {} KB, {} instructions, {} verified; compile {:?} load {:?}",
        synthetic.list.rules.len(),
        synthetic.shape,
        compiled.form,
        compiled.rows,
        compiled.columns,
        compiled.table_bytes() >> 10,
        compiled.program.instructions.len(),
        info.verified_insns,
        compile_time,
        started.elapsed(),
    );
    for (remote, packet) in synthetic.probes() {
        let members: &Members = &synthetic.members;
        let decision = evaluate(&synthetic.list, &|set| members.contains(set, remote), &packet);
        let (code, io) = kernel.run(&loaded, &policy_io(&classes, remote, &packet));
        assert_eq!(code, returned_by(stage::RESUME4));
        assert_eq!(io.verdict == 2, decision.action == Action::Allow, "{remote} {packet:?}");
        assert_eq!(io.rule, decision.rule.map_or(0, rule_id), "{remote} {packet:?}");
    }
}

#[test]
fn the_verifier_takes_lists_of_one_to_ten_thousand_rules_in_both_forms() {
    let kernel = Kernel::new();
    for shape in Shape::ALL {
        for size in SIZES {
            let synthetic = Synthetic::new(shape, size);
            forms(shape, size).iter().for_each(|limits| check(&kernel, &synthetic, limits));
        }
    }
}

/// As many rules as one packet may have to try, differing in nothing but the source port.
#[test]
fn the_verifier_takes_the_longest_chain_that_is_allowed_in_both_forms() {
    let kernel = Kernel::new();
    let mut synthetic = Synthetic::new(Shape::Services, Limits::default().chain - 1);
    for (rule, port) in synthetic.list.rules.iter_mut().zip(40_000..) {
        rule.remote.clear();
        rule.destination_ports.clear();
        rule.source_ports = vec![PortRange { first: port, last: port }];
    }
    for limits in forms(Shape::Services, 1) {
        let classes = classes(&synthetic);
        let (_, compiled) = compiled(&synthetic, &classes, &limits);
        let loaded = kernel.load(&compiled);
        println!("{:?}: {} verified", compiled.form, loaded.program().info().expect("info").verified_insns);
        for (index, rule) in synthetic.list.rules.iter().enumerate().step_by(31) {
            let (remote, packet) = synthetic.hit(index as u32);
            let packet = Packet { source_port: rule.source_ports[0].first, ..packet };
            let (_, io) = kernel.run(&loaded, &policy_io(&classes, remote, &packet));
            assert_eq!((io.verdict, io.rule), (2, rule_id(index)), "{:?}", compiled.form);
        }
        let (remote, packet) = synthetic.last();
        let (_, io) = kernel.run(&loaded, &policy_io(&classes, remote, &Packet { source_port: 1, ..packet }));
        assert_eq!((io.verdict, io.rule), (1, 0), "{:?}", compiled.form);
    }
}

/// Every figure is printed; the comparison leaves room for a busy machine.
#[test]
fn a_packet_costs_about_the_same_with_ten_rules_and_with_ten_thousand() {
    let mut last = Vec::new();
    for shape in Shape::ALL {
        for rules in [10, 100, 1000, 10_000] {
            for limits in forms(shape, rules) {
                let f = measure(shape, rules, &limits).unwrap_or_else(|error| panic!("{error}"));
                println!(
                    "{rules:5} {shape:?} {:?} {}x{}: last rule {} ns, random {} ns",
                    f.form, f.size.0, f.size.1, f.last_rule_nanos, f.random_nanos
                );
                last.push(f);
            }
        }
    }
    let cost = |rules: usize| {
        let mut figures = last.iter().filter(|f| (f.shape, f.form) == (Shape::Services, Form::Table));
        figures.find(|f| f.rules == rules).expect("it was measured").last_rule_nanos
    };
    assert!(
        cost(10_000) <= 2 * cost(10) + 30,
        "{} ns with 10 rules, {} ns with 10,000",
        cost(10),
        cost(10_000)
    );
}
