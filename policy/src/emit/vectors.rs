//! The second form: row AND column, word by word, the lowest bit left is the first atom that matches.

use super::{COLUMN, FAMILY, ICMP_CODE, IO, PortTables, SOURCE_PORT, Writer};
use crate::asm::{AsmError, Condition, Label, MapRef, Op, Program, Reg, Size};
use crate::compile::{Columns, Residual, ResidualAtom, UNWRITTEN};

/// The program of vectors of `words` 64-bit words.
pub fn vectors(
    columns: &Columns,
    ports: &PortTables,
    words: usize,
    residuals: &[ResidualAtom],
) -> Result<Program, AsmError> {
    let mut writer = Writer::new();
    let (node, found) = (writer.asm.label(), writer.asm.label());
    writer.column(columns, ports);
    writer.row();
    writer.element(MapRef::RowBits, Reg::R8);
    writer.asm.mov(Reg::R8, Reg::R0);
    writer.asm.load(Size::U32, Reg::R1, IO, COLUMN);
    writer.element(MapRef::ColumnBits, Reg::R1);
    let hits: Vec<Label> = (0..words).map(|_| writer.asm.label()).collect();
    for (word, hit) in hits.iter().enumerate() {
        let here: Vec<&ResidualAtom> = residuals.iter().filter(|atom| atom.atom / 64 == word).collect();
        writer.word(word, &here, *hit);
    }
    writer.asm.mov(Reg::R1, i32::from(UNWRITTEN));
    writer.asm.jump(node);
    for (word, hit) in hits.iter().enumerate() {
        writer.asm.place(*hit);
        writer.asm.mov(Reg::R2, word as i32 * 64 + 1);
        writer.asm.jump(found);
    }
    writer.asm.place(found);
    writer.lowest_bit();
    writer.asm.alu(Op::Add, Reg::R1, Reg::R2);
    writer.asm.place(node);
    writer.element(MapRef::Nodes, Reg::R1);
    writer.ends();
    writer.asm.finish()
}

impl Writer {
    /// Jumps to `hit` with R1 = what row R8 and column R0 have in common in this word, if anything.
    fn word(&mut self, word: usize, residuals: &[&ResidualAtom], hit: Label) {
        let none = self.asm.label();
        let place = word as i16 * 8;
        self.asm.load(Size::U64, Reg::R1, Reg::R8, place);
        self.asm.load(Size::U64, Reg::R2, Reg::R0, place);
        self.asm.alu(Op::And, Reg::R1, Reg::R2);
        if !residuals.is_empty() {
            self.asm.jump_if(Condition::Equal, Reg::R1, 0, none);
            residuals.iter().for_each(|atom| self.strike(atom));
        }
        self.asm.jump_if(Condition::NotEqual, Reg::R1, 0, hit);
        self.asm.place(none);
    }

    /// Clears the atom's bit in R1 unless its residual condition holds.
    fn strike(&mut self, atom: &ResidualAtom) {
        let (done, fails) = (self.asm.label(), self.asm.label());
        let bit = (atom.atom % 64) as i32;
        self.asm.mov(Reg::R3, Reg::R1);
        self.asm.alu(Op::ShiftRight, Reg::R3, bit);
        self.asm.alu(Op::And, Reg::R3, 1);
        self.asm.jump_if(Condition::Equal, Reg::R3, 0, done);
        let Residual { source_port, code, family } = atom.residual;
        let wide = |(first, last): (u8, u8)| (u16::from(first), u16::from(last));
        self.unless_within(Size::U16, SOURCE_PORT, source_port, Residual::NONE.source_port, fails);
        self.unless_within(Size::U8, ICMP_CODE, wide(code), wide(Residual::NONE.code), fails);
        self.unless_within(Size::U8, FAMILY, wide(family), wide(Residual::NONE.family), fails);
        self.asm.jump(done);
        self.asm.place(fails);
        self.asm.mov(Reg::R3, 1);
        self.asm.alu(Op::ShiftLeft, Reg::R3, bit);
        self.asm.alu(Op::Xor, Reg::R1, Reg::R3);
        self.asm.place(done);
    }

    fn unless_within(&mut self, size: Size, field: i16, span: (u16, u16), all: (u16, u16), fails: Label) {
        if span == all {
            return;
        }
        self.asm.load(size, Reg::R3, IO, field);
        self.asm.alu(Op::Sub, Reg::R3, i32::from(span.0));
        self.asm.jump_if(Condition::Above, Reg::R3, i32::from(span.1) - i32::from(span.0), fails);
    }

    /// R1 = number of its lowest bit, which exists: counts the bits below it.
    fn lowest_bit(&mut self) {
        let asm = &mut self.asm;
        asm.mov(Reg::R3, Reg::R1);
        asm.alu(Op::Neg, Reg::R3, 0);
        asm.alu(Op::And, Reg::R1, Reg::R3);
        asm.alu(Op::Add, Reg::R1, -1);
        let mut halve = |shift: i32, mask: u64, subtract: bool| {
            asm.load_u64(Reg::R4, mask);
            asm.mov(Reg::R3, Reg::R1);
            asm.alu(Op::ShiftRight, Reg::R3, shift);
            asm.alu(Op::And, Reg::R3, Reg::R4);
            if subtract {
                asm.alu(Op::Sub, Reg::R1, Reg::R3);
            } else {
                asm.alu(Op::And, Reg::R1, Reg::R4);
                asm.alu(Op::Add, Reg::R1, Reg::R3);
            }
        };
        halve(1, 0x5555_5555_5555_5555, true);
        halve(2, 0x3333_3333_3333_3333, false);
        halve(4, 0x0f0f_0f0f_0f0f_0f0f, false);
        asm.load_u64(Reg::R4, 0x0101_0101_0101_0101);
        asm.alu(Op::Mul, Reg::R1, Reg::R4);
        asm.alu(Op::ShiftRight, Reg::R1, 56);
    }
}
