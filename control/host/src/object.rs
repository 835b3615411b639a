//! The BPF object that this binary carries: parsed, bound to maps, loaded.
//!
//! Owns: the way from bytes to loaded programs, and errors a person can read.
//! Does not: attach anything or decide which programs are needed.
//! Invariant: tc programs are loaded without an expected attach type, so that programs of both
//! directions may share a program array.

use crate::bpf::{self, LoadError, Map, MapDef, Program, ProgramDef, ProgramKind, Update};
use crate::maps::{Maps, MapsError};
use crate::sockets::{self, Support};
use crate::verifier::VerifierError;
use aya_obj::btf::BtfFeatures;
use aya_obj::generated::{bpf_attach_type, bpf_insn};
use aya_obj::{EbpfSectionKind, Function, ProgramSection};
use std::collections::{BTreeMap, HashSet};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::sync::{Mutex, PoisonError};

#[repr(C, align(16))]
struct Aligned<T: ?Sized>(T);

static EMBEDDED: &Aligned<[u8]> = &Aligned(*include_bytes!(env!("TORTIE_BPF_OBJECT")));

/// The object file inside this binary.
pub fn embedded() -> &'static [u8] {
    &EMBEDDED.0
}

/// The object could not be made ready.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// Not an object file as expected.
    #[error("the BPF object is damaged: {0}; build it again")]
    Parse(String),
    /// A map in it differs from the list in `tortie-abi`.
    #[error(
        "map {name} of the BPF object is {found}, but the list of maps says {expected}; build both together"
    )]
    MapMismatch {
        /// Map.
        name: String,
        /// In the object.
        found: String,
        /// In the list.
        expected: String,
    },
    /// A program of a kind that is not loaded here.
    #[error("program {0}: its section names no program type that is known here")]
    ProgramKind(String),
    /// A map.
    #[error(transparent)]
    Maps(#[from] MapsError),
    /// The kernel refused the object's type information.
    #[error("type information of the BPF object: {source}: {}", source.log)]
    Btf {
        /// Its answer.
        source: LoadError,
    },
    /// The kernel refused a map of the object itself.
    #[error("map {name} of the BPF object: {source}")]
    PrivateMap {
        /// Map.
        name: String,
        /// Its answer.
        source: io::Error,
    },
    /// The kernel refused a program.
    #[error(transparent)]
    Verifier(#[from] VerifierError),
}

fn damaged(error: impl std::fmt::Display) -> ObjectError {
    ObjectError::Parse(error.to_string())
}

/// A program that can be loaded.
#[derive(Debug)]
pub struct Loadable {
    name: String,
    kind: ProgramKind,
    expected_attach_type: u32,
    license: String,
    insns: Vec<u8>,
    func_info: (Vec<u8>, u32),
    line_info: (Vec<u8>, u32),
}

/// All programs of an object, bound to maps.
#[derive(Debug)]
pub struct Prepared {
    programs: BTreeMap<String, Loadable>,
    btf: Option<OwnedFd>,
    // The programs' instructions name these by descriptor.
    private_maps: Vec<Map>,
}

/// Parses an object and binds it to `maps`.
pub fn prepare(bytes: &[u8], maps: &Maps) -> Result<Prepared, ObjectError> {
    let mut object = aya_obj::Object::parse(bytes).map_err(damaged)?;
    let features = BtfFeatures::new(true, true, true, true, true, true, true, true);
    let btf = object.fixup_and_sanitize_btf(&features).map_err(damaged)?.map(aya_obj::btf::Btf::to_bytes);
    // By it the verifier knows which functions may be called for each element of a map.
    let load = |bytes: Vec<u8>| bpf::load_btf(&bytes).map_err(|source| ObjectError::Btf { source });
    let btf = btf.map(load).transpose()?;
    let private = bind_maps(&mut object, maps)?;
    let text: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
    object.relocate_calls(&text).map_err(damaged)?;
    let mut programs = BTreeMap::new();
    for (name, program) in &object.programs {
        if is_cgroup(&program.section) && sockets::support() == Support::None {
            tracing::warn!(name, "left out: this kernel takes no programs at cgroups (CONFIG_CGROUP_BPF)");
            continue;
        }
        let function = object
            .functions
            .get(&program.function_key())
            .ok_or_else(|| damaged(format!("no code for program {name}")))?;
        programs.insert(name.clone(), loadable(name, program, function, btf.is_some())?);
    }
    Ok(Prepared { programs, btf, private_maps: private })
}

/// Creates the object's own maps and puts every map's descriptor into the instructions.
fn bind_maps(object: &mut aya_obj::Object, maps: &Maps) -> Result<Vec<Map>, ObjectError> {
    let definitions = std::mem::take(&mut object.maps);
    let mut private = Vec::new();
    let mut bound = Vec::new();
    for (name, definition) in &definitions {
        if let Ok(map) = maps.get(name) {
            check(name, definition, map)?;
            bound.push((name.as_str(), map.as_fd().as_raw_fd(), definition));
        } else {
            private.push(create_private(name, definition)?);
            let fd = private.last().map_or(-1, |map| map.as_fd().as_raw_fd());
            bound.push((name.as_str(), fd, definition));
        }
    }
    let text: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
    object.relocate_maps(bound.into_iter(), &text).map_err(damaged)?;
    Ok(private)
}

fn check(name: &str, definition: &aya_obj::Map, map: &Map) -> Result<(), ObjectError> {
    let info = map.info();
    let found =
        (definition.map_type(), definition.key_size(), definition.value_size(), definition.map_flags());
    let expected = (info.kind, info.key_bytes, info.value_bytes, info.flags);
    if found == expected {
        return Ok(());
    }
    let text = |(kind, key, value, flags): (u32, u32, u32, u32)| {
        format!("of type {kind}, key {key} B, value {value} B, flags {flags:#x}")
    };
    Err(ObjectError::MapMismatch { name: name.to_owned(), found: text(found), expected: text(expected) })
}

fn create_private(name: &str, definition: &aya_obj::Map) -> Result<Map, ObjectError> {
    let failed = |source| ObjectError::PrivateMap { name: name.to_owned(), source };
    let map = Map::create(&MapDef {
        name,
        kind: definition.map_type(),
        key_bytes: definition.key_size(),
        value_bytes: definition.value_size(),
        max_entries: definition.max_entries(),
        flags: definition.map_flags(),
    })
    .map_err(failed)?;
    if matches!(definition.section_kind(), EbpfSectionKind::Data | EbpfSectionKind::Rodata) {
        map.update(&0u32.to_ne_bytes(), definition.data(), Update::Any).map_err(failed)?;
    }
    Ok(map)
}

fn loadable(
    name: &str,
    program: &aya_obj::Program,
    function: &Function,
    with_btf: bool,
) -> Result<Loadable, ObjectError> {
    let (kind, expected_attach_type) = match program.section {
        ProgramSection::SchedClassifier => (ProgramKind::SchedCls, 0),
        ProgramSection::Xdp { .. } => (ProgramKind::Xdp, 37),
        ProgramSection::RawTracePoint => (ProgramKind::RawTracepoint, 0),
        ProgramSection::CgroupSockAddr { attach_type } => {
            (ProgramKind::CgroupSockAddr, bpf_attach_type::from(attach_type) as u32)
        }
        ProgramSection::CgroupSock { attach_type } => {
            (ProgramKind::CgroupSock, bpf_attach_type::from(attach_type) as u32)
        }
        _ => return Err(ObjectError::ProgramKind(name.to_owned())),
    };
    let info = |bytes: Vec<u8>, size: usize| if with_btf { (bytes, size as u32) } else { (Vec::new(), 0) };
    Ok(Loadable {
        name: name.to_owned(),
        kind,
        expected_attach_type,
        license: program.license.to_string_lossy().into_owned(),
        insns: match kind {
            ProgramKind::CgroupSockAddr if sockets::support() != Support::Full => {
                function.instructions.iter().flat_map(without_set_retval).collect()
            }
            _ => function.instructions.iter().flat_map(encode).collect(),
        },
        func_info: info(function.func_info.func_info_bytes(), function.func_info_rec_size),
        line_info: info(function.line_info.line_info_bytes(), function.line_info_rec_size),
    })
}

fn is_cgroup(section: &ProgramSection) -> bool {
    matches!(section, ProgramSection::CgroupSockAddr { .. } | ProgramSection::CgroupSock { .. })
}

/// `call`
const CALL: u8 = 0x85;
/// `r0 = constant`
const SET_R0: u8 = 0xb7;

/// A kernel without `bpf_set_retval` gets programs that do without: what is refused is "not permitted".
fn without_set_retval(insn: &bpf_insn) -> [u8; 8] {
    if insn.code == CALL && insn.src_reg() == 0 && insn.imm == sockets::SET_RETVAL {
        return [SET_R0, 0, 0, 0, 0, 0, 0, 0];
    }
    encode(insn)
}

fn encode(insn: &bpf_insn) -> [u8; 8] {
    let [off0, off1] = insn.off.to_ne_bytes();
    let [imm0, imm1, imm2, imm3] = insn.imm.to_ne_bytes();
    let registers = if cfg!(target_endian = "big") {
        (insn.dst_reg() << 4) | insn.src_reg()
    } else {
        (insn.src_reg() << 4) | insn.dst_reg()
    };
    [insn.code, registers, off0, off1, imm0, imm1, imm2, imm3]
}

impl Prepared {
    /// Names of all programs, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.programs.keys().map(String::as_str)
    }

    fn definition<'a>(&'a self, program: &'a Loadable) -> ProgramDef<'a> {
        ProgramDef {
            expected_attach_type: program.expected_attach_type,
            license: &program.license,
            btf: self.btf.as_ref().map(OwnedFd::as_fd),
            func_info: (&program.func_info.0, program.func_info.1),
            line_info: (&program.line_info.0, program.line_info.1),
            ..ProgramDef::new(&program.name, program.kind, &program.insns)
        }
    }

    /// A map of the object that is not in the list (15 bytes of its name count).
    pub fn private_map(&self, name: &str) -> Option<&Map> {
        self.private_maps.iter().find(|map| map.info().name == name)
    }

    /// Loads one program; `None`: there is no such program.
    pub fn load(&self, name: &str) -> Option<Result<Program, VerifierError>> {
        let program = self.programs.get(name)?;
        Some(Program::load(&self.definition(program)).map_err(VerifierError::from))
    }

    /// Loads one program and gives the verifier's statistics; `None`: there is no such program.
    pub fn load_with_statistics(&self, name: &str) -> Option<(Result<Program, LoadError>, String)> {
        let program = self.programs.get(name)?;
        Some(Program::load_with_statistics(&self.definition(program)))
    }

    /// Number of static instructions; `None`: there is no such program.
    pub fn static_insns(&self, name: &str) -> Option<usize> {
        Some(self.programs.get(name)?.insns.len() / 8)
    }

    /// Loads every program, on every CPU: the verifier takes most of a start's time.
    pub fn load_all(&self) -> Result<BTreeMap<String, Program>, VerifierError> {
        let queue: Mutex<Vec<&Loadable>> = Mutex::new(self.programs.values().collect());
        let work = || {
            let mut loaded = Vec::new();
            loop {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop();
                let Some(program) = next else { return loaded };
                loaded.push((program.name.clone(), Program::load(&self.definition(program))));
            }
        };
        let workers = std::thread::available_parallelism().map_or(1, usize::from).min(4);
        let loaded = std::thread::scope(|scope| {
            let others: Vec<_> = (1..workers).map(|_| scope.spawn(work)).collect();
            let mut loaded = work();
            for other in others {
                loaded.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            }
            loaded
        });
        loaded.into_iter().map(|(name, program)| Ok((name, program?))).collect()
    }
}
