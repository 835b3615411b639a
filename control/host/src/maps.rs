//! The maps of the data plane, pinned by name and ABI version.
//!
//! Owns: `<bpffs>/maps/<name>_v<version>`: creation, reuse, resizing. Does not: know what is in them.
//! Invariant: a map that exists with the right definition is used as it is; nothing pinned is replaced
//! before its successor has its content; what programs write into a map that has a successor is not lost,
//! whenever the agent ends; what is open can be pinned again by whoever has it open.

mod size;

pub use size::{Size, Sizes, is_crowded, room_for};

use size::Fate;

use crate::bpf::{self, Map, MapDef, Update};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use tortie_abi::maps::{ALL, MapKind, MapSpec, Writer};
use tortie_abi::{Tick, v4, v6};
use zerocopy::FromBytes as _;

/// A map could not be had.
#[derive(Debug, thiserror::Error)]
pub enum MapsError {
    /// The directory cannot be made.
    #[error("{}: {source}; is a BPF file system mounted there, and is this root?", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A pin of this name is something else.
    #[error(
        "{}: a {found} is pinned there, but this version needs a {expected}; stop what made it, then remove the file",
        path.display()
    )]
    OtherDefinition {
        /// The pin.
        path: PathBuf,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// The kernel refused.
    #[error("map {name}: {operation}: {source}{}", hint(source))]
    Kernel {
        /// Map.
        name: &'static str,
        /// What was tried.
        operation: &'static str,
        /// Its answer.
        source: io::Error,
    },
    /// A name that is not in the list.
    #[error("map {0}: not one of this version's maps")]
    Unknown(String),
}

fn hint(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::EPERM) => " (needs root, or CAP_BPF and CAP_NET_ADMIN)",
        Some(libc::ENOMEM) => " (memory, or the limit of locked memory, is used up)",
        Some(libc::ENOSPC) => " (no space in the file system)",
        _ => "",
    }
}

/// All maps, open.
#[derive(Debug, Default)]
pub struct Maps {
    by_name: BTreeMap<&'static str, Map>,
    /// Where they are pinned, if they are.
    dir: Option<PathBuf>,
    created: Vec<&'static str>,
    /// Those of them that nothing was copied into, until somebody asked.
    new: Mutex<Vec<&'static str>>,
    kept_size: Vec<(&'static str, u32)>,
    /// Maps that programs write, and that others of their name have followed: programs may still use them.
    followed: Vec<(&'static MapSpec, Map)>,
}

fn size_of(sizes: &Sizes, spec: &MapSpec) -> Size {
    sizes.get(spec.name).copied().unwrap_or(Size::Fixed(spec.max_entries))
}

impl Maps {
    /// Opens what is pinned below `bpffs`, creates and pins the rest.
    pub fn open(bpffs: &Path, sizes: &Sizes) -> Result<Self, MapsError> {
        let dir = bpffs.join("maps");
        std::fs::create_dir_all(&dir).map_err(|source| MapsError::Directory { path: dir.clone(), source })?;
        let mut maps = Self { dir: Some(dir.clone()), ..Self::default() };
        for spec in ALL {
            let map = maps.open_one(&dir, spec, size_of(sizes, spec))?;
            maps.by_name.insert(spec.name, map);
        }
        Ok(maps)
    }

    /// Fresh maps that nobody else sees.
    pub fn anonymous(sizes: &Sizes) -> Result<Self, MapsError> {
        let mut maps = Self::default();
        for spec in ALL {
            maps.by_name.insert(spec.name, create(spec, size_of(sizes, spec).of_new())?);
            maps.created.push(spec.name);
            maps.new.get_mut().unwrap_or_else(PoisonError::into_inner).push(spec.name);
        }
        Ok(maps)
    }

    fn open_one(&mut self, dir: &Path, spec: &'static MapSpec, size: Size) -> Result<Map, MapsError> {
        let path = dir.join(pin_name(spec));
        let kernel = |operation, source| MapsError::Kernel { name: spec.name, operation, source };
        let existing = match bpf::get_map(&path) {
            Ok(map) => map,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let map = create(spec, size.of_new())?;
                bpf::pin(&map, &path).map_err(|e| kernel("pinning", e))?;
                self.created.push(spec.name);
                self.new.get_mut().unwrap_or_else(PoisonError::into_inner).push(spec.name);
                return Ok(map);
            }
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                return Err(other(path, spec, "object that is no map".to_owned()));
            }
            Err(error) => return Err(kernel("opening the pin", error)),
        };
        let info = existing.info();
        if (info.kind, info.key_bytes, info.value_bytes, info.flags)
            != (spec.kind as u32, key_bytes(spec), spec.value_bytes, spec.flags)
        {
            let found = describe(info.kind, info.key_bytes, info.value_bytes, info.flags);
            return Err(other(path, spec, found));
        }
        if let Ok(before) = bpf::get_map(&followed_path(&path)) {
            // Its programs may be in force: the agent ended on the way. One step at a time.
            self.followed.push((spec, before));
            return Ok(existing);
        }
        let count = || existing.count().map_err(|e| kernel("counting", e));
        let present = existing.info().max_entries;
        let Fate { entries, waits } = size.of_existing(present, spec.writer != Writer::Agent, count)?;
        if waits {
            self.kept_size.push((spec.name, entries));
        }
        if present == entries {
            return Ok(existing);
        }
        self.resize(&path, spec, existing, entries)
    }

