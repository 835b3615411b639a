//! What compiling a list gives: a program, its tables as data, and single writes to them later.

use crate::asm::{MapRef, Program};

/// One of a list's own maps: an array. Elements beyond `data` start as zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSpec {
    /// Which one.
    pub map: MapRef,
    /// Value size.
    pub value_bytes: u32,
    /// Number of elements.
    pub max_entries: u32,
    /// The first elements, one after the other.
    pub data: Vec<u8>,
}

impl TableSpec {
    /// `data`, and room for `spare` elements.
    pub(super) fn new(map: MapRef, value_bytes: usize, spare: usize, data: Vec<u8>) -> Self {
        let entries = data.len() / value_bytes.max(1) + spare;
        Self { map, value_bytes: value_bytes as u32, max_entries: entries.max(1) as u32, data }
    }

    /// Kernel memory: elements are rounded up to 8 bytes.
    pub fn kernel_bytes(&self) -> usize {
        (self.value_bytes as usize).next_multiple_of(8) * self.max_entries as usize
    }
}

/// One element to write into a table of a list in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableWrite {
    /// Which table.
    pub map: MapRef,
    /// Which element.
    pub index: u32,
    /// Its value.
    pub value: Vec<u8>,
}

/// Which form a list took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Rows × columns.
    Table,
    /// Bits of rows and columns.
    Vectors,
}

/// What must be made in the kernel for a list: first the tables, filled, then the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiled {
    /// The program.
    pub program: Program,
    /// The maps that it names besides `policy_io` and `stage`.
    pub tables: Vec<TableSpec>,
    /// Which form was chosen.
    pub form: Form,
    /// Rows in use.
    pub rows: usize,
    /// Columns.
    pub columns: usize,
}

impl Compiled {
    /// Kernel memory of the tables, in bytes.
    pub fn table_bytes(&self) -> usize {
        self.tables.iter().map(TableSpec::kernel_bytes).sum()
    }
}
