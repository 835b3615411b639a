//! Writes policy programs.
//!
//! Owns: registers, stack and the order of the code. Does not: decide anything about rules.
//! Invariant: whatever is missing or out of range ends in a denial; without `policy_io`, or when nothing
//! takes the packet over, it is dropped.
//!
//! Registers: R6 the packet's context, R7 the `PolicyIo`, R8 and R9 of the form. `PolicyIo::rule` holds
//! the column between the trees and its use: read back from memory it is any number to the verifier, which
//! then follows the rest of the program once and not once for each leaf.

mod column;
mod table;
mod vectors;

pub use column::PortTables;
pub use table::table;
pub use vectors::vectors;

use crate::asm::{Assembler, Condition, Label, MapRef, Op, Reg, Size};
use crate::compile::{ROWS_PER_ELEMENT, node_offset};
use std::mem::offset_of;
use tortie_abi::policy::{PolicyIo, Verdict};
use tortie_abi::stage;

/// `bpf_tail_call`
const TAIL_CALL: i32 = 12;
/// `TC_ACT_SHOT`
pub const SHOT: i32 = 2;

const CLASS: i16 = offset_of!(PolicyIo, remote_class) as i16;
const DESTINATION_PORT: i16 = offset_of!(PolicyIo, destination_port) as i16;
const SOURCE_PORT: i16 = offset_of!(PolicyIo, source_port) as i16;
const PROTOCOL: i16 = offset_of!(PolicyIo, protocol) as i16;
const ICMP_TYPE: i16 = offset_of!(PolicyIo, icmp_type) as i16;
const ICMP_CODE: i16 = offset_of!(PolicyIo, icmp_code) as i16;
const FAMILY: i16 = offset_of!(PolicyIo, family) as i16;
const VERDICT: i16 = offset_of!(PolicyIo, verdict) as i16;
const RULE: i16 = offset_of!(PolicyIo, rule) as i16;
/// Where the column waits.
const COLUMN: i16 = RULE;
/// Where map keys are put, from the frame pointer.
const KEY: i16 = -4;

const CONTEXT: Reg = Reg::R6;
const IO: Reg = Reg::R7;

/// The program's ends.
#[derive(Clone, Copy)]
struct Ends {
    /// Denies by no rule.
    deny: Label,
    /// R0 points to a node that holds: its decision.
    decide: Label,
    /// Drops the packet.
    drop: Label,
}

struct Writer {
    asm: Assembler,
    ends: Ends,
}

impl Writer {
    /// Starts a program: R7 becomes the `PolicyIo`.
    fn new() -> Self {
        let mut asm = Assembler::new();
        let ends = Ends { deny: asm.label(), decide: asm.label(), drop: asm.label() };
        let mut writer = Self { asm, ends };
        writer.asm.mov(CONTEXT, Reg::R1);
        writer.asm.store(Size::U32, Reg::R10, KEY, 0);
        writer.asm.look_up(MapRef::PolicyIo, KEY);
        writer.asm.jump_if(Condition::Equal, Reg::R0, 0, ends.drop);
        writer.asm.mov(IO, Reg::R0);
        writer
    }

    /// R0 = element `index` of `map`; denies when there is none.
    fn element(&mut self, map: MapRef, index: Reg) {
        self.asm.store(Size::U32, Reg::R10, KEY, index);
        self.asm.look_up(map, KEY);
        self.asm.jump_if(Condition::Equal, Reg::R0, 0, self.ends.deny);
    }

    /// R8 = row of the packet's class.
    fn row(&mut self) {
        self.asm.load(Size::U32, Reg::R8, IO, CLASS);
        self.asm.mov(Reg::R1, Reg::R8);
        self.asm.alu(Op::ShiftRight, Reg::R1, ROWS_PER_ELEMENT.trailing_zeros() as i32);
        self.element(MapRef::Rows, Reg::R1);
        self.asm.alu(Op::And, Reg::R8, ROWS_PER_ELEMENT as i32 - 1);
        self.asm.alu(Op::ShiftLeft, Reg::R8, 1);
        self.asm.alu(Op::Add, Reg::R0, Reg::R8);
        self.asm.load(Size::U16, Reg::R8, Reg::R0, 0);
    }

    /// The ends; then the program is finished.
    fn ends(&mut self) {
        let Ends { deny, decide, drop } = self.ends;
        let (resume, v6) = (self.asm.label(), self.asm.label());
        let asm = &mut self.asm;
        asm.place(decide);
        asm.load(Size::U32, Reg::R1, Reg::R0, node_offset::DECISION);
        asm.mov(Reg::R2, Reg::R1);
        asm.alu(Op::And, Reg::R1, i32::MAX);
        asm.store(Size::U32, IO, RULE, Reg::R1);
        asm.alu(Op::ShiftRight, Reg::R2, 31);
        asm.alu(Op::Add, Reg::R2, Verdict::Deny as i32);
        asm.store(Size::U32, IO, VERDICT, Reg::R2);
        asm.place(resume);
        asm.load(Size::U8, Reg::R1, IO, FAMILY);
        asm.jump_if(Condition::Equal, Reg::R1, 6, v6);
        asm.jump_if(Condition::NotEqual, Reg::R1, 4, drop);
        tail_call(asm, CONTEXT, stage::RESUME4);
        asm.jump(drop);
        asm.place(v6);
        tail_call(asm, CONTEXT, stage::RESUME6);
        asm.place(drop);
        asm.mov(Reg::R0, SHOT);
        asm.exit();
        asm.place(deny);
        asm.store(Size::U32, IO, VERDICT, Verdict::Deny as i32);
        asm.store(Size::U32, IO, RULE, tortie_abi::policy::NO_RULE as i32);
        asm.jump(resume);
    }
}

/// The verdict follows from a decision's highest bit by addition.
const _: () = assert!(Verdict::Allow as u32 == Verdict::Deny as u32 + 1);

/// Leaves for `stage[index]`, if there is a program. The index is a constant, so that the kernel patches
/// a direct jump in.
pub fn tail_call(asm: &mut Assembler, context: Reg, index: u32) {
    asm.mov(Reg::R1, context);
    asm.load_map(Reg::R2, MapRef::Stage);
    asm.mov(Reg::R3, index as i32);
    asm.call(TAIL_CALL);
}
