//! A kernel of stand-ins, watched: after every single operation nothing may be open or dangling.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use tortie_abi::counter::Counter;
use tortie_abi::endpoint::{Endpoint, NO_PROGRAM, NextHop, endpoint_flags};
use tortie_abi::route::Route;
use tortie_abi::service::flags::SOURCE_RANGES;
use tortie_abi::service::{BackendKey, Frontend, MaglevKey, Member};
use tortie_abi::settings::Settings;
use tortie_abi::target::TargetKind;
use tortie_abi::{maps, v4, v6};
use tortie_policy::asm::MapRef;
use tortie_policy::compile::{Compiled, TableWrite};
use tortie_reconcile::{HookError, Hooks, Kernel, Programs, TableError};
use tortie_testkit::fake_table::{FakeTable, Faults, Kind, table_error};
use tortie_wire::Ip6;

/// A program in a slot: its name and the elements of its tables.
#[derive(Clone, Default)]
pub struct Installed {
    pub name: String,
    pub tables: HashMap<(MapRef, u32), Vec<u8>>,
}

impl Installed {
    /// The row of a class; `None`: the class is denied.
    pub fn row(&self, class: u32) -> Option<u16> {
        let element = self.tables.get(&(MapRef::Rows, class / 4))?;
        let at = (class % 4) as usize * 2;
        let row = u16::from_ne_bytes(element.get(at..at + 2)?.try_into().ok()?);
        (row != u16::MAX).then_some(row)
    }
}

type Slots = Rc<RefCell<BTreeMap<u32, Installed>>>;
type OnInterfaces = Rc<RefCell<BTreeMap<String, (u32, u32)>>>;

#[derive(Clone)]
pub struct World {
    pub faults: Faults,
    pub endpoint: FakeTable<u32, Endpoint>,
    pub next_hop: FakeTable<u32, NextHop>,
    pub settings: FakeTable<u32, Settings>,
    pub route4: FakeTable<v4::PrefixKey, Route>,
    pub route6: FakeTable<v6::PrefixKey, Route>,
    pub frontend4: FakeTable<v4::FrontendKey, Frontend>,
    pub frontend6: FakeTable<v6::FrontendKey, Frontend>,
    pub backend4: FakeTable<BackendKey, v4::Backend>,
    pub member4: FakeTable<v4::MemberKey, Member>,
    pub backend6: FakeTable<BackendKey, v6::Backend>,
    pub member6: FakeTable<v6::MemberKey, Member>,
    pub maglev4: FakeTable<MaglevKey, v4::MaglevPiece>,
    pub maglev6: FakeTable<MaglevKey, v6::MaglevPiece>,
    pub source_range4: FakeTable<v4::SourceRangeKey, u32>,
    pub source_range6: FakeTable<v6::SourceRangeKey, u32>,
    pub class_addr4: FakeTable<v4::AddressKey, u32>,
    pub class_addr6: FakeTable<v6::AddressKey, u32>,
    pub class_net4: FakeTable<v4::PrefixKey, u32>,
    pub class_net6: FakeTable<v6::PrefixKey, u32>,
    pub opt_out4: FakeTable<v4::PrefixKey, u32>,
    pub opt_out6: FakeTable<v6::PrefixKey, u32>,
    pub rule_counter: FakeTable<u32, Counter>,
    pub slots: Slots,
    pub hooks: OnInterfaces,
    /// Set while somebody else damages things: what is dangling then is not our fault.
    pub damaged: Rc<Cell<bool>>,
    /// Set while a new agent meets what another left half done. Programs of before may deny classes they have
    /// not heard of, until their successors are in force.
    pub taking_over: Rc<Cell<bool>>,
}

/// What the kernel would do, without the numbers that may differ between two ways to the same end.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Meaning {
    pub endpoints: BTreeMap<IpAddr, String>,
    pub routes: BTreeMap<String, String>,
    pub services: BTreeMap<String, Vec<String>>,
    pub classes: usize,
    pub programs: usize,
}

/// How much fits into the IPv4 tables of Services.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    pub frontends: usize,
    pub backends: usize,
    pub members: usize,
    pub pieces: usize,
    pub ranges: usize,
}

impl Room {
    pub const AMPLE: Self = Self { frontends: 64, backends: 64, members: 64, pieces: 1024, ranges: 64 };
}

impl World {
    pub fn new() -> Self {
        Self::with_backends(64)
    }

    pub fn with_backends(backends: usize) -> Self {
        Self::with_room(Room { backends, ..Room::AMPLE })
    }

