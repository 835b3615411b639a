//! The kernel side: the object's programs, run by `BPF_PROG_TEST_RUN`.

use crate::native::Dump;
use crate::session::Observed;
use crate::step::Shot;
use crate::world::{FLOW_ENTRIES, World, ifindex_of, places, tunnel_source};
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use tortie_abi::counter::{Counter, CounterKey};
use tortie_abi::endpoint::Endpoint;
use tortie_abi::service::{MAGLEV_PIECE, MaglevKey, Member};
use tortie_abi::sweep::Sweep;
use tortie_abi::{Hook, stage, v4, v6};
use tortie_datapath::{Family, V4, V6};
use tortie_host::bpf::{Map, Program, Run, RunResult, Update};
use tortie_host::maps::{Maps, Size, Sizes};
use tortie_host::object::{self, Prepared};
use tortie_host::policy::{LoadedPolicy, Shared, load_preamble};
use tortie_host::sweep::PROGRAMS as SWEEPS;
use tortie_policy::compile::{Limits, compile};
use tortie_policy::preamble::{Towards, preamble};
use tortie_wire::Ip6;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// `struct __sk_buff`, what a test may set of it.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Context {
    len: u32,
    pkt_type: u32,
    mark: u32,
    other: [u32; 6],
    ingress_ifindex: u32,
    ifindex: u32,
    tc_index: u32,
    cb: [u32; 5],
    more: [u32; 24],
    gso_segs: u32,
    sk: [u32; 2],
    gso_size: u32,
    last: [u32; 3],
}

const _: () = assert!(size_of::<Context>() == 192);

/// The map `test_io` of the test build.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct TestIo {
    now_nanos: u64,
    random: u32,
    verdict: u32,
    argument: u32,
    concluded: u32,
    tunnel_source: Ip6,
    tunnel_network: u32,
    _zero: u32,
}

/// Which program stands in which slot of `stage`.
const STAGES: [(&str, u32); 16] = [
    ("from_workload4", stage::FROM_WORKLOAD4),
    ("from_workload6", stage::FROM_WORKLOAD6),
    ("from_workload_other", stage::FROM_WORKLOAD_OTHER),
    ("to_workload4", stage::TO_WORKLOAD4),
    ("to_workload6", stage::TO_WORKLOAD6),
    ("to_workload_other", stage::TO_WORKLOAD_OTHER),
    ("resume4", stage::RESUME4),
    ("resume6", stage::RESUME6),
    ("reply4", stage::REPLY4),
    ("reply6", stage::REPLY6),
    ("related4", stage::RELATED4),
    ("related6", stage::RELATED6),
    ("open4", stage::OPEN4),
    ("open6", stage::OPEN6),
    ("apart4", stage::APART4),
    ("apart6", stage::APART6),
];

const PASS: u32 = u32::MAX;
const SHOT: u32 = 2;
const REDIRECT: u32 = 7;
const MAX_FRAME: usize = 4096;
/// The suite's half-open tables: large enough that nothing is evicted.
const HALF_OPEN_ENTRIES: u32 = 1024;

/// The programs and their maps.
pub struct Kernel {
    maps: Maps,
    // Holds the map `test_io` too.
    prepared: Prepared,
    programs: BTreeMap<String, Program>,
    from_host_device: Program,
    to_host_device: Program,
    from_tunnel: Program,
    from_workload: BTreeMap<u32, Program>,
    to_workload: BTreeMap<u32, Program>,
    policies: BTreeMap<u32, LoadedPolicy>,
    concluded: u32,
    out: Vec<u8>,
}

