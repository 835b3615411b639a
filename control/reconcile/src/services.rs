//! Services as front ends and back ends.
//!
//! Invariant: a front end never counts a back end that is not in the table; ids are not used twice.

use crate::delta::{DeltaTracker, Now, Part, Written};
use crate::dirty::Dirty;
use crate::kernel::Kernel;
use crate::saved::{Saved, SavedService};
use crate::table::TableError;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use tortie_abi::service::{BackendKey, Frontend, flags};
use tortie_abi::{v4, v6};
use tortie_intent::{Backend, ServicePort, ServicePortId};
use tortie_model::ServiceId;
use tortie_model::workload::Transport;

/// What a service port has asked for, so that it can be taken back.
#[derive(Clone, Debug, Default)]
struct Asked {
    frontends4: BTreeSet<(std::net::Ipv4Addr, u16)>,
    frontends6: BTreeSet<(std::net::Ipv6Addr, u16)>,
    backends4: u32,
    backends6: u32,
}

/// All Service ports.
#[derive(Debug)]
pub struct Services {
    ids: BTreeMap<ServicePortId, u32>,
    last: u32,
    wanted: BTreeMap<ServicePortId, ServicePort>,
    dirty: BTreeSet<ServicePortId>,
    asked: HashMap<u32, (Transport, Asked)>,
    frontend4: DeltaTracker<v4::FrontendKey, Frontend>,
    frontend6: DeltaTracker<v6::FrontendKey, Frontend>,
    backend4: DeltaTracker<BackendKey, v4::Backend>,
    backend6: DeltaTracker<BackendKey, v6::Backend>,
}

impl Services {
    /// With the ids that were known before.
    pub fn new(saved: &Saved) -> Self {
        let transports = [Transport::Tcp, Transport::Udp, Transport::Sctp];
        let mut ids = BTreeMap::new();
        let mut last = saved.last_service;
        for service in &saved.services {
            let Some(transport) = transports.into_iter().find(|t| t.name() == service.protocol) else {
                continue;
            };
            let id = ServicePortId {
                service: ServiceId::new(service.namespace.as_str(), service.name.as_str()),
                port: service.port.clone(),
                transport,
            };
            last = last.max(service.id);
            ids.insert(id, service.id);
        }
        Self {
            ids,
            last,
            wanted: BTreeMap::new(),
            dirty: BTreeSet::new(),
            asked: HashMap::new(),
            frontend4: DeltaTracker::new(),
            frontend6: DeltaTracker::new(),
            backend4: DeltaTracker::new(),
            backend6: DeltaTracker::new(),
        }
    }

    /// A Service port changes.
    pub fn want(&mut self, id: ServicePortId, port: Option<ServicePort>) {
        match port {
            Some(port) => self.wanted.insert(id.clone(), port),
            None => self.wanted.remove(&id),
        };
        self.dirty.insert(id);
    }

    /// Reads the kernel's side.
    pub fn read(&mut self, kernel: &mut Kernel) -> Result<(), TableError> {
        let frontends4 = kernel.frontend4.list()?;
        let frontends6 = kernel.frontend6.list()?;
        let used = frontends4.iter().map(|(_, f)| f.service).chain(frontends6.iter().map(|(_, f)| f.service));
        self.last = self.last.max(used.max().unwrap_or(0));
        self.frontend4.found(frontends4);
        self.frontend6.found(frontends6);
        self.backend4.found(kernel.backend4.list()?);
        self.backend6.found(kernel.backend6.list()?);
        Ok(())
    }

    /// Gives new Service ports their ids.
    pub fn allocate(&mut self) {
        for id in &self.dirty {
            if self.wanted.contains_key(id) && !self.ids.contains_key(id) {
                self.last = self.last.saturating_add(1);
                self.ids.insert(id.clone(), self.last);
            }
        }
    }

