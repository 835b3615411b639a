//! Links, maps and programs as they outlive the process that made them. Needs root.

mod maps;

use maps::small;
use std::net::UdpSocket;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tortie_abi::flow::State;
use tortie_abi::maps::{FLOW4, ROUTE4};
use tortie_abi::v4;
use tortie_host::bpf::{self, Map, MapDef, Program, ProgramDef, ProgramKind, Run, Update};
use tortie_host::datapath::{Datapath, STAGES};
use tortie_host::links::{self, Attached, Direction, LinkError, Links, Mechanism};
use tortie_host::maps::{Maps, pin_name};
use tortie_host::{bpffs, clsact, sweep};
use tortie_testkit::netns::Netns;
use zerocopy::IntoBytes as _;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A directory of a BPF file system that goes when the test ends, also by a panic.
struct Pins(PathBuf);

impl Pins {
    fn new() -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = PathBuf::from(format!("/sys/fs/bpf/tt-pins-{}-{number}", std::process::id()));
        bpffs::ensure(&dir).expect("a BPF file system; this needs root");
        Self(dir)
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).expect("pins can be removed");
    }
}

/// `TCX_NEXT`, `TCX_DROP`
const NEXT_PROGRAM: i32 = -1;
const SHOT: i32 = 2;

/// Passes on to the next program. `name` tells programs apart.
fn passing(name: &str) -> Program {
    returning(name, NEXT_PROGRAM)
}

/// `r0 = verdict; exit`
fn returning(name: &str, verdict: i32) -> Program {
    let [a, b, c, d] = verdict.to_le_bytes();
    let insns = [[0xb7, 0, 0, 0, a, b, c, d], [0x95, 0, 0, 0, 0, 0, 0, 0]].concat();
    Program::load(&ProgramDef::new(name, ProgramKind::SchedCls, &insns)).expect("load; this needs root")
}

fn id(program: &Program) -> u32 {
    program.info().expect("info").id
}

fn ifindex(name: &str) -> u32 {
    nix::net::if_::if_nametoindex(name).expect("the interface")
}

fn hardware_address(name: &str) -> String {
    let shown = Command::new("ip").args(["-brief", "link", "show", "dev", name]).output().expect("ip");
    let shown = String::from_utf8(shown.stdout).expect("text");
    shown.split_whitespace().nth(2).unwrap_or_else(|| panic!("no address: {shown}")).to_owned()
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().expect("ip");
    assert!(status.success(), "ip {arguments}");
}

fn a_link_is_made_kept_replaced_and_removed(mechanism: Mechanism) {
    let (pins, netns) = (Pins::new(), Netns::new());
    netns.run(|| {
        ip("link add tt0 type veth peer name tt1");
        let links = Links::open(&pins.0, mechanism).expect("links");
        let index = ifindex("tt0");
        let (one, two) = (passing("one"), passing("two"));
        for direction in Direction::ALL {
            let attach = |program| links.attach("tt0", index, direction, program).expect("attach");
            let current = || links.current("tt0", index, direction).expect("current");
            assert_eq!(current(), None);
            assert_eq!(attach(&one), Attached::Created);
            assert_eq!(current(), Some(id(&one)));
            assert_eq!(attach(&one), Attached::Unchanged);
            assert_eq!(attach(&two), Attached::Replaced);
            assert_eq!(current(), Some(id(&two)));
            // Another process, later.
            let again = Links::open(&pins.0, mechanism).expect("links");
            assert_eq!(again.attach("tt0", index, direction, &two).expect("attach"), Attached::Unchanged);
            links.detach("tt0", index, direction).expect("detach");
            assert_eq!(current(), None);
            links.detach("tt0", index, direction).expect("twice is no error");
        }
    });
}

#[test]
fn tcx_links_are_made_kept_replaced_and_removed() {
    a_link_is_made_kept_replaced_and_removed(Mechanism::Tcx);
}

