//! One node's kernel: its maps, its clock, its dice.

use crate::table::{Hash, Lpm, Lru};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use tortie_abi::counter::{Counter, CounterKey};
use tortie_abi::endpoint::{Endpoint, NextHop};
use tortie_abi::policy::{PolicyIo, Verdict};
use tortie_abi::route::Route;
use tortie_abi::service::{BackendKey, Frontend, Member};
use tortie_abi::settings::Settings;
use tortie_abi::{Tick, maps};
use tortie_datapath::kernel::Table;
use tortie_datapath::{Family, V4, V6};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// What a policy program is here: the reference evaluator behind the kernel's contract. Gives the verdict
/// and the id of the rule that decided.
pub type Program = Box<dyn Fn(&PolicyIo) -> (Verdict, u32)>;

/// The maps of one family.
pub struct Tables<F: Family> {
    /// `flow`.
    pub flow: RefCell<Hash<F::FlowPair>>,
    /// `half_open`.
    pub half_open: RefCell<Lru<F::FlowPair>>,
    /// `route`.
    pub route: RefCell<Lpm<Route>>,
    /// `frontend`.
    pub frontend: RefCell<Hash<Frontend>>,
    /// `backend`.
    pub backend: RefCell<Hash<F::Backend>>,
    /// `member`.
    pub member: RefCell<Hash<Member>>,
    /// `maglev`: each place by itself.
    pub maglev: RefCell<BTreeMap<(u32, u32), F::Backend>>,
    /// `source_range`: Service and client.
    pub source_range: RefCell<Lpm<u32>>,
    /// `affinity`.
    pub affinity: RefCell<Lru<F::Affinity>>,
    /// `class_addr`.
    pub class_addr: RefCell<Hash<u32>>,
    /// `class_net`.
    pub class_net: RefCell<Lpm<u32>>,
    /// `opt_out`.
    pub opt_out: RefCell<Lpm<u32>>,
    /// `message`.
    pub message: RefCell<Lru<F::SocketPeer>>,
    /// `socket` and `socket_rest`.
    pub socket: RefCell<Hash<F::SocketLead>>,
    /// `fragment`.
    pub fragment: RefCell<Lru<[u8; 4]>>,
}

impl<F: Family> Tables<F> {
    fn new() -> Self {
        Self {
            flow: RefCell::new(Hash::new(maps::FLOW4.max_entries)),
            half_open: RefCell::new(Lru::new(maps::HALF_OPEN4.max_entries)),
            route: RefCell::new(Lpm::new(maps::ROUTE4.max_entries)),
            frontend: RefCell::new(Hash::new(maps::FRONTEND4.max_entries)),
            backend: RefCell::new(Hash::new(maps::BACKEND4.max_entries)),
            member: RefCell::new(Hash::new(maps::MEMBER4.max_entries)),
            maglev: RefCell::default(),
            source_range: RefCell::new(Lpm::new(maps::SOURCE_RANGE4.max_entries)),
            affinity: RefCell::new(Lru::new(maps::AFFINITY4.max_entries)),
            class_addr: RefCell::new(Hash::new(maps::CLASS_ADDR4.max_entries)),
            class_net: RefCell::new(Lpm::new(maps::CLASS_NET4.max_entries)),
            opt_out: RefCell::new(Lpm::new(maps::OPT_OUT4.max_entries)),
            message: RefCell::new(Lru::new(maps::MESSAGE4.max_entries)),
            socket: RefCell::new(Hash::new(maps::SOCKET4.max_entries + maps::SOCKET_REST4.max_entries)),
            fragment: RefCell::new(Lru::new(maps::FRAGMENT4.max_entries)),
        }
    }

    /// The entries of a flow table, by key. Reading them is no use of them.
    pub fn entries(&self, table: Table) -> BTreeMap<Vec<u8>, F::Flow> {
        let (main, half_open) = (self.flow.borrow(), self.half_open.borrow());
        let elements = match table {
            Table::Main => main.sorted(),
            Table::HalfOpen => half_open.sorted(),
        };
        let typed = elements
            .into_iter()
            .filter_map(|(key, pair)| Some((F::FlowKey::read_from_bytes(key).ok()?, pair)));
        let directions = typed.flat_map(|(key, pair)| F::directions(&key, pair));
        directions.map(|(key, flow)| (key.as_bytes().to_vec(), flow)).collect()
    }

    /// Adds or replaces a route.
    pub fn set_route(&self, address: F::Addr, length: u32, route: Route) {
        let _ = self.route.borrow_mut().insert(address.as_bytes(), length, route);
    }

    /// Removes a route.
    pub fn remove_route(&self, address: F::Addr, length: u32) {
        let _ = self.route.borrow_mut().remove(address.as_bytes(), length);
    }

    /// Adds or replaces a front end and its back ends.
    pub fn set_service(&self, key: &F::FrontendKey, frontend: Frontend, backends: &[F::Backend]) {
        for (ordinal, backend) in (0..).zip(backends) {
            let key = BackendKey { service: frontend.service, ordinal };
            let _ = self.backend.borrow_mut().insert(key.as_bytes(), *backend, true);
            self.set_member(frontend.service, backend, Some(ordinal));
        }
        let _ = self.frontend.borrow_mut().insert(key.as_bytes(), frontend, true);
    }

