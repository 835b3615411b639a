//! The agent's state, and what it does when something happens.
//!
//! Owns: the order between calculation, ways, files, kernel and routes.
//! Does not: wait; the main loop does.
//! Invariant: after [`Node::settle`] everything that was said is in force or listed as dirty.

mod guard;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use tortie_abi::settings::TUNNEL_PORT;
use tortie_calc::Calc;
use tortie_host::bpf::netns_cookie;
use tortie_host::netlink::{Device, Netlink, NetworkEvent};
use tortie_host::{clock, sysctl};
use tortie_model::WorkloadId;
use tortie_reconcile::{Dirty, Reconciler, Written};
use tortie_store::{Batch, Handle, NodeState, Rejection, Revision};

use super::Options;
use super::attachments::Attachments;
use super::devices::{Devices, TUNNEL};
use super::growth::Growth;
use super::host_routes::{self, HostRoutes};
use super::intake::{Beginning, count, take_in};
use super::link_check::Ahead;
use super::node_names::NodeNames;
use super::observe::Observer;
use super::own_addresses::{self, OwnAddresses};
use super::parts::Parts;
use super::pods::Running;
use super::sockets::Sockets;
use super::state_files::StateFiles;
use super::traces::Round;
use super::uplinks;
use super::ways::Ways;
use super::{conflicts, facts};

/// When a step that failed as a whole is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How often the observing thread is told how things are, at most.
const OBSERVE: Duration = Duration::from_millis(200);

/// Everything the agent knows and holds.
pub struct Node {
    pub options: Options,
    pub calc: Calc,
    pub reconciler: Reconciler,
    pub parts: Parts,
    pub devices: Devices,
    pub sockets: Sockets,
    pub attachments: Attachments,
    pub routes: HostRoutes,
    pub rejections: BTreeSet<Arc<Rejection>>,
    pub names: NodeNames,
    pub running: Running,
    pub revision: Revision,
    pub warnings: Vec<String>,
    pub started: Instant,
    pub store: Handle,
    own_addresses: Vec<IpAddr>,
    /// The prefixes they are in; `None`: to be read again.
    own_prefixes: Option<Vec<IpNet>>,
    /// Whatever its Node says.
    interface_addresses: OwnAddresses,
    told: Option<NodeState>,
    pub kernel_release: String,
    pub packet_programs: (usize, u64),
    pub local_policies: usize,
    observer: Observer,
    observed: Option<Instant>,
    /// Things may have changed since.
    unobserved: bool,
    pub netlink: Netlink,
    ways: Ways,
    retry_at: Option<Instant>,
    pub files: StateFiles,
    told_conflicts: conflicts::Told,
    /// Programs that run before ours.
    ahead: Vec<Ahead>,
    /// What was said of interfaces without programs.
    told_left_out: Vec<String>,
    pub growth: Growth,
    /// The kernel's number of this process's network namespace.
    pub netns: Option<u64>,
}

impl Node {
    /// Puts the parts together.
    pub fn new(
        options: Options,
        beginning: Beginning,
        files: StateFiles,
        reconciler: Reconciler,
        parts: Parts,
        netlink: Netlink,
        observer: Observer,
    ) -> Self {
        let attachments = Attachments::new(&options.run_dir);
        let mut node = Self {
            options,
            calc: beginning.calc,
            reconciler,
            devices: Devices::new(),
            sockets: Sockets::new(),
            attachments,
            routes: HostRoutes::new(),
            rejections: beginning.rejections,
            names: beginning.names,
            running: beginning.running,
            revision: beginning.revision,
            warnings: Vec::new(),
            started: Instant::now(),
            store: beginning.store,
            own_addresses: beginning.node_addresses.clone().unwrap_or_default(),
            own_prefixes: None,
            interface_addresses: OwnAddresses::default(),
            told: None,
            kernel_release: sysctl::get("kernel/osrelease").unwrap_or_default(),
            packet_programs: facts::packet_programs(&parts),
            local_policies: 0,
            observer,
            observed: None,
            unobserved: false,
            parts,
            netlink,
            ways: Ways::new(),
            retry_at: None,
            files,
            told_conflicts: conflicts::Told::default(),
            ahead: Vec::new(),
            told_left_out: Vec::new(),
            growth: Growth::new(),
            netns: None,
        };
        node.reconciler.set_kernel_timeouts(sysctl::kernel_timeouts());
        if let Some(addresses) = beginning.node_addresses {
            node.reconciler.set_node_addresses(addresses);
        }
        match netns_cookie() {
            Ok(cookie) => {
                node.netns = Some(cookie);
                node.reconciler.set_netns(cookie);
            }
            Err(error) => {
                let text = format!("ports of the node are not served at loopback: {error}");
                tracing::error!("{text}");
                node.warnings.push(text);
            }
        }
        node.keep_forwarding();
        node
    }