#[test]
fn clsact_filters_are_made_kept_replaced_and_removed() {
    a_link_is_made_kept_replaced_and_removed(Mechanism::Clsact);
}

#[test]
fn the_way_of_attaching_can_be_changed_and_leaves_nothing_of_the_other() {
    let (pins, netns) = (Pins::new(), Netns::new());
    netns.run(|| {
        ip("link add tt0 type veth peer name tt1");
        let (program, index) = (passing("ours"), ifindex("tt0"));
        let attached = |mechanism| {
            let links = Links::open(&pins.0, mechanism).expect("links");
            links.attach("tt0", index, Direction::Ingress, &program).expect("attach");
            let linked = bpf::tcx_programs(index, bpf::Attach::Ingress).expect("query");
            let filters = links::all_filters().expect("interfaces");
            (linked, filters.iter().map(|found| found.program_id).collect::<Vec<_>>())
        };
        for _ in 0..2 {
            assert_eq!(attached(Mechanism::Clsact), (vec![], vec![id(&program)]));
            assert_eq!(attached(Mechanism::Tcx), (vec![id(&program)], vec![]));
        }
    });
}

#[test]
fn what_was_attached_the_other_way_is_seen_counts_for_nothing_and_can_be_taken_off() {
    let (pins, netns) = (Pins::new(), Netns::new());
    netns.run(|| {
        ip("link add tt0 type veth peer name tt1");
        let index = ifindex("tt0");
        let before = Links::open(&pins.0, Mechanism::Tcx).expect("links");
        before.attach("tt0", index, Direction::Ingress, &passing("ours")).expect("attach");
        let links = Links::open(&pins.0, Mechanism::Clsact).expect("links");
        let counts = || (links.list().expect("list").len(), links.attached().expect("attached").len());
        assert_eq!(counts(), (1, 0));
        links.detach("tt0", index, Direction::Ingress).expect("detach");
        assert_eq!(counts(), (0, 0));
        assert_eq!(bpf::tcx_programs(index, bpf::Attach::Ingress).expect("query"), [0; 0]);
    });
}

#[test]
fn what_is_attached_at_once_is_a_filter_until_its_link_is_made_and_never_nothing() {
    let (pins, here, there) = (Pins::new(), Netns::new(), Netns::new());
    here.ip(&format!("link add tt0 type veth peer name tt1 netns {}", there.path().display()));
    here.ip("address add 192.0.2.1/24 dev tt0");
    there.ip("address add 192.0.2.2/24 dev tt1");
    let (dropping, other) = (returning("dropping", SHOT), returning("other", SHOT));
    let receiver = here.run(|| UdpSocket::bind("192.0.2.1:9").expect("a socket"));
    receiver.set_nonblocking(true).expect("non-blocking");
    let sender = there.run(|| UdpSocket::bind("192.0.2.2:9").expect("a socket"));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        here.run(|| {
            let (links, index) = (Links::open(&pins.0, Mechanism::Tcx).expect("links"), ifindex("tt0"));
            let at_once =
                |direction, program| links.attach_at_once("tt0", index, direction, program).expect("attach");
            let linked = || bpf::tcx_programs(index, bpf::Attach::Ingress).expect("query");
            let filter = || clsact::current(index, Direction::Ingress).expect("asking");
            for direction in Direction::ALL {
                assert_eq!(at_once(direction, &other), Attached::Created);
            }
            ip("link set tt0 up");
            there.ip("link set tt1 up");
            there.ip(&format!("neighbour replace 192.0.2.1 lladdr {} dev tt1", hardware_address("tt0")));
            sender.connect("192.0.2.1:9").expect("connect");
            let sending = scope.spawn(|| {
                let (start, mut sent) = (Instant::now(), 0);
                while !stop.load(Ordering::Relaxed) && start.elapsed() < Duration::from_secs(10) {
                    sent += u32::from(sender.send(b"no").is_ok());
                }
                sent
            });
            assert_eq!((linked(), filter()), (vec![], Some(id(&other))));
            assert_eq!(at_once(Direction::Ingress, &dropping), Attached::Replaced);
            assert_eq!(links.list().expect("list").len(), 2, "in both directions");
            assert_eq!(links.make_links(Duration::from_secs(3600)).expect("nothing to do"), None);
            assert_eq!(links.make_links(Duration::ZERO).expect("links").as_deref(), Some("tt0"));
            assert_eq!((linked(), filter()), (vec![id(&dropping)], None));
            assert_eq!(links.list().expect("list").len(), 2, "in both directions");
            assert_eq!(links.make_links(Duration::ZERO).expect("nothing to do"), None);
            assert_eq!(at_once(Direction::Ingress, &other), Attached::Replaced);
            assert_eq!((linked(), filter()), (vec![id(&other)], None));
            stop.store(true, Ordering::Relaxed);
            assert!(sending.join().expect("the sender") > 1000);
            let got = receiver.recv(&mut [0; 8]);
            assert_eq!(got.expect_err("no packet passed").kind(), std::io::ErrorKind::WouldBlock);
            for direction in Direction::ALL {
                links.detach("tt0", index, direction).expect("detach");
            }
            sender.send(b"yes").expect("send");
            assert_eq!(receiver.recv(&mut [0; 8]).expect("without programs packets pass"), 3);
        });
    });
}

