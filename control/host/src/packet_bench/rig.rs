//! The measured node: maps of default sizes, two pods with ten rules each way, a Service, and the programs.

use super::driver;
use super::frames::{self, Family, Frame, SERVER_PORT, SERVICE_PORT};
use super::{BenchError, Case, REDIRECT, node_ports};
use crate::bpf::{Map, MapDef, Program, ProgramDef, ProgramKind, RingBuffer, Run, Update};
use crate::datapath::{FROM_HOST_DEVICE, FROM_TUNNEL, STAGES};
use crate::maps::{Maps, Sizes};
use crate::object::{self, Prepared};
use crate::policy::{LoadedPolicy, Shared, load_preamble};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tortie_abi::endpoint::{Endpoint, endpoint_flags};
use tortie_abi::maps::MapKind;
use tortie_abi::route::{Kind, Route};
use tortie_abi::service::{BackendKey, Frontend};
use tortie_abi::settings::Settings;
use tortie_abi::{Target, Tick, v4, v6};
use tortie_policy::asm::{MapRef, Program as Listing};
use tortie_policy::classes::{ClassChange, Classes};
use tortie_policy::compile::{Limits, compile};
use tortie_policy::form::{
    Action, Clause, Direction, List, Member, Origin, PortRange, Protocol, Rule, SetId,
};
use tortie_policy::preamble::{Towards, preamble};
use tortie_wire::{Be16, Mac};
use zerocopy::{FromZeros, Immutable, IntoBytes};

/// Where a frame enters: a slot of the array that drivers call into.
#[derive(Clone, Copy, Debug)]
pub(super) enum Entry {
    Empty,
    Client,
    Server,
    Outside,
    Tunnel,
    Floor(Family),
}

impl Entry {
    const fn slot(self) -> u32 {
        match self {
            Self::Empty => 0,
            Self::Client => 1,
            Self::Server => 2,
            Self::Floor(Family::V4) => 3,
            Self::Floor(Family::V6) => 4,
            Self::Outside => 5,
            Self::Tunnel => 6,
        }
    }
}

/// Where a frame enters, and the frame.
pub(super) type Way = (Entry, Frame);

const CLIENT: u32 = 1;
const SERVER: u32 = 2;
const RULES: u16 = 10;
const TCP: u8 = 6;
/// No programs are attached: any number does.
pub(super) const IFINDEX: u32 = 1;

/// How long it takes from nothing to all maps and programs.
pub(super) fn start() -> Result<Duration, BenchError> {
    let start = Instant::now();
    let maps = Maps::anonymous(&Sizes::new())?;
    let programs =
        object::prepare(object::embedded(), &maps)?.load_all().map_err(object::ObjectError::from)?;
    let took = start.elapsed();
    drop(programs);
    Ok(took)
}

/// The node.
pub(super) struct Rig {
    maps: Maps,
    entries: Map,
    counter: Map,
    events: RingBuffer,
    programs: BTreeMap<String, Program>,
    _prepared: Prepared,
    _policies: Vec<LoadedPolicy>,
}

impl Rig {
    pub(super) fn new() -> Result<Self, BenchError> {
        let maps = Maps::anonymous(&Sizes::new())?;
        let prepared = object::prepare(object::embedded(), &maps)?;
        let programs = prepared.load_all().map_err(object::ObjectError::from)?;
        for (name, slot) in STAGES {
            if let Some(program) = programs.get(name) {
                maps.get("stage")?.set_fd(slot, program.as_fd())?;
            }
        }
        let array = |name, kind: MapKind, value_bytes, max_entries| {
            Map::create(&MapDef { name, kind: kind as u32, key_bytes: 4, value_bytes, max_entries, flags: 0 })
        };
        let entries = array("bench_entries", MapKind::ProgArray, 4, 8)?;
        let counter = array("bench_counter", MapKind::PerCpuArray, 8, 1)?;
        let events = RingBuffer::open(maps.get("event")?.try_clone()?)?;
        let mut rig =
            Self { maps, entries, counter, events, programs, _prepared: prepared, _policies: Vec::new() };
        rig.fill()?;
        rig.enter()?;
        Ok(rig)
    }

    pub(super) fn put(
        &self,
        map: &str,
        key: &(impl IntoBytes + Immutable),
        value: &(impl IntoBytes + Immutable),
    ) -> Result<(), BenchError> {
        put(&self.maps, map, key, value)
    }