    /// The store has said something.
    pub fn batch(&mut self, batch: Batch) {
        self.revision = batch.revision;
        count(&batch, &self.observer);
        if let Some(traces) = &mut self.observer.traces {
            traces.heard(&batch);
        }
        let Self { options, calc, rejections, names, running, .. } = self;
        let (_, addresses) = take_in(batch, options, calc, rejections, names, running);
        if let Some(addresses) = addresses {
            self.own_addresses.clone_from(&addresses);
            self.own_prefixes = None;
            self.reconciler.set_node_addresses(addresses);
        }
    }

    /// Records of attached pods have changed, or may have.
    pub fn reread_attachments(&mut self) {
        for change in self.attachments.reread() {
            self.calc.apply(&change);
        }
    }

    /// A pod is about to go.
    pub fn endpoint_gone(&mut self, id: &WorkloadId, container: &str) {
        if let Some(change) = self.attachments.gone(id, container) {
            self.calc.apply(&change);
        }
    }

    /// The network has changed.
    pub fn network(&mut self, event: NetworkEvent) {
        match event {
            NetworkEvent::Device(device) => {
                let (name, index) = (device.name.clone(), device.index);
                let was_up = self.devices.by_index(index).map(|known| known.up);
                if was_up != Some(device.up) && self.attachments.have(&name) {
                    self.routes.interface(index);
                }
                if let Some(old) = self.devices.insert(device) {
                    self.reconciler.interface(&old, None);
                }
                self.reconciler.interface(&name, Some(index));
                if self.devices.kind(&name) != Devices::WORKLOAD {
                    self.attach_hosts();
                    self.rerouted();
                    // The kernel tells of no IPv4 route that goes with an interface.
                    self.routes.invalidate();
                }
            }
            NetworkEvent::DeviceGone(device) => {
                self.routes.interface(device.index);
                if self.devices.remove(&device) {
                    self.reconciler.interface(&device.name, None);
                    self.rerouted();
                }
                if let Err(error) = self.parts.links.remove_stale() {
                    tracing::warn!(%error, "stale links could not be removed");
                }
            }
            NetworkEvent::Routing => self.rerouted(),
            NetworkEvent::OwnRoute { net, via, there } => self.routes.noticed(net, via, there),
            NetworkEvent::Address { ifindex, address, there } => {
                let of_pod = |device: &Device| self.devices.kind(&device.name) == Devices::WORKLOAD;
                if !self.devices.by_index(ifindex).is_some_and(of_pod) {
                    self.rerouted();
                    self.routes.invalidate();
                }
                if self.interface_addresses.one(ifindex, address, there) {
                    self.calc.apply(&self.interface_addresses.object());
                }
            }
        }
    }

    /// Other ways may lead to nodes, and to clients outside.
    fn rerouted(&mut self) {
        self.ways.invalidate();
        self.parts.sweeper.doubt();
    }

    /// The tunnel for clients outside. Without it they only reach back ends of this node.
    async fn open_tunnel(&mut self) {
        const WITHOUT: &str = "clients outside reach only endpoints of this node";
        let found = self.netlink.tunnel(TUNNEL, TUNNEL_PORT).await;
        let before = self.warnings.len();
        self.warnings.retain(|warning| !warning.starts_with(WITHOUT));
        match found {
            Ok(index) => self.reconciler.set_tunnel(Some(index)),
            Err(error) => {
                let text = format!(
                    "{WITHOUT}: {error} (`ip -d link show type vxlan` shows who else has the port: Calico leaves vxlan.calico; \
                     one of Tortie's own that was renamed has to get the name {TUNNEL} back)"
                );
                if self.warnings.len() == before {
                    tracing::error!("{text}");
                }
                self.warnings.push(text);
            }
        }
    }