    /// A map of another size takes the name over, with the content where that fits.
    fn resize(
        &mut self,
        path: &Path,
        spec: &'static MapSpec,
        old: Map,
        entries: u32,
    ) -> Result<Map, MapsError> {
        let kernel = |operation, source| MapsError::Kernel { name: spec.name, operation, source };
        let new = create(spec, entries)?;
        if let Err(error) = copy(&old, &new) {
            if is_full(&error) {
                // More in it than would fit: the old size stays in force until it has emptied.
                self.kept_size.push((spec.name, old.info().max_entries));
                return Ok(old);
            }
            return Err(kernel("copying into a map of the new size", error));
        }
        let aside = path.with_file_name(format!("{}_new", pin_name(spec)));
        remove_if_there(&aside).map_err(|e| kernel("removing an unfinished pin", e))?;
        bpf::pin(&new, &aside).map_err(|e| kernel("pinning", e))?;
        if spec.writer != Writer::Agent {
            bpf::pin(&old, &followed_path(path)).map_err(|e| kernel("pinning", e))?;
            self.followed.push((spec, old));
        }
        std::fs::rename(&aside, path).map_err(|e| kernel("renaming the pin", e))?;
        self.created.push(spec.name);
        Ok(new)
    }

    /// What programs have written meanwhile into maps that others have followed is taken over. Once there is no room, the
    /// rest is left: as many connections more than a size that somebody has chosen.
    pub fn catch_up(&self) -> Result<(), MapsError> {
        for (spec, before) in &self.followed {
            let failed = |source| MapsError::Kernel { name: spec.name, operation: "copying", source };
            let without_room = copy_newer(before, self.get(spec.name)?).map_err(failed)?;
            if without_room > 0 {
                tracing::warn!(map = spec.name, without_room, "more came than the smaller map has room for");
            }
        }
        Ok(())
    }

