//! Preambles: which stage each kind of frame goes to, and one program array for both directions.

use crate::kernel::{map, returning, returning_cb, run};
use nix::sched::{CloneFlags, unshare};
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::process::Command;
use std::time::Duration;
use tortie_abi::maps::MapKind;
use tortie_abi::stage::{self, *};
use tortie_host::bpf::{Attach, Link, Map, Program, ProgramDef, ProgramKind};
use tortie_host::policy::load_preamble;
use tortie_policy::preamble::{Towards, preamble};

const SLOT: u32 = 4711;
/// `TC_ACT_SHOT`
const SHOT: u32 = 2;
/// `TCX_NEXT`
const NEXT: u32 = u32::MAX;

fn stage_map() -> Map {
    map("tt_stage", MapKind::ProgArray, 4, stage::COUNT)
}

fn loaded(stage: &Map, towards: Towards) -> Program {
    let program = preamble(SLOT, towards).expect("well formed");
    load_preamble("tt_preamble", &program, stage.as_fd()).unwrap_or_else(|error| panic!("{error}"))
}

fn frame(ethertype: u16) -> Vec<u8> {
    let mut frame = vec![0; 74];
    frame[12..14].copy_from_slice(&ethertype.to_be_bytes());
    frame
}

#[test]
fn each_ethertype_goes_to_its_stage_and_arp_passes() {
    for (towards, stages) in [
        (Towards::FromWorkload, [FROM_WORKLOAD4, FROM_WORKLOAD6, FROM_WORKLOAD_OTHER]),
        (Towards::ToWorkload, [TO_WORKLOAD4, TO_WORKLOAD6, TO_WORKLOAD_OTHER]),
    ] {
        let stage = stage_map();
        let program = loaded(&stage, towards);
        for slot in stages {
            stage.set_fd(slot, returning(1000 + slot as i32).as_fd()).expect("a slot of stage");
        }
        let goes = |ethertype| run(&program, &frame(ethertype));
        assert_eq!(goes(0x0800), 1000 + stages[0]);
        assert_eq!(goes(0x86dd), 1000 + stages[1]);
        for other in [0x8035, 0x88cc, 0x8847, 0x0000] {
            assert_eq!(goes(other), 1000 + stages[2], "{other:#x}");
        }
        assert_eq!(goes(0x0806), NEXT);
    }
}

#[test]
fn the_shared_program_finds_the_endpoints_slot_in_cb() {
    let stage = stage_map();
    let program = loaded(&stage, Towards::FromWorkload);
    stage.set_fd(FROM_WORKLOAD4, returning_cb().as_fd()).expect("a slot of stage");
    assert_eq!(run(&program, &frame(0x0800)), SLOT);
}

#[test]
fn an_empty_stage_drops() {
    let stage = stage_map();
    for towards in [Towards::FromWorkload, Towards::ToWorkload] {
        let program = loaded(&stage, towards);
        for ethertype in [0x0800, 0x86dd, 0x88cc] {
            assert_eq!(run(&program, &frame(ethertype)), SHOT, "{ethertype:#x}");
        }
    }
}

/// Own network namespace for the calling thread, with `lo` up; it goes with the thread.
fn own_namespace() {
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace needs root");
    let status = Command::new("ip").args(["link", "set", "lo", "up"]).status().expect("ip runs");
    assert!(status.success());
}

/// Whether a datagram on `lo` arrives.
fn arrives() -> bool {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a time-out");
    let to = socket.local_addr().expect("its address");
    let sent = socket.send_to(b"x", to);
    sent.is_ok() && socket.recv_from(&mut [0; 8]).is_ok()
}

#[test]
fn programs_without_an_expected_attach_type_share_one_array_in_both_directions() {
    std::thread::spawn(|| {
        own_namespace();
        let stage = stage_map();
        const LO: u32 = 1;
        let from = loaded(&stage, Towards::FromWorkload);
        let to = loaded(&stage, Towards::ToWorkload);
        let _ingress = Link::tcx(from.as_fd(), LO, Attach::Ingress).expect("ingress");
        let _egress = Link::tcx(to.as_fd(), LO, Attach::Egress).expect("egress");
        assert!(!arrives(), "empty slots drop");
        let next = returning(-1);
        stage.set_fd(TO_WORKLOAD4, next.as_fd()).expect("a slot of stage");
        assert!(!arrives(), "ingress still drops");
        stage.set_fd(FROM_WORKLOAD4, next.as_fd()).expect("a slot of stage");
        assert!(arrives(), "both directions run the program of their slot");
    })
    .join()
    .expect("the thread ends well");
}

#[test]
fn an_array_refuses_a_program_of_another_expected_attach_type() {
    let stage = stage_map();
    let _owner = loaded(&stage, Towards::FromWorkload);
    let insns = [0xb7u8, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];
    let def = ProgramDef {
        expected_attach_type: Attach::Ingress as u32,
        ..ProgramDef::new("tt_ingress", ProgramKind::SchedCls, &insns)
    };
    let ingress = Program::load(&def).expect("the verifier takes it");
    let refused = stage.set_fd(FROM_WORKLOAD4, ingress.as_fd());
    println!("a TCX ingress program into an array of programs without a type: {refused:?}");
    assert!(refused.is_err());
}
