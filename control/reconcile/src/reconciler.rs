//! The apply plan: every step in its order, with the reason.
//!
//! Owns: the order. Does not: call the kernel except through [`Kernel`], read time, or write files.
//! Invariant: before the intent is in sync nothing is written or removed; a failed object stops neither
//! its siblings nor later steps that do not need it.

use crate::delta::{Now, Written};
use crate::dirty::Dirty;
use crate::endpoints::{Endpoints, Readiness};
use crate::kernel::{HookError, Kernel};
use crate::opt_outs::OptOuts;
use crate::policies::Policies;
use crate::routes::{Routes, Way};
use crate::saved::{Saved, SavedChange, SavedServices};
use crate::services::{Room, Services};
use crate::settings::{KernelTimeouts, Own, SettingsTable};
use crate::table::TableError;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use tortie_abi::maps;
use tortie_intent::Intent;
use tortie_model::settings::Settings;
use tortie_model::{NodeName, WorkloadId};

/// Desired state, what is known of the actual state, and the way from one to the other.
#[derive(Debug)]
pub struct Reconciler {
    settings: Settings,
    timeouts: KernelTimeouts,
    own: Own,
    settings_table: SettingsTable,
    opt_outs: OptOuts,
    policies: Policies,
    endpoints: Endpoints,
    routes: Routes,
    services: Services,
    in_sync: bool,
    /// Numbers in the kernel that no file names have been looked for.
    recovered: bool,
    adopted: bool,
    /// Without Services.
    saved: Saved,
}

impl Reconciler {
    /// Knows only what the file of the last agent says.
    pub fn new(mut saved: Saved) -> Self {
        let services = Services::new(std::mem::take(&mut saved.services));
        let settings = Settings::default();
        let mut endpoints = Endpoints::new(&saved);
        endpoints.set_prefix(&settings.interface_prefix);
        Self {
            settings,
            timeouts: KernelTimeouts::default(),
            own: Own::default(),
            settings_table: SettingsTable::default(),
            opt_outs: OptOuts::default(),
            policies: Policies::new(&saved),
            endpoints,
            routes: Routes::new(&saved),
            services,
            in_sync: false,
            recovered: false,
            adopted: false,
            saved,
        }
    }

    /// One intent.
    pub fn receive(&mut self, intent: Intent) {
        match intent {
            Intent::Set(id, change) => self.policies.set(id, &change),
            Intent::List(id, list) => self.policies.list(id, list),
            Intent::Endpoint(id, endpoint) => self.endpoints.want(id, endpoint),
            Intent::Route(net, route) => self.routes.want(net, route),
            Intent::Service(id, port) => self.services.want(id, port),
            Intent::Settings(settings) => {
                self.endpoints.set_prefix(&settings.interface_prefix);
                self.services.set_maglev_endpoints(settings.maglev_endpoints);
                self.services.set_untranslated(&settings.untranslated);
                self.settings = *settings;
            }
            Intent::InSync => self.in_sync = true,
        }
    }

    /// What `Auto` stands for on this machine.
    pub fn set_kernel_timeouts(&mut self, timeouts: KernelTimeouts) {
        self.timeouts = timeouts;
    }

    /// The node's own addresses, the preferred one of each family first.
    pub fn set_node_addresses(&mut self, addresses: Vec<IpAddr>) {
        self.own.addresses = addresses;
    }

    /// The tunnel's interface has this index, or there is none.
    pub fn set_tunnel(&mut self, ifindex: Option<u32>) {
        self.own.tunnel = ifindex;
    }

    /// The node's network namespace has this number (its cookie).
    pub fn set_netns(&mut self, cookie: u64) {
        self.own.netns = Some(cookie);
    }

    /// Interfaces that the node itself speaks by, which no prefix of names makes a workload's.
    pub fn set_nodes_own_interfaces(&mut self, interfaces: BTreeSet<String>) {
        self.endpoints.set_nodes_own(interfaces);
    }

    /// Those that were said last.
    pub fn nodes_own_interfaces(&self) -> &BTreeSet<String> {
        self.endpoints.nodes_own()
    }

    /// An interface has this index, or is gone.
    pub fn interface(&mut self, name: &str, ifindex: Option<u32>) {
        self.endpoints.interface(name, ifindex);
    }

    /// The way to another node's address.
    pub fn set_way(&mut self, node: IpAddr, way: Option<Way>) {
        self.routes.set_way(node, way);
    }

