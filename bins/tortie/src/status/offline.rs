//! What the kernel tells about a node whose agent cannot be asked.
//!
//! Invariant: nothing is made or changed; where nothing is pinned the answer is `None`.

use tortie_abi::maps::{ALL, MapKind, MapSpec};
use tortie_host::bpf::{self, Map, Program};
use tortie_host::links::{Found, Links, Mechanism};
use tortie_host::maps::pin_name;

use super::NO_AGENT;
use super::answer::{Interface, MapFill, Status};
use crate::args::Global;
use crate::inspect::{names, read};

/// Pins, as far as they can be read.
pub fn status(global: &Global) -> Option<Status> {
    let maps: Vec<MapFill> = ALL.iter().filter_map(|spec| fill(global, spec)).collect();
    if maps.is_empty() {
        return None;
    }
    let saved = names::saved(&global.run_dir);
    Some(Status {
        health: NO_AGENT.to_owned(),
        node: names::nodes(&global.run_dir).node,
        kernel: tortie_host::sysctl::get("kernel/osrelease").ok(),
        bpffs: Some(global.bpffs.display().to_string()),
        endpoints: saved.endpoints.len() as u64,
        interfaces: interfaces(global),
        maps,
        ..Status::default()
    })
}

fn fill(global: &Global, spec: &MapSpec) -> Option<MapFill> {
    let map = bpf::get_map(&global.bpffs.join("maps").join(pin_name(spec))).ok()?;
    Some(MapFill {
        name: spec.name.to_owned(),
        version: spec.version,
        entries: entries(spec.kind, &map),
        max_entries: u64::from(map.info().max_entries),
        memory_bytes: map.memlock_bytes().ok(),
    })
}

/// Arrays are always full, and have no number of entries.
fn entries(kind: MapKind, map: &Map) -> Option<u64> {
    match kind {
        MapKind::Hash | MapKind::LruHash | MapKind::LpmTrie | MapKind::PerCpuHash => {
            read::count(map).ok().map(|count| count as u64)
        }
        MapKind::Array | MapKind::ProgArray | MapKind::PerCpuArray | MapKind::RingBuf => None,
    }
}

/// Filters of clsact are not pinned, so only links are found.
fn interfaces(global: &Global) -> Vec<Interface> {
    if !global.bpffs.join("links").is_dir() {
        return Vec::new();
    }
    let links = Links::open(&global.bpffs, Mechanism::Tcx).and_then(|links| links.list()).unwrap_or_default();
    links.iter().map(interface).collect()
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
