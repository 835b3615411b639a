//! Policy: both ends, in one pass, and again when it changes.

use crate::{ACK, SYN, SYN_ACK, assert_dropped, assert_lands, both, shop, tcp, udp};
use tortie_abi::DropReason;
use tortie_abi::endpoint::NO_PROGRAM;
use tortie_abi::policy::Verdict::{Allow, Deny};

#[test]
fn each_ends_policy_denies_by_itself() {
    both(|f| {
        let (mut world, a, b, _) = shop();
        world.set_policy(&a, false, |_| Deny);
        let frame = udp(f.of(&a), 1, f.of(&b), 2);
        assert_dropped(&world.send(&a, frame.clone()), DropReason::PolicyEgress);
        world.set_policy(&a, false, |_| Allow);
        world.set_policy(&b, true, |_| Deny);
        assert_dropped(&world.send(&a, frame.clone()), DropReason::PolicyIngress);
        world.set_policy(&b, true, |_| Allow);
        assert_lands(&world.send(&a, frame), "b");
    });
}

#[test]
fn ingress_policy_of_a_pod_on_another_node_is_asked_there() {
    both(|f| {
        let (mut world, a, _, c) = shop();
        world.set_policy(&c, true, |_| Deny);
        let journey = world.send(&a, udp(f.of(&a), 1, f.of(&c), 2));
        assert_dropped(&journey, DropReason::PolicyIngress);
        assert_eq!(journey.steps.len(), 2);
    });
}

#[test]
fn an_endpoint_without_policy_in_force_denies() {
    both(|f| {
        let (world, a, b, _) = shop();
        world.edit(&b, |e| e.ingress_generation = 0);
        assert_dropped(&world.send(&a, udp(f.of(&a), 1, f.of(&b), 2)), DropReason::PolicyNotReady);
    });
}

#[test]
fn policy_sees_the_back_end_and_the_clients_own_address() {
    both(|f| {
        let (mut world, a, b, _) = shop();
        world.add_service(f.vip(), 80, 6, &[(f.of(&b), 8080)]);
        world.set_policy(&a, false, |io| if io.destination_port == 8080 { Allow } else { Deny });
        world.set_policy(&b, true, |io| if io.source_port == 40000 { Allow } else { Deny });
        assert_lands(&world.send(&a, tcp(f.of(&a), 40000, f.vip(), 80, SYN)), "b");
    });
}

#[test]
fn a_change_of_policy_cuts_an_established_flow_in_both_directions_and_back() {
    both(|f| {
        let (mut world, a, b, _) = shop();
        world.set_policy(&b, true, |_| Allow);
        let open = |flags, forward: bool| {
            if forward {
                tcp(f.of(&a), 40000, f.of(&b), 80, flags)
            } else {
                tcp(f.of(&b), 80, f.of(&a), 40000, flags)
            }
        };
        assert_lands(&world.send(&a, open(SYN, true)), "b");
        assert_lands(&world.send(&b, open(SYN_ACK, false)), "a");
        assert_lands(&world.send(&a, open(ACK, true)), "b");
        world.set_policy(&b, true, |io| if io.destination_port == 80 { Deny } else { Allow });
        assert_dropped(&world.send(&a, open(ACK, true)), DropReason::PolicyIngress);
        assert_dropped(&world.send(&b, open(ACK, false)), DropReason::PolicyIngress);
        world.set_policy(&b, true, |_| Allow);
        assert_lands(&world.send(&b, open(ACK, false)), "a");
        assert_lands(&world.send(&a, open(ACK, true)), "b");
    });
}

#[test]
fn the_answer_of_a_denied_policy_never_reaches_the_pod_across_nodes() {
    both(|f| {
        let (mut world, a, _, c) = shop();
        assert_lands(&world.send(&a, tcp(f.of(&a), 40000, f.of(&c), 80, SYN)), "c");
        assert_lands(&world.send(&c, tcp(f.of(&c), 80, f.of(&a), 40000, SYN_ACK)), "a");
        world.set_policy(&a, false, |_| Deny);
        let reply = world.send(&c, tcp(f.of(&c), 80, f.of(&a), 40000, ACK));
        assert_dropped(&reply, DropReason::PolicyEgress);
    });
}

#[test]
fn removing_all_policy_lets_everything_in() {
    both(|f| {
        let (mut world, a, b, _) = shop();
        world.set_policy(&b, true, |_| Deny);
        assert_dropped(&world.send(&a, udp(f.of(&a), 1, f.of(&b), 2)), DropReason::PolicyIngress);
        world.edit(&b, |e| {
            e.ingress_program = NO_PROGRAM;
            e.ingress_generation += 1;
        });
        assert_lands(&world.send(&a, udp(f.of(&a), 1, f.of(&b), 2)), "b");
    });
}

#[test]
fn a_pod_always_reaches_itself() {
    both(|f| {
        let (mut world, a, _, _) = shop();
        world.add_service(f.vip(), 80, 6, &[(f.of(&a), 80)]);
        world.set_policy(&a, true, |_| Deny);
        world.set_policy(&a, false, |_| Deny);
        assert_lands(&world.send(&a, tcp(f.of(&a), 40000, f.vip(), 80, SYN)), "a");
    });
}

#[test]
fn a_program_missing_from_its_slot_denies() {
    both(|f| {
        let (world, a, b, _) = shop();
        world.edit(&b, |e| e.ingress_program = 77);
        assert_dropped(&world.send(&a, udp(f.of(&a), 1, f.of(&b), 2)), DropReason::PolicyNotReady);
    });
}

#[test]
fn who_may_not_be_asked_any_more_may_still_begin_with_the_same_ports() {
    both(|f| {
        let (mut world, a, b, c) = shop();
        let (asks, answers) = (udp(f.of(&a), 7946, f.of(&b), 7946), udp(f.of(&b), 7946, f.of(&a), 7946));
        let (host_asked, host) = (udp(f.of(&a), 7946, f.node(0), 7946), udp(f.node(0), 7946, f.of(&a), 7946));
        for frame in [&asks, &host_asked] {
            world.send(&a, frame.clone());
        }
        assert_lands(&world.send(&b, answers.clone()), "a");
        assert_lands(&world.send_from_host(0, host.clone()), "a");
        let (far, far_answers) = (udp(f.of(&a), 7946, f.of(&c), 7946), udp(f.of(&c), 7946, f.of(&a), 7946));
        assert_lands(&world.send(&a, far), "c");
        assert_lands(&world.send(&c, far_answers.clone()), "a");

        world.set_policy(&a, false, |_| Deny);
        assert_dropped(&world.send(&b, answers.clone()), DropReason::PolicyEgress);
        assert_lands(&world.send(&b, answers.clone()), "a");
        assert_dropped(&world.send_from_host(0, host.clone()), DropReason::PolicyEgress);
        assert_lands(&world.send_from_host(0, host), "a");
        // What its own node has let go as an answer has been judged by nobody as a beginning.
        for _ in 0..2 {
            assert_dropped(&world.send(&c, far_answers.clone()), DropReason::PolicyEgress);
        }
        assert_lands(&world.send(&a, asks.clone()), "b");

        world.set_policy(&b, false, |_| Deny);
        assert_dropped(&world.send(&b, answers), DropReason::PolicyEgress);
        assert_dropped(&world.send(&a, asks), DropReason::PolicyEgress);
    });
}
