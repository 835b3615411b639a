//! The first form: one load of a cell, then its node, or a chain of nodes.

use super::{COLUMN, FAMILY, ICMP_CODE, IO, KEY, PortTables, SOURCE_PORT, Writer};
use crate::asm::{AsmError, Condition, MapRef, Op, Program, Reg, Size};
use crate::compile::{Columns, node_offset};

/// The program of a table; `chain` is the longest chain of nodes it follows.
pub fn table(columns: &Columns, ports: &PortTables, chain: u32) -> Result<Program, AsmError> {
    let mut writer = Writer::new();
    writer.column(columns, ports);
    writer.row();
    writer.cell(columns.services.len());
    if chain > 1 {
        writer.chain(chain);
    } else {
        writer.element(MapRef::Nodes, Reg::R8);
    }
    writer.ends();
    writer.asm.finish()
}

impl Writer {
    /// R8 = node of the cell in row R8.
    fn cell(&mut self, columns: usize) {
        self.element(MapRef::Cells, Reg::R8);
        self.asm.load(Size::U32, Reg::R1, IO, COLUMN);
        self.asm.jump_if(Condition::AtLeast, Reg::R1, columns as i32, self.ends.deny);
        self.asm.alu(Op::ShiftLeft, Reg::R1, 1);
        self.asm.alu(Op::Add, Reg::R0, Reg::R1);
        self.asm.load(Size::U16, Reg::R8, Reg::R0, 0);
    }

    /// R0 = the first node from R8 on that holds. The way on is always the jump and the way out always
    /// the fall-through: the verifier finishes a way out before it goes on, and remembers little.
    fn chain(&mut self, longest: u32) {
        let (again, found, next) = (self.asm.label(), self.asm.label(), self.asm.label());
        self.asm.mov(Reg::R9, longest as i32);
        self.asm.place(again);
        self.asm.store(Size::U32, Reg::R10, KEY, Reg::R8);
        self.asm.look_up(MapRef::Nodes, KEY);
        self.asm.jump_if(Condition::NotEqual, Reg::R0, 0, found);
        self.asm.jump(self.ends.deny);
        self.asm.place(found);
        self.asm.mov(Reg::R5, 0);
        self.outside(Size::U16, SOURCE_PORT, node_offset::SOURCE_PORT);
        self.outside(Size::U8, ICMP_CODE, node_offset::CODE);
        self.outside(Size::U8, FAMILY, node_offset::FAMILY);
        self.asm.jump_if(Condition::LessSigned, Reg::R5, 0, next);
        self.asm.jump(self.ends.decide);
        self.asm.place(next);
        self.asm.load(Size::U16, Reg::R8, Reg::R0, node_offset::NEXT);
        self.asm.alu(Op::Add, Reg::R9, -1);
        self.asm.jump_if(Condition::NotEqual, Reg::R9, 0, again);
        self.asm.jump(self.ends.deny);
    }

    /// R5 becomes negative when the packet's `field` is outside the node's span.
    fn outside(&mut self, size: Size, field: i16, (first, last): (i16, i16)) {
        self.asm.load(size, Reg::R1, IO, field);
        self.asm.load(size, Reg::R2, Reg::R0, first);
        self.asm.mov(Reg::R3, Reg::R1);
        self.asm.alu(Op::Sub, Reg::R3, Reg::R2);
        self.asm.alu(Op::Or, Reg::R5, Reg::R3);
        self.asm.load(size, Reg::R2, Reg::R0, last);
        self.asm.alu(Op::Sub, Reg::R2, Reg::R1);
        self.asm.alu(Op::Or, Reg::R5, Reg::R2);
    }
}