    /// All interfaces are read again.
    pub async fn reread_devices(&mut self) -> anyhow::Result<()> {
        let found = self.netlink.devices().await?;
        let known: Vec<_> = self.devices.all().cloned().collect();
        for gone in known.iter().filter(|known| !found.iter().any(|d| d.index == known.index)) {
            self.devices.remove(gone);
            self.reconciler.interface(&gone.name, None);
        }
        for device in found {
            let changed = known.iter().all(|known| *known != device);
            let (name, index) = (device.name.clone(), device.index);
            if let Some(old) = self.devices.insert(device) {
                self.reconciler.interface(&old, None);
            }
            if changed {
                self.reconciler.interface(&name, Some(index));
            }
        }
        self.rerouted();
        let addresses = self.netlink.addresses().await?;
        self.mend_host_sides(&addresses).await;
        self.interface_addresses.all(addresses);
        self.calc.apply(&self.interface_addresses.object());
        Ok(())
    }

    /// Carries out everything that was said.
    pub async fn settle(&mut self) {
        match self.devices.tunnel() {
            // Also one that an agent before this one made.
            Some(index) => self.reconciler.set_tunnel(Some(index)),
            None => self.open_tunnel().await,
        }
        let (reconciler, live) = (&mut self.reconciler, &self.observer.live);
        let mut round = self.observer.traces.as_ref().map(|_| Round::begin());
        let start = Instant::now();
        let mut said = 0;
        self.calc.flush(&mut |intent| {
            said += 1;
            reconciler.receive(intent);
        });
        if said > 0 {
            live.calc_seconds.observe(start.elapsed().as_secs_f64());
            live.calc_output.inc_by(said);
        }
        if let Some(round) = &mut round {
            round.calculated(said);
        }
        self.told_conflicts.tell(self.calc.conflicts(), &self.store);
        self.devices.set_pattern(&self.reconciler.settings().data_interface_pattern);
        let nodes_own = uplinks::nodes_own(&self.devices, &self.interface_addresses);
        self.reconciler.set_nodes_own_interfaces(nodes_own);
        for (node, way) in self.ways.refresh(&self.reconciler, &self.netlink, &self.devices).await {
            self.reconciler.set_way(node, way);
        }
        let allocated = self.reconciler.allocate(&mut self.parts.kernel);
        self.save();
        let start = Instant::now();
        let apply = |()| self.reconciler.apply(&mut self.parts.kernel, clock::monotonic());
        match allocated.and_then(apply) {
            Ok(written) => {
                self.retry_at = None;
                if let (Some(traces), Some(round)) = (&mut self.observer.traces, round) {
                    traces.tell(round, written);
                }
                self.count_written(written, start.elapsed());
                if written.withdrawn > 0 {
                    self.parts.sweeper.hurry();
                }
                if written.done > 0 || written.failed > 0 {
                    tracing::debug!(done = written.done, failed = written.failed, "kernel");
                }
            }
            Err(error) => {
                tracing::error!(%error, "the kernel's state cannot be read; nothing is changed");
                self.observer.live.kernel_read_failures.inc();
                self.retry_at = Some(Instant::now() + RETRY);
            }
        }
        self.save();
        if let Some(checks) = self.calc.take_health_checks() {
            self.observer.set_checks(checks.clone());
        }
        if self.reconciler.in_sync() {
            self.attach_hosts();
            self.tell_left_out();
            let given = self.options.cgroup.as_deref();
            self.sockets.attach(given, self.reconciler.settings(), &self.parts);
            let (reconciler, ways) = (&self.reconciler, &self.ways);
            let (attachments, devices) = (&self.attachments, &self.devices);
            let version = (reconciler.routes_version(), ways.version(), attachments.version());
            let desired = || host_routes::desired(reconciler, ways, attachments, devices);
            self.routes.apply(version, desired, &self.netlink).await;
            self.tell_store();
        }
    }

    /// Where the store wants to know: this node has a network, and which addresses.
    fn tell_store(&mut self) {
        let was_ready = self.told.as_ref().is_some_and(|told| told.ready);
        let ready = was_ready || self.dirty().is_empty();
        let addresses =
            self.own_prefixes.get_or_insert_with(|| own_addresses::prefixes(&self.own_addresses)).clone();
        let state = NodeState { ready, addresses };
        if self.told.as_ref() != Some(&state) {
            self.store.set_node(state.clone());
            self.told = Some(state);
        }
    }

