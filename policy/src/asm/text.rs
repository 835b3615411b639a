//! A listing of a program, in the notation that `bpftool prog dump xlated` uses.

use super::Program;
use super::encode::*;
use std::fmt;

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut instructions = self.instructions.iter().enumerate();
        while let Some((index, instruction)) = instructions.next() {
            write!(f, "{index:5}: ")?;
            if instruction.opcode == LOAD_U64 {
                let high = instructions.next().map_or(0, |(_, second)| second.immediate as u32);
                self.write_wide(f, index, instruction, high)?;
            } else {
                write_one(f, index, instruction)?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

impl Program {
    fn write_wide(
        &self,
        f: &mut fmt::Formatter<'_>,
        index: usize,
        i: &Instruction,
        high: u32,
    ) -> fmt::Result {
        match self.relocations.get(&index) {
            Some(map) => write!(f, "r{} = map[{}]", i.dst, map.name()),
            None => write!(f, "r{} = {:#x}", i.dst, u64::from(high) << 32 | u64::from(i.immediate as u32)),
        }
    }
}

fn write_one(f: &mut fmt::Formatter<'_>, index: usize, i: &Instruction) -> fmt::Result {
    let target = index as i64 + 1 + i64::from(i.offset);
    match i.opcode {
        CALL => return write!(f, "call {}", helper(i.immediate)),
        EXIT => return write!(f, "exit"),
        JUMP => return write!(f, "goto {target}"),
        _ => {}
    }
    let source = match i.opcode & FROM_REGISTER {
        0 => i.immediate.to_string(),
        _ => format!("r{}", i.src),
    };
    match i.opcode & 0x07 {
        LDX => write!(f, "r{} = *({} *)(r{} {:+})", i.dst, width(i.opcode), i.src, i.offset),
        ST => write!(f, "*({} *)(r{} {:+}) = {}", width(i.opcode), i.dst, i.offset, i.immediate),
        STX => write!(f, "*({} *)(r{} {:+}) = r{}", width(i.opcode), i.dst, i.offset, i.src),
        ALU64 if i.opcode & 0xf0 == Op::Neg as u8 => write!(f, "r{0} = -r{0}", i.dst),
        ALU64 => write!(f, "r{} {} {source}", i.dst, operator(i.opcode & 0xf0)),
        JMP => write!(f, "if r{} {} {source} goto {target}", i.dst, comparison(i.opcode & 0xf0)),
        _ => write!(f, "{i:?}"),
    }
}

fn helper(number: i32) -> String {
    match number {
        1 => "map_lookup_elem".to_owned(),
        12 => "tail_call".to_owned(),
        other => format!("helper {other}"),
    }
}

fn width(opcode: u8) -> &'static str {
    match opcode & 0x18 {
        0x00 => "u32",
        0x08 => "u16",
        0x10 => "u8",
        _ => "u64",
    }
}

fn operator(code: u8) -> &'static str {
    match code {
        0x00 => "+=",
        0x10 => "-=",
        0x20 => "*=",
        0x40 => "|=",
        0x50 => "&=",
        0x60 => "<<=",
        0x70 => ">>=",
        0xa0 => "^=",
        _ => "=",
    }
}

fn comparison(code: u8) -> &'static str {
    match code {
        0x10 => "==",
        0x20 => ">",
        0x30 => ">=",
        0x40 => "&",
        0x50 => "!=",
        0xa0 => "<",
        0xc0 => "s<",
        _ => "?",
    }
}

#[cfg(test)]
mod tests {
    use crate::asm::{Assembler, Condition, MapRef, Op, Reg, Size};

    #[test]
    fn a_listing_reads_like_bpftools() {
        let mut asm = Assembler::new();
        let end = asm.label();
        asm.load_map(Reg::R1, MapRef::Rows);
        asm.load_u64(Reg::R2, 0x1_0000_0002);
        asm.load(Size::U16, Reg::R3, Reg::R7, 4);
        asm.store(Size::U32, Reg::R10, -4, 9);
        asm.alu(Op::Add, Reg::R2, Reg::R10);
        asm.jump_if(Condition::LessSigned, Reg::R3, 0, end);
        asm.call(1);
        asm.place(end);
        asm.exit();
        let text = asm.finish().unwrap().to_string();
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        assert_eq!(
            lines,
            [
                "0: r1 = map[rows]",
                "2: r2 = 0x100000002",
                "4: r3 = *(u16 *)(r7 +4)",
                "5: *(u32 *)(r10 -4) = 9",
                "6: r2 += r10",
                "7: if r3 s< 0 goto 9",
                "8: call map_lookup_elem",
                "9: exit",
            ]
        );
    }
}