    /// No program uses maps any more that others have followed.
    pub fn leave_followed(&mut self) -> Result<(), MapsError> {
        self.catch_up()?;
        for (spec, _) in std::mem::take(&mut self.followed) {
            let failed = |source| MapsError::Kernel { name: spec.name, operation: "unpinning", source };
            if let Some(dir) = &self.dir {
                remove_if_there(&followed_path(&dir.join(pin_name(spec)))).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// An open map.
    pub fn get(&self, name: &str) -> Result<&Map, MapsError> {
        self.by_name.get(name).ok_or_else(|| MapsError::Unknown(name.to_owned()))
    }

    /// Every map with its specification's name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Map)> {
        self.by_name.iter().map(|(name, map)| (*name, map))
    }

    /// Maps that did not exist before (or not in this size).
    pub fn created(&self) -> &[&'static str] {
        &self.created
    }

    /// Maps that did not exist before and are empty but for what programs write: said once, to whoever writes them.
    pub fn take_new(&self) -> Vec<&'static str> {
        std::mem::take(&mut *self.new.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Maps whose wanted size could not be had, with the size they have.
    pub fn kept_size(&self) -> &[(&'static str, u32)] {
        &self.kept_size
    }

    /// Whether a map is of the size that was wanted for it, as far as its content lets it be: neither does it keep another one
    /// nor had a step to be finished first that an agent before was in the middle of.
    pub fn has_wanted_size(&self, name: &str) -> bool {
        let keeps = self.kept_size.iter().any(|(kept, _)| *kept == name);
        let is_followed = self.followed.iter().any(|(spec, _)| spec.name == name);
        !keeps && (!is_followed || self.created.contains(&name))
    }

    /// Pins again each map whose pin is gone: the next agent would make an empty one. What came of it, for each of those.
    pub fn pin_again(&self) -> Vec<(&'static str, Result<(), MapsError>)> {
        let Some(dir) = &self.dir else { return Vec::new() };
        let again = |spec: &MapSpec| {
            let (path, map) = (dir.join(pin_name(spec)), self.by_name.get(spec.name)?);
            let there = path.try_exists().unwrap_or(true);
            (!there).then(|| (spec.name, pin_below(dir, &path, spec.name, map)))
        };
        ALL.iter().filter_map(again).collect()
    }

    /// Removes the pins of other ABI versions' maps; returns their names.
    pub fn remove_outdated(bpffs: &Path) -> io::Result<Vec<String>> {
        let mut removed = Vec::new();
        for entry in std::fs::read_dir(bpffs.join("maps"))? {
            let entry = entry?;
            let file = entry.file_name().to_string_lossy().into_owned();
            if is_outdated(&file) {
                remove_if_there(&entry.path())?;
                removed.push(file);
            }
        }
        Ok(removed)
    }
}

/// The directory may be gone as well.
fn pin_below(dir: &Path, path: &Path, name: &'static str, map: &Map) -> Result<(), MapsError> {
    std::fs::create_dir_all(dir).map_err(|source| MapsError::Directory { path: dir.to_owned(), source })?;
    bpf::pin(map, path).map_err(|source| MapsError::Kernel { name, operation: "pinning", source })
}

fn is_outdated(file: &str) -> bool {
    let ours = |spec: &&MapSpec| {
        file.strip_prefix(spec.name)
            .and_then(|rest| rest.strip_prefix("_v"))
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let is_in_use = |pin: String| file == pin || followed_path(Path::new(&pin)) == Path::new(file);
    ALL.iter().find(ours).is_some_and(|spec| !is_in_use(pin_name(spec)))
}

/// Where a map stays while programs may use it, after another of its name has followed.
fn followed_path(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{name}_old"))
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The name of a map's pin.
pub fn pin_name(spec: &MapSpec) -> String {
    format!("{}_v{}", spec.name, spec.version)
}

/// Arrays have 4-byte indices; ring buffers have no keys.
fn key_bytes(spec: &MapSpec) -> u32 {
    if spec.kind == MapKind::RingBuf { 0 } else { spec.key_bytes }
}

fn create(spec: &MapSpec, max_entries: u32) -> Result<Map, MapsError> {
    let def = MapDef {
        name: spec.name,
        kind: spec.kind as u32,
        key_bytes: key_bytes(spec),
        value_bytes: if spec.kind == MapKind::RingBuf { 0 } else { spec.value_bytes },
        max_entries,
        flags: spec.flags,
    };
    Map::create(&def).map_err(|source| MapsError::Kernel { name: spec.name, operation: "creating", source })
}

fn describe(kind: u32, key: u32, value: u32, flags: u32) -> String {
    format!("map of type {kind} with keys of {key} and values of {value} bytes, flags {flags:#x}")
}

fn other(path: PathBuf, spec: &MapSpec, found: String) -> MapsError {
    let expected = describe(spec.kind as u32, key_bytes(spec), spec.value_bytes, spec.flags);
    MapsError::OtherDefinition { path, expected, found }
}

/// Copies what can be copied. Program arrays and ring buffers start empty: their content is rebuilt.
fn copy(from: &Map, to: &Map) -> io::Result<()> {
    let kind = from.info().kind;
    if kind == MapKind::ProgArray as u32 || kind == MapKind::RingBuf as u32 {
        return Ok(());
    }
    let one = |key: &[u8], value: &[u8]| match to.update(key, value, Update::Any) {
        // An array's slots beyond the new end hold nothing that is in use when they are zero.
        Err(e) if e.raw_os_error() == Some(libc::E2BIG) && value.iter().all(|b| *b == 0) => Ok(()),
        other => other,
    };
    if kind != MapKind::LpmTrie as u32 {
        return each(from, one);
    }
    // Older kernels read no tries by batches.
    let mut key = vec![0; from.info().key_bytes as usize];
    let mut value = vec![0; from.value_stride()];
    let mut previous: Option<Vec<u8>> = None;
    while from.next_key(previous.as_deref(), &mut key)? {
        if from.lookup(&key, &mut value)? {
            one(&key, &value)?;
        }
        previous = Some(key.clone());
    }
    Ok(())
}

/// There is no room for another element: hash tables and tries say it differently.
fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::E2BIG | libc::ENOSPC))
}

/// Copies what is not there, and flows of which the other map has not seen later packets; gives how many there was no
/// room for.
fn copy_newer(from: &Map, to: &Map) -> io::Result<usize> {
    let mut without_room = 0;
    let mut there = vec![0; to.value_stride()];
    each(from, |key, value| {
        if to.lookup(key, &mut there)? && (there == value || !has_seen_later(value, &there)) {
            return Ok(());
        }
        match to.update(key, value, Update::Any) {
            Err(error) if is_full(&error) => without_room += 1,
            other => other?,
        }
        Ok(())
    })?;
    Ok(without_room)
}

/// Whether the last packet of a flow came later than that of `other`, or at the same moment; not of what is no flow.
fn has_seen_later(value: &[u8], other: &[u8]) -> bool {
    match (last_seen(value), last_seen(other)) {
        (Some(this), Some(other)) => other.since(this) == 0,
        _ => false,
    }
}

fn last_seen(value: &[u8]) -> Option<Tick> {
    let v4 = || v4::FlowPair::read_from_bytes(value).ok().map(|pair| pair.ways.map(|way| way.core));
    let v6 = || v6::FlowPair::read_from_bytes(value).ok().map(|pair| pair.ways.map(|way| way.core));
    let ways = v4().or_else(v6)?;
    let seen = ways.iter().filter(|core| core.is_there()).map(|core| core.last_seen);
    seen.reduce(|latest, tick| if tick.since(latest) > 0 { tick } else { latest })
}

fn each(map: &Map, mut action: impl FnMut(&[u8], &[u8]) -> io::Result<()>) -> io::Result<()> {
    let (key, value) = (map.info().key_bytes as usize, map.value_stride());
    let mut result = Ok(());
    map.read_batches(|keys, values| {
        let mut pairs = keys.chunks_exact(key).zip(values.chunks_exact(value));
        if result.is_ok() {
            result = pairs.try_for_each(|(key, value)| action(key, value));
        }
    })?;
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_other_versions_of_our_own_maps_are_outdated() {
        assert!(is_outdated("flow4_v1") && is_outdated("flow4_v99") && is_outdated("route6_v1_new"));
        assert!(!is_outdated("flow4_v2") && !is_outdated("flow4") && !is_outdated("other_v0"));
        assert!(!is_outdated("flow4_v2_old") && is_outdated("flow4_v1_old"));
        assert!(!is_outdated("flow4_vault"));
    }
}
