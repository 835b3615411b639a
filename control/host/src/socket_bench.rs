//! What the programs at `connect` cost, by whether the destination is a Service and of how many.
//!
//! Owns: the cgroups, the network namespace and the sockets that connect in it. Does not: print, or know targets.
//! Invariant: every figure is of real connections, each of which has reached its server; the kernel's own measure of
//! the program, less its measure of an empty program at the same calls.
//!
//! The kernel runs no such program on a made-up call (`BPF_PROG_TEST_RUN` is for packets).

mod floor;

use crate::bpf::{Link, Program, ProgramDef, ProgramKind, Runs, Statistics, Update};
use crate::maps::{Maps, room_for};
use crate::object::{self, ObjectError, Prepared};
use crate::packet_bench::{BenchError, Figure, put_service};
use crate::sockets::PROGRAMS;
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{setsockopt, sockopt};
use rtnetlink::{LinkUnspec, new_connection};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::{Path, PathBuf};
use tortie_abi::service::Frontend;
use tortie_abi::settings::{Settings, flags};
use zerocopy::{FromZeros as _, IntoBytes as _};

/// How many Services there are: few, and many.
const SERVICES: [u32; 2] = [10, 20_000];
const ROUNDS: usize = 15;
/// Connections of a round, each kind.
const CONNECTIONS: u64 = 2000;
const SERVICE_PORT: u16 = 80;
/// `lo` is the first interface of every namespace.
const LOOPBACK: u32 = 1;
/// The programs that a TCP connection meets; the last forgets what the first two have remembered.
const MEASURED: [&str; 2] = ["connect4", "connect6"];
const RELEASE: &str = "sock_release";

/// Nanoseconds of the programs at `connect`, net, and how much more many Services cost than few. `root` is a directory
/// of cgroup v2.
pub fn measure(root: &Path) -> Result<Vec<Figure>, BenchError> {
    let thread = std::thread::Builder::new().name("connect".to_owned()).spawn({
        let root = root.to_owned();
        move || {
            unshare(CloneFlags::CLONE_NEWNET).map_err(io::Error::from)?;
            loopback_up()?;
            measure_here(&root)
        }
    });
    thread?.join().unwrap_or_else(|_| Err(io::Error::other("the measuring thread ended early").into()))
}

fn measure_here(root: &Path) -> Result<Vec<Figure>, BenchError> {
    let _statistics = Statistics::enable()?;
    let servers =
        [TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?, TcpListener::bind((Ipv6Addr::LOCALHOST, 0))?];
    let mut worlds = Vec::new();
    for (services, [miss, hit, least]) in SERVICES.into_iter().zip([FEW, MANY]) {
        worlds.push(World::new(root, services, &servers, &[(false, miss), (true, hit)])?);
        worlds.push(World::floor(root, services, &servers, (true, least))?);
    }
    // Left before the worlds go: a cgroup with a process in it cannot be removed.
    let _home = Home::find(root)?;
    let mut series: BTreeMap<(&'static str, u8), Vec<f64>> = BTreeMap::new();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..ROUNDS {
        for world in &worlds {
            world.cgroup.enter()?;
            for (family, server) in [4, 6].into_iter().zip(&servers) {
                for &(hit, name) in &world.figures {
                    let net = world.round(family, server, hit, &mut random)?;
                    series.entry((name, family)).or_default().push(net);
                }
            }
        }
    }
    Ok(figures(series))
}

