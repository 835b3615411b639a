//! Runs compiled programs: the instructions that the generator emits, array maps and tail calls.
//!
//! Owns: the machine. Does not: replace the verifier; loads outside a map element panic all the same.

use crate::asm::{Instruction, MapRef, Program};
use crate::compile::{Compiled, TableWrite};
use std::collections::BTreeMap;
use tortie_abi::policy::PolicyIo;
use zerocopy::{FromBytes, IntoBytes};

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It went on to this element of `stage`.
    TailCall(u32),
    /// It returned.
    Return(u64),
}

/// The maps of a compiled list.
#[derive(Clone, Debug)]
pub struct Machine {
    maps: BTreeMap<MapRef, Map>,
}

#[derive(Clone, Debug)]
struct Map {
    value_bytes: usize,
    data: Vec<u8>,
}

const STEPS: usize = 1 << 22;
const STACK: usize = 512;
/// A pointer is a region number above this bit, and an offset below.
const REGION: u32 = 40;

#[derive(Clone, Copy)]
enum Region {
    Stack,
    Io,
    Element(MapRef, usize),
    Map(MapRef),
    Context,
}

struct Run<'a> {
    machine: &'a Machine,
    registers: [u64; 11],
    regions: Vec<Region>,
    stack: [u8; STACK],
    io: &'a mut [u8],
}

impl Machine {
    /// The tables as the loader makes them.
    pub fn new(compiled: &Compiled) -> Self {
        let map = |spec: &crate::compile::TableSpec| {
            let mut data = spec.data.clone();
            data.resize(spec.value_bytes as usize * spec.max_entries as usize, 0);
            (spec.map, Map { value_bytes: spec.value_bytes as usize, data })
        };
        Self { maps: compiled.tables.iter().map(map).collect() }
    }

    /// Writes one element.
    pub fn write(&mut self, write: &TableWrite) {
        let map = self.maps.get_mut(&write.map).expect("the table exists");
        assert_eq!(write.value.len(), map.value_bytes);
        let start = write.index as usize * map.value_bytes;
        map.data[start..start + map.value_bytes].copy_from_slice(&write.value);
    }

    /// Runs a program on `io`.
    pub fn run(&self, program: &Program, io: &mut PolicyIo) -> Outcome {
        let mut bytes = io.as_bytes().to_vec();
        let mut run = Run {
            machine: self,
            registers: [0; 11],
            regions: vec![Region::Stack, Region::Context],
            stack: [0xa5; STACK],
            io: &mut bytes,
        };
        run.registers[10] = STACK as u64;
        run.registers[1] = 1 << REGION;
        let outcome = run.run(program);
        *io = PolicyIo::read_from_bytes(&bytes).expect("the size did not change");
        outcome
    }
}