    pub fn with_room(room: Room) -> Self {
        let faults = Faults::default();
        let world = Self {
            endpoint: FakeTable::new(Kind::Array, maps::ENDPOINT_SLOTS as usize, &faults),
            next_hop: FakeTable::new(Kind::Array, maps::NEXT_HOP_SLOTS as usize, &faults),
            settings: FakeTable::new(Kind::Array, 1, &faults),
            route4: FakeTable::new(Kind::Hash, 64, &faults),
            route6: FakeTable::new(Kind::Hash, 64, &faults),
            frontend4: FakeTable::new(Kind::Hash, room.frontends, &faults),
            frontend6: FakeTable::new(Kind::Hash, 64, &faults),
            backend4: FakeTable::new(Kind::Hash, room.backends, &faults),
            member4: FakeTable::new(Kind::Hash, room.members, &faults),
            member6: FakeTable::new(Kind::Hash, 64, &faults),
            backend6: FakeTable::new(Kind::Hash, room.backends, &faults),
            maglev4: FakeTable::new(Kind::Hash, room.pieces, &faults),
            maglev6: FakeTable::new(Kind::Hash, 1024, &faults),
            source_range4: FakeTable::new(Kind::Hash, room.ranges, &faults),
            source_range6: FakeTable::new(Kind::Hash, 64, &faults),
            class_addr4: FakeTable::new(Kind::Hash, 64, &faults),
            class_addr6: FakeTable::new(Kind::Hash, 64, &faults),
            class_net4: FakeTable::new(Kind::Hash, 64, &faults),
            class_net6: FakeTable::new(Kind::Hash, 64, &faults),
            opt_out4: FakeTable::new(Kind::Hash, 64, &faults),
            opt_out6: FakeTable::new(Kind::Hash, 64, &faults),
            rule_counter: FakeTable::new(Kind::Array, maps::RULE_SLOTS as usize, &faults),
            slots: Slots::default(),
            hooks: OnInterfaces::default(),
            damaged: Rc::default(),
            taking_over: Rc::default(),
            faults,
        };
        let watched = world.without_observer();
        world.faults.observe(move || watched.check());
        world
    }

    /// A handle whose tables do not hold the observer that holds it.
    fn without_observer(&self) -> Self {
        self.clone()
    }

    pub fn kernel(&self) -> Kernel {
        Kernel {
            endpoint: Box::new(self.endpoint.clone()),
            next_hop: Box::new(self.next_hop.clone()),
            settings: Box::new(self.settings.clone()),
            route4: Box::new(self.route4.clone()),
            route6: Box::new(self.route6.clone()),
            frontend4: Box::new(self.frontend4.clone()),
            frontend6: Box::new(self.frontend6.clone()),
            backend4: Box::new(self.backend4.clone()),
            member4: Box::new(self.member4.clone()),
            backend6: Box::new(self.backend6.clone()),
            member6: Box::new(self.member6.clone()),
            maglev4: Box::new(self.maglev4.clone()),
            maglev6: Box::new(self.maglev6.clone()),
            source_range4: Box::new(self.source_range4.clone()),
            source_range6: Box::new(self.source_range6.clone()),
            class_addr4: Box::new(self.class_addr4.clone()),
            class_addr6: Box::new(self.class_addr6.clone()),
            class_net4: Box::new(self.class_net4.clone()),
            class_net6: Box::new(self.class_net6.clone()),
            opt_out4: Box::new(self.opt_out4.clone()),
            opt_out6: Box::new(self.opt_out6.clone()),
            rule_counter: Box::new(self.rule_counter.clone()),
            programs: Box::new(FakePrograms { slots: self.slots.clone(), faults: self.faults.clone() }),
            hooks: Box::new(FakeHooks { hooks: self.hooks.clone(), faults: self.faults.clone() }),
        }
    }

    /// Holds after every operation.
    pub fn check(&self) {
        if self.damaged.get() {
            return;
        }
        self.check_services();
        self.check_routes();
        self.check_endpoints();
        if !self.taking_over.get() {
            self.check_classes();
        }
    }

    fn check_services(&self) {
        let backends: BTreeSet<(u32, u32)> =
            self.backend4.elements().iter().map(|(k, _)| (k.service, k.ordinal)).collect();
        let pieces: BTreeMap<(u32, u32), v4::MaglevPiece> =
            self.maglev4.elements().into_iter().map(|(k, piece)| ((k.service, k.piece), piece)).collect();
        for (key, frontend) in self.frontend4.elements() {
            for place in 0..frontend.maglev_slots {
                let (key, within) = MaglevKey::of(frontend.service, place);
                let piece = pieces.get(&(key.service, key.piece));
                let backend = piece.map(|piece| piece.places[within as usize]);
                let named = backend.is_some_and(|b| b.port.get() == 80);
                assert!(named, "service {} has nobody at place {place}", frontend.service);
            }
            let balancer = Ipv4Addr::from(key.address).octets()[0] == 203;
            assert_eq!(frontend.flags & SOURCE_RANGES != 0, balancer, "{key:?} is open to others");
            for ordinal in 0..(frontend.first + frontend.backends).max(frontend.local_backends) {
                assert!(
                    backends.contains(&(frontend.service, ordinal)),
                    "service {} counts back end {ordinal}, which is not there",
                    frontend.service
                );
            }
        }
    }

