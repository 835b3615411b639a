//! Protocol, port and ICMP type → column: decision trees in instructions.
//!
//! A protocol with more steps than a tree should have gets a table of all its ports instead: one load in
//! place of ten badly predicted branches, and a short program.

use super::{COLUMN, DESTINATION_PORT, ICMP_TYPE, IO, PROTOCOL, Writer};
use crate::asm::{Condition, Label, MapRef, Op, Reg, Size};
use crate::compile::{Columns, Kind, TableSpec};

/// Leaves of all port trees of a program together. Random ports cost 26 ns with a tree of 100 leaves and
/// 11 ns with a table, which takes 128 KB: trees are for lists with few ports, as most are.
const TREE_LEAVES: usize = 64;
/// A column number for each port.
const PORT_TABLE_BYTES: usize = 2 << 16;

/// Which groups of protocols have a table in place of a tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortTables {
    /// Indices of groups; the position is the element of [`MapRef::Ports`].
    groups: Vec<usize>,
}

impl PortTables {
    /// The largest groups get tables, until the trees of the others are small enough.
    pub fn choose(columns: &Columns) -> Self {
        let sizes = columns.groups.iter().enumerate().filter(|(_, group)| group.kind == Kind::Ports);
        let mut by_size: Vec<(usize, usize)> =
            sizes.map(|(index, group)| (group.steps.len(), index)).collect();
        by_size.sort_unstable();
        let mut left: usize = by_size.iter().map(|(size, _)| size).sum();
        let mut groups = Vec::new();
        while left > TREE_LEAVES {
            let Some((size, index)) = by_size.pop() else { break };
            left -= size;
            groups.push(index);
        }
        Self { groups }
    }

    /// The table, if any group has one.
    pub fn table(&self, columns: &Columns) -> Option<TableSpec> {
        let steps =
            self.groups.iter().filter_map(|index| columns.groups.get(*index)).map(|group| &*group.steps);
        let data: Vec<u8> = steps.flat_map(every_port).collect();
        let max_entries = self.groups.len() as u32;
        let value_bytes = PORT_TABLE_BYTES as u32;
        (max_entries > 0).then_some(TableSpec { map: MapRef::Ports, value_bytes, max_entries, data })
    }

    fn element(&self, group: usize) -> Option<i32> {
        self.groups.iter().position(|index| *index == group).map(|element| element as i32)
    }
}

fn every_port(steps: &[(u16, u32)]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(PORT_TABLE_BYTES);
    let ends = steps.iter().skip(1).map(|(start, _)| usize::from(*start)).chain([1 << 16]);
    for ((_, column), end) in steps.iter().zip(ends) {
        while bytes.len() < end * 2 {
            bytes.extend((*column as u16).to_ne_bytes());
        }
    }
    bytes
}

impl Writer {
    /// The packet's column goes to its place in the `PolicyIo`.
    pub(super) fn column(&mut self, columns: &Columns, tables: &PortTables) {
        let done = self.asm.label();
        let groups: Vec<Label> = columns.groups.iter().map(|_| self.asm.label()).collect();
        self.asm.load(Size::U8, Reg::R1, IO, PROTOCOL);
        self.tree(&columns.protocols, &mut |writer, group| {
            let group = group as usize;
            match (columns.groups.get(group).map(|group| &*group.steps), groups.get(group)) {
                (Some([(_, column)]), _) => writer.leaf(*column, done),
                (_, Some(label)) => writer.asm.jump(*label),
                _ => writer.asm.jump(writer.ends.deny),
            }
        });
        for (index, (group, label)) in columns.groups.iter().zip(&groups).enumerate() {
            self.asm.place(*label);
            match (tables.element(index), group.kind) {
                _ if group.steps.len() < 2 => continue,
                (Some(element), _) => self.port_table(element, done),
                (None, Kind::Icmp) => {
                    self.asm.load(Size::U8, Reg::R1, IO, ICMP_TYPE);
                    self.tree(&group.steps, &mut |writer, column| writer.leaf(column, done));
                }
                (None, Kind::Ports | Kind::Plain) => {
                    self.asm.load(Size::U16, Reg::R1, IO, DESTINATION_PORT);
                    self.tree(&group.steps, &mut |writer, column| writer.leaf(column, done));
                }
            }
        }
        self.asm.place(done);
    }

    fn leaf(&mut self, column: u32, done: Label) {
        self.asm.store(Size::U32, IO, COLUMN, column as i32);
        self.asm.jump(done);
    }

    /// A balanced tree over R1.
    fn tree(&mut self, steps: &[(u16, u32)], leaf: &mut dyn FnMut(&mut Self, u32)) {
        let (low, high) = steps.split_at(steps.len() / 2);
        match (low, high) {
            ([], [(_, value), ..]) => leaf(self, *value),
            (_, [(start, _), ..]) => {
                let above = self.asm.label();
                self.asm.jump_if(Condition::AtLeast, Reg::R1, i32::from(*start), above);
                self.tree(low, leaf);
                self.asm.place(above);
                self.tree(high, leaf);
            }
            (_, []) => self.asm.jump(self.ends.deny),
        }
    }

    fn port_table(&mut self, element: i32, done: Label) {
        self.asm.mov(Reg::R1, element);
        self.element(MapRef::Ports, Reg::R1);
        self.asm.load(Size::U16, Reg::R1, IO, DESTINATION_PORT);
        self.asm.alu(Op::ShiftLeft, Reg::R1, 1);
        self.asm.alu(Op::Add, Reg::R0, Reg::R1);
        self.asm.load(Size::U16, Reg::R1, Reg::R0, 0);
        self.asm.store(Size::U32, IO, COLUMN, Reg::R1);
        self.asm.jump(done);
    }
}
