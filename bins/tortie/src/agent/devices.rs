//! Interfaces of this node: which there are, and our programs on the data interfaces and loopback.
//!
//! Invariant: a data interface gets its programs, and the settings that they need, as soon as it appears; one that vanishes
//! meanwhile is no error.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;
use tortie_host::bpf::Program;
use tortie_host::datapath::{FROM_HOST_DEVICE, FROM_TUNNEL, TO_HOST_DEVICE};
use tortie_host::links::{Attached, Direction, LinkError};
use tortie_host::netlink::Device;
use tortie_host::sysctl;

use super::parts::Parts;

/// The loopback interface is in every network namespace, with this index.
pub const LOOPBACK: u32 = 1;

/// The interface of the tunnel that leads clients outside to back ends on other nodes.
pub const TUNNEL: &str = "tortie-tunnel";

/// Known interfaces.
pub struct Devices {
    by_name: BTreeMap<String, Device>,
    pattern: Option<(String, Regex)>,
    errors: BTreeMap<String, String>,
    /// Where programs of ours were when it was looked last, by index.
    held: BTreeSet<(u32, Direction)>,
    /// Every interface that should has its programs, and none has changed since.
    attached: bool,
    /// The interfaces that should not have been looked at since the pattern is what it is.
    let_go: bool,
}

/// One of the node's own interfaces.
#[derive(Clone, Copy)]
pub struct HostInterface<'a> {
    /// Which.
    pub device: &'a Device,
    /// Where programs belong on it.
    pub directions: &'static [Direction],
}

impl Devices {
    /// None known.
    pub fn new() -> Self {
        Self {
            by_name: BTreeMap::new(),
            pattern: None,
            errors: BTreeMap::new(),
            held: BTreeSet::new(),
            attached: false,
            let_go: false,
        }
    }

    /// An interface is new or changed. A renamed one loses its old name.
    pub fn insert(&mut self, device: Device) -> Option<String> {
        let old = self.by_name.values().find(|d| d.index == device.index && d.name != device.name);
        let old = old.map(|d| d.name.clone());
        if let Some(old) = &old {
            self.by_name.remove(old);
            self.errors.remove(old);
            // Under this name it may be none that carries programs.
            self.let_go = false;
        }
        self.attached &= self.kind(&device.name) == Self::WORKLOAD;
        self.by_name.insert(device.name.clone(), device);
        old
    }

    /// An interface is gone.
    pub fn remove(&mut self, device: &Device) -> bool {
        let known = self.by_name.get(&device.name).is_some_and(|known| known.index == device.index);
        if known {
            self.attached &= self.kind(&device.name) == Self::WORKLOAD;
            self.by_name.remove(&device.name);
            self.errors.remove(&device.name);
        }
        known
    }

    /// Somebody may have taken programs off: the next [`Devices::attach`] looks.
    pub fn invalidate(&mut self) {
        self.attached = false;
    }

    /// The tunnel's interface, where it is there and up.
    pub fn tunnel(&self) -> Option<u32> {
        self.by_name.get(TUNNEL).filter(|device| device.up).map(|device| device.index)
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Device> {
        self.by_name.values()
    }

    /// By index.
    pub fn by_index(&self, index: u32) -> Option<&Device> {
        self.by_name.values().find(|device| device.index == index)
    }

    /// By name.
    pub fn by_name(&self, name: &str) -> Option<&Device> {
        self.by_name.get(name)
    }

    /// Names by index.
    pub fn names(&self) -> BTreeMap<u32, String> {
        self.by_name.values().map(|device| (device.index, device.name.clone())).collect()
    }

    /// `bpfDataIfacePattern`; a pattern that is none leaves the last one in force.
    pub fn set_pattern(&mut self, pattern: &str) {
        if self.pattern.as_ref().is_some_and(|(text, _)| text == pattern) {
            return;
        }
        match Regex::new(pattern) {
            Ok(regex) => {
                self.pattern = Some((pattern.to_owned(), regex));
                (self.attached, self.let_go) = (false, false);
            }
            Err(error) => tracing::error!(pattern, %error, "bpfDataIfacePattern is no regular expression"),
        }
    }

    /// The `bpfDataIfacePattern` in force.
    pub fn pattern(&self) -> Option<&str> {
        self.pattern.as_ref().map(|(text, _)| &**text)
    }

    /// Whether packets from the network come in there.
    pub fn is_data(&self, name: &str) -> bool {
        self.pattern.as_ref().is_some_and(|(_, regex)| regex.is_match(name))
    }

    /// Data interfaces.
    pub fn data(&self) -> impl Iterator<Item = &Device> {
        self.all().filter(|device| self.is_data(&device.name))
    }

    /// Interfaces of the node itself that carry programs of ours.
    pub fn hosts(&self) -> impl Iterator<Item = HostInterface<'_>> {
        let data = self.data().map(|device| HostInterface { device, directions: &Direction::ALL });
        let loopback = self.by_index(LOOPBACK);
        let loopback = loopback.map(|device| HostInterface { device, directions: &[Direction::Egress] });
        let tunnel = self.by_name.get(TUNNEL);
        let tunnel = tunnel.map(|device| HostInterface { device, directions: &[Direction::Ingress] });
        data.chain(loopback).chain(tunnel)
    }