#[test]
fn a_link_is_made_before_programs_of_others_and_one_that_overtakes_it_is_found() {
    let (pins, netns) = (Pins::new(), Netns::new());
    netns.run(|| {
        ip("link add tt0 type veth peer name tt1");
        let (index, hook) = (ifindex("tt0"), bpf::Attach::Ingress);
        let links = Links::open(&pins.0, Mechanism::Tcx).expect("links");
        let [theirs, ours, newer] = ["theirs", "ours", "newer"].map(passing);
        let programs = || bpf::tcx_programs(index, hook).expect("query");
        let ahead = |ours| links::ahead_of(ours, index, Direction::Ingress);
        // Ours is a filter first, and filters run behind links, whoever came first.
        links.attach_at_once("tt0", index, Direction::Ingress, &ours).expect("attach");
        let first = bpf::Link::tcx(theirs.as_fd(), index, hook).expect("attach");
        assert_eq!((programs(), ahead(Some(id(&ours)))), (vec![id(&theirs)], vec![id(&theirs)]));
        links.make_links(Duration::ZERO).expect("links");
        assert_eq!((programs(), ahead(Some(id(&ours)))), (vec![id(&ours), id(&theirs)], vec![]));
        // Somebody else does as we do.
        let second = bpf::Link::tcx(newer.as_fd(), index, hook).expect("attach");
        assert_eq!(programs(), [&newer, &ours, &theirs].map(id));
        assert_eq!(ahead(Some(id(&ours))), [id(&newer)]);
        assert_eq!(ahead(None).len(), 3, "where ours is not on the list");
        // A program that takes the place of ours keeps it.
        links.attach("tt0", index, Direction::Ingress, &passing("upgraded")).expect("attach");
        assert_eq!(programs().len(), 3);
        assert_eq!((programs()[0], programs()[2]), (id(&newer), id(&theirs)));
        drop((first, second));
    });
}

