//! A small assembler for the BPF instructions that policy programs need.
//!
//! Owns: instructions, labels, and map references as relocations. Does not: know file descriptors or
//! policy. Invariant: a finished program has no open label and no jump out of the 16-bit range.
//!
//! Encoding: RFC 9669.

mod encode;
mod text;

pub use encode::{Condition, Instruction, Op, Reg, Size};

use encode::{CALL, EXIT, PSEUDO_MAP_FD};
use std::collections::BTreeMap;

/// `bpf_map_lookup_elem`
const MAP_LOOKUP: i32 = 1;

/// A map that generated instructions use; the loader puts the file descriptor in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MapRef {
    /// The shared map `policy_io`.
    PolicyIo,
    /// The shared program array `stage`.
    Stage,
    /// This list's table: class → row.
    Rows,
    /// This list's table: port → column, for protocols with too many ports for a tree.
    Ports,
    /// This list's table: row → the cell of each column.
    Cells,
    /// This list's table: row → bit for each atom.
    RowBits,
    /// This list's table: column → bit for each atom.
    ColumnBits,
    /// This list's table: what a cell or an atom decides, and under which remaining condition.
    Nodes,
}

impl MapRef {
    /// Short name, for map names and listings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PolicyIo => "policy_io",
            Self::Stage => "stage",
            Self::Rows => "rows",
            Self::Ports => "ports",
            Self::Cells => "cells",
            Self::RowBits => "row_bits",
            Self::ColumnBits => "column_bits",
            Self::Nodes => "nodes",
        }
    }
}

/// Second operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// A register.
    Reg(Reg),
    /// A constant, sign-extended to 64 bits.
    Imm(i32),
}

impl From<Reg> for Operand {
    fn from(reg: Reg) -> Self {
        Self::Reg(reg)
    }
}

impl From<i32> for Operand {
    fn from(value: i32) -> Self {
        Self::Imm(value)
    }
}

/// A place in the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Label(usize);

/// Why a program could not be finished. Both are defects of the generator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AsmError {
    /// A jump to a label that was never placed.
    #[error("instruction {at} jumps to a label that was never placed")]
    OpenLabel {
        /// Instruction index.
        at: usize,
    },
    /// A jump of more than 32,767 instructions.
    #[error("instruction {at} jumps {distance} instructions, beyond the 16-bit range")]
    TooFar {
        /// Instruction index.
        at: usize,
        /// How far.
        distance: i64,
    },
}

/// A map that the loader did not provide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no file descriptor for the map {} of a policy program", .0.name())]
pub struct MissingMap(pub MapRef);

/// A finished program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// Instructions; a 64-bit load takes two.
    pub instructions: Vec<Instruction>,
    /// Which instructions load a map.
    pub relocations: BTreeMap<usize, MapRef>,
}

impl Program {
    /// The bytes to hand to the kernel; `fd` gives the descriptor of each map.
    pub fn link(&self, fd: impl Fn(MapRef) -> Option<i32>) -> Result<Vec<u8>, MissingMap> {
        let mut bytes = Vec::with_capacity(self.instructions.len() * 8);
        for (index, instruction) in self.instructions.iter().enumerate() {
            let mut instruction = *instruction;
            if let Some(&map) = self.relocations.get(&index) {
                instruction.immediate = fd(map).ok_or(MissingMap(map))?;
            }
            bytes.extend(instruction.bytes());
        }
        Ok(bytes)
    }
}

/// Collects instructions.
#[derive(Debug, Default)]
pub struct Assembler {
    code: Vec<Instruction>,
    labels: Vec<Option<usize>>,
    jumps: Vec<(usize, Label)>,
    maps: BTreeMap<usize, MapRef>,
}

impl Assembler {
    /// An empty program.
    pub fn new() -> Self {
        Self::default()
    }

    /// A label to be placed later.
    pub fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// Places a label before the next instruction.
    pub fn place(&mut self, label: Label) {
        let here = self.code.len();
        if let Some(slot) = self.labels.get_mut(label.0) {
            *slot = Some(here);
        }
    }

    /// `dst = value`
    pub fn mov(&mut self, dst: Reg, value: impl Into<Operand>) {
        self.alu(Op::Mov, dst, value);
    }

    /// `dst = dst op value`, 64 bits.
    pub fn alu(&mut self, op: Op, dst: Reg, value: impl Into<Operand>) {
        self.code.push(Instruction::alu(op, dst, value.into()));
    }