    pub(super) fn put_route(&self, address: IpAddr, kind: Kind, target: Target) -> Result<(), BenchError> {
        let route = Route { target, kind: kind as u8, flags: 0, _zero: 0 };
        match address {
            IpAddr::V4(a) => self.put("route4", &v4::PrefixKey::host(a.into()), &route),
            IpAddr::V6(a) => self.put("route6", &v6::PrefixKey::host(a.into()), &route),
        }
    }

    /// A front end, and the back end of its Service on [`SERVER_PORT`].
    pub(super) fn put_service(
        &self,
        at: (IpAddr, u16),
        frontend: &Frontend,
        backend: IpAddr,
    ) -> Result<(), BenchError> {
        put_service(&self.maps, at, frontend, (backend, SERVER_PORT))
    }

    fn fill(&mut self) -> Result<(), BenchError> {
        self.put("settings", &0_u32, &settings())?;
        let classes = classes();
        for family in [Family::V4, Family::V6] {
            self.fill_family(family, &classes)?;
        }
        for (slot, address) in [(CLIENT, Family::client as fn(Family) -> IpAddr), (SERVER, Family::server)] {
            self.put("endpoint", &slot, &endpoint(slot, address, &classes))?;
        }
        let shared =
            Shared { policy_io: self.maps.get("policy_io")?.as_fd(), stage: self.maps.get("stage")?.as_fd() };
        let mut loaded = Vec::new();
        for (slot, direction, set) in
            [(CLIENT, Direction::Egress, SERVER_SET), (SERVER, Direction::Ingress, CLIENT_SET)]
        {
            let list = list(direction, set);
            let (_, compiled) = compile(&list, &classes, &|rule| rule as u32 + 1, &Limits::default())?;
            let policy = LoadedPolicy::load("tortie_bench", &compiled, shared)?;
            self.maps.get("policy")?.set_fd(slot, policy.program().as_fd())?;
            loaded.push(policy);
        }
        self._policies = loaded;
        Ok(())
    }

    fn fill_family(&self, family: Family, classes: &Classes) -> Result<(), BenchError> {
        for (slot, address) in [(CLIENT, family.client()), (SERVER, family.server())] {
            self.put_route(address, Kind::LocalPod, Target::endpoint(slot as u16, 1))?;
        }
        let frontend = Frontend { service: 1, backends: 1, local_backends: 1, ..Frontend::default() };
        self.put_service((family.service(), SERVICE_PORT), &frontend, family.server())?;
        node_ports::fill(self, family)?;
        for change in classes.dump() {
            if let ClassChange::Address { address, class: Some(class) } = change {
                match address {
                    IpAddr::V4(a) => {
                        self.put("class_addr4", &v4::AddressKey { address: a.into() }, &class)?
                    }
                    IpAddr::V6(a) => {
                        self.put("class_addr6", &v6::AddressKey { address: a.into() }, &class)?
                    }
                }
            }
        }
        Ok(())
    }

    /// Puts what drivers go on to into its slots: nothing, preambles, floors.
    fn enter(&self) -> Result<(), BenchError> {
        let stage = self.maps.get("stage")?.as_fd();
        let set = |entry: Entry, program: &Program| self.entries.set_fd(entry.slot(), program.as_fd());
        set(Entry::Empty, &self.load(&driver::empty()?, None)?)?;
        for (entry, slot) in [(Entry::Client, CLIENT), (Entry::Server, SERVER)] {
            set(entry, &load_preamble("tortie_bench", &preamble(slot, Towards::FromWorkload)?, stage)?)?;
        }
        for (entry, name) in [(Entry::Outside, FROM_HOST_DEVICE), (Entry::Tunnel, FROM_TUNNEL)] {
            let program = self.programs.get(name).ok_or(BenchError::Missing(name))?;
            set(entry, program)?;
        }
        for (family, table) in [(Family::V4, "flow4"), (Family::V6, "flow6")] {
            let listing = driver::floor(&frames::to_pod(family).key())?;
            set(Entry::Floor(family), &self.load(&listing, Some(self.maps.get(table)?.as_fd()))?)?;
        }
        Ok(())
    }

