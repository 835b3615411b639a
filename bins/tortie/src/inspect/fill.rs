//! How full the pinned maps are.
//!
//! Invariant: entries are counted, not kept.

use std::io;
use std::path::Path;

use tortie_abi::maps::{ALL, MapKind, MapSpec};
use tortie_host::bpf::{Map, get_map};
use tortie_host::maps::pin_name;
use tortie_observe::metrics::Fill;

/// Every pinned map that can be opened.
pub fn all(bpffs: &Path) -> Vec<Fill> {
    let open = |spec: &MapSpec| get_map(&bpffs.join("maps").join(pin_name(spec))).ok();
    ALL.iter().filter_map(|spec| Some(of(spec, &open(spec)?))).collect()
}

/// The same; where there are pins that none may be opened of, the refusal and not an empty answer.
pub fn permitted(bpffs: &Path) -> io::Result<Vec<Fill>> {
    let found = all(bpffs);
    let place = bpffs.join("maps");
    // Older kernels refuse the question whether a pin is there before they look.
    if !found.is_empty() || place.metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        return Ok(found);
    }
    let refused = |spec: &MapSpec| {
        get_map(&place.join(pin_name(spec))).err().filter(|it| it.kind() == io::ErrorKind::PermissionDenied)
    };
    ALL.iter().find_map(refused).map_or(Ok(found), Err)
}

/// One map.
pub fn of(spec: &MapSpec, map: &Map) -> Fill {
    Fill {
        map: spec.name,
        entries: entries(spec.kind, map).ok().flatten(),
        max_entries: u64::from(map.info().max_entries),
        memory_bytes: map.memlock_bytes().ok(),
    }
}

/// Entries of tables that have them one by one; arrays are always full.
fn entries(kind: MapKind, map: &Map) -> io::Result<Option<u64>> {
    match kind {
        MapKind::Hash | MapKind::LruHash => map.count().map(|count| Some(count as u64)),
        MapKind::LpmTrie | MapKind::PerCpuHash => one_by_one(map).map(Some),
        MapKind::Array | MapKind::ProgArray | MapKind::PerCpuArray | MapKind::RingBuf => Ok(None),
    }
}

fn one_by_one(map: &Map) -> io::Result<u64> {
    let mut key = vec![0; map.info().key_bytes as usize];
    let mut previous: Option<Vec<u8>> = None;
    let mut entries = 0;
    while map.next_key(previous.as_deref(), &mut key)? {
        entries += 1;
        previous = Some(key.clone());
    }
    Ok(entries)
}