    fn count_written(&self, written: Written, took: Duration) {
        let live = &self.observer.live;
        if written != Written::default() {
            live.apply_seconds.observe(took.as_secs_f64());
            live.table_writes.inc_by(written.done as u64);
            live.apply_failures.inc_by(written.failed as u64);
        }
    }

    /// The loop turns. How things are is told a few times a second at most.
    pub fn observe(&mut self) {
        self.observer.vitals.beat();
        self.unobserved = self.observed.is_some_and(|at| at.elapsed() < OBSERVE);
        if !self.unobserved {
            self.observer.vitals.publish(facts::gather(self));
            self.observed = Some(Instant::now());
        }
        if self.reconciler.settings().hang_after.is_some_and(|after| self.started.elapsed() >= after) {
            tracing::error!("hanging, as debugSimulateDataplaneHangAfter says");
            std::thread::sleep(Duration::MAX);
        }
    }

    /// When to turn again so that the last change is told too, however quiet it is from then on.
    pub fn next_observation(&self) -> Option<Instant> {
        self.observed.filter(|_| self.unobserved).map(|at| at + OBSERVE)
    }

    fn save(&mut self) {
        // Where nothing is new, what could not be written may fit by now.
        let is_due = self.files.retry_at().is_some_and(|at| at <= Instant::now());
        if !self.files.collect(&mut self.reconciler, &mut self.names) && !is_due {
            return;
        }
        let rules = &self.reconciler.saved().rules;
        let policies: BTreeSet<&str> = rules.iter().map(|rule| rule.policy.as_str()).collect();
        self.local_policies = policies.len();
        self.files.write(&self.reconciler, &self.names);
    }

    /// Compares kernel and desired state; [`Node::settle`] repairs what differs.
    pub async fn resync(&mut self, trigger: &str) {
        self.observer.live.kernel_resyncs.with_label_values(&[trigger]).inc();
        if let Err(error) = self.reconciler.resync(&mut self.parts.kernel) {
            tracing::error!(%error, "the kernel's state cannot be read");
            self.observer.live.kernel_read_failures.inc();
        }
        match self.parts.datapath.fill_stage(&self.parts.maps) {
            Ok(0) => {}
            Ok(written) => tracing::warn!(written, "somebody changed the program array; repaired"),
            Err(error) => tracing::error!(%error, "the program array cannot be repaired"),
        }
        for name in self.keep_forwarding() {
            tracing::warn!(name, "somebody changed a setting of the node; put back");
        }
        if let Err(error) = self.reread_devices().await {
            tracing::error!(%error, "interfaces cannot be listed");
        }
        if let Err(error) = self.parts.links.remove_stale() {
            tracing::warn!(%error, "stale links could not be removed");
        }
        self.routes.invalidate();
        self.sockets.invalidate();
        self.devices.invalidate();
        self.own_prefixes = None;
        self.reread_attachments();
    }

    /// When something has to be tried again without being asked.
    pub fn next_retry(&self) -> Option<Instant> {
        let now = clock::monotonic();
        let table = self.reconciler.next_retry().map(|at| Instant::now() + at.saturating_sub(now));
        [table, self.retry_at, self.files.retry_at(), self.routes.retry_at(), self.ways.due()]
            .into_iter()
            .flatten()
            .min()
    }

    /// What is not as desired.
    pub fn dirty(&self) -> Vec<Dirty> {
        let mut dirty = self.reconciler.dirty();
        let failed = |object: String, reason: &String| Dirty { object, reason: reason.clone(), attempts: 1 };
        dirty.extend(self.devices.errors().iter().map(|(name, e)| failed(format!("interface {name}"), e)));
        dirty.extend(self.routes.errors().iter().map(|(net, e)| failed(format!("host route {net}"), e)));
        let lost = "the host has no route there any more; the last one known is used".to_owned();
        dirty.extend(
            self.ways.lost().map(|node| failed(format!("way to node {}", self.names.of(node)), &lost)),
        );
        if self.retry_at.is_some() {
            dirty.push(Dirty::waiting("the kernel's state"));
        }
        dirty
    }

    /// Servers for health and metrics that cannot listen.
    pub fn deaf(&self) -> Vec<String> {
        self.observer.vitals.deaf()
    }
}