    /// Nodes whose ways are wanted.
    pub fn destinations(&self) -> BTreeSet<IpAddr> {
        self.routes.destinations()
    }

    /// Another one whenever [`Reconciler::destinations`] or [`Reconciler::remote_prefixes`] may be other ones.
    pub fn routes_version(&self) -> u64 {
        self.routes.version()
    }

    /// Prefixes of other nodes' pods, the node and its address: for the host's own stack.
    pub fn remote_prefixes(&self) -> BTreeMap<IpNet, (NodeName, IpAddr)> {
        self.routes.remote_prefixes()
    }

    /// The settings in force.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Everything the datastore held at the start has been said.
    pub fn in_sync(&self) -> bool {
        self.in_sync
    }

    /// Gives names their numbers. What [`Reconciler::save`] finds then belongs into the file before
    /// [`Reconciler::apply`]. The first time, numbers that the kernel knows and no file names are taken over, or kept
    /// away from others.
    pub fn allocate(&mut self, kernel: &mut Kernel) -> Result<(), TableError> {
        if !self.in_sync {
            return Ok(());
        }
        if !self.recovered {
            self.endpoints.recover(kernel)?;
            self.routes.recover(kernel)?;
            self.recovered = true;
        }
        self.endpoints.allocate();
        self.routes.allocate();
        self.services.allocate();
        Ok(())
    }

    /// Brings [`Reconciler::saved`] up to date; whether it has changed.
    pub fn save(&mut self) -> bool {
        self.endpoints.save(&mut self.saved)
            | self.routes.save(&mut self.saved)
            | self.policies.save(&mut self.saved)
    }

    /// For the file, without Services: as of the last [`Reconciler::save`].
    pub fn saved(&self) -> &Saved {
        &self.saved
    }

    /// For the file of Services: what has changed since this was last asked. A new one does not cost what all cost.
    pub fn service_changes(&mut self) -> Vec<SavedChange> {
        self.services.take_changes()
    }

    /// All Services of that file.
    pub fn saved_services(&self) -> SavedServices {
        self.services.saved()
    }