/// In the order of names; many against few are compared round by round.
fn figures(mut series: BTreeMap<(&'static str, u8), Vec<f64>>) -> Vec<Figure> {
    let mut floors = BTreeMap::new();
    for [_, hit, least] in [FEW, MANY] {
        for family in [4, 6] {
            let nanos = series.remove(&(least, family)).unwrap_or_default();
            floors.insert((hit, Some(family)), Figure::of(least, Some(family), nanos).value);
        }
    }
    let mut figures = Vec::new();
    for (name, few, many) in
        [("connect-miss-flatness", FEW[0], MANY[0]), ("connect-hit-flatness", FEW[1], MANY[1])]
    {
        for family in [4, 6] {
            let of = |name| series.get(&(name, family)).cloned().unwrap_or_default();
            let ratios = of(many).into_iter().zip(of(few)).map(|(many, few)| many / few).collect();
            figures.push(Figure::of(name, Some(family), ratios));
        }
    }
    let costs = series.into_iter().map(|((name, family), nanos)| {
        let floor = floors.get(&(name, Some(family))).copied();
        Figure { floor, ..Figure::of(name, Some(family), nanos) }
    });
    costs.chain(figures).collect()
}

/// Names of the figures with few Services and with many: where there is none, where there is one, and the least that
/// it could cost there.
const FEW: [&str; 3] = ["connect-miss-10", "connect-hit-10", "connect-floor-10"];
const MANY: [&str; 3] = ["connect-miss", "connect-hit-20000", "connect-floor-20000"];

/// A cgroup with programs on maps of their own, and an empty program beside each that is measured.
struct World {
    services: u32,
    /// What is measured: does it lead to a Service, and under which name?
    figures: Vec<(bool, &'static str)>,
    programs: BTreeMap<String, Program>,
    empty: [Program; 2],
    /// They detach the programs when dropped.
    _links: Vec<Link>,
    _maps: Maps,
    _prepared: Option<Prepared>,
    cgroup: Cgroup,
}

impl World {
    /// Our programs.
    fn new(
        root: &Path,
        services: u32,
        servers: &[TcpListener; 2],
        figures: &[(bool, &'static str)],
    ) -> Result<Self, BenchError> {
        let maps = Maps::anonymous(&room_for(services))?;
        fill(&maps, services, servers)?;
        let prepared = object::prepare(object::embedded(), &maps)?;
        let mut programs = prepared.load_all().map_err(ObjectError::from)?;
        programs.retain(|name, _| name == RELEASE || MEASURED.contains(&name.as_str()));
        Ok(Self { _prepared: Some(prepared), ..Self::of(root, services, figures, maps, programs)? })
    }

    /// Programs that do [the least](floor).
    fn floor(
        root: &Path,
        services: u32,
        servers: &[TcpListener; 2],
        figure: (bool, &'static str),
    ) -> Result<Self, BenchError> {
        let maps = Maps::anonymous(&room_for(services))?;
        fill(&maps, services, servers)?;
        let mut programs = BTreeMap::new();
        for (name, family, table) in [(MEASURED[0], 4, "frontend4"), (MEASURED[1], 6, "frontend6")] {
            let table = maps.get(table)?.as_fd().as_raw_fd();
            let insns = floor::floor(family)?.link(|map| (map == floor::FRONTENDS).then_some(table))?;
            programs.insert(name.to_owned(), load(kind_of(name), &insns)?);
        }
        Self::of(root, services, &[figure], maps, programs)
    }

    /// With these at a cgroup of its own.
    fn of(
        root: &Path,
        services: u32,
        figures: &[(bool, &'static str)],
        maps: Maps,
        programs: BTreeMap<String, Program>,
    ) -> Result<Self, BenchError> {
        let cgroup = Cgroup::new(root, figures.first().map_or("", |(_, name)| name))?;
        let directory = File::open(&cgroup.0)?;
        let mut links = Vec::new();
        for (name, program) in &programs {
            links.push(Link::cgroup(program.as_fd(), directory.as_fd(), kind_of(name))?);
        }
        let mut empty = Vec::new();
        for name in MEASURED {
            // Lets every call go on.
            let program =
                load(kind_of(name), &[[0xb7, 0, 0, 0, 1, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]].concat())?;
            links.push(Link::cgroup(program.as_fd(), directory.as_fd(), kind_of(name))?);
            empty.push(program);
        }
        let empty = empty.try_into().map_err(|_| BenchError::Missing("empty"))?;
        let figures = figures.to_vec();
        Ok(Self { services, figures, programs, empty, _links: links, _maps: maps, _prepared: None, cgroup })
    }

    /// Connects to the server, by a Service or as it is; nanoseconds of a run, net.
    fn round(
        &self,
        family: u8,
        server: &TcpListener,
        hit: bool,
        random: &mut Random,
    ) -> Result<f64, BenchError> {
        let [four, six] = &self.empty;
        let (name, empty) = if family == 4 { (MEASURED[0], four) } else { (MEASURED[1], six) };
        let program = self.programs.get(name).ok_or(BenchError::Missing(name))?;
        let address = server.local_addr()?;
        let before = (program.runs()?, empty.runs()?);
        for _ in 0..CONNECTIONS {
            let to = if hit { vip(family, random.below(self.services)) } else { address };
            connect(to, server, address)?;
        }
        let (ours, least) = (mean(before.0, program.runs()?), mean(before.1, empty.runs()?));
        match (ours, least) {
            (Some(ours), Some(least)) => Ok(ours - least),
            _ => {
                Err(io::Error::other("the programs at the cgroup did not run; is this process in it?").into())
            }
        }
    }
}

/// One connection from beginning to end. Closed by a reset, so that its port can be used again at once.
fn connect(to: SocketAddr, server: &TcpListener, address: SocketAddr) -> io::Result<()> {
    let client = TcpStream::connect(to)?;
    if client.peer_addr()? != address {
        return Err(io::Error::other(format!("{to} did not lead to {address}")));
    }
    let reset = libc::linger { l_onoff: 1, l_linger: 0 };
    setsockopt(&client, sockopt::Linger, &reset)?;
    let (accepted, _) = server.accept()?;
    drop(client);
    drop(accepted);
    Ok(())
}

/// Nanoseconds of a run in between; `None`: there was none for each connection.
fn mean(before: Runs, after: Runs) -> Option<f64> {
    let runs = after.count.saturating_sub(before.count);
    let time = after.time.saturating_sub(before.time);
    (runs >= CONNECTIONS).then(|| time.as_nanos() as f64 / runs as f64)
}

/// Where a program is attached, by its name.
fn kind_of(name: &str) -> u32 {
    PROGRAMS.iter().find(|(it, _)| *it == name).map_or(0, |(_, kind)| *kind)
}

fn load(attach_type: u32, insns: &[u8]) -> Result<Program, BenchError> {
    let def = ProgramDef::new("tortie_bench", ProgramKind::CgroupSockAddr, insns);
    Ok(Program::load(&ProgramDef { expected_attach_type: attach_type, ..def })?)
}

/// The address of a Service.
fn vip(family: u8, number: u32) -> SocketAddr {
    let [.., high, low] = number.to_be_bytes();
    let address: IpAddr = match family {
        4 => Ipv4Addr::new(10, 96, high, low).into(),
        _ => Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 0, u16::from_be_bytes([high, low])).into(),
    };
    SocketAddr::new(address, SERVICE_PORT)
}

/// Services of both families with the servers as back ends.
fn fill(maps: &Maps, services: u32, servers: &[TcpListener; 2]) -> Result<(), BenchError> {
    let settings = Settings { flags: flags::CONNECT_TCP, ..Settings::new_zeroed() };
    maps.get("settings")?.update(&0_u32.to_ne_bytes(), settings.as_bytes(), Update::Any)?;
    for (family, server) in [4, 6].into_iter().zip(servers) {
        let server = server.local_addr()?;
        for number in 0..services {
            let service = number + 1;
            let frontend = Frontend { service, backends: 1, local_backends: 1, ..Frontend::default() };
            let at = (vip(family, number).ip(), SERVICE_PORT);
            put_service(maps, at, &frontend, (server.ip(), server.port()))?;
        }
    }
    Ok(())
}

/// A cgroup that goes when dropped.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new(root: &Path, name: &str) -> io::Result<Self> {
        let dir = root.join(format!("tortie-bench-{}-{name}", std::process::id()));
        fs::create_dir(&dir)?;
        Ok(Self(dir))
    }

    /// This process, and with it every socket that it makes from now on.
    fn enter(&self) -> io::Result<()> {
        fs::write(self.0.join("cgroup.procs"), "0")
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.0) {
            tracing::warn!(cgroup = %self.0.display(), %error, "cannot be removed");
        }
    }
}

/// The cgroup that this process was in, to which it returns.
struct Home(PathBuf);

impl Home {
    fn find(root: &Path) -> io::Result<Self> {
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/"));
        let own = own.ok_or_else(|| io::Error::other("this process is in no cgroup v2"))?;
        Ok(Self(root.join(own)))
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Err(error) = fs::write(self.0.join("cgroup.procs"), "0") {
            tracing::warn!(cgroup = %self.0.display(), %error, "cannot be returned to");
        }
    }
}

/// xorshift64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (((self.0 >> 32) * u64::from(limit)) >> 32) as u32
    }
}

fn loopback_up() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let (connection, handle, _) = new_connection()?;
        tokio::spawn(connection);
        let up = LinkUnspec::new_with_index(LOOPBACK).up().build();
        handle.link().change(up).execute().await.map_err(io::Error::other)
    })
}