    /// Works out what the tables should hold.
    pub fn resolve(&mut self) {
        for id in std::mem::take(&mut self.dirty) {
            let Some(&number) = self.ids.get(&id) else { continue };
            let before = self.asked.remove(&number).map(|(_, asked)| asked).unwrap_or_default();
            let after = match self.wanted.get(&id).cloned() {
                Some(port) => self.ask(number, id.transport, &port),
                None => {
                    self.ids.remove(&id);
                    Asked::default()
                }
            };
            self.withdraw(number, id.transport, &before, &after);
            if self.ids.contains_key(&id) {
                self.asked.insert(number, (id.transport, after));
            }
        }
    }

    fn ask(&mut self, service: u32, transport: Transport, port: &ServicePort) -> Asked {
        let (mut asked, flags) =
            (Asked::default(), if port.internal_local { flags::INTERNAL_LOCAL } else { 0 });
        let (used4, used6) = (ordered(port, false), ordered(port, true));
        for (ordinal, backend) in (0..).zip(&used4) {
            if let IpAddr::V4(address) = backend.address {
                let value = v4::Backend { address: address.into(), port: backend.port.into(), _zero: 0 };
                self.backend4.want(BackendKey { service, ordinal }, Some(value));
            }
        }
        for (ordinal, backend) in (0..).zip(&used6) {
            if let IpAddr::V6(address) = backend.address {
                let value = v6::Backend { address: address.into(), port: backend.port.into(), _zero: 0 };
                self.backend6.want(BackendKey { service, ordinal }, Some(value));
            }
        }
        (asked.backends4, asked.backends6) = (used4.len() as u32, used6.len() as u32);
        for frontend in &port.frontends {
            match frontend.address {
                IpAddr::V4(address) => {
                    self.frontend4
                        .want(key4(address, frontend.port, transport), Some(count(service, &used4, flags)));
                    asked.frontends4.insert((address, frontend.port));
                }
                IpAddr::V6(address) => {
                    self.frontend6
                        .want(key6(address, frontend.port, transport), Some(count(service, &used6, flags)));
                    asked.frontends6.insert((address, frontend.port));
                }
            }
        }
        asked
    }

    /// Takes back what is no longer asked for, where no other Service has taken it over.
    fn withdraw(&mut self, service: u32, transport: Transport, before: &Asked, after: &Asked) {
        for (address, port) in before.frontends4.difference(&after.frontends4) {
            let key = key4(*address, *port, transport);
            if self.frontend4.desired(&key).is_some_and(|f| f.service == service) {
                self.frontend4.want(key, None);
            }
        }
        for (address, port) in before.frontends6.difference(&after.frontends6) {
            let key = key6(*address, *port, transport);
            if self.frontend6.desired(&key).is_some_and(|f| f.service == service) {
                self.frontend6.want(key, None);
            }
        }
        for ordinal in after.backends4..before.backends4 {
            self.backend4.want(BackendKey { service, ordinal }, None);
        }
        for ordinal in after.backends6..before.backends6 {
            self.backend6.want(BackendKey { service, ordinal }, None);
        }
    }

    /// Back ends, then the front ends whose back ends are all there.
    pub fn write(&mut self, kernel: &mut Kernel, now: Now) -> Written {
        let mut written = self.backend4.apply(&mut kernel.backend4, Part::Upserts, now, |_, _| true);
        written += self.backend6.apply(&mut kernel.backend6, Part::Upserts, now, |_, _| true);
        let backend4 = &self.backend4;
        let complete4 = |_: &v4::FrontendKey, f: Option<&Frontend>| f.is_some_and(|f| complete(backend4, f));
        written += self.frontend4.apply(&mut kernel.frontend4, Part::Upserts, now, complete4);
        let backend6 = &self.backend6;
        let complete6 = |_: &v6::FrontendKey, f: Option<&Frontend>| f.is_some_and(|f| complete(backend6, f));
        written += self.frontend6.apply(&mut kernel.frontend6, Part::Upserts, now, complete6);
        written
    }