    fn load(&self, listing: &Listing, flows: Option<BorrowedFd<'_>>) -> Result<Program, BenchError> {
        let insns = listing.link(|map: MapRef| match map {
            driver::PROGRAMS => Some(self.entries.as_fd().as_raw_fd()),
            driver::COUNTER => Some(self.counter.as_fd().as_raw_fd()),
            driver::FLOWS => flows.map(|fd| fd.as_raw_fd()),
            _ => None,
        })?;
        Ok(Program::load(&ProgramDef::new("tortie_bench", ProgramKind::SchedCls, &insns))?)
    }

    /// A driver with its frame.
    pub(super) fn driver(&self, entry: Entry, frame: &Frame, fresh: bool) -> Result<Driver, BenchError> {
        let bytes = frame.bytes();
        let port_at = fresh.then(|| frame.port_offset());
        let program = self.load(&driver::driver(&bytes, port_at, frame.tunnel(), entry.slot())?, None)?;
        Ok(Driver { program, bytes })
    }

    /// Makes a connection established: who asks and who answers, each with where it enters.
    pub(super) fn shake_hands(&self, (request, reply): &(Way, Way)) -> Result<(), BenchError> {
        let steps = [
            (request.0, request.1.clone().opening()),
            (reply.0, reply.1.clone().agreeing()),
            (request.0, request.1.clone()),
        ];
        for (entry, frame) in steps {
            let driver = self.driver(entry, &frame, false)?;
            self.expect(&driver, "handshake", REDIRECT)?;
        }
        Ok(())
    }

    /// The situation ends as it should.
    pub(super) fn check(&self, driver: &Driver, case: &Case) -> Result<(), BenchError> {
        self.expect(driver, case.name, case.expected)
    }

    fn expect(&self, driver: &Driver, what: &str, expected: u32) -> Result<(), BenchError> {
        let found = driver.program.run(&mut Run::once(&driver.bytes, &mut []))?.code;
        if found == expected {
            return Ok(());
        }
        Err(BenchError::Unexpected { what: what.to_owned(), found, expected })
    }

    /// Average time of one of `repeat` runs.
    pub(super) fn run(&self, driver: &Driver, repeat: u32) -> Result<Duration, BenchError> {
        let result = driver.program.run(&mut Run { repeat, ..Run::once(&driver.bytes, &mut []) })?;
        Ok(result.duration)
    }

    /// Reads the events, as an agent does.
    pub(super) fn drain_events(&mut self) {
        let mut record = Vec::new();
        while self.events.next(&mut record) {}
    }

    /// Ends all flows that nobody has answered: a client that uses a port again is another case than a new flow.
    pub(super) fn forget_half_open(&self, family: Family) -> Result<(), BenchError> {
        let (name, bytes) = match family {
            Family::V4 => ("half_open4", size_of::<v4::FlowKey>()),
            Family::V6 => ("half_open6", size_of::<v6::FlowKey>()),
        };
        let map = self.maps.get(name)?;
        let (mut key, mut next) = (vec![0; bytes], vec![0; bytes]);
        let mut more = map.next_key(None, &mut key)?;
        while more {
            more = map.next_key(Some(&key), &mut next)?;
            map.delete(&key)?;
            key.copy_from_slice(&next);
        }
        Ok(())
    }

    /// Bytes of kernel memory of maps and programs, before any packet: fresh maps are measured.
    pub(super) fn memory(&self) -> Result<u64, BenchError> {
        let maps = Maps::anonymous(&Sizes::new())?;
        let mut bytes = 0;
        for (_, map) in maps.iter() {
            bytes += map.memlock_bytes()?;
        }
        for program in self.programs.values() {
            bytes += program.memlock_bytes()?;
        }
        Ok(bytes)
    }
}

/// A driver and what it is run on.
pub(super) struct Driver {
    program: Program,
    bytes: Vec<u8>,
}

fn put(
    maps: &Maps,
    map: &str,
    key: &(impl IntoBytes + Immutable),
    value: &(impl IntoBytes + Immutable),
) -> Result<(), BenchError> {
    Ok(maps.get(map)?.update(key.as_bytes(), value.as_bytes(), Update::Any)?)
}

