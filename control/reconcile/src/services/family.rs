//! The tables of one address family's Services.
//!
//! Owns: front ends, back ends, members and consistent-hash tables, wanted and written. Does not: give out ids.
//! Invariant: a front end in the kernel never counts a back end, or a place of a table, that is not there, and who looks
//! for one of its back ends by address finds it.

use super::arrange::arrange;
use super::layouts::Family;
use super::maglev;
use crate::delta::{DeltaTracker, Failure, Now, Part, Written};
use crate::dirty::Dirty;
use crate::kernel::Kernel;
use crate::table::TableError;
use foldhash::{HashMap, HashMapExt as _, HashSet, HashSetExt as _};
use ipnet::IpNet;
use std::hash::Hash;
use tortie_abi::Tick;
use tortie_abi::service::{BackendKey, Frontend, MAGLEV_PIECE, MaglevKey, Member, flags};
use tortie_intent::{Backend, BackendState, Chosen, Scope, ServicePort};
use tortie_model::workload::Transport;

/// What a Service port has asked for, so that it can be taken back.
#[derive(Debug)]
struct Asked<F: Family> {
    frontends: Box<[F::FrontendKey]>,
    /// The back ends that new connections may choose, by ordinal.
    arranged: Vec<F::MemberKey>,
    /// Those of `arranged` are looked for by their address as well.
    by_address: bool,
    /// Those that are looked for by their address and may not be chosen.
    others: Box<[F::MemberKey]>,
    ranges: Box<[F::RangeKey]>,
    table: Table<F>,
}

impl<F: Family> Default for Asked<F> {
    fn default() -> Self {
        Self {
            frontends: Box::default(),
            arranged: Vec::new(),
            by_address: false,
            others: Box::default(),
            ranges: Box::default(),
            table: Table::default(),
        }
    }
}

impl<F: Family> Asked<F> {
    /// Nothing of this family, as with most Services of one of them.
    fn is_empty(&self) -> bool {
        self.frontends.is_empty()
            && self.arranged.is_empty()
            && self.others.is_empty()
            && self.ranges.is_empty()
            && self.table.places == 0
    }

    fn members(&self) -> impl Iterator<Item = &F::MemberKey> {
        let arranged = if self.by_address { &*self.arranged } else { &[] };
        arranged.iter().chain(&self.others)
    }
}

/// What is in the first and not in the second.
fn gone<'a, K: Eq + Hash + 'a>(
    before: impl IntoIterator<Item = &'a K>,
    after: impl IntoIterator<Item = &'a K>,
) -> impl Iterator<Item = &'a K> {
    let mut before = before.into_iter().peekable();
    let after: HashSet<&K> =
        if before.peek().is_some() { after.into_iter().collect() } else { HashSet::new() };
    before.filter(move |key| !after.contains(key))
}

/// What a consistent-hash table is made from.
#[derive(Debug)]
struct Table<F: Family> {
    members: Vec<F::MemberKey>,
    /// 0: there is none.
    places: u32,
}

impl<F: Family> Default for Table<F> {
    fn default() -> Self {
        Self { members: Vec::new(), places: 0 }
    }
}

/// What holds for all Services.
#[derive(Clone, Copy)]
pub(super) struct Terms<'a> {
    /// Of each consistent-hash table.
    pub(super) places: u32,
    /// Addresses that are not translated.
    pub(super) untranslated: &'a [IpNet],
}

/// The tables of one family.
#[derive(Debug)]
pub(super) struct Tables<F: Family> {
    asked: HashMap<u32, Asked<F>>,
    /// Every key that has named a Service, in the kernel or as a wish.
    keys_of: HashMap<u32, Vec<F::FrontendKey>>,
    frontend: DeltaTracker<F::FrontendKey, Frontend>,
    backend: DeltaTracker<BackendKey, F::Backend>,
    member: DeltaTracker<F::MemberKey, Member>,
    maglev: DeltaTracker<MaglevKey, F::Piece>,
    /// Services whose consistent-hash table has no room: they do without.
    without_table: HashSet<u32>,
    range: DeltaTracker<F::RangeKey, u32>,
}

impl<F: Family> Default for Tables<F> {
    fn default() -> Self {
        Self {
            asked: HashMap::new(),
            keys_of: HashMap::new(),
            frontend: DeltaTracker::new(),
            backend: DeltaTracker::new(),
            member: DeltaTracker::new(),
            maglev: DeltaTracker::new(),
            without_table: HashSet::new(),
            range: DeltaTracker::new(),
        }
    }
}