    /// Those of them that do carry them.
    pub fn guarded(&self) -> impl Iterator<Item = HostInterface<'_>> {
        self.hosts().filter(|it| !self.errors.contains_key(&it.device.name))
    }

    /// What an interface with programs of ours is, for people.
    pub fn kind(&self, name: &str) -> &'static str {
        match self.by_name.get(name) {
            Some(device) if device.index == LOOPBACK => "loopback",
            Some(device) if device.name == TUNNEL => "tunnel",
            _ if self.is_data(name) => "data",
            _ => Self::WORKLOAD,
        }
    }

    /// [`Devices::kind`] of a pod's.
    pub const WORKLOAD: &'static str = "workload";
    /// Every [`Devices::kind`].
    pub const KINDS: [&'static str; 4] = [Self::WORKLOAD, "data", "loopback", "tunnel"];

    /// Puts the programs on every data interface that has not got them, and on loopback, where the node speaks to
    /// itself; gives the interfaces from which somebody had taken one. Costs nothing when all have them and none has changed.
    pub fn attach(&mut self, parts: &Parts) -> Vec<String> {
        if self.attached && self.let_go {
            return Vec::new();
        }
        let (mut errors, mut held, mut lost) = (BTreeMap::new(), BTreeSet::new(), Vec::new());
        let hooks =
            self.hosts().flat_map(|it| it.directions.iter().map(move |direction| (it.device, *direction)));
        for (device, direction) in hooks {
            let place = (device.index, direction);
            match attach_one(device, direction, parts) {
                Ok(Attached::Unchanged) => {
                    held.insert(place);
                }
                Ok(attached) => {
                    held.insert(place);
                    if attached == Attached::Created && self.held.contains(&place) {
                        lost.push(device.name.clone());
                    }
                    tracing::info!(
                        interface = device.name,
                        direction = direction.name(),
                        ?attached,
                        "data interface"
                    );
                }
                Err(error) => {
                    if self.errors.get(&device.name) != Some(&error) {
                        tracing::error!(interface = device.name, error, "data interface without programs");
                    }
                    errors.insert(device.name.clone(), error);
                }
            }
        }
        self.attached = errors.is_empty();
        self.keep_settings(&held);
        (self.errors, self.held) = (errors, held);
        if self.pattern.is_some() && !self.let_go {
            self.let_go = self.let_others_go(parts);
        }
        lost
    }

    /// Sets what the programs need on the interfaces that have them now; where they had been before somebody else has
    /// changed it.
    fn keep_settings(&self, held: &BTreeSet<(u32, Direction)>) {
        let is_in = |places: &BTreeSet<(u32, Direction)>, device: &Device| {
            places.iter().any(|(index, _)| *index == device.index)
        };
        for HostInterface { device, .. } in self.hosts().filter(|it| is_in(held, it.device)) {
            for (name, value) in sysctl::of_host_interface(&device.name) {
                match sysctl::set(&name, value) {
                    Ok(true) if is_in(&self.held, device) => {
                        tracing::warn!(name, value, "somebody changed a setting; put back");
                    }
                    Ok(_) => {}
                    Err(error) => tracing::warn!(%error, "replies may be taken for forgeries"),
                }
            }
        }
    }

    /// Takes the programs of data interfaces off those that are none any more, also where an agent before this one has put
    /// them there. Whether that is done.
    fn let_others_go(&self, parts: &Parts) -> bool {
        let hosts: BTreeSet<u32> = self.hosts().map(|it| it.device.index).collect();
        let found = parts.links.list();
        let found =
            found.inspect_err(|error| tracing::error!(%error, "looking for data interfaces of before"));
        let mut done = found.is_ok();
        for it in found.unwrap_or_default() {
            if it.ifindex == 0 || hosts.contains(&it.ifindex) || !is_for_data(it.program_id) {
                continue;
            }
            let (interface, direction) = (&it.interface, it.direction.name());
            match parts.links.detach(interface, it.ifindex, it.direction) {
                Ok(()) => tracing::info!(interface, direction, "no data interface any more"),
                Err(error) => {
                    tracing::error!(interface, direction, %error, "no data interface any more");
                    done = false;
                }
            }
        }
        done
    }

    /// Interfaces without their programs, with the reason.
    pub fn errors(&self) -> &BTreeMap<String, String> {
        &self.errors
    }
}

/// Whether a program is for data interfaces. The kernel keeps the beginning of its name.
fn is_for_data(program: u32) -> bool {
    let name = Program::by_id(program).and_then(|program| program.info()).map(|info| info.name);
    name.is_ok_and(|name| {
        !name.is_empty() && [FROM_HOST_DEVICE, TO_HOST_DEVICE].iter().any(|it| it.starts_with(&*name))
    })
}

fn attach_one(device: &Device, direction: Direction, parts: &Parts) -> Result<Attached, String> {
    let name = match direction {
        Direction::Ingress if device.name == TUNNEL => FROM_TUNNEL,
        Direction::Ingress => FROM_HOST_DEVICE,
        Direction::Egress => TO_HOST_DEVICE,
    };
    let program = parts.datapath.program(name).map_err(|e| e.to_string())?;
    match parts.links.attach(&device.name, device.index, direction, program) {
        Ok(attached) => Ok(attached),
        Err(LinkError::Gone(_)) => Ok(Attached::Unchanged),
        Err(error) => Err(error.to_string()),
    }
}