impl Run<'_> {
    fn run(&mut self, program: &Program) -> Outcome {
        let mut at = 0usize;
        for _ in 0..STEPS {
            let instruction = program.instructions[at];
            let mut next = at + 1;
            match instruction.opcode & 7 {
                0 => {
                    self.wide(program, at);
                    next += 1;
                }
                1 => {
                    let value = self.read(instruction);
                    self.registers[usize::from(instruction.dst)] = value;
                }
                2 | 3 => self.write(instruction),
                7 => self.alu(instruction),
                5 if instruction.opcode == 0x95 => return Outcome::Return(self.registers[0]),
                5 if instruction.opcode == 0x85 => {
                    if let Some(outcome) = self.call(instruction.immediate) {
                        return outcome;
                    }
                }
                5 if self.jumps(instruction) => {
                    next = usize::try_from(next as i64 + i64::from(instruction.offset))
                        .expect("jumps stay inside");
                }
                5 => {}
                class => panic!("class {class} is not generated"),
            }
            at = next;
        }
        panic!("no end after {STEPS} instructions");
    }

    fn pointer(&mut self, region: Region) -> u64 {
        self.regions.push(region);
        (self.regions.len() as u64 - 1) << REGION
    }

    fn wide(&mut self, program: &Program, at: usize) {
        let (low, high) = (program.instructions[at], program.instructions[at + 1]);
        let value = match program.relocations.get(&at) {
            Some(map) => self.pointer(Region::Map(*map)),
            None => u64::from(high.immediate as u32) << 32 | u64::from(low.immediate as u32),
        };
        self.registers[usize::from(low.dst)] = value;
    }

    fn operand(&self, instruction: Instruction) -> u64 {
        match instruction.opcode & 8 {
            0 => i64::from(instruction.immediate) as u64,
            _ => self.registers[usize::from(instruction.src)],
        }
    }

    fn alu(&mut self, instruction: Instruction) {
        let (left, right) = (self.registers[usize::from(instruction.dst)], self.operand(instruction));
        self.registers[usize::from(instruction.dst)] = match instruction.opcode & 0xf0 {
            0x00 => left.wrapping_add(right),
            0x10 => left.wrapping_sub(right),
            0x20 => left.wrapping_mul(right),
            0x40 => left | right,
            0x50 => left & right,
            0x60 => left << right,
            0x70 => left >> right,
            0x80 => left.wrapping_neg(),
            0xa0 => left ^ right,
            0xb0 => right,
            op => panic!("operation {op:#x} is not generated"),
        };
    }

    fn jumps(&self, instruction: Instruction) -> bool {
        let (left, right) = (self.registers[usize::from(instruction.dst)], self.operand(instruction));
        match instruction.opcode & 0xf0 {
            0x00 => true,
            0x10 => left == right,
            0x20 => left > right,
            0x30 => left >= right,
            0x40 => left & right != 0,
            0x50 => left != right,
            0xa0 => left < right,
            0xc0 => (left as i64) < right as i64,
            op => panic!("comparison {op:#x} is not generated"),
        }
    }

    fn width(opcode: u8) -> usize {
        match opcode & 0x18 {
            0x00 => 4,
            0x08 => 2,
            0x10 => 1,
            _ => 8,
        }
    }

    fn place(&self, base: u8, offset: i16) -> (Region, usize) {
        let pointer = self.registers[usize::from(base)];
        let region = self.regions[(pointer >> REGION) as usize];
        let offset = (pointer & ((1 << REGION) - 1)) as i64 + i64::from(offset);
        (region, usize::try_from(offset).expect("below the region"))
    }

    fn read(&self, instruction: Instruction) -> u64 {
        let (region, offset) = self.place(instruction.src, instruction.offset);
        let memory: &[u8] = match region {
            Region::Stack => &self.stack,
            Region::Io => self.io,
            Region::Element(map, index) => {
                let map = &self.machine.maps[&map];
                &map.data[index * map.value_bytes..(index + 1) * map.value_bytes]
            }
            Region::Map(_) | Region::Context => panic!("not readable"),
        };
        let width = Self::width(instruction.opcode);
        let mut bytes = [0; 8];
        bytes[..width].copy_from_slice(&memory[offset..offset + width]);
        u64::from_le_bytes(bytes)
    }

    fn write(&mut self, instruction: Instruction) {
        let value = match instruction.opcode & 7 {
            2 => i64::from(instruction.immediate) as u64,
            _ => self.registers[usize::from(instruction.src)],
        };
        let (region, offset) = self.place(instruction.dst, instruction.offset);
        let memory: &mut [u8] = match region {
            Region::Stack => &mut self.stack,
            Region::Io => self.io,
            _ => panic!("policy programs write to the stack and to policy_io only"),
        };
        let width = Self::width(instruction.opcode);
        memory[offset..offset + width].copy_from_slice(&value.to_le_bytes()[..width]);
    }

    fn call(&mut self, helper: i32) -> Option<Outcome> {
        match helper {
            1 => {
                self.registers[0] = self.look_up();
                // Whoever reads these after a call reads nonsense, as the verifier would say.
                self.registers[1..=5].fill(0xa5a5_a5a5_a5a5_a5a5);
                None
            }
            12 => Some(Outcome::TailCall(self.registers[3] as u32)),
            other => panic!("helper {other} is not generated"),
        }
    }

    fn look_up(&mut self) -> u64 {
        let Region::Map(map) = self.place(1, 0).0 else { panic!("R1 is not a map") };
        let (Region::Stack, offset) = self.place(2, 0) else { panic!("the key is not on the stack") };
        let key: [u8; 4] = self.stack[offset..offset + 4].try_into().expect("four bytes");
        let index = u32::from_le_bytes(key) as usize;
        if map == MapRef::PolicyIo {
            return if index == 0 { self.pointer(Region::Io) } else { 0 };
        }
        let table = &self.machine.maps[&map];
        if index < table.data.len() / table.value_bytes {
            self.pointer(Region::Element(map, index))
        } else {
            0
        }
    }
}
