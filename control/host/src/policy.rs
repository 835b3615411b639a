//! Generated programs in the kernel: tables made and filled, programs linked and loaded.
//!
//! Owns: maps and program of one compiled list. Does not: decide which list, or which slot of `policy`.
//! Invariant: a program exists only with its tables filled.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use tortie_abi::maps::MapKind;
use tortie_policy::asm::{self, MapRef, MissingMap};
use tortie_policy::compile::{Compiled, TableSpec, TableWrite};

use crate::bpf::{LoadError, Map, MapDef, Program, ProgramDef, ProgramKind, Update};

/// Why a compiled list is not in the kernel.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// A table could not be created or filled.
    #[error("policy {name}, table {}: {source}", .table.name())]
    Table {
        /// Which program.
        name: String,
        /// Which table.
        table: MapRef,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The verifier refused the program.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The program names a table that the compiler did not give: a defect, please report it.
    #[error("policy {name}: {source}; please report this")]
    Link {
        /// Which program.
        name: String,
        /// What is missing.
        source: MissingMap,
    },
}

/// The two shared maps that every policy program uses.
#[derive(Clone, Copy, Debug)]
pub struct Shared<'a> {
    /// `policy_io`
    pub policy_io: BorrowedFd<'a>,
    /// `stage`
    pub stage: BorrowedFd<'a>,
}

/// A compiled list in the kernel. It lives as long as this or a slot of `policy` holds it.
#[derive(Debug)]
pub struct LoadedPolicy {
    name: String,
    tables: Vec<(MapRef, Map)>,
    program: Program,
}

impl LoadedPolicy {
    /// Makes and fills the tables, then loads the program. `name` is what kernel tools show (15 bytes).
    pub fn load(name: &str, compiled: &Compiled, shared: Shared<'_>) -> Result<Self, PolicyError> {
        let table = |spec: &TableSpec| match make_table(spec) {
            Ok(map) => Ok((spec.map, map)),
            Err(source) => Err(PolicyError::Table { name: name.to_owned(), table: spec.map, source }),
        };
        let tables = compiled.tables.iter().map(table).collect::<Result<Vec<_>, _>>()?;
        let program = load_program(name, &compiled.program, |map| match map {
            MapRef::PolicyIo => Some(shared.policy_io.as_raw_fd()),
            MapRef::Stage => Some(shared.stage.as_raw_fd()),
            own => find(&tables, own).map(|map| map.as_fd().as_raw_fd()),
        })?;
        Ok(Self { name: name.to_owned(), tables, program })
    }

    /// A program from before a restart, with its tables found by the names they were given.
    pub fn open(program: Program) -> io::Result<Self> {
        let name = program.info()?.name;
        let mut tables = Vec::new();
        for id in program.map_ids()? {
            let map = Map::by_id(id)?;
            if let Some(table) = OWN_TABLES.into_iter().find(|table| table.name() == map.info().name) {
                tables.push((table, map));
            }
        }
        Ok(Self { name, tables, program })
    }

    /// The program, for a slot of `policy`.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Writes one element of a table of a program in force.
    pub fn write(&self, write: &TableWrite) -> Result<(), PolicyError> {
        let result = match find(&self.tables, write.map) {
            Some(map) => map.update(&write.index.to_ne_bytes(), &write.value, Update::Any),
            None => Err(io::Error::from_raw_os_error(libc::ENOENT)),
        };
        result.map_err(|source| PolicyError::Table { name: self.name.clone(), table: write.map, source })
    }
}

/// Loads a preamble ([`tortie_policy::preamble`]).
pub fn load_preamble(
    name: &str,
    program: &asm::Program,
    stage: BorrowedFd<'_>,
) -> Result<Program, PolicyError> {
    load_program(name, program, |map| (map == MapRef::Stage).then(|| stage.as_raw_fd()))
}

fn load_program(
    name: &str,
    program: &asm::Program,
    fd: impl Fn(MapRef) -> Option<i32>,
) -> Result<Program, PolicyError> {
    let insns = program.link(fd).map_err(|source| PolicyError::Link { name: name.to_owned(), source })?;
    Ok(Program::load(&ProgramDef::new(name, ProgramKind::SchedCls, &insns))?)
}

fn find(tables: &[(MapRef, Map)], wanted: MapRef) -> Option<&Map> {
    tables.iter().find(|(map, _)| *map == wanted).map(|(_, map)| map)
}

/// The tables that belong to one program. Kernel tools show them under these names.
const OWN_TABLES: [MapRef; 6] =
    [MapRef::Rows, MapRef::Ports, MapRef::Cells, MapRef::RowBits, MapRef::ColumnBits, MapRef::Nodes];

fn make_table(spec: &TableSpec) -> io::Result<Map> {
    let map = Map::create(&MapDef {
        name: spec.map.name(),
        kind: MapKind::Array as u32,
        key_bytes: size_of::<u32>() as u32,
        value_bytes: spec.value_bytes,
        max_entries: spec.max_entries,
        flags: 0,
    })?;
    let filled = spec.data.len().checked_div(spec.value_bytes as usize).unwrap_or(0) as u32;
    if filled > 0 {
        let keys: Vec<u8> = (0..filled).flat_map(u32::to_ne_bytes).collect();
        map.update_batch(&keys, &spec.data).map_err(|(_, error)| error)?;
    }
    Ok(map)
}