    fn check_routes(&self) {
        for (prefix, route) in self.route4.elements() {
            let named = match route.target.kind() {
                TargetKind::Endpoint => self.endpoint.get(route.target.slot()).map(|record| record.id),
                TargetKind::NextHop => self.next_hop.get(route.target.slot()).map(|record| record.id),
                TargetKind::Host | TargetKind::Device => continue,
            };
            assert_eq!(named, Some(route.target), "the route to {prefix:?} leads nowhere");
        }
    }

    fn check_endpoints(&self) {
        let hooks = self.hooks.borrow();
        for (slot, record) in
            self.endpoint.elements().into_iter().filter(|(_, r)| r.flags & endpoint_flags::READY != 0)
        {
            let carried = hooks.values().any(|(ifindex, s)| *ifindex == record.ifindex && *s == slot);
            assert!(carried, "endpoint {slot} is READY without programs on interface {}", record.ifindex);
            assert!(record.egress_generation != 0 && record.ingress_generation != 0);
            for program in [record.egress_program, record.ingress_program] {
                let there = program == NO_PROGRAM || self.slots.borrow().contains_key(&program);
                assert!(there, "endpoint {slot} names an empty policy slot {program}");
            }
        }
    }

    /// Every class that an address has, has its row in every program that an endpoint names.
    fn check_classes(&self) {
        let slots = self.slots.borrow();
        let named: BTreeSet<u32> = self
            .endpoint
            .elements()
            .iter()
            .flat_map(|(_, r)| [r.egress_program, r.ingress_program])
            .collect();
        for slot in named.into_iter().filter(|slot| *slot != NO_PROGRAM) {
            let Some(program) = slots.get(&slot) else { continue };
            for (address, class) in self.class_addr4.elements() {
                assert!(
                    program.row(class).is_some(),
                    "{address:?} has class {class}, which program {slot} does not know"
                );
            }
        }
    }

    pub fn meaning(&self, probes: &[Ipv4Addr]) -> Meaning {
        Meaning {
            endpoints: self
                .endpoint
                .elements()
                .iter()
                .map(|(_, r)| self.endpoint_meaning(r, probes))
                .collect(),
            routes: self
                .route4
                .elements()
                .iter()
                .map(|(k, r)| (format!("{k:?}"), self.route_meaning(r)))
                .collect(),
            services: self
                .frontend4
                .elements()
                .iter()
                .map(|(k, f)| (format!("{k:?}"), self.backends(f)))
                .collect(),
            classes: self.class_addr4.count_all() + self.class_net4.count_all(),
            programs: self.slots.borrow().len(),
        }
    }

    fn endpoint_meaning(&self, record: &Endpoint, probes: &[Ipv4Addr]) -> (IpAddr, String) {
        let side = |program: u32, generation: u32| match (program, generation) {
            (_, 0) => "denied".to_owned(),
            (NO_PROGRAM, _) => "open".to_owned(),
            (slot, _) => format!("{:?}", self.partition(slot, probes)),
        };
        let egress = side(record.egress_program, record.egress_generation);
        let ingress = side(record.ingress_program, record.ingress_generation);
        let address = IpAddr::V4(record.address4.into());
        (
            address,
            format!("ifindex {} flags {} egress {egress} ingress {ingress}", record.ifindex, record.flags),
        )
    }

    /// Which of the probes a program treats alike, by the first probe that is treated so.
    fn partition(&self, slot: u32, probes: &[Ipv4Addr]) -> Vec<Option<usize>> {
        let slots = self.slots.borrow();
        let Some(program) = slots.get(&slot) else { return vec![None; probes.len()] };
        let rows: Vec<Option<u16>> = probes.iter().map(|p| program.row(self.class_of(*p))).collect();
        rows.iter().map(|row| row.and_then(|_| rows.iter().position(|other| other == row))).collect()
    }

    fn class_of(&self, address: Ipv4Addr) -> u32 {
        let exact = self.class_addr4.get(v4::AddressKey { address: address.into() });
        let nets = self.class_net4.elements();
        let around = nets.iter().filter(|(key, _)| {
            let bits = u32::from(Ipv4Addr::from(key.address)) ^ u32::from(address);
            bits.checked_shr(32 - key.prefix_length).unwrap_or(0) == 0
        });
        let longest = around.max_by_key(|(key, _)| key.prefix_length).map(|(_, class)| *class);
        exact.or(longest).unwrap_or(0)
    }

