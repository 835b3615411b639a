//! From a list and the classes to a program and its tables.
//!
//! Owns: the choice of form, bounds, and what a new class means for a compiled list. Does not: create
//! maps or load. Invariant: a class without a row, or beyond the table, is denied; what does not fit is
//! refused as a whole, so that the caller keeps the last good program in force.
//!
//! Two forms, from one intermediate form (`analysis.rs`): a table of rows × columns, and, where that would
//! be too large, bit vectors of rows and columns, ANDed word by word.

mod analysis;
mod artifact;
mod atoms;
mod bits;
mod columns;
mod error;
mod nodes;
mod rows;
mod spans;
mod table;
mod vectors;

pub use artifact::{Compiled, Form, TableSpec, TableWrite};
pub use error::{CompileError, Pressure};

pub(crate) use atoms::Residual;
pub(crate) use columns::{Columns, Kind};
pub(crate) use nodes::{NODE_BYTES, UNWRITTEN, offset as node_offset};
pub(crate) use vectors::ResidualAtom;

use crate::asm::MapRef;
use crate::classes::{ClassId, Classes};
use crate::emit;
use crate::form::{List, SetId};
use analysis::Analysis;
use bits::Bits;
use nodes::{NodeId, Nodes};
use rows::{NO_ROW, Row, Rows};
use table::Table;
use vectors::Vectors;

/// What one list may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Cells of a table; beyond it: bit vectors.
    pub cells: usize,
    /// Kernel memory of a list's tables, in bytes; beyond it: refused.
    pub table_bytes: usize,
    /// Alternatives of all rules together (a rule has one, and one more for each further range of source
    /// ports).
    pub atoms: usize,
    /// Memory for the columns while compiling, in bytes.
    pub working_bytes: usize,
    /// Rules with a condition on source port, ICMP code or family that one packet may have to try.
    pub chain: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { cells: 1 << 20, table_bytes: 64 << 20, atoms: 65_000, working_bytes: 256 << 20, chain: 1024 }
    }
}

/// Steps that filling all rows of a table may take.
const TABLE_WORK: usize = 1 << 28;
/// Rows in one element of the row table: array elements are multiples of 8 bytes.
pub(crate) const ROWS_PER_ELEMENT: u32 = 4;

/// What a new class means for a list in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Absorbed {
    /// Write these, in this order; nothing to do when there are none.
    Writes(Vec<TableWrite>),
    /// No room, now and later: compile the list again. Until then the class is denied.
    Recompile,
}

/// What is remembered of a compiled list, to take new classes in.
#[derive(Clone, Debug)]
pub struct CompiledList {
    analysis: Analysis,
    rows: Rows,
    filler: Filler,
    class_rows: Vec<Row>,
    max_rows: usize,
    max_nodes: usize,
    max_chain: u32,
    /// A class did not fit: what the tables hold is no longer what is remembered here.
    outgrown: bool,
}

#[derive(Clone, Debug)]
enum Filler {
    Table(Table),
    Vectors(Vectors),
}

impl Filler {
    fn row(&mut self, analysis: &Analysis, holding: &Bits) -> Option<Vec<u8>> {
        match self {
            Self::Table(table) => table.row(analysis, holding),
            Self::Vectors(vectors) => Some(vectors.row(analysis, holding)),
        }
    }

    fn nodes(&self) -> &Nodes {
        match self {
            Self::Table(table) => &table.nodes,
            Self::Vectors(vectors) => &vectors.nodes,
        }
    }

    const fn row_map(&self) -> MapRef {
        match self {
            Self::Table(_) => MapRef::Cells,
            Self::Vectors(_) => MapRef::RowBits,
        }
    }
}

/// Compiles a list. `rule_id` gives for each rule, by its index in the list, its index in `rule_counter`.
pub fn compile(
    list: &List,
    classes: &Classes,
    rule_id: &dyn Fn(usize) -> u32,
    limits: &Limits,
) -> Result<(CompiledList, Compiled), CompileError> {
    let analysis = Analysis::new(list, rule_id, limits)?;
    let (rows, class_rows) =
        class_rows(&analysis, classes).ok_or_else(|| CompileError::new(list, Pressure::Rows))?;
    let (filler, row_data) =
        fill(&analysis, &rows, limits).map_err(|pressure| CompileError::new(list, pressure))?;
    let compiled_list = CompiledList {
        max_rows: (rows.len() + rows.len() / 2 + 8).min(usize::from(NO_ROW)),
        max_nodes: (filler.nodes().len() * 3 / 2 + 16).min(usize::from(NodeId::MAX) + 1),
        max_chain: match filler.nodes().longest_chain() {
            1 => 1,
            longest => (longest * 2).min(limits.chain),
        },
        analysis,
        rows,
        filler,
        class_rows,
        outgrown: false,
    };
    let compiled = compiled_list.artifact(row_data).map_err(|pressure| CompileError::new(list, pressure))?;
    match compiled.table_bytes() {
        needed if needed > limits.table_bytes => {
            Err(CompileError::new(list, Pressure::Memory { needed, allowed: limits.table_bytes }))
        }
        _ => Ok((compiled_list, compiled)),
    }
}

/// The row of each class, in a table with room for as many classes again; `None`: too many rows.
fn class_rows(analysis: &Analysis, classes: &Classes) -> Option<(Rows, Vec<Row>)> {
    let mut rows = Rows::default();
    let mut table = Vec::new();
    for (class, sets) in classes.iter() {
        let holding = analysis.conditions.holding(sets);
        let row = match rows.get(&holding) {
            Some(row) => row,
            None => rows.add(holding)?,
        };
        table.resize((class as usize + 1).max(table.len()), NO_ROW);
        *table.get_mut(class as usize)? = row;
    }
    table.resize((table.len() * 2).next_power_of_two().max(64), NO_ROW);
    Some((rows, table))
}