impl Kernel {
    /// Loads an object (see [`crate::objects`]) with the policies of the worlds, which are all the same.
    pub fn load(object: &[u8]) -> Result<Self, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let sizes = Sizes::from([
            ("flow4", Size::Fixed(FLOW_ENTRIES)),
            ("flow6", Size::Fixed(FLOW_ENTRIES)),
            ("half_open4", Size::Fixed(HALF_OPEN_ENTRIES)),
            ("half_open6", Size::Fixed(HALF_OPEN_ENTRIES)),
        ]);
        let maps = Maps::anonymous(&sizes).map_err(|e| text(&e))?;
        let prepared = object::prepare(object, &maps).map_err(|e| text(&e))?;
        let mut programs = prepared.load_all().map_err(|e| text(&e))?;
        let from_host_device = programs.remove("from_host_device").ok_or("no from_host_device")?;
        let to_host_device = programs.remove("to_host_device").ok_or("no to_host_device")?;
        let from_tunnel = programs.remove("from_tunnel").ok_or("no from_tunnel")?;
        for (name, slot) in STAGES {
            let program = programs.get(name).ok_or(name)?;
            map(&maps, "stage").set_fd(slot, program.as_fd()).map_err(|e| text(&e))?;
        }
        let preambles = |towards| {
            (0..8)
                .map(|slot| {
                    let program = preamble(slot, towards).map_err(|e| text(&e))?;
                    let program = load_preamble("tt_preamble", &program, map(&maps, "stage").as_fd());
                    Ok((slot, program.map_err(|e| text(&e))?))
                })
                .collect::<Result<BTreeMap<_, _>, String>>()
        };
        let (from_workload, to_workload) =
            (preambles(Towards::FromWorkload)?, preambles(Towards::ToWorkload)?);
        let mut kernel = Self {
            prepared,
            programs,
            from_host_device,
            to_host_device,
            from_tunnel,
            from_workload,
            to_workload,
            policies: BTreeMap::new(),
            concluded: 0,
            out: vec![0; MAX_FRAME],
            maps,
        };
        kernel.load_policies().map_err(|e| text(&e))?;
        Ok(kernel)
    }

    fn load_policies(&mut self) -> Result<(), Box<dyn std::error::Error>> {
        let world = World::new(0);
        let shared = Shared {
            policy_io: map(&self.maps, "policy_io").as_fd(),
            stage: map(&self.maps, "stage").as_fd(),
        };
        for (slot, list) in &world.lists {
            let (_, compiled) =
                compile(list, &world.classes, &|rule| World::rule_id(*slot, rule), &Limits::default())?;
            let policy = LoadedPolicy::load("tt_policy", &compiled, shared)?;
            map(&self.maps, "policy").set_fd(*slot, policy.program().as_fd())?;
            self.policies.insert(*slot, policy);
        }
        Ok(())
    }

    /// Makes the maps those of a world, with empty flow tables and counters.
    pub fn enter(&self, world: &World) -> io::Result<()> {
        for name in [
            "flow4",
            "flow6",
            "half_open4",
            "half_open6",
            "frontend4",
            "frontend6",
            "backend4",
            "backend6",
            "member4",
            "member6",
            "maglev4",
            "maglev6",
            "source_range4",
            "source_range6",
            "affinity4",
            "affinity6",
            "fragment4",
            "fragment6",
            "class_addr4",
            "class_addr6",
            "class_net4",
            "class_net6",
            "route4",
            "route6",
            "opt_out4",
            "opt_out6",
            "counter",
        ] {
            clear(self.map(name))?;
        }
        for (program, list) in &world.lists {
            for rule in 0..=list.rules.len() {
                let id = if rule == 0 { 0 } else { World::rule_id(*program, rule - 1) };
                self.map("rule_counter").update(
                    &id.to_ne_bytes(),
                    &[0; size_of::<Counter>()],
                    Update::Any,
                )?;
            }
        }
        self.put("settings", &0_u32, &world.settings)?;
        self.enter_v4(world)?;
        self.enter_v6(world)?;
        self.admit(world)?;
        for (address, class) in &world.class_addresses {
            match address {
                IpAddr::V4(address) => {
                    self.put("class_addr4", &v4::AddressKey { address: (*address).into() }, class)?
                }
                IpAddr::V6(address) => {
                    self.put("class_addr6", &v6::AddressKey { address: (*address).into() }, class)?
                }
            }
        }
        for (net, class) in &world.class_prefixes {
            let prefix_length = u32::from(net.prefix_len());
            match net.network() {
                IpAddr::V4(a) => {
                    self.put("class_net4", &v4::PrefixKey { prefix_length, address: a.into() }, class)?
                }
                IpAddr::V6(a) => {
                    self.put("class_net6", &v6::PrefixKey { prefix_length, address: a.into() }, class)?
                }
            }
        }
        for slot in 0..8_u32 {
            self.put("endpoint", &slot, &Endpoint::new_zeroed())?;
        }
        world.endpoints.keys().try_for_each(|slot| self.set_endpoint(world, *slot))?;
        world.next_hops.keys().try_for_each(|slot| self.set_next_hop(world, *slot))
    }

    /// Opens the Services that are not open to all.
    fn admit(&self, world: &World) -> io::Result<()> {
        for (service, client, length) in world.v4.admitted.iter().chain(&world.v6.admitted) {
            let (service, prefix_length) = (*service, 32 + u32::from(*length));
            match client {
                IpAddr::V4(a) => {
                    let key = v4::SourceRangeKey { prefix_length, service, client: (*a).into() };
                    self.put("source_range4", &key, &1_u32)?;
                }
                IpAddr::V6(a) => {
                    let key = v6::SourceRangeKey { prefix_length, service, client: (*a).into() };
                    self.put("source_range6", &key, &1_u32)?;
                }
            }
        }
        Ok(())
    }

    fn enter_v4(&self, world: &World) -> io::Result<()> {
        for (key, route) in &world.v4.routes {
            self.put("route4", key, route)?;
        }
        for key in &world.v4.opted_out {
            self.put("opt_out4", key, &1_u32)?;
        }
        for (key, frontend, backends) in &world.v4.services {
            self.put("frontend4", key, frontend)?;
            for (ordinal, backend) in (0_u32..).zip(backends) {
                self.put("backend4", &[frontend.service, ordinal], backend)?;
                self.put("member4", &member4(frontend.service, backend), &Member { ordinal })?;
            }
            for (piece, places) in (0..).zip(places(frontend, backends).chunks(MAGLEV_PIECE as usize)) {
                let mut value = v4::MaglevPiece::new_zeroed();
                value.places[..places.len()].copy_from_slice(places);
                self.put("maglev4", &MaglevKey { service: frontend.service, piece }, &value)?;
            }
        }
        Ok(())
    }

    fn enter_v6(&self, world: &World) -> io::Result<()> {
        for (key, route) in &world.v6.routes {
            self.put("route6", key, route)?;
        }
        for key in &world.v6.opted_out {
            self.put("opt_out6", key, &1_u32)?;
        }
        for (key, frontend, backends) in &world.v6.services {
            self.put("frontend6", key, frontend)?;
            for (ordinal, backend) in (0_u32..).zip(backends) {
                self.put("backend6", &[frontend.service, ordinal], backend)?;
                self.put("member6", &member6(frontend.service, backend), &Member { ordinal })?;
            }
            for (piece, places) in (0..).zip(places(frontend, backends).chunks(MAGLEV_PIECE as usize)) {
                let mut value = v6::MaglevPiece::new_zeroed();
                value.places[..places.len()].copy_from_slice(places);
                self.put("maglev6", &MaglevKey { service: frontend.service, piece }, &value)?;
            }
        }
        Ok(())
    }

    fn map(&self, name: &str) -> &Map {
        map(&self.maps, name)
    }

    fn put<K: IntoBytes + Immutable, V: IntoBytes + Immutable>(
        &self,
        name: &str,
        key: &K,
        value: &V,
    ) -> io::Result<()> {
        self.map(name).update(key.as_bytes(), value.as_bytes(), Update::Any)
    }

    /// Takes one endpoint's record over.
    pub fn set_endpoint(&self, world: &World, slot: u32) -> io::Result<()> {
        self.put("endpoint", &slot, &world.endpoints[&slot])
    }

    /// Takes one next hop's record over.
    pub fn set_next_hop(&self, world: &World, slot: u32) -> io::Result<()> {
        self.put("next_hop", &slot, &world.next_hops[&slot])
    }

    fn test_io(&self) -> &Map {
        self.prepared.private_map("test_io").expect("an object built with the feature test-io")
    }

    /// Sends a packet through its hook. `Ok(None)`: the kernel does not run programs on such a frame.
    pub fn shoot(&mut self, shot: &Shot, now_nanos: u64, random: u32) -> Result<Option<Observed>, String> {
        let Some((result, mark)) = self.send(shot, now_nanos, random)? else { return Ok(None) };
        let mut bytes = [0; size_of::<TestIo>()];
        self.test_io().lookup(&[0; 4], &mut bytes).map_err(|e| e.to_string())?;
        let io = TestIo::read_from_bytes(&bytes).map_err(|_| "test_io has another size")?;
        self.observed(io, result.code, mark, result.data_bytes).map(Some)
    }

    /// Runs the hook's program on a packet: what the kernel says of it, and its mark. `None` as with [`Kernel::shoot`].
    fn send(&mut self, shot: &Shot, now_nanos: u64, random: u32) -> Result<Option<(RunResult, u32)>, String> {
        let concluded = self.concluded;
        let (tunnel_source, tunnel_network) = tunnel_source(shot).unwrap_or_default();
        let io =
            TestIo { now_nanos, random, concluded, tunnel_source, tunnel_network, ..TestIo::new_zeroed() };
        self.test_io().update(&[0; 4], io.as_bytes(), Update::Any).map_err(|e| e.to_string())?;
        let mut context = Context::new_zeroed();
        context.mark = shot.mark;
        context.ifindex = ifindex_of(shot.hook, shot.slot);
        if matches!(shot.hook, Hook::FromWorkload | Hook::FromHostDevice | Hook::FromTunnel) {
            context.ingress_ifindex = context.ifindex;
        }
        (context.gso_size, context.gso_segs) = if shot.aggregate { (500, 2) } else { (0, 0) };
        let mut after = Context::new_zeroed();
        let program = match shot.hook {
            Hook::FromWorkload => self.from_workload.get(&shot.slot),
            Hook::ToWorkload => self.to_workload.get(&shot.slot),
            Hook::FromHostDevice => Some(&self.from_host_device),
            Hook::ToHostDevice => Some(&self.to_host_device),
            Hook::FromTunnel => Some(&self.from_tunnel),
            Hook::Socket => None,
        };
        let mut run = Run {
            data: &shot.bytes,
            data_out: &mut self.out,
            context: context.as_bytes(),
            context_out: after.as_mut_bytes(),
            repeat: 1,
        };
        match program.ok_or("no preamble for this slot")?.run(&mut run) {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(None),
            Err(error) => Err(error.to_string()),
            Ok(result) => Ok(Some((result, after.mark))),
        }
    }

    /// Another object's programs are loaded over the same maps and put where tail calls lead; what packets meet first stays.
    pub fn exchange(&self, object: &[u8]) -> Result<(), String> {
        let prepared = object::prepare(object, &self.maps).map_err(|e| e.to_string())?;
        let programs = prepared.load_all().map_err(|e| e.to_string())?;
        for (name, slot) in STAGES.into_iter().filter(|(_, slot)| *slot >= stage::RESUME4) {
            let program = programs.get(name).ok_or(name)?;
            self.map("stage").set_fd(slot, program.as_fd()).map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    /// Whether a packet ends at its hook, whoever ends it.
    pub fn ends(&mut self, shot: &Shot) -> Result<bool, String> {
        let (result, _) = self.send(shot, 0, 1)?.ok_or("the kernel runs nothing on such a frame")?;
        Ok(result.code == SHOT)
    }

    /// The verdict as the program told it, held against its return code.
    fn observed(&mut self, io: TestIo, code: u32, mark: u32, length: usize) -> Result<Observed, String> {
        let expected = match (io.concluded.wrapping_sub(self.concluded), io.verdict) {
            // Not for the packet logic: another ethertype.
            (0, 0) | (1, 1) => PASS,
            (1, 2..=8) => REDIRECT,
            (1, 9) => SHOT,
            _ => return Err(format!("a verdict told {io:?} times, {} before", self.concluded)),
        };
        self.concluded = io.concluded;
        if code != expected {
            return Err(format!("return code {code}, but the verdict was {io:?}"));
        }
        let packet = (code != SHOT).then(|| (self.out[..length].to_vec(), mark));
        let verdict = if io.verdict == 0 { (1, 0) } else { (io.verdict, io.argument) };
        Ok(Observed { verdict, packet, random: io.random })
    }

    /// A back end is none of a Service's any more.
    pub fn leave(&self, world: &World, service: u32, ordinal: u32) -> io::Result<()> {
        for (_, frontend, backends) in world.v4.services.iter().filter(|(_, f, _)| f.service == service) {
            if let Some(backend) = backends.get(ordinal as usize) {
                self.map("member4").delete(member4(frontend.service, backend).as_bytes())?;
            }
        }
        for (_, frontend, backends) in world.v6.services.iter().filter(|(_, f, _)| f.service == service) {
            if let Some(backend) = backends.get(ordinal as usize) {
                self.map("member6").delete(member6(frontend.service, backend).as_bytes())?;
            }
        }
        Ok(())
    }

    /// The tables of one family that packets write.
    pub fn flows(&self, v6: bool) -> io::Result<Dump> {
        let names =
            if v6 { ["flow6", "half_open6", "affinity6"] } else { ["flow4", "half_open4", "affinity4"] };
        let [main, half_open, affinity] = names.map(|name| dump(self.map(name)));
        let entries = if v6 { entries::<V6> } else { entries::<V4> };
        Ok([entries(main?), entries(half_open?), affinity?])
    }

    /// Runs the sweeps, which put the ways to clients outside in doubt.
    pub fn sweep(&self, now_nanos: u64) -> io::Result<()> {
        let said = Sweep { doubt: 1, ..Sweep::default() };
        for family in [0_u32, 1] {
            self.map("sweep").update(&family.to_ne_bytes(), said.as_bytes(), Update::Any)?;
        }
        let io = TestIo { now_nanos, concluded: self.concluded, ..TestIo::new_zeroed() };
        self.test_io().update(&[0; 4], io.as_bytes(), Update::Any)?;
        SWEEPS.iter().try_for_each(|name| self.programs[*name].call().map(drop))
    }

    /// Counted drops and answers, over all CPUs.
    pub fn counters(&self) -> io::Result<BTreeMap<(u32, u16, u16), Counter>> {
        let mut counters = BTreeMap::new();
        for (key, values) in dump(self.map("counter"))? {
            let Ok(key) = CounterKey::read_from_bytes(&key) else { continue };
            let mut sum = Counter::default();
            for value in values.chunks_exact(size_of::<Counter>()) {
                let one = Counter::read_from_bytes(value).unwrap_or_default();
                sum.packets += one.packets;
                sum.bytes += one.bytes;
            }
            counters.insert((key.ifindex, key.hook, key.reason), sum);
        }
        Ok(counters)
    }

    /// Counted rules, those that have decided something.
    pub fn rules(&self, world: &World) -> io::Result<BTreeMap<u32, Counter>> {
        let mut rules = BTreeMap::new();
        let of_lists =
            world.lists.iter().flat_map(|(p, list)| (0..list.rules.len()).map(|r| World::rule_id(*p, r)));
        for id in of_lists.chain([0]) {
            let mut value = [0; size_of::<Counter>()];
            self.map("rule_counter").lookup(&id.to_ne_bytes(), &mut value)?;
            let counter = Counter::read_from_bytes(&value).unwrap_or_default();
            if counter.packets > 0 {
                rules.insert(id, counter);
            }
        }
        Ok(rules)
    }
}

/// The entries of the elements of a flow table.
fn entries<F: Family>(elements: Dumped) -> Dumped {
    let typed = elements.iter().filter_map(|(key, pair)| {
        Some((F::FlowKey::read_from_bytes(key).ok()?, F::FlowPair::read_from_bytes(pair).ok()?))
    });
    let entries = typed.flat_map(|(key, pair)| F::directions(&key, &pair));
    entries.map(|(key, flow)| (key.as_bytes().to_vec(), flow.as_bytes().to_vec())).collect()
}

fn member4(service: u32, backend: &v4::Backend) -> v4::MemberKey {
    v4::MemberKey { service, address: backend.address, port: backend.port, _zero: 0 }
}

fn member6(service: u32, backend: &v6::Backend) -> v6::MemberKey {
    v6::MemberKey { service, address: backend.address, port: backend.port, _zero: 0 }
}

fn map<'a>(maps: &'a Maps, name: &str) -> &'a Map {
    maps.get(name).expect("a map of the list")
}

/// Keys and values of a map.
type Dumped = BTreeMap<Vec<u8>, Vec<u8>>;

/// All entries; in per-CPU maps each value holds every CPU's.
fn dump(map: &Map) -> io::Result<Dumped> {
    let (key_bytes, stride) = (map.info().key_bytes as usize, map.value_stride());
    let mut found = BTreeMap::new();
    map.read_batches(|keys, values| {
        let entries = keys.chunks_exact(key_bytes).zip(values.chunks_exact(stride));
        found.extend(entries.map(|(k, v)| (k.to_vec(), v.to_vec())));
    })?;
    Ok(found)
}

fn clear(map: &Map) -> io::Result<()> {
    let mut key = vec![0; map.info().key_bytes as usize];
    while map.next_key(None, &mut key)? {
        map.delete(&key)?;
    }
    Ok(())
}