impl<F: Family> Tables<F> {
    /// Reads the kernel's side; the highest id there.
    pub(super) fn read(&mut self, kernel: &mut Kernel) -> Result<u32, TableError> {
        let frontends = F::frontends(kernel).list()?;
        for (key, frontend) in &frontends {
            self.remember_key(frontend.service, *key);
        }
        let highest = frontends.iter().map(|(_, frontend)| frontend.service).max().unwrap_or(0);
        self.frontend.found(frontends);
        self.backend.found(F::backends(kernel).list()?);
        self.member.found(F::members(kernel).list()?);
        self.maglev.found(F::pieces(kernel).list()?);
        self.range.found(F::ranges(kernel).list()?);
        Ok(highest)
    }

    /// A Service port is as given from now on; `None`: it is gone.
    pub(super) fn want(
        &mut self,
        service: u32,
        transport: Transport,
        port: Option<&ServicePort>,
        terms: Terms<'_>,
    ) {
        let before = self
            .asked
            .remove(&service)
            .unwrap_or_else(|| Asked { arranged: self.in_kernel(service), ..Asked::default() });
        let ask = |port| {
            let table = self.ask_table(service, port, terms.places, &before.table);
            self.ask(service, transport, port, (&before.arranged, table), terms)
        };
        let after = port.map(ask).unwrap_or_default();
        self.withdraw(service, &before, &after);
        if !after.is_empty() {
            self.asked.insert(service, after);
        }
    }

    fn remember_key(&mut self, service: u32, key: F::FrontendKey) {
        // A Service port has one address, or a few.
        let keys = self.keys_of.entry(service).or_insert_with(|| Vec::with_capacity(1));
        if !keys.contains(&key) {
            keys.push(key);
        }
    }

    /// How the last agent has arranged a Service's back ends.
    fn in_kernel(&self, service: u32) -> Vec<F::MemberKey> {
        let at = |ordinal| self.backend.actual(&BackendKey { service, ordinal });
        (0..).map_while(at).map(|backend| F::member_of(service, backend)).collect()
    }

    fn ask(
        &mut self,
        service: u32,
        transport: Transport,
        port: &ServicePort,
        (before, table): (&[F::MemberKey], Table<F>),
        terms: Terms<'_>,
    ) -> Asked<F> {
        let keys = |backends: &[&Backend]| -> Vec<F::MemberKey> {
            backends.iter().filter_map(|backend| F::member_key(service, backend)).collect()
        };
        let Chosen { local_only, local, remote } = port.chosen(F::V6);
        let groups = [keys(&local_only), keys(&local), keys(&remote)];
        let [first, both, elsewhere] = groups.each_ref().map(|group| group.len() as u32);
        let record = Frontend {
            service,
            first,
            backends: both.saturating_add(elsewhere),
            local_backends: first.saturating_add(both),
            affinity: port.affinity_seconds.map_or(0, ticks),
            maglev_slots: if self.without_table.contains(&service) { 0 } else { table.places },
            ..Frontend::default()
        };
        let by_address = is_by_address(transport, port);
        let mut asked: Asked<F> =
            Asked { arranged: arrange(before, groups), by_address, table, ..Asked::default() };
        let lone = asked.arranged.get(first as usize).filter(|_| record.backends == 1).map(F::place);
        let record = lone.map_or(record, |(address, port)| record.with_lone(address, port));
        for (ordinal, key) in (0..).zip(&asked.arranged) {
            self.backend.want(BackendKey { service, ordinal }, Some(F::backend_of(key)));
        }
        if by_address {
            self.ask_members(service, port, &mut asked);
        }
        asked.ranges = port.source_ranges.iter().filter_map(|net| F::range_key(service, net)).collect();
        for key in &asked.ranges {
            self.range.want(*key, Some(ADMITTED));
        }
        let restricted = if asked.ranges.is_empty() { 0 } else { flags::SOURCE_RANGES };
        let mut frontends = Vec::with_capacity(port.frontends.len());
        for (at, scope) in &port.frontends {
            let Some(key) = F::frontend_key(at, transport) else { continue };
            let restricted = if *scope == Scope::LoadBalancer { restricted } else { 0 };
            let excluded =
                port.untranslated || terms.untranslated.iter().any(|net| net.contains(&at.address));
            let excluded = if excluded { flags::UNTRANSLATED } else { 0 };
            let flags = flags_of(port, *scope) | restricted | excluded;
            let maglev_slots = if may_hash(flags) { record.maglev_slots } else { 0 };
            self.frontend.want(key, Some(Frontend { flags, maglev_slots, ..record }));
            self.remember_key(service, key);
            frontends.push(key);
        }
        asked.frontends = frontends.into();
        asked
    }