#[test]
fn a_filter_that_waits_for_its_link_goes_with_its_interface_or_by_detach() {
    let (pins, netns) = (Pins::new(), Netns::new());
    netns.run(|| {
        let links = Links::open(&pins.0, Mechanism::Tcx).expect("links");
        let program = passing("ours");
        let make = || {
            ip("link add tt0 type veth peer name tt1");
            let index = ifindex("tt0");
            links.attach_at_once("tt0", index, Direction::Ingress, &program).expect("attach");
            index
        };
        make();
        ip("link del tt0");
        assert!(links.list().expect("list").is_empty());
        assert_eq!(links.make_links(Duration::ZERO).expect("forgotten"), None);
        let index = make();
        links.detach("tt0", index, Direction::Ingress).expect("detach");
        assert_eq!(clsact::current(index, Direction::Ingress).expect("asking"), None);
        assert!(links.list().expect("list").is_empty());
        links.attach_at_once("tt0", index, Direction::Ingress, &program).expect("attach");
        ip("link del tt0");
        assert_eq!(links.make_links(Duration::ZERO).expect("gone").as_deref(), Some("tt0"));
        assert_eq!(links.make_links(Duration::ZERO).expect("nothing to do"), None);
    });
}

#[test]
fn a_filter_of_somebody_else_is_left_alone() {
    let (pins, netns) = (Pins::new(), Netns::new());
    netns.run(|| {
        ip("link add tt0 type veth peer name tt1");
        let theirs = pins.0.join("theirs");
        bpf::pin(&passing("theirs"), &theirs).expect("pin");
        let add = format!("filter add dev tt0 ingress prio 7 bpf da object-pinned {}", theirs.display());
        for arguments in ["qdisc add dev tt0 clsact", &add] {
            assert!(Command::new("tc").args(arguments.split(' ')).status().expect("tc").success());
        }
        let links = Links::open(&pins.0, Mechanism::Clsact).expect("links");
        let program = passing("ours");
        links.attach("tt0", ifindex("tt0"), Direction::Ingress, &program).expect("attach");
        links.detach("tt0", ifindex("tt0"), Direction::Ingress).expect("detach");
        let shown =
            Command::new("tc").args(["filter", "show", "dev", "tt0", "ingress"]).output().expect("tc");
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        assert!(shown.contains("pref 7") && !shown.contains("tortie"), "{shown}");
    });
}

#[test]
fn links_of_vanished_interfaces_are_found_and_removed() {
    let (pins, netns) = (Pins::new(), Netns::new());
    netns.run(|| {
        ip("link add tt.0 type veth peer name tt1");
        let links = Links::open(&pins.0, Mechanism::Tcx).expect("links");
        let (program, index) = (passing("gone"), ifindex("tt.0"));
        links.attach("tt.0", index, Direction::Egress, &program).expect("attach");
        assert_eq!(links.list().expect("list")[0].interface, "tt.0");
        ip("link del tt.0");
        let error = links.attach("tt.0", index, Direction::Ingress, &program).expect_err("it is gone");
        assert!(matches!(error, LinkError::Gone(_)), "{error}");
        assert_eq!(links.list().expect("list")[0].ifindex, 0);
        assert_eq!(links.remove_stale().expect("remove"), ["tt.0"]);
        assert!(links.list().expect("list").is_empty());
        // The name comes back with another interface.
        ip("link add tt.0 type veth peer name tt1");
        let attached = links.attach("tt.0", ifindex("tt.0"), Direction::Egress, &program).expect("attach");
        assert_eq!(attached, Attached::Created);
    });
}

#[test]
fn a_link_that_somebody_took_off_is_put_back() {
    let (pins, netns) = (Pins::new(), Netns::new());
    netns.run(|| {
        ip("link add tt0 type veth peer name tt1");
        let links = Links::open(&pins.0, Mechanism::Tcx).expect("links");
        let (program, index) = (passing("ours"), ifindex("tt0"));
        links.attach("tt0", index, Direction::Ingress, &program).expect("attach");
        bpf::get_link(&pins.0.join("links/tt0-ingress")).expect("pin").detach().expect("detach");
        assert_eq!(links.current("tt0", index, Direction::Ingress).expect("current"), None);
        let attached = links.attach("tt0", index, Direction::Ingress, &program).expect("attach");
        assert_eq!(attached, Attached::Created);
        assert_eq!(bpf::tcx_programs(index, bpf::Attach::Ingress).expect("query"), [id(&program)]);
    });
}