    /// How many elements are wanted in the maps that grow, but for those that only programs fill, by name.
    pub fn needed(&self) -> [(&'static str, usize); 8] {
        let Room { frontends, backends, members } = self.services.room();
        let [[frontend4, frontend6], [backend4, backend6], [member4, member6]] =
            [frontends, backends, members];
        let [class_addr4, class_addr6] = self.policies.addresses();
        [
            (maps::FRONTEND4.name, frontend4),
            (maps::FRONTEND6.name, frontend6),
            (maps::BACKEND4.name, backend4),
            (maps::BACKEND6.name, backend6),
            (maps::MEMBER4.name, member4),
            (maps::MEMBER6.name, member6),
            (maps::CLASS_ADDR4.name, class_addr4),
            (maps::CLASS_ADDR6.name, class_addr6),
        ]
    }

    /// Whether a restart may cost a workload its last good policy, because the one that is wanted is refused.
    pub fn is_any_list_refused(&self) -> bool {
        self.policies.is_any_refused()
    }

    /// Policy programs in force.
    pub fn program_count(&self) -> usize {
        self.saved.programs.len()
    }

    /// Writes what differs and may be tried now.
    pub fn apply(&mut self, kernel: &mut Kernel, now: Now) -> Result<Written, TableError> {
        if !self.in_sync || !self.recovered {
            return Ok(Written::default());
        }
        if !self.adopted {
            self.adopt(kernel)?;
            self.adopted = true;
        }
        self.resolve();
        Ok(self.write(kernel, now))
    }

    /// What is in the kernel is read, and taken over where it fits.
    fn adopt(&mut self, kernel: &mut Kernel) -> Result<(), TableError> {
        self.settings_table.read(kernel)?;
        self.opt_outs.read(kernel)?;
        self.policies.adopt(kernel)?;
        self.endpoints.adopt(kernel, &self.policies)?;
        self.routes.read(kernel)?;
        self.services.read(kernel)
    }

    /// Reads everything again; what somebody else changed is repaired by the next [`Reconciler::apply`].
    pub fn resync(&mut self, kernel: &mut Kernel) -> Result<(), TableError> {
        if !self.adopted {
            return Ok(());
        }
        self.settings_table.read(kernel)?;
        self.opt_outs.read(kernel)?;
        self.policies.reread(kernel)?;
        self.endpoints.read(kernel)?;
        self.routes.read(kernel)?;
        self.services.read(kernel)
    }

    fn resolve(&mut self) {
        self.settings_table.want(&self.settings, &self.timeouts, &self.own);
        self.opt_outs.want(&self.settings.direct_return_opt_outs);
        let targets = self.endpoints.targets();
        for gone in self.routes.local_workloads() {
            if !targets.contains_key(&gone) {
                self.routes.set_local(&gone, None);
            }
        }
        for (id, target) in targets {
            self.routes.set_local(&id, Some(target));
        }
        self.routes.resolve();
        self.services.resolve();
    }

    fn write(&mut self, kernel: &mut Kernel, now: Now) -> Written {
        // Who has opted out of a mode, before the mode.
        let mut written = self.opt_outs.write(kernel, now);
        // Marks and time-outs early: every program reads them.
        written += self.settings_table.write(kernel, now);
        // Addresses get their classes before any list asks about them; lists in force learn them first.
        written += self.policies.write_classes(kernel, now);
        // Traffic between local pods takes classes from the records.
        written += self.endpoints.write(kernel, &self.policies, now);
        // Lists before the endpoints that name them.
        written += self.policies.install(kernel, now);
        // Programs on an interface before its endpoint is READY.
        written += self.endpoints.attach(kernel, now);
        written += self.endpoints.write(kernel, &self.policies, now);
        // Nothing is forwarded to an endpoint or node whose record is not there.
        let endpoints = &self.endpoints;
        written += self.routes.write(kernel, now, |target| endpoints.is_written(target));
        // A front end never counts a back end that is not there.
        written += self.services.write(kernel, now);
        // Removals, in reverse.
        written += self.services.clean(kernel, now);
        written += self.routes.clean(kernel, now);
        written += self.endpoints.clean(kernel, || self.routes.named_endpoints(), now);
        let named = self.endpoints.named_programs();
        written += self.policies.clean(kernel, &named, now);
        // Sets after the last list that asks about them; endpoints' own classes may be others then.
        if self.policies.drop_sets() {
            written += self.policies.write_classes(kernel, now);
            written += self.endpoints.write(kernel, &self.policies, now);
        }
        self.policies.recycle(kernel, now);
        written
    }

    /// What is not as desired, and why; empty: everything is in force.
    pub fn dirty(&self) -> Vec<Dirty> {
        if !self.in_sync {
            return vec![Dirty::waiting("the datastore's first complete state")];
        }
        let mut dirty = self.settings_table.dirty();
        dirty.extend(self.opt_outs.dirty());
        dirty.extend(self.policies.dirty());
        dirty.extend(self.endpoints.dirty(&self.policies));
        dirty.extend(self.routes.dirty());
        dirty.extend(self.services.dirty());
        dirty
    }

    /// When something that failed may be tried again.
    pub fn next_retry(&self) -> Option<Now> {
        let retries = [
            self.settings_table.next_retry(),
            self.opt_outs.next_retry(),
            self.policies.next_retry(),
            self.endpoints.next_retry(),
            self.routes.next_retry(),
            self.services.next_retry(),
        ];
        retries.into_iter().flatten().min()
    }

    /// Whether a workload can be let go.
    pub fn readiness(&self, id: &WorkloadId) -> Readiness {
        self.endpoints.readiness(id, &self.policies)
    }

    /// Workload interfaces that should carry programs of ours in both directions, by name.
    pub fn hooked(&self) -> BTreeMap<&str, u32> {
        self.endpoints.hooked()
    }

    /// Somebody took our programs off a workload's interface: they are put back.
    pub fn put_back(&mut self, kernel: &mut Kernel, interface: &str) -> Result<(), HookError> {
        self.endpoints.put_back(kernel, interface)
    }

    /// How many workloads are wanted here, and how many of them are ready.
    pub fn endpoint_counts(&self) -> (usize, usize) {
        self.endpoints.counts(&self.policies)
    }

    /// Which incarnation of a workload is known.
    pub fn container_id(&self, id: &WorkloadId) -> Option<&str> {
        self.endpoints.container_id(id)
    }

    /// The last policy generation handed out.
    pub fn generation(&self) -> u32 {
        self.endpoints.generation()
    }
}
