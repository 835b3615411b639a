//! The packet programs in the kernel: loaded once for each object, found again after a restart.
//!
//! Owns: `<bpffs>/programs/<digest>/<program>`, and the slots of `stage`.
//! Does not: attach to interfaces.
//! Invariant: the digest covers the object and the maps it is bound to, so that programs are used again
//! exactly when loading them anew would give the same; a slot of `stage` is swapped, never emptied.

use crate::bpf::{self, Program};
use crate::maps::{Maps, MapsError};
use crate::object::{self, ObjectError};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use tortie_abi::stage;

/// The programs could not be put in place.
#[derive(Debug, thiserror::Error)]
pub enum DatapathError {
    /// The object or a program of it.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// A map.
    #[error(transparent)]
    Maps(#[from] MapsError),
    /// A pin.
    #[error("{}: {source}", path.display())]
    Pin {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A slot of `stage`.
    #[error("stage {name}: {source}")]
    Stage {
        /// Program.
        name: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The object has no such program.
    #[error("the BPF object has no program {0}; build it again")]
    Missing(&'static str),
}

/// Programs reached by tail calls, with their slots.
pub const STAGES: [(&str, u32); 16] = [
    ("from_workload4", stage::FROM_WORKLOAD4),
    ("from_workload6", stage::FROM_WORKLOAD6),
    ("from_workload_other", stage::FROM_WORKLOAD_OTHER),
    ("to_workload4", stage::TO_WORKLOAD4),
    ("to_workload6", stage::TO_WORKLOAD6),
    ("to_workload_other", stage::TO_WORKLOAD_OTHER),
    ("resume4", stage::RESUME4),
    ("resume6", stage::RESUME6),
    ("reply4", stage::REPLY4),
    ("reply6", stage::REPLY6),
    ("related4", stage::RELATED4),
    ("related6", stage::RELATED6),
    ("open4", stage::OPEN4),
    ("open6", stage::OPEN6),
    ("apart4", stage::APART4),
    ("apart6", stage::APART6),
];

/// The program for what arrives at data interfaces.
pub const FROM_HOST_DEVICE: &str = "from_host_device";

/// The program for what leaves through data interfaces and enters loopback.
pub const TO_HOST_DEVICE: &str = "to_host_device";

/// The program for what comes out of the tunnel.
pub const FROM_TUNNEL: &str = "from_tunnel";

/// All programs, loaded.
#[derive(Debug)]
pub struct Datapath {
    programs: BTreeMap<String, Program>,
    /// They were there already.
    pub adopted: bool,
}

impl Datapath {
    /// Finds or loads the programs of the embedded object and fills `stage`. A refusal's whole log goes
    /// into `log_dir`.
    pub fn open(bpffs: &Path, maps: &Maps, log_dir: &Path) -> Result<Self, DatapathError> {
        let root = bpffs.join("programs");
        let dir = root.join(digest(object::embedded(), maps));
        let datapath = match adopt(&dir) {
            Some(programs) => Self { programs, adopted: true },
            None => Self { programs: load(&dir, maps, log_dir)?, adopted: false },
        };
        // Loading takes a second, in which the programs before these have gone on.
        maps.catch_up()?;
        datapath.fill_stage(maps)?;
        remove_others(&root, &dir);
        Ok(datapath)
    }

    /// A program by its name in the object.
    pub fn program(&self, name: &'static str) -> Result<&Program, DatapathError> {
        self.programs.get(name).ok_or(DatapathError::Missing(name))
    }

    /// All programs by name.
    pub fn programs(&self) -> &BTreeMap<String, Program> {
        &self.programs
    }

    /// Puts every program into its slot; returns how many were not there.
    pub fn fill_stage(&self, maps: &Maps) -> Result<usize, DatapathError> {
        let array = maps.get("stage")?;
        let mut written = 0;
        // Those that packets come to last first: what these programs begin is not for others to go on with.
        for (name, slot) in STAGES.into_iter().rev() {
            let failed = |source| DatapathError::Stage { name, source };
            let program = self.program(name)?;
            let wanted = program.info().map_err(failed)?.id;
            let mut id = [0; 4];
            let there = array.lookup(&slot.to_ne_bytes(), &mut id).map_err(failed)?;
            if !there || u32::from_ne_bytes(id) != wanted {
                array.set_fd(slot, program.as_fd()).map_err(failed)?;
                written += 1;
            }
        }
        Ok(written)
    }
}

/// FNV-1a over the object and the ids of its maps, twice with different starts.
fn digest(bytes: &[u8], maps: &Maps) -> String {
    let ids: Vec<u8> = maps.iter().flat_map(|(_, map)| map.info().id.to_le_bytes()).collect();
    let fnv = |start: u64| {
        bytes
            .iter()
            .chain(&ids)
            .fold(start, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
    };
    format!("{:016x}{:016x}", fnv(0xcbf2_9ce4_8422_2325), fnv(0x9e37_79b9_7f4a_7c15))
}

/// The pinned programs, if the directory was completed.
fn adopt(dir: &Path) -> Option<BTreeMap<String, Program>> {
    let mut programs = BTreeMap::new();
    for entry in std::fs::read_dir(dir).ok()? {
        let entry = entry.ok()?;
        let name = entry.file_name().to_string_lossy().into_owned();
        programs.insert(name, bpf::get_program(&entry.path()).ok()?);
    }
    // The marker is pinned last.
    programs.remove(COMPLETE)?;
    Some(programs)
}

/// A second pin of some program, made when all others are there.
const COMPLETE: &str = "complete";

fn load(dir: &Path, maps: &Maps, log_dir: &Path) -> Result<BTreeMap<String, Program>, DatapathError> {
    let prepared = object::prepare(object::embedded(), maps)?;
    let programs = prepared.load_all().map_err(|error| ObjectError::from(error.keep_log(log_dir)))?;
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| DatapathError::Pin { path, source }
    };
    if dir.exists() {
        std::fs::remove_dir_all(dir).map_err(failed(dir))?;
    }
    std::fs::create_dir_all(dir).map_err(failed(dir))?;
    for (name, program) in &programs {
        let path = dir.join(name);
        bpf::pin(program, &path).map_err(failed(&path))?;
    }
    if let Some(program) = programs.values().next() {
        let path = dir.join(COMPLETE);
        bpf::pin(program, &path).map_err(failed(&path))?;
    }
    Ok(programs)
}

/// Programs of other versions: links and slots hold what is still in use.
fn remove_others(root: &Path, keep: &Path) {
    let Ok(entries) = std::fs::read_dir(root) else { return };
    for entry in entries.flatten().filter(|entry| entry.path() != keep) {
        if let Err(error) = std::fs::remove_dir_all(entry.path()) {
            tracing::warn!(path = %entry.path().display(), %error, "old programs could not be removed");
        }
    }
}
