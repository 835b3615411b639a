//! Links at a cgroup, and the programs of others there.

use crate::rig::{Cgroup, Form, Rig, TCP};
use std::fs::File;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::os::fd::AsFd as _;
use std::thread;
use std::time::{Duration, Instant};
use tortie_host::bpf::{Link, Program, ProgramDef, ProgramKind};
use tortie_host::object;
use tortie_host::sockets::{PROGRAMS, SocketError, SocketHooks};

const CONNECT4: u32 = 10;

/// Somebody's program for `connect4`: it forbids one port and leaves every other call alone.
fn forbidding(port: u16) -> Program {
    let [high, low] = port.to_be_bytes();
    let code: [[u8; 8]; 5] = [
        // r2 = context.user_port, r0 = 1
        [0x61, 0x12, 24, 0, 0, 0, 0, 0],
        [0xb7, 0x00, 0, 0, 1, 0, 0, 0],
        // if r2 != port: skip one
        [0x55, 0x02, 1, 0, high, low, 0, 0],
        [0xb7, 0x00, 0, 0, 0, 0, 0, 0],
        [0x95, 0x00, 0, 0, 0, 0, 0, 0],
    ];
    let insns = code.concat();
    let def = ProgramDef {
        expected_attach_type: CONNECT4,
        ..ProgramDef::new("theirs", ProgramKind::CgroupSockAddr, &insns)
    };
    Program::load(&def).expect("load")
}

#[test]
fn links_are_made_kept_replaced_and_removed() {
    let rig = Rig::unattached();
    let attach = |programs| rig.hooks.attach(&rig.cgroup.0, programs, true).expect("attach");
    assert!(rig.hooks.list().is_empty());
    assert_eq!(rig.hooks.attach(&rig.cgroup.0, &rig.programs, false).expect("attach"), 0);
    assert!(rig.hooks.list().is_empty(), "nothing is made that is not asked for");
    assert_eq!(attach(&rig.programs), PROGRAMS.len());
    assert_eq!(attach(&rig.programs), 0, "twice changes nothing");
    let list = rig.hooks.list();
    assert_eq!(list.iter().map(|found| found.program).collect::<Vec<_>>(), PROGRAMS.map(|(name, _)| name));
    assert!(list.iter().all(|found| found.cgroup_id != 0));
    // A newer object: every program is replaced in its link.
    let maps = tortie_host::maps::Maps::anonymous(&Default::default()).expect("maps");
    let newer = object::prepare(object::embedded(), &maps).expect("object").load_all().expect("programs");
    assert_eq!(rig.hooks.attach(&rig.cgroup.0, &newer, false).expect("attach"), PROGRAMS.len());
    assert!(rig.hooks.list().iter().zip(&list).all(|(now, before)| now.program_id != before.program_id));
    rig.hooks.detach().expect("detach");
    rig.hooks.detach().expect("twice is no error");
    assert!(rig.hooks.list().is_empty());
}

#[test]
fn programs_move_to_another_cgroup_and_away_from_one_that_is_gone() {
    let rig = Rig::unattached();
    let first = Cgroup::new();
    rig.hooks.attach(&first.0, &rig.programs, true).expect("attach");
    let before = rig.hooks.list()[0].cgroup_id;
    drop(first);
    // The kernel lets go of a cgroup's programs a while after the directory has gone.
    let deadline = Instant::now() + Duration::from_secs(10);
    while rig.hooks.list().iter().any(|found| found.cgroup_id != 0) {
        assert!(Instant::now() < deadline, "the cgroup should take the programs with it");
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(rig.hooks.attach(&rig.cgroup.0, &rig.programs, true).expect("attach"), PROGRAMS.len());
    let here = rig.hooks.list()[0].cgroup_id;
    assert!(here != 0 && here != before);
    let other = Cgroup::new();
    rig.hooks.attach(&other.0, &rig.programs, true).expect("attach");
    assert!(rig.hooks.list().iter().all(|found| found.cgroup_id != here && found.cgroup_id != 0));
    rig.hooks.detach().expect("detach");
}

#[test]
fn a_process_that_ends_leaves_the_programs_where_they_are() {
    let rig = Rig::new();
    let again = SocketHooks::open(&rig.pins).expect("pins");
    assert_eq!(again.list(), rig.hooks.list());
    assert_eq!(again.attach(&rig.cgroup.0, &rig.programs, true).expect("attach"), 0);
}

#[test]
fn programs_of_others_at_the_same_cgroup_keep_working_before_and_after_ours() {
    let rig = Rig::unattached();
    let cgroup = File::open(&rig.cgroup.0).expect("the cgroup");
    let theirs = |port| Link::cgroup(forbidding(port).as_fd(), cgroup.as_fd(), CONNECT4).expect("attach");
    let _before = theirs(4444);
    rig.hooks.attach(&rig.cgroup.0, &rig.programs, true).expect("attach");
    let _after = theirs(5555);
    rig.netns.run(|| {
        let (_listener, backend) = Form::V4.listener();
        let vip = Form::V4.vip(20, 80);
        rig.service(vip, TCP, &[backend]);
        rig.service(Form::V4.vip(20, 4444), TCP, &[backend]);
        let connect = |port| TcpStream::connect(Form::V4.vip(20, port));
        assert!(connect(80).is_ok());
        let kind = |port| connect(port).expect_err("forbidden").kind();
        assert_eq!(kind(4444), ErrorKind::PermissionDenied, "a program before ours still forbids");
        assert_eq!(kind(5555), ErrorKind::PermissionDenied, "and one after ours");
        rig.hooks.attach(&rig.cgroup.0, &rig.programs, true).expect("attach");
        rig.hooks.detach().expect("detach");
        assert_eq!(kind(4444), ErrorKind::PermissionDenied, "ours went alone");
    });
}

#[test]
fn a_cgroup_that_is_none_is_named_in_the_error() {
    let rig = Rig::unattached();
    let missing = rig.cgroup.0.join("missing");
    let error = rig.hooks.attach(&missing, &rig.programs, true).expect_err("not there");
    assert!(matches!(&error, SocketError::Cgroup { path, .. } if *path == missing), "{error}");
    let error = rig.hooks.attach(std::path::Path::new("/proc"), &rig.programs, true).expect_err("no cgroup");
    assert!(error.to_string().contains("getpeername4 at cgroup /proc: attaching"), "{error}");
}

#[test]
fn the_verifier_takes_every_program_of_the_list() {
    let maps = tortie_host::maps::Maps::anonymous(&Default::default()).expect("maps");
    let prepared = object::prepare(object::embedded(), &maps).expect("object");
    for (name, _) in PROGRAMS {
        let (loaded, statistics) = prepared.load_with_statistics(name).expect("a program of the object");
        assert!(loaded.is_ok(), "{name}: {}", loaded.unwrap_err().log);
        println!("{name}: {} instructions; {statistics}", prepared.static_insns(name).unwrap_or(0));
    }
}
