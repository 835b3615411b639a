//! Services as front ends and back ends.
//!
//! Owns: the ids of Service ports. Does not: know tables; [`family`] does.
//! Invariant: an id is never used twice, so that no flow and no affinity entry can name another Service by it.

mod arrange;
mod family;
mod layouts;
mod maglev;
mod room;

use crate::delta::{Now, Written};
use crate::dirty::Dirty;
use crate::kernel::Kernel;
use crate::saved::{SavedChange, SavedService, SavedServices};
use crate::table::TableError;
use family::{Tables, Terms};
use foldhash::HashMap;
use ipnet::IpNet;
use layouts::{V4, V6};
pub use room::Room;
use std::sync::Arc;
use tortie_intent::{Frontend, ServicePort, ServicePortId};
use tortie_model::ServiceId;
use tortie_model::settings::Settings;
use tortie_model::workload::Transport;

/// One Service port.
#[derive(Debug, Default)]
struct Port {
    number: Option<u32>,
    wanted: Option<Arc<ServicePort>>,
    is_dirty: bool,
}

/// All Service ports.
#[derive(Debug)]
pub struct Services {
    ports: HashMap<Arc<ServicePortId>, Port>,
    last: u32,
    /// What has become of numbers since that was last asked for.
    changes: Vec<SavedChange>,
    /// In the order they became so.
    dirty: Vec<Arc<ServicePortId>>,
    v4: Tables<V4>,
    v6: Tables<V6>,
    /// Of each consistent-hash table.
    places: u32,
    /// Addresses that are not translated, whosesoever.
    untranslated: Vec<IpNet>,
    /// What all wanted ones take.
    room: Room,
}

/// How many pieces of consistent-hash tables the settings ask for room for, in each family.
pub fn maglev_pieces(settings: &Settings) -> u32 {
    family::pieces(maglev::places(settings.maglev_endpoints)).saturating_mul(settings.maglev_services)
}

impl Services {
    /// With the ids that were known before.
    pub fn new(saved: SavedServices) -> Self {
        let transports = [Transport::Tcp, Transport::Udp, Transport::Sctp];
        let mut ports = HashMap::default();
        for (number, service) in saved.named {
            let Some(transport) = transports.into_iter().find(|t| t.name() == service.protocol) else {
                continue;
            };
            let id = ServicePortId {
                service: ServiceId::new(service.namespace.as_str(), service.name.as_str()),
                port: service.port,
                transport,
            };
            ports.insert(Arc::new(id), Port { number: Some(number), ..Port::default() });
        }
        Self {
            ports,
            last: saved.last,
            changes: Vec::new(),
            dirty: Vec::new(),
            v4: Tables::default(),
            v6: Tables::default(),
            places: maglev::places(Settings::default().maglev_endpoints),
            untranslated: Vec::new(),
            room: Room::default(),
        }
    }

    /// How many elements the tables need, whether or not they are written yet.
    pub fn room(&self) -> Room {
        self.room
    }

    /// A Service port changes.
    pub fn want(&mut self, id: Arc<ServicePortId>, port: Option<Arc<ServicePort>>) {
        let place = self.ports.entry(id.clone()).or_default();
        let room = |port: &ServicePort| Room::of(port, family::is_by_address(id.transport, port));
        self.room += port.as_deref().map(room).unwrap_or_default();
        self.room -= place.wanted.as_deref().map(room).unwrap_or_default();
        place.wanted = port;
        if !std::mem::replace(&mut place.is_dirty, true) {
            self.dirty.push(id);
        }
    }

    /// Those that fit are worked out anew.
    fn touch(&mut self, fits: impl Fn(&ServicePort) -> bool) {
        for (id, port) in &mut self.ports {
            let is_clean = !port.is_dirty && port.wanted.as_ref().is_some_and(|wanted| fits(wanted));
            if is_clean {
                port.is_dirty = true;
                self.dirty.push(id.clone());
            }
        }
    }

    /// Consistent-hash tables are made for so many back ends from now on.
    pub fn set_maglev_endpoints(&mut self, endpoints: u32) {
        let places = maglev::places(endpoints);
        if self.places != places {
            self.places = places;
            self.touch(|port| port.maglev);
        }
    }

