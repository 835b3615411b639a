//! One instruction: its fields, and the operations that the generator uses.

use super::Operand;

/// A register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)] // the numbers are all there is to say
pub enum Reg {
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    /// Frame pointer, read only.
    R10,
}

/// Arithmetic, 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Op {
    Add = 0x00,
    Sub = 0x10,
    Mul = 0x20,
    Or = 0x40,
    And = 0x50,
    ShiftLeft = 0x60,
    ShiftRight = 0x70,
    Neg = 0x80,
    Xor = 0xa0,
    Mov = 0xb0,
}

/// Comparison of a conditional jump, 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Condition {
    /// `left == right`
    Equal = 0x10,
    /// `left > right`, unsigned
    Above = 0x20,
    /// `left >= right`, unsigned
    AtLeast = 0x30,
    /// `left & right != 0`
    AnyBit = 0x40,
    /// `left != right`
    NotEqual = 0x50,
    /// `left < right`, unsigned
    Below = 0xa0,
    /// `left < right`, signed
    LessSigned = 0xc0,
}

/// Width of a load or store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Size {
    /// 4 bytes
    U32 = 0x00,
    /// 2 bytes
    U16 = 0x08,
    /// 1 byte
    U8 = 0x10,
    /// 8 bytes
    U64 = 0x18,
}

/// `call` of a helper.
pub const CALL: u8 = 0x85;
/// `exit`
pub const EXIT: u8 = 0x95;
/// `ja`
pub const JUMP: u8 = 0x05;
/// First half of a 64-bit load.
pub const LOAD_U64: u8 = 0x18;
/// In the source register of a 64-bit load: the value is a map's file descriptor.
pub const PSEUDO_MAP_FD: u8 = 1;
/// Classes: `ldx`, `st`, `stx`, `jmp`, `alu64`.
pub const LDX: u8 = 0x01;
/// See [`LDX`].
pub const ST: u8 = 0x02;
/// See [`LDX`].
pub const STX: u8 = 0x03;
/// See [`LDX`].
pub const JMP: u8 = 0x05;
/// See [`LDX`].
pub const ALU64: u8 = 0x07;
/// The second operand is a register.
pub const FROM_REGISTER: u8 = 0x08;
/// Loads and stores address memory.
pub const MEM: u8 = 0x60;

/// One instruction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Instruction {
    /// Operation code.
    pub opcode: u8,
    /// Destination register.
    pub dst: u8,
    /// Source register, or what kind of constant follows.
    pub src: u8,
    /// Jump distance or memory offset.
    pub offset: i16,
    /// Constant.
    pub immediate: i32,
}

impl Instruction {
    /// As the kernel wants it, in the byte order of the machine.
    pub fn bytes(self) -> [u8; 8] {
        let [o0, o1] = self.offset.to_ne_bytes();
        let [i0, i1, i2, i3] = self.immediate.to_ne_bytes();
        let registers =
            if cfg!(target_endian = "little") { self.src << 4 | self.dst } else { self.dst << 4 | self.src };
        [self.opcode, registers, o0, o1, i0, i1, i2, i3]
    }

    fn with(class: u8, code: u8, dst: Reg, operand: Operand) -> Self {
        let base = Self { opcode: class | code, dst: dst as u8, ..Self::default() };
        match operand {
            Operand::Imm(immediate) => Self { immediate, ..base },
            Operand::Reg(src) => Self { opcode: base.opcode | FROM_REGISTER, src: src as u8, ..base },
        }
    }

    pub(super) fn alu(op: Op, dst: Reg, value: Operand) -> Self {
        Self::with(ALU64, op as u8, dst, value)
    }

    pub(super) fn jump() -> Self {
        Self { opcode: JUMP, ..Self::default() }
    }

    pub(super) fn jump_if(condition: Condition, left: Reg, right: Operand) -> Self {
        Self::with(JMP, condition as u8, left, right)
    }

    pub(super) fn load(size: Size, dst: Reg, base: Reg, offset: i16) -> Self {
        Self { opcode: LDX | MEM | size as u8, dst: dst as u8, src: base as u8, offset, immediate: 0 }
    }

    pub(super) fn store(size: Size, base: Reg, offset: i16, value: Operand) -> Self {
        let (class, src, immediate) = match value {
            Operand::Imm(immediate) => (ST, 0, immediate),
            Operand::Reg(src) => (STX, src as u8, 0),
        };
        Self { opcode: class | MEM | size as u8, dst: base as u8, src, offset, immediate }
    }

    pub(super) fn load_u64(dst: Reg, value: u64) -> [Self; 2] {
        let low =
            Self { opcode: LOAD_U64, dst: dst as u8, immediate: value as u32 as i32, ..Self::default() };
        [low, Self { immediate: (value >> 32) as u32 as i32, ..Self::default() }]
    }
}
