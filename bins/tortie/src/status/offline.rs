//! What the kernel tells about a node whose agent cannot be asked.
//!
//! Invariant: nothing is made or changed; where nothing is pinned the answer is `None`, and who may not look is told so.

use std::io;

use tortie_abi::maps::ALL;
use tortie_host::bpf::Program;
use tortie_host::links::{Found, Links, Mechanism, all_filters};
use tortie_host::sockets::SocketHooks;
use tortie_observe::metrics::Fill;

use super::NO_AGENT;
use super::answer::{ConnectTime, Interface, MapFill, SocketProgram, Status};
use crate::args::Global;
use crate::inspect::{self, names};

/// Pins, as far as they can be read; an error where none of them may be.
pub fn status(global: &Global) -> io::Result<Option<Status>> {
    let maps: Vec<MapFill> = inspect::fill::permitted(&global.bpffs)?.into_iter().map(fill).collect();
    if maps.is_empty() {
        return Ok(None);
    }
    let saved = names::saved(&global.run_dir);
    Ok(Some(Status {
        health: NO_AGENT.to_owned(),
        node: names::nodes(&global.run_dir).node,
        kernel: tortie_host::sysctl::get("kernel/osrelease").ok(),
        bpffs: Some(global.bpffs.display().to_string()),
        endpoints: saved.endpoints.len() as u64,
        interfaces: interfaces(global),
        connect_time: connect_time(global),
        maps,
        ..Status::default()
    }))
}

fn fill(fill: Fill) -> MapFill {
    let version = ALL.iter().find(|spec| spec.name == fill.map).map_or(0, |spec| spec.version);
    MapFill {
        name: fill.map.to_owned(),
        version,
        entries: fill.entries,
        max_entries: fill.max_entries,
        memory_bytes: fill.memory_bytes,
    }
}

fn interfaces(global: &Global) -> Vec<Interface> {
    if !global.bpffs.join("links").is_dir() {
        return Vec::new();
    }
    let links = Links::open(&global.bpffs, Mechanism::Tcx).and_then(|links| links.list()).unwrap_or_default();
    links.iter().chain(&all_filters().unwrap_or_default()).map(interface).collect()
}

/// The links alone: the mode is in the agent's settings, and a cgroup's number has no path.
fn connect_time(global: &Global) -> Option<ConnectTime> {
    if !global.bpffs.join("links").is_dir() {
        return None;
    }
    let links = SocketHooks::open(&global.bpffs).ok()?.list();
    let program = |link: tortie_host::sockets::Found| SocketProgram {
        program: link.program.to_owned(),
        program_id: link.program_id,
        attached: link.cgroup_id != 0,
    };
    let programs: Vec<SocketProgram> = links.into_iter().map(program).collect();
    (!programs.is_empty()).then(|| ConnectTime { programs, ..ConnectTime::default() })
}

fn interface(link: &Found) -> Interface {
    let program = Program::by_id(link.program_id).and_then(|program| program.info());
    Interface {
        interface: link.interface.clone(),
        direction: link.direction.name().to_owned(),
        attached: link.ifindex != 0,
        program_id: link.program_id,
        program: program.ok().map(|info| info.name),
        ..Interface::default()
    }
}