    /// Where each back end stands, and that the others are known.
    fn ask_members(&mut self, service: u32, port: &ServicePort, asked: &mut Asked<F>) {
        for (ordinal, key) in (0..).zip(&asked.arranged) {
            self.member.want(*key, Some(Member { ordinal }));
        }
        let known = port.backends.iter().filter(|backend| backend.state != BackendState::NotReady);
        let members: Vec<_> = known.filter_map(|backend| F::member_key(service, backend)).collect();
        if members.len() > asked.arranged.len() {
            asked.others = gone(&members, &asked.arranged).copied().collect();
        }
        for key in &asked.others {
            self.member.want(*key, Some(Member { ordinal: Member::NOT_CHOSEN }));
        }
    }

    /// The consistent-hash table, which is worked out only when it differs.
    fn ask_table(&mut self, service: u32, port: &ServicePort, places: u32, before: &Table<F>) -> Table<F> {
        if !port.maglev {
            return Table::default();
        }
        let members: Vec<_> = port.everywhere(F::V6).filter_map(|b| F::member_key(service, b)).collect();
        if members == before.members && (members.is_empty() || places == before.places) {
            return Table { members, places: before.places };
        }
        let identities: Vec<u128> = members.iter().map(F::identity).collect();
        let Some(table) = maglev::table(&identities, places) else { return Table::default() };
        let backends: Vec<F::Backend> =
            table.into_iter().map(|index| F::backend_of(&members[index])).collect();
        // The last piece is filled up: a front end that still counts more places meets a back end there too.
        let filled = (pieces(places) * MAGLEV_PIECE) as usize;
        let backends: Vec<F::Backend> = backends.into_iter().cycle().take(filled).collect();
        for (piece, places) in (0..).zip(backends.chunks(MAGLEV_PIECE as usize)) {
            self.maglev.want(MaglevKey { service, piece }, Some(F::piece(places)));
        }
        Table { members, places }
    }

    /// Services whose table has no room choose at random as long as that is so.
    fn settle_tables(&mut self) {
        let is_full = |failure: Option<&Failure>| failure.is_some_and(|f| f.error == TableError::Full);
        let short = self.maglev.pending().filter(|(_, failure)| is_full(*failure));
        let short: HashSet<u32> = short.map(|(key, _)| key.service).collect();
        for service in short.symmetric_difference(&self.without_table) {
            let Some(asked) = self.asked.get(service) else { continue };
            let maglev_slots = if short.contains(service) { 0 } else { asked.table.places };
            for key in &asked.frontends {
                let wanted = self.frontend.desired(key).copied().filter(|f| f.service == *service);
                if let Some(wanted) = wanted.filter(|f| may_hash(f.flags)) {
                    self.frontend.want(*key, Some(Frontend { maglev_slots, ..wanted }));
                }
            }
        }
        self.without_table = short;
    }

    /// Takes back what is no longer asked for, where no other Service has taken it over.
    fn withdraw(&mut self, service: u32, before: &Asked<F>, after: &Asked<F>) {
        for key in gone(&before.frontends, &after.frontends) {
            if self.frontend.desired(key).is_some_and(|f| f.service == service) {
                self.frontend.want(*key, None);
            }
        }
        for ordinal in after.arranged.len()..before.arranged.len() {
            self.backend.want(BackendKey { service, ordinal: ordinal as u32 }, None);
        }
        for piece in pieces(after.table.places)..pieces(before.table.places) {
            self.maglev.want(MaglevKey { service, piece }, None);
        }
        for key in gone(&before.ranges, &after.ranges) {
            self.range.want(*key, None);
        }
        for key in gone(before.members(), after.members()) {
            self.member.want(*key, None);
        }
    }

    /// Back ends, then the front ends whose back ends are all there.
    pub(super) fn write(&mut self, kernel: &mut Kernel, now: Now) -> Written {
        let mut written = self.backend.apply(F::backends(kernel), Part::Upserts, now, |_, _| true);
        written += self.member.apply(F::members(kernel), Part::Upserts, now, |_, _| true);
        written += self.maglev.apply(F::pieces(kernel), Part::Upserts, now, |_, _| true);
        self.settle_tables();
        written += self.range.apply(F::ranges(kernel), Part::Upserts, now, |_, _| true);
        let (backends, members, tables, asked) = (&self.backend, &self.member, &self.maglev, &self.asked);
        let complete = |_: &F::FrontendKey, wanted: Option<&Frontend>| {
            wanted.is_some_and(|f| {
                let there = |ordinal| backends.actual(&BackendKey { service: f.service, ordinal }).is_some();
                let has = |piece| tables.actual(&MaglevKey { service: f.service, piece }).is_some();
                let known = |key| members.actual(key).is_some();
                let all_known = asked.get(&f.service).is_none_or(|asked| asked.members().all(known));
                (0..counts(f)).all(there) && all_known && (0..pieces(f.maglev_slots)).all(has)
            })
        };
        written += self.frontend.apply(F::frontends(kernel), Part::Upserts, now, complete);
        written
    }