/// A TCP front end, and the one back end of its Service.
pub(crate) fn put_service(
    maps: &Maps,
    at: (IpAddr, u16),
    frontend: &Frontend,
    backend: (IpAddr, u16),
) -> Result<(), BenchError> {
    let (port, protocol, _zero) = (Be16::new(at.1), TCP, 0);
    let frontend = &frontend.with_lone(backend.0, Be16::new(backend.1));
    match at.0 {
        IpAddr::V4(a) => {
            let key = v4::FrontendKey { address: a.into(), port, protocol, _zero };
            put(maps, "frontend4", &key, frontend)?;
        }
        IpAddr::V6(a) => {
            let key = v6::FrontendKey { address: a.into(), port, protocol, _zero };
            put(maps, "frontend6", &key, frontend)?;
        }
    }
    let key = BackendKey { service: frontend.service, ordinal: 0 };
    let port = Be16::new(backend.1);
    match backend.0 {
        IpAddr::V4(a) => put(maps, "backend4", &key, &v4::Backend { address: a.into(), port, _zero: 0 }),
        IpAddr::V6(a) => put(maps, "backend6", &key, &v6::Backend { address: a.into(), port, _zero: 0 }),
    }
}

fn settings() -> Settings {
    let mut settings = Settings::new_zeroed();
    settings.tcp_timeouts = [Tick::ticks_of_millis(3_600_000); 8];
    settings.mark_seen = 1 << 24;
    settings.mark_mask = 0xff << 24;
    (settings.port_range_first, settings.port_range_last) = (40_000, 50_000);
    (settings.nat_range_first, settings.nat_range_last) = (1_024, 29_999);
    settings.tunnel_ifindex = IFINDEX;
    if let (IpAddr::V4(a), IpAddr::V6(b)) = (Family::V4.node(), Family::V6.node()) {
        (settings.node_address4, settings.node_address6) = (a.into(), b.into());
    }
    settings
}

fn endpoint(slot: u32, address: fn(Family) -> IpAddr, classes: &Classes) -> Endpoint {
    let mut endpoint = Endpoint::new_zeroed();
    endpoint.id = Target::endpoint(slot as u16, 1);
    endpoint.ifindex = IFINDEX;
    (endpoint.egress_generation, endpoint.ingress_generation) = (1, 1);
    (endpoint.egress_program, endpoint.ingress_program) = (slot, slot);
    endpoint.class4 = classes.class_of(address(Family::V4));
    endpoint.class6 = classes.class_of(address(Family::V6));
    endpoint.flags = endpoint_flags::READY;
    endpoint.mac = Mac([2, 0, 0, 0, 1, slot as u8]);
    endpoint.host_mac = Mac([2, 0, 0, 0, 2, slot as u8]);
    if let (IpAddr::V4(a), IpAddr::V6(b)) = (address(Family::V4), address(Family::V6)) {
        (endpoint.address4, endpoint.address6) = (a.into(), b.into());
    }
    endpoint
}

const CLIENT_SET: SetId = SetId(1);
const SERVER_SET: SetId = SetId(2);

fn classes() -> Classes {
    let mut classes = Classes::new();
    let both = |address: fn(Family) -> IpAddr| [address(Family::V4), address(Family::V6)].map(Member::from);
    let clients = [both(Family::client), both(Family::outside)].concat();
    for (set, members) in [(CLIENT_SET, clients), (SERVER_SET, both(Family::server).to_vec())] {
        classes.create(set);
        classes.update(set, &members, &[]);
    }
    // Programs and endpoint records are made for the classes as they are now.
    let _ = classes.take_changes();
    classes
}

/// Ten rules of which only the last matches.
fn list(direction: Direction, remote: SetId) -> List {
    let origin =
        Arc::new(Origin { tier: "default".into(), policy: "bench".into(), rule: 0, ..Origin::default() });
    let rule = |port: u16| Rule {
        action: Action::Allow,
        family: None,
        protocol: Protocol::Is(TCP),
        remote: vec![Clause { sets: vec![remote], negated: false }],
        destination_ports: vec![PortRange { first: port, last: port }],
        not_destination_ports: Vec::new(),
        source_ports: Vec::new(),
        not_source_ports: Vec::new(),
        icmp: None,
        origin: Arc::clone(&origin),
    };
    let others = (1..RULES).map(|index| rule(SERVER_PORT + index * 10));
    List {
        direction,
        policies: Vec::new(),
        rules: others.chain([rule(SERVER_PORT)]).collect(),
        default: Action::Deny,
    }
}