/// Chooses the form and makes the rows.
fn fill(analysis: &Analysis, rows: &Rows, limits: &Limits) -> Result<(Filler, Vec<u8>), Pressure> {
    if rows.len() * analysis.columns.services.len() <= limits.cells
        && let Some((table, data)) = fill_table(analysis, rows, limits)
    {
        return Ok((Filler::Table(table), data));
    }
    let vectors = Vectors::new(analysis)?;
    let needed = (rows.len() + analysis.columns.services.len()) * vectors.row_bytes();
    if needed > limits.table_bytes {
        return Err(Pressure::Memory { needed, allowed: limits.table_bytes });
    }
    let data = rows.in_order().into_iter().flat_map(|holding| vectors.row(analysis, holding)).collect();
    Ok((Filler::Vectors(vectors), data))
}

fn fill_table(analysis: &Analysis, rows: &Rows, limits: &Limits) -> Option<(Table, Vec<u8>)> {
    let mut table = Table::new(analysis, TABLE_WORK / rows.len().max(64))?;
    let mut data = Vec::new();
    for holding in rows.in_order() {
        data.extend(table.row(analysis, holding)?);
    }
    (table.nodes.longest_chain() <= limits.chain).then_some((table, data))
}

impl CompiledList {
    fn artifact(&self, row_data: Vec<u8>) -> Result<Compiled, Pressure> {
        let columns = &self.analysis.columns;
        let width = columns.services.len();
        let row_bytes = row_data.len() / self.rows.len().max(1);
        let trees = emit::PortTables::choose(columns);
        let rows_data = self.class_rows.iter().flat_map(|row| row.to_ne_bytes()).collect();
        let nodes = self.filler.nodes();
        let mut tables = vec![
            TableSpec::new(MapRef::Rows, ROWS_PER_ELEMENT as usize * size_of::<Row>(), 0, rows_data),
            TableSpec::new(self.filler.row_map(), row_bytes, self.max_rows - self.rows.len(), row_data),
            TableSpec::new(
                MapRef::Nodes,
                NODE_BYTES as usize,
                self.max_nodes - nodes.len(),
                nodes.bytes_from(0),
            ),
        ];
        tables.extend(trees.table(columns));
        let (program, form) = match &self.filler {
            Filler::Table(_) => (emit::table(columns, &trees, self.max_chain), Form::Table),
            Filler::Vectors(vectors) => {
                let data = vectors.columns(&self.analysis);
                tables.push(TableSpec::new(MapRef::ColumnBits, row_bytes, 0, data));
                (emit::vectors(columns, &trees, vectors.words(), &vectors.residuals), Form::Vectors)
            }
        };
        let program = program.map_err(Pressure::Program)?;
        Ok(Compiled { program, tables, form, rows: self.rows.len(), columns: width })
    }

    /// A class with these sets (sorted) is born. Do this before any address gets the class. Once there was
    /// no room, or when writes could not be made, only a new compilation helps.
    pub fn absorb(&mut self, class: ClassId, sets: &[SetId]) -> Absorbed {
        match (!self.outgrown).then(|| self.try_absorb(class, sets)).flatten() {
            Some(writes) => Absorbed::Writes(writes),
            None => {
                self.outgrown = true;
                Absorbed::Recompile
            }
        }
    }

    fn try_absorb(&mut self, class: ClassId, sets: &[SetId]) -> Option<Vec<TableWrite>> {
        self.class_rows.get(class as usize)?;
        let holding = self.analysis.conditions.holding(sets);
        let mut writes = Vec::new();
        let row = match self.rows.get(&holding) {
            Some(row) => row,
            None => self.add_row(holding, &mut writes)?,
        };
        writes.extend(self.set_row(class, row));
        Some(writes)
    }

    fn add_row(&mut self, holding: Bits, writes: &mut Vec<TableWrite>) -> Option<Row> {
        if self.rows.len() >= self.max_rows {
            return None;
        }
        let known = self.filler.nodes().len();
        let value = self.filler.row(&self.analysis, &holding)?;
        let nodes = self.filler.nodes();
        if nodes.len() > self.max_nodes || nodes.longest_chain() > self.max_chain {
            return None;
        }
        let bytes = nodes.bytes_from(known);
        let new_nodes = bytes.chunks(NODE_BYTES as usize).zip(known as u32..);
        writes.extend(new_nodes.map(|(value, index)| TableWrite {
            map: MapRef::Nodes,
            index,
            value: value.to_vec(),
        }));
        let row = self.rows.add(holding)?;
        writes.push(TableWrite { map: self.filler.row_map(), index: u32::from(row), value });
        Some(row)
    }

    /// A class is retired: until it is born again, it is denied.
    pub fn forget(&mut self, class: ClassId) -> Option<TableWrite> {
        self.set_row(class, NO_ROW)
    }

    fn set_row(&mut self, class: ClassId, row: Row) -> Option<TableWrite> {
        let place = self.class_rows.get_mut(class as usize).filter(|place| **place != row)?;
        *place = row;
        let index = class / ROWS_PER_ELEMENT;
        let first = (index * ROWS_PER_ELEMENT) as usize;
        let element = self.class_rows.get(first..first + ROWS_PER_ELEMENT as usize)?;
        let value = element.iter().flat_map(|row| row.to_ne_bytes()).collect();
        Some(TableWrite { map: MapRef::Rows, index, value })
    }
}

#[cfg(test)]
mod tests;