    /// `dst = *(base + offset)`, zero-extended.
    pub fn load(&mut self, size: Size, dst: Reg, base: Reg, offset: i16) {
        self.code.push(Instruction::load(size, dst, base, offset));
    }

    /// `*(base + offset) = value`
    pub fn store(&mut self, size: Size, base: Reg, offset: i16, value: impl Into<Operand>) {
        self.code.push(Instruction::store(size, base, offset, value.into()));
    }

    /// Jumps.
    pub fn jump(&mut self, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.code.push(Instruction::jump());
    }

    /// Jumps when `left condition right` holds, 64 bits.
    pub fn jump_if(&mut self, condition: Condition, left: Reg, right: impl Into<Operand>, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.code.push(Instruction::jump_if(condition, left, right.into()));
    }

    /// Calls a kernel helper by its number.
    pub fn call(&mut self, helper: i32) {
        self.code.push(Instruction { opcode: CALL, immediate: helper, ..Instruction::default() });
    }

    /// Returns R0.
    pub fn exit(&mut self) {
        self.code.push(Instruction { opcode: EXIT, ..Instruction::default() });
    }

    /// `dst = value`, any 64-bit value.
    pub fn load_u64(&mut self, dst: Reg, value: u64) {
        self.code.extend(Instruction::load_u64(dst, value));
    }

    /// `dst = the map`
    pub fn load_map(&mut self, dst: Reg, map: MapRef) {
        self.maps.insert(self.code.len(), map);
        let [mut low, high] = Instruction::load_u64(dst, 0);
        low.src = PSEUDO_MAP_FD;
        self.code.extend([low, high]);
    }

    /// R0 = the element of the map whose key is on the stack at this offset, or 0. R1 to R5 are lost.
    pub fn look_up(&mut self, map: MapRef, key: i16) {
        self.mov(Reg::R2, Reg::R10);
        self.alu(Op::Add, Reg::R2, i32::from(key));
        self.load_map(Reg::R1, map);
        self.call(MAP_LOOKUP);
    }

    /// Resolves the jumps.
    pub fn finish(mut self) -> Result<Program, AsmError> {
        for (at, label) in &self.jumps {
            let target =
                self.labels.get(label.0).copied().flatten().ok_or(AsmError::OpenLabel { at: *at })?;
            let distance = target as i64 - *at as i64 - 1;
            let offset = i16::try_from(distance).map_err(|_| AsmError::TooFar { at: *at, distance })?;
            if let Some(instruction) = self.code.get_mut(*at) {
                instruction.offset = offset;
            }
        }
        Ok(Program { instructions: self.code, relocations: self.maps })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forward_and_backward_jumps_are_counted_from_the_next_instruction() {
        let mut asm = Assembler::new();
        let (start, end) = (asm.label(), asm.label());
        asm.place(start);
        asm.jump_if(Condition::Equal, Reg::R1, 0, end);
        asm.jump(start);
        asm.place(end);
        asm.exit();
        let program = asm.finish().unwrap();
        let offsets: Vec<i16> = program.instructions.iter().map(|i| i.offset).collect();
        assert_eq!(offsets, [1, -2, 0]);
    }

    #[test]
    fn an_open_label_and_a_far_jump_are_refused() {
        let mut asm = Assembler::new();
        let label = asm.label();
        asm.jump(label);
        assert_eq!(asm.finish(), Err(AsmError::OpenLabel { at: 0 }));
        let mut asm = Assembler::new();
        let label = asm.label();
        asm.jump(label);
        (0..40_000).for_each(|_| asm.exit());
        asm.place(label);
        assert_eq!(asm.finish(), Err(AsmError::TooFar { at: 0, distance: 40_000 }));
    }

    #[test]
    fn linking_puts_descriptors_in_and_names_a_missing_map() {
        let mut asm = Assembler::new();
        asm.load_map(Reg::R1, MapRef::Rows);
        asm.exit();
        let program = asm.finish().unwrap();
        let bytes = program.link(|_| Some(7)).unwrap();
        assert_eq!(bytes[..8], [0x18, 0x11, 0, 0, 7, 0, 0, 0]);
        assert_eq!(program.link(|_| None), Err(MissingMap(MapRef::Rows)));
    }
}