    /// Front ends, then the back ends that no front end in the kernel counts.
    pub fn clean(&mut self, kernel: &mut Kernel, now: Now) -> Written {
        let mut written = self.frontend4.apply(&mut kernel.frontend4, Part::Deletes, now, |_, _| true);
        written += self.frontend6.apply(&mut kernel.frontend6, Part::Deletes, now, |_, _| true);
        let counted4 = counted(self.frontend4.actual_entries().map(|(_, f)| f));
        let free4 = |key: &BackendKey, _: Option<&v4::Backend>| is_free(&counted4, key);
        let mut removed = self.backend4.apply(&mut kernel.backend4, Part::Deletes, now, free4);
        let counted6 = counted(self.frontend6.actual_entries().map(|(_, f)| f));
        let free6 = |key: &BackendKey, _: Option<&v6::Backend>| is_free(&counted6, key);
        removed += self.backend6.apply(&mut kernel.backend6, Part::Deletes, now, free6);
        if removed.done > 0 {
            self.backend4.retry_full();
            self.backend6.retry_full();
        }
        written += removed;
        written
    }

    /// What is not as wanted.
    pub fn dirty(&self) -> Vec<Dirty> {
        let mut dirty = Dirty::of_tracker("frontend4", &self.frontend4);
        dirty.extend(Dirty::of_tracker("frontend6", &self.frontend6));
        dirty.extend(Dirty::of_tracker("backend4", &self.backend4));
        dirty.extend(Dirty::of_tracker("backend6", &self.backend6));
        dirty
    }

    /// When the next failed write may be tried again.
    pub fn next_retry(&self) -> Option<Now> {
        let retries = [
            self.frontend4.next_retry(),
            self.frontend6.next_retry(),
            self.backend4.next_retry(),
            self.backend6.next_retry(),
        ];
        retries.into_iter().flatten().min()
    }

    /// For the file.
    pub fn save(&self, saved: &mut Saved) {
        let service = |(id, number): (&ServicePortId, &u32)| SavedService {
            id: *number,
            namespace: id.service.namespace.to_string(),
            name: id.service.name.to_string(),
            port: id.port.clone(),
            protocol: id.transport.name().to_owned(),
        };
        saved.services = self.ids.iter().map(service).collect();
        saved.last_service = self.last;
    }
}

/// Back ends in use, those on this node first.
fn ordered(port: &ServicePort, v6: bool) -> Vec<&Backend> {
    let mut backends: Vec<&Backend> = port.used(v6).collect();
    backends.sort_by_key(|backend| !backend.local);
    backends
}

fn count(service: u32, used: &[&Backend], flags: u32) -> Frontend {
    let local = used.iter().filter(|backend| backend.local).count();
    Frontend { service, backends: used.len() as u32, local_backends: local as u32, flags }
}

fn key4(address: std::net::Ipv4Addr, port: u16, transport: Transport) -> v4::FrontendKey {
    v4::FrontendKey { address: address.into(), port: port.into(), protocol: transport.number(), _zero: 0 }
}

fn key6(address: std::net::Ipv6Addr, port: u16, transport: Transport) -> v6::FrontendKey {
    v6::FrontendKey { address: address.into(), port: port.into(), protocol: transport.number(), _zero: 0 }
}

fn complete<V: Copy + PartialEq>(backends: &DeltaTracker<BackendKey, V>, frontend: &Frontend) -> bool {
    let service = frontend.service;
    (0..frontend.backends).all(|ordinal| backends.actual(&BackendKey { service, ordinal }).is_some())
}

/// How many back ends of each service the front ends in the kernel count.
fn counted<'a>(frontends: impl Iterator<Item = &'a Frontend>) -> HashMap<u32, u32> {
    let mut counted = HashMap::new();
    for frontend in frontends {
        let most = counted.entry(frontend.service).or_insert(0);
        *most = frontend.backends.max(*most);
    }
    counted
}

fn is_free(counted: &HashMap<u32, u32>, key: &BackendKey) -> bool {
    counted.get(&key.service).is_none_or(|count| key.ordinal >= *count)
}