    /// A back end stands at this ordinal of a Service, or is none of its.
    pub fn set_member(&self, service: u32, backend: &F::Backend, ordinal: Option<u32>) {
        let (address, port) = F::backend(backend);
        let key = F::member_key(service, address, port);
        match ordinal {
            Some(ordinal) => {
                let _ = self.member.borrow_mut().insert(key.as_bytes(), Member { ordinal }, true);
            }
            None => _ = self.member.borrow_mut().remove(key.as_bytes()),
        }
    }

    /// Gives a Service a consistent-hash table.
    pub fn set_maglev(&self, service: u32, places: &[F::Backend]) {
        let places = (0..).zip(places).map(|(place, backend)| ((service, place), *backend));
        self.maglev.borrow_mut().extend(places);
    }

    /// Opens a Service to the clients of a prefix.
    pub fn admit(&self, service: u32, client: F::Addr, length: u32) {
        let key = F::source_range_key(service, client);
        let _ = self.source_range.borrow_mut().insert(&key.as_bytes()[4..], 32 + length, 1);
    }

    /// Gives an exact address a class.
    pub fn set_class(&self, address: F::Addr, class: u32) {
        let _ = self.class_addr.borrow_mut().insert(address.as_bytes(), class, true);
    }
}

/// A node.
pub struct Node {
    /// IPv4 maps.
    pub v4: Tables<V4>,
    /// IPv6 maps.
    pub v6: Tables<V6>,
    /// `endpoint`, by slot.
    pub endpoint: RefCell<BTreeMap<u32, Endpoint>>,
    /// `next_hop`, by slot.
    pub next_hop: RefCell<BTreeMap<u32, NextHop>>,
    /// `settings`.
    pub settings: Cell<Settings>,
    /// `policy`: programs by slot.
    pub policy: RefCell<BTreeMap<u32, Program>>,
    /// `policy_io`.
    pub policy_io: Cell<PolicyIo>,
    /// `rule_counter`, by rule id.
    pub rule_counter: RefCell<BTreeMap<u32, Counter>>,
    /// `counter`: drops and answers.
    pub counter: RefCell<BTreeMap<(u32, u16, u16), Counter>>,
    /// Monotonic time since boot, nanoseconds.
    pub now_nanos: Cell<u64>,
    /// The interface that the kernel's routes give for every address outside; 0: none.
    pub way_out: Cell<u32>,
    /// An interface by which no route leaves for an address outside; 0: there is none.
    pub dead_end: Cell<u32>,
    /// The kernel's number of the last socket.
    pub cookie: Cell<u64>,
    /// Source of randomness: each call takes the next value of this xorshift generator.
    pub random: Cell<u32>,
}

impl Default for Node {
    fn default() -> Self {
        Self::new()
    }
}

impl Node {
    /// A node with empty maps and all settings zero.
    pub fn new() -> Self {
        Self {
            v4: Tables::new(),
            v6: Tables::new(),
            endpoint: RefCell::default(),
            next_hop: RefCell::default(),
            settings: Cell::new(Settings::new_zeroed()),
            policy: RefCell::default(),
            policy_io: Cell::new(PolicyIo::new_zeroed()),
            rule_counter: RefCell::default(),
            counter: RefCell::default(),
            now_nanos: Cell::new(1 << 40),
            way_out: Cell::new(0),
            dead_end: Cell::new(0),
            cookie: Cell::new(0),
            random: Cell::new(0x9e37_79b9),
        }
    }

    /// Now.
    pub fn now(&self) -> Tick {
        Tick::from_nanos(self.now_nanos.get())
    }

    /// Lets time pass.
    pub fn advance_millis(&self, millis: u64) {
        self.now_nanos.set(self.now_nanos.get() + millis * 1_000_000);
    }

    /// The next random number (xorshift32; the differential suite gives the programs the same).
    pub fn next_random(&self) -> u32 {
        let mut x = self.random.get();
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        self.random.set(x);
        x
    }

    /// The number of a new socket.
    pub(crate) fn next_cookie(&self) -> u64 {
        self.cookie.set(self.cookie.get() + 1);
        self.cookie.get()
    }

    /// Counts a drop or an answer as the programs do.
    pub(crate) fn count(&self, key: &CounterKey, bytes: u32) {
        let mut counters = self.counter.borrow_mut();
        let counter = counters.entry((key.ifindex, key.hook, key.reason)).or_default();
        counter.packets += 1;
        counter.bytes += u64::from(bytes);
    }

    /// Packets counted under a reason, over all interfaces and hooks.
    pub fn dropped(&self, reason: tortie_abi::DropReason) -> u64 {
        let counters = self.counter.borrow();
        counters.iter().filter(|((_, _, r), _)| *r == reason as u16).map(|(_, c)| c.packets).sum()
    }
}

/// Which of a node's maps belong to a family.
pub trait HasTables: Family {
    /// The node's maps of this family.
    fn tables(node: &Node) -> &Tables<Self>;
}

impl HasTables for V4 {
    fn tables(node: &Node) -> &Tables<V4> {
        &node.v4
    }
}

impl HasTables for V6 {
    fn tables(node: &Node) -> &Tables<V6> {
        &node.v6
    }
}