    /// Addresses in these are not translated from now on, and no others but those of Services that say so.
    pub fn set_untranslated(&mut self, nets: &[IpNet]) {
        if self.untranslated != nets {
            let before = std::mem::replace(&mut self.untranslated, nets.to_vec());
            let touched = |port: &ServicePort| {
                let within = |at: &Frontend| before.iter().chain(nets).any(|net| net.contains(&at.address));
                port.frontends.keys().any(within)
            };
            self.touch(touched);
        }
    }

    /// Reads the kernel's side, and forgets Service ports of which nobody has spoken since the last agent.
    pub fn read(&mut self, kernel: &mut Kernel) -> Result<(), TableError> {
        let changes = &mut self.changes;
        self.ports.retain(|_, port| {
            let is_known = port.is_dirty || port.wanted.is_some();
            changes.extend(port.number.filter(|_| !is_known).map(|gone| SavedChange::Gone { gone }));
            is_known
        });
        let (last4, last6) = (self.v4.read(kernel)?, self.v6.read(kernel)?);
        let last = last4.max(last6);
        if last > self.last {
            self.last = last;
            self.changes.push(SavedChange::Used { used: last });
        }
        Ok(())
    }

    /// Gives new Service ports their ids.
    pub fn allocate(&mut self) {
        for id in &self.dirty {
            if let Some(port) = self.ports.get_mut(id)
                && port.wanted.is_some()
                && port.number.is_none()
            {
                self.last = self.last.saturating_add(1);
                port.number = Some(self.last);
                self.changes.push(SavedChange::Given(saved(self.last, id)));
            }
        }
    }

    /// Works out what the tables should hold.
    pub fn resolve(&mut self) {
        for id in std::mem::take(&mut self.dirty) {
            let Some(port) = self.ports.get_mut(&id) else { continue };
            port.is_dirty = false;
            let wanted = port.wanted.as_deref();
            if let Some(number) = port.number {
                let terms = Terms { places: self.places, untranslated: &self.untranslated };
                self.v4.want(number, id.transport, wanted, terms);
                self.v6.want(number, id.transport, wanted, terms);
            }
            if wanted.is_none() {
                self.changes.extend(port.number.map(|gone| SavedChange::Gone { gone }));
                self.ports.remove(&id);
            }
        }
    }

    /// Back ends, then the front ends whose back ends are all there.
    pub fn write(&mut self, kernel: &mut Kernel, now: Now) -> Written {
        let mut written = self.v4.write(kernel, now);
        written += self.v6.write(kernel, now);
        written
    }

    /// Front ends, then the back ends that no front end in the kernel counts.
    pub fn clean(&mut self, kernel: &mut Kernel, now: Now) -> Written {
        let mut written = self.v4.clean(kernel, now);
        written += self.v6.clean(kernel, now);
        written
    }

    /// What is not as wanted.
    pub fn dirty(&self) -> Vec<Dirty> {
        let mut dirty = self.v4.dirty();
        dirty.extend(self.v6.dirty());
        dirty
    }

    /// When the next failed write may be tried again.
    pub fn next_retry(&self) -> Option<Now> {
        [self.v4.next_retry(), self.v6.next_retry()].into_iter().flatten().min()
    }

    /// What has become of ids since this was last asked: belongs into the file.
    pub fn take_changes(&mut self) -> Vec<SavedChange> {
        std::mem::take(&mut self.changes)
    }

    /// All of them, made when asked for: nobody else needs all names a second time.
    pub fn saved(&self) -> SavedServices {
        let named = |(id, port): (&Arc<ServicePortId>, &Port)| Some((port.number?, saved(port.number?, id)));
        SavedServices { last: self.last, named: self.ports.iter().filter_map(named).collect() }
    }
}

fn saved(number: u32, id: &ServicePortId) -> SavedService {
    SavedService {
        id: number,
        namespace: id.service.namespace.to_string(),
        name: id.service.name.to_string(),
        port: id.port.clone(),
        protocol: id.transport.name().to_owned(),
    }
}