#[test]
fn a_link_follows_its_interface_to_another_name_and_is_never_taken_off() {
    let (pins, netns) = (Pins::new(), Netns::new());
    netns.run(|| {
        ip("link add tt0 type veth peer name tt1");
        let links = Links::open(&pins.0, Mechanism::Tcx).expect("links");
        let program = passing("ours");
        let indices = [ifindex("tt0"), ifindex("tt1")];
        let link_ids = || {
            let pinned = std::fs::read_dir(pins.0.join("links")).expect("links").flatten();
            let id = |path: &Path| bpf::get_link(path).expect("pin").info().expect("info").id;
            pinned.map(|entry| id(&entry.path())).collect::<std::collections::BTreeSet<_>>()
        };
        for (name, index) in ["tt0", "tt1"].iter().zip(indices) {
            links.attach(name, index, Direction::Ingress, &program).expect("attach");
        }
        let before = link_ids();
        // One gets a name that nobody had; then each has that of the other.
        for (commands, names) in [
            (&["link set tt0 name tt7"][..], ["tt7", "tt1"]),
            (&["link set tt7 name tt0"], ["tt0", "tt1"]),
            (&["link set tt0 name tt2", "link set tt1 name tt0", "link set tt2 name tt1"], ["tt1", "tt0"]),
        ] {
            commands.iter().for_each(|command| ip(command));
            for (name, index) in names.iter().zip(indices) {
                let attached = links.attach(name, index, Direction::Ingress, &program).expect("attach");
                assert_eq!(attached, Attached::Unchanged, "{commands:?}: {name}");
            }
            let mut found: Vec<_> =
                links.list().expect("list").into_iter().map(|link| (link.interface, link.ifindex)).collect();
            found.sort_by_key(|(_, index)| indices.iter().position(|it| it == index));
            let expected: Vec<_> = names.map(str::to_owned).into_iter().zip(indices).collect();
            assert_eq!(found, expected, "{commands:?}");
            assert_eq!(link_ids(), before, "{commands:?}: the same links");
        }
    });
}

#[test]
fn links_are_made_again_also_where_their_directory_is_gone() {
    let (pins, netns) = (Pins::new(), Netns::new());
    netns.run(|| {
        ip("link add tt0 type veth peer name tt1");
        let links = Links::open(&pins.0, Mechanism::Tcx).expect("links");
        let (program, index) = (passing("ours"), ifindex("tt0"));
        let attach = || links.attach("tt0", index, Direction::Ingress, &program);
        attach().expect("attach");
        std::fs::remove_dir_all(pins.0.join("links")).expect("removed");
        assert!(links.list().expect("list").is_empty());
        let since = Instant::now();
        // The kernel takes a link without a pin off some time later.
        while attach().is_err() {
            assert!(since.elapsed() < Duration::from_secs(10), "it stays");
            thread::yield_now();
        }
        assert_eq!(links.current("tt0", index, Direction::Ingress).expect("current"), Some(id(&program)));
    });
}

#[test]
fn programs_are_loaded_once_and_found_again() {
    let pins = Pins::new();
    let logs = std::env::temp_dir();
    let maps = Maps::open(&pins.0, &small()).expect("maps");
    let first = Datapath::open(&pins.0, &maps, &logs).unwrap_or_else(|error| panic!("{error}"));
    assert!(!first.adopted);
    let second = Datapath::open(&pins.0, &maps, &logs).expect("again");
    assert!(second.adopted);
    assert_eq!(second.fill_stage(&maps).expect("stage"), 0, "nothing is written again");
    for (name, slot) in STAGES {
        let mut found = [0; 4];
        assert!(maps.get("stage").expect("map").lookup(&slot.to_ne_bytes(), &mut found).expect("lookup"));
        assert_eq!(u32::from_ne_bytes(found), id(first.program(name).expect("program")), "{name}");
    }
    // A half-made directory is not taken for a whole one.
    let dir =
        std::fs::read_dir(pins.0.join("programs")).expect("dir").next().expect("one").expect("entry").path();
    std::fs::remove_file(dir.join("complete")).expect("remove");
    let third = Datapath::open(&pins.0, &maps, &logs).expect("again");
    assert!(!third.adopted);
    // Other maps need other programs.
    std::fs::remove_file(pins.0.join("maps").join(pin_name(&ROUTE4))).expect("remove");
    let maps = Maps::open(&pins.0, &small()).expect("maps");
    assert_eq!(maps.created(), ["route4"]);
    assert!(!Datapath::open(&pins.0, &maps, &logs).expect("again").adopted);
    assert_eq!(
        std::fs::read_dir(pins.0.join("programs")).expect("dir").count(),
        1,
        "old programs are removed"
    );
}

