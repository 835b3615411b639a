//! What others may take from the node while the agent runs: programs on interfaces, pins of maps, settings.
//!
//! Owns: looking for what is missing, putting it back, and the words for what cannot be.
//! Does not: decide when; the main loop and [`Node::resync`] do.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tortie_host::bpf::Program;
use tortie_host::links::Direction;
use tortie_host::sysctl;
use tortie_reconcile::HookError;

use super::super::devices::Devices;
use super::super::link_check::{self, Ahead, Expected};
use super::super::uplinks;
use super::Node;

/// How a warning about maps without pins begins.
const UNPINNED: &str = "a map has lost its pin";
/// How a warning about settings of the whole node begins.
const NOT_FORWARDING: &str = "this node does not forward packets";
/// A pod that is gone by then never costs the node the grace periods of its links, neither when it comes nor when it goes.
const SHORT_LIVED: Duration = Duration::from_secs(5);

impl Node {
    /// Lets the node forward packets; gives the settings that were others.
    pub(super) fn keep_forwarding(&mut self) -> Vec<&'static str> {
        let known: Vec<String> =
            self.warnings.extract_if(.., |warning| warning.starts_with(NOT_FORWARDING)).collect();
        let mut changed = Vec::new();
        for (name, value) in sysctl::FORWARDING {
            match sysctl::set(name, value) {
                Ok(is_new) => changed.extend(is_new.then_some(name)),
                Err(error) => {
                    let text = format!("{NOT_FORWARDING}: {error}");
                    if !known.contains(&text) {
                        tracing::error!("{text}");
                    }
                    self.warnings.push(text);
                }
            }
        }
        changed
    }

    /// Puts back programs that somebody took off an interface, looked for on those that `changed`, or on all; says which run
    /// before ours.
    pub fn check_links(&mut self, changed: Option<&BTreeSet<u32>>) {
        let mut expected: Expected<'_> = BTreeMap::new();
        for (name, ifindex) in self.reconciler.hooked() {
            expected.insert(name, (ifindex, &Direction::ALL));
        }
        expected.extend(
            self.devices.guarded().map(|it| (it.device.name.as_str(), (it.device.index, it.directions))),
        );
        let checked = link_check::check(&self.parts.links, &expected, changed);
        self.observer.live.link_check_seconds.observe(checked.took.as_secs_f64());
        for name in checked.lost {
            self.put_back(&name);
        }
        let new: Vec<Ahead> =
            checked.ahead.iter().filter(|program| !self.ahead.contains(program)).cloned().collect();
        self.ahead = checked.ahead;
        for problem in self.overtaken(&new) {
            tracing::error!("{problem}");
        }
    }

    /// Where programs of others decide before ours. An XDP program at an interface of the node's own may be meant to: `status`
    /// shows it there.
    pub fn ahead(&self) -> Vec<String> {
        let hooked = self.reconciler.hooked();
        let devices = self.devices.all().filter(|device| hooked.contains_key(device.name.as_str()));
        let xdp = devices.filter_map(|device| {
            let (name, program) = (&device.name, device.xdp?);
            Some(format!(
                "interface {name}{}: the XDP program {program} ({}) sees what the pod sends before ours, and may drop it without \
                 a word or lead it past policy; take it off (ip link set {name} xdp off)",
                self.pod_behind(name),
                Program::name_of(program)
            ))
        });
        self.overtaken(&self.ahead).into_iter().chain(xdp).collect()
    }

    fn pod_behind(&self, interface: &str) -> String {
        self.attachments.pod_at(interface).map(|id| format!(" (pod {id})")).unwrap_or_default()
    }

    fn overtaken(&self, programs: &[Ahead]) -> Vec<String> {
        let problem = |Ahead { interface, direction, program, name }: &Ahead| {
            let pod = self.pod_behind(interface);
            let direction = direction.name();
            format!(
                "interface {interface}{pod}, {direction}: program {program} ({name}) runs before ours and decides first, so \
                 that policy may not hold there; take it off, and attach it behind ours (bpftool net show dev {interface})"
            )
        };
        programs.iter().map(problem).collect()
    }

    fn put_back(&mut self, name: &str) {
        if self.devices.kind(name) != Devices::WORKLOAD {
            self.devices.invalidate();
            return self.attach_hosts();
        }
        let result = self.reconciler.put_back(&mut self.parts.kernel, name);
        // With a pod that was deleted; the message about that is on its way.
        if matches!(result, Err(HookError::Gone)) {
            return;
        }
        self.observer.live.links_lost.with_label_values(&[Devices::WORKLOAD]).inc();
        match result {
            Ok(()) => tracing::warn!(interface = name, "somebody took our programs off; put back"),
            Err(error) => tracing::error!(interface = name, %error, "our programs were taken off"),
        }
    }

    /// The node's own interfaces carry programs; those that had lost them are told, whoever looked first.
    pub(super) fn attach_hosts(&mut self) {
        for name in self.devices.attach(&self.parts) {
            self.observer.live.links_lost.with_label_values(&[self.devices.kind(&name)]).inc();
            tracing::warn!(interface = name, "somebody took our programs off; put back");
        }
    }

    /// What settings say wrongly of this node's interfaces: nothing from outside reaches Services here, or a prefix of pods' names
    /// is one of others', too.
    pub fn left_out(&self) -> Vec<String> {
        let is_pods = |name: &str| self.attachments.have(name);
        let mut told =
            uplinks::left_out(&self.devices, &self.interface_addresses, &self.own_addresses, is_pods);
        let (nodes_own, settings) = (self.reconciler.nodes_own_interfaces(), self.reconciler.settings());
        told.extend(uplinks::taken_for_pods(nodes_own, &settings.interface_prefix));
        told
    }

    pub(super) fn tell_left_out(&mut self) {
        let now = self.left_out();
        for problem in now.iter().filter(|problem| !self.told_left_out.contains(problem)) {
            tracing::error!("{problem}");
        }
        self.told_left_out = now;
    }

    /// Pins maps again that somebody unpinned: an agent that starts would find none, and make empty ones.
    pub fn check_pins(&mut self) {
        let known: Vec<String> =
            self.warnings.extract_if(.., |warning| warning.starts_with(UNPINNED)).collect();
        for (map, result) in self.parts.maps.pin_again() {
            let Err(error) = result else {
                tracing::warn!(map, "somebody removed the map's pin; pinned again");
                continue;
            };
            let text =
                format!("{UNPINNED}, and the next start of the agent would end all connections: {error}");
            if !known.contains(&text) {
                tracing::error!("{text}");
            }
            self.warnings.push(text);
        }
    }

    /// One pod that is old enough gets links in the place of its filters: each takes a while ([`SHORT_LIVED`]).
    pub fn make_links(&mut self) {
        match self.parts.links.make_links(SHORT_LIVED) {
            Ok(None) => {}
            Ok(Some(interface)) => tracing::debug!(interface, "has links"),
            Err(error) => tracing::warn!(%error, "links could not be made; the filters stay"),
        }
    }
}