    /// Front ends, then the back ends that no front end in the kernel counts.
    pub(super) fn clean(&mut self, kernel: &mut Kernel, now: Now) -> Written {
        let mut written = self.frontend.apply(F::frontends(kernel), Part::Deletes, now, |_, _| true);
        let (frontend, keys_of) = (&self.frontend, &mut self.keys_of);
        let mut counted: HashMap<u32, (u32, u32)> = HashMap::new();
        let mut most = |service: u32| {
            *counted.entry(service).or_insert_with(|| {
                let Some(keys) = keys_of.get_mut(&service) else { return (0, 0) };
                let names = |f: Option<&Frontend>| f.is_some_and(|f| f.service == service);
                keys.retain(|key| names(frontend.actual(key)) || names(frontend.desired(key)));
                let there =
                    keys.iter().filter_map(|key| frontend.actual(key)).filter(|f| f.service == service);
                let both = |most: (u32, u32), f: &Frontend| {
                    (most.0.max(counts(f)), most.1.max(pieces(f.maglev_slots)))
                };
                let most = there.fold((0, 0), both);
                if keys.is_empty() {
                    keys_of.remove(&service);
                }
                most
            })
        };
        let free = |key: &BackendKey, _: Option<&F::Backend>| key.ordinal >= most(key.service).0;
        let mut removed = self.backend.apply(F::backends(kernel), Part::Deletes, now, free);
        let free = |key: &MaglevKey, _: Option<&F::Piece>| key.piece >= most(key.service).1;
        removed += self.maglev.apply(F::pieces(kernel), Part::Deletes, now, free);
        let members = self.member.apply(F::members(kernel), Part::Deletes, now, |_, _| true);
        written.withdrawn = written.done + members.done;
        removed += members;
        removed += self.range.apply(F::ranges(kernel), Part::Deletes, now, |_, _| true);
        if removed.done > 0 {
            self.backend.retry_full();
            self.member.retry_full();
            self.maglev.retry_full();
            self.range.retry_full();
        }
        written += removed;
        written
    }

    /// What is not as wanted.
    pub(super) fn dirty(&self) -> Vec<Dirty> {
        let [frontend, backend, member, maglev, range] = F::NAMES;
        let mut dirty = Dirty::of_tracker(frontend, &self.frontend);
        dirty.extend(Dirty::of_tracker(backend, &self.backend));
        dirty.extend(Dirty::of_tracker(member, &self.member));
        dirty.extend(Dirty::of_tracker(maglev, &self.maglev));
        dirty.extend(Dirty::of_tracker(range, &self.range));
        dirty
    }

    /// When the next failed write may be tried again.
    pub(super) fn next_retry(&self) -> Option<Now> {
        let retries = [self.frontend.next_retry(), self.backend.next_retry(), self.member.next_retry()];
        retries.into_iter().chain([self.maglev.next_retry(), self.range.next_retry()]).flatten().min()
    }
}

/// Value of `source_range`: that the key is there says all.
const ADMITTED: u32 = 1;

/// How many back ends, from ordinal 0, must be there for a front end.
fn counts(frontend: &Frontend) -> u32 {
    frontend.first.saturating_add(frontend.backends).max(frontend.local_backends)
}

/// Into how many pieces so many places of a consistent-hash table are cut.
pub(super) fn pieces(places: u32) -> u32 {
    places.div_ceil(MAGLEV_PIECE)
}

/// Whether anybody looks for a back end by its address: session affinity does, and of UDP, where nobody says that a back
/// end is gone, sockets and the sweep of flows do. Most Services are neither.
pub(super) fn is_by_address(transport: Transport, port: &ServicePort) -> bool {
    transport == Transport::Udp || port.affinity_seconds.is_some()
}

fn ticks(seconds: u32) -> u32 {
    Tick::ticks_of_millis(u64::from(seconds).saturating_mul(1000))
}

/// Whether such a front end may be led by a consistent hash. A node's port is asked for at that node alone.
const fn may_hash(frontend_flags: u32) -> bool {
    frontend_flags & (flags::NODE_PORT | flags::UNTRANSLATED) == 0
}

fn flags_of(port: &ServicePort, scope: Scope) -> u32 {
    let external = match scope {
        Scope::Cluster => 0,
        Scope::NodePort => flags::EXTERNAL | flags::NODE_PORT,
        Scope::HostPort => flags::EXTERNAL | flags::NODE_PORT | flags::HOST_PORT,
        Scope::External | Scope::LoadBalancer => flags::EXTERNAL,
    };
    external
        | if port.internal_local { flags::INTERNAL_LOCAL } else { 0 }
        | if port.external_local { flags::EXTERNAL_LOCAL } else { 0 }
}