#[test]
fn a_sweep_walks_every_table() {
    let pins = Pins::new();
    let maps = Maps::open(&pins.0, &small()).expect("maps");
    let datapath = Datapath::open(&pins.0, &maps, &std::env::temp_dir()).expect("programs");
    let flows = maps.get("flow4").expect("map");
    for number in 0..200u8 {
        let mut pair = v4::FlowPair::NONE;
        // Every second one has no entry: what a race of removals may leave.
        pair.ways[0].core.state = if number % 2 == 0 { State::Established as u8 } else { 0 };
        let key = vec![number; FLOW4.key_bytes as usize];
        flows.update(&key, pair.as_bytes(), Update::Any).expect("update");
    }
    let report = sweep::once(&datapath, &maps).expect("sweep");
    assert_eq!(report.families[0].seen, 100);
    assert_eq!(report.families[1].seen, 0);
    let gone = report.families[0];
    assert_eq!(gone.expired + gone.stale + gone.orphaned, 100, "they belong to nobody: {gone:?}");
    assert!(
        !flows.next_key(None, &mut vec![0; FLOW4.key_bytes as usize]).expect("next key"),
        "elements are left"
    );
}

#[test]
fn programs_of_both_directions_share_a_program_array() {
    let (pins, netns) = (Pins::new(), Netns::new());
    netns.run(|| {
        ip("link add tt0 type veth peer name tt1");
        let def = MapDef { name: "stages", kind: 3, key_bytes: 4, value_bytes: 4, max_entries: 1, flags: 0 };
        let array = Map::create(&def).expect("array");
        let target = passing("target");
        array.set_fd(0, std::os::fd::AsFd::as_fd(&target)).expect("slot");
        let links = Links::open(&pins.0, Mechanism::Tcx).expect("links");
        for direction in Direction::ALL {
            let caller = calling(&array);
            links.attach("tt0", ifindex("tt0"), direction, &caller).expect("attach");
            let mut out = [0; 64];
            let result = caller.run(&mut Run::once(&[0; 64], &mut out)).expect("run");
            assert_eq!(result.code, u32::MAX, "the tail call was taken");
        }
    });
}

/// `r2 = array; r3 = 0; call tail_call; r0 = 2; exit`
fn calling(array: &Map) -> Program {
    let fd = std::os::fd::AsRawFd::as_raw_fd(&std::os::fd::AsFd::as_fd(array));
    let mut load = [0x18, 0x12, 0, 0, 0, 0, 0, 0];
    load[4..].copy_from_slice(&fd.to_le_bytes());
    let insns = [
        load,
        [0; 8],
        [0xb7, 3, 0, 0, 0, 0, 0, 0],
        [0x85, 0, 0, 0, 12, 0, 0, 0],
        [0xb7, 0, 0, 0, 2, 0, 0, 0],
        [0x95, 0, 0, 0, 0, 0, 0, 0],
    ]
    .concat();
    Program::load(&ProgramDef::new("caller", ProgramKind::SchedCls, &insns)).expect("load")
}