    fn route_meaning(&self, route: &Route) -> String {
        let to = match route.target.kind() {
            TargetKind::Endpoint => {
                self.endpoint.get(route.target.slot()).map(|r| Ipv4Addr::from(r.address4).to_string())
            }
            TargetKind::NextHop => {
                self.next_hop.get(route.target.slot()).map(|r| Ipv4Addr::from(r.address4).to_string())
            }
            TargetKind::Host | TargetKind::Device => None,
        };
        format!("kind {} flags {} to {to:?}", route.kind, route.flags)
    }

    fn backends(&self, frontend: &Frontend) -> Vec<String> {
        let key = |ordinal| BackendKey { service: frontend.service, ordinal };
        let backends = (0..frontend.backends).map(|o| format!("{:?}", self.backend4.get(key(o))));
        let ranges = self.source_range4.elements();
        let own = ranges.iter().filter(|(range, _)| range.service == frontend.service);
        let ranges: Vec<String> =
            own.map(|(range, _)| format!("{:?}/{}", range.client, range.prefix_length)).collect();
        let at = |place| {
            let (key, within) = MaglevKey::of(frontend.service, place);
            self.maglev4.get(key).map(|piece| piece.places[within as usize].address)
        };
        let table: Vec<_> = (0..frontend.maglev_slots).map(at).collect();
        let alone = (frontend.backends == 1).then(|| self.backend4.get(key(frontend.first))).flatten();
        let members = self.member4.elements();
        let members = members.iter().filter(|(member, _)| member.service == frontend.service);
        let found = members.map(|(member, place)| (place.ordinal, (member.address, member.port))).collect();
        let stand = (0..frontend.backends).filter_map(|o| Some((o, self.backend4.get(key(o))?)));
        let looked_for = stand.filter(|_| frontend.affinity != 0).map(|(o, b)| (o, (b.address, b.port)));
        assert_eq!(looked_for.collect::<BTreeMap<_, _>>(), found, "members of {frontend:?}");
        let told = alone.map_or_else(Default::default, |b| (b.address.0, b.port));
        let Ip6([first, ..]) = frontend.lone_address;
        assert_eq!((first, frontend.lone_port), told, "the lone back end of {frontend:?}");
        backends.chain(ranges).chain([format!("{table:?}")]).collect()
    }
}

trait CountAll {
    fn count_all(&self) -> usize;
}

impl<K: Copy + PartialEq, V: Copy + PartialEq> CountAll for FakeTable<K, V> {
    fn count_all(&self) -> usize {
        self.elements().len()
    }
}

struct FakePrograms {
    slots: Slots,
    faults: Faults,
}

impl Programs for FakePrograms {
    fn list(&mut self) -> Result<Vec<(u32, String)>, TableError> {
        Ok(self.slots.borrow().iter().map(|(slot, installed)| (*slot, installed.name.clone())).collect())
    }

    fn install(&mut self, slot: u32, name: &str, compiled: &Compiled) -> Result<(), TableError> {
        self.faults.operation().map_err(table_error)?;
        let mut tables = HashMap::new();
        for spec in &compiled.tables {
            for (index, value) in (0..).zip(spec.data.chunks(spec.value_bytes as usize)) {
                tables.insert((spec.map, index), value.to_vec());
            }
        }
        self.slots.borrow_mut().insert(slot, Installed { name: name.to_owned(), tables });
        self.faults.happened();
        Ok(())
    }

    fn write(&mut self, slot: u32, writes: &[TableWrite]) -> Result<(), TableError> {
        for write in writes {
            self.faults.operation().map_err(table_error)?;
            let mut slots = self.slots.borrow_mut();
            let program = slots.get_mut(&slot).ok_or(TableError::OutOfRange)?;
            program.tables.insert((write.map, write.index), write.value.clone());
            drop(slots);
            self.faults.happened();
        }
        Ok(())
    }

    fn clear(&mut self, slot: u32) -> Result<(), TableError> {
        self.faults.operation().map_err(table_error)?;
        self.slots.borrow_mut().remove(&slot);
        self.faults.happened();
        Ok(())
    }
}

struct FakeHooks {
    hooks: OnInterfaces,
    faults: Faults,
}

impl Hooks for FakeHooks {
    fn list(&mut self) -> Result<Vec<(String, u32, u32)>, HookError> {
        Ok(self
            .hooks
            .borrow()
            .iter()
            .map(|(name, (ifindex, slot))| (name.clone(), *ifindex, *slot))
            .collect())
    }

    fn attach(&mut self, interface: &str, ifindex: u32, slot: u32) -> Result<(), HookError> {
        self.faults.operation().map_err(|errno| HookError::Kernel(format!("error {errno}")))?;
        self.hooks.borrow_mut().insert(interface.to_owned(), (ifindex, slot));
        self.faults.happened();
        Ok(())
    }

    fn detach(&mut self, interface: &str, _: u32) -> Result<(), HookError> {
        self.hooks.borrow_mut().remove(interface);
        Ok(())
    }
}
