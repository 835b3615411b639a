//! The kernel around a policy program: `policy_io`, `stage`, and what stands in for the resumed programs.

use std::os::fd::AsFd;
use tortie_abi::maps::MapKind;
use tortie_abi::policy::PolicyIo;
use tortie_abi::stage;
use tortie_host::bpf::{Map, MapDef, Program, ProgramDef, ProgramKind, Run, Update, possible_cpus};
use tortie_host::policy::{LoadedPolicy, Shared};
use tortie_policy::asm::{Assembler, Reg, Size};
use tortie_policy::compile::Compiled;
use zerocopy::{FromBytes, IntoBytes};

/// What the resumed program of a stage returns here: no program returns that by itself.
pub fn returned_by(stage: u32) -> u32 {
    100 + stage
}

/// Shared maps.
pub struct Kernel {
    pub policy_io: Map,
    pub stage: Map,
}

impl Kernel {
    /// Both maps, and programs in both RESUME slots.
    pub fn new() -> Self {
        let kernel = Self {
            policy_io: map("tt_policy_io", MapKind::PerCpuArray, size_of::<PolicyIo>() as u32, 1),
            stage: map("tt_stage", MapKind::ProgArray, 4, stage::COUNT),
        };
        for slot in [stage::RESUME4, stage::RESUME6] {
            let program = returning(returned_by(slot) as i32);
            kernel.stage.set_fd(slot, program.as_fd()).expect("a slot of stage");
        }
        kernel
    }

    pub fn shared(&self) -> Shared<'_> {
        Shared { policy_io: self.policy_io.as_fd(), stage: self.stage.as_fd() }
    }

    pub fn load(&self, compiled: &Compiled) -> LoadedPolicy {
        match LoadedPolicy::load("tt_policy", compiled, self.shared()) {
            Ok(loaded) => loaded,
            Err(error) => panic!("{error}\n{}", log_of(&error)),
        }
    }

    /// Runs a policy program; gives what came back through `policy_io`, and the return code.
    pub fn run(&self, loaded: &LoadedPolicy, io: &PolicyIo) -> (u32, PolicyIo) {
        let key = 0u32.to_ne_bytes();
        let one = self.one_cpu(io);
        let all = one.repeat(possible_cpus().expect("possible CPUs"));
        self.policy_io.update(&key, &all, Update::Any).expect("policy_io");
        let code = run(loaded.program(), &[0; 64]);
        let mut after = vec![0; all.len()];
        assert!(self.policy_io.lookup(&key, &mut after).expect("policy_io"));
        let changed = after.chunks(one.len()).find(|value| *value != one).unwrap_or(&one);
        (code, PolicyIo::read_from_prefix(changed).expect("a whole value").0)
    }

    fn one_cpu(&self, io: &PolicyIo) -> Vec<u8> {
        let mut bytes = io.as_bytes().to_vec();
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    }
}

fn log_of(error: &tortie_host::policy::PolicyError) -> &str {
    match error {
        tortie_host::policy::PolicyError::Load(load) => {
            let last = load.log.len().saturating_sub(6000);
            load.log.get(last..).unwrap_or(&load.log)
        }
        _ => "",
    }
}

pub fn map(name: &str, kind: MapKind, value_bytes: u32, max_entries: u32) -> Map {
    let def = MapDef { name, kind: kind as u32, key_bytes: 4, value_bytes, max_entries, flags: 0 };
    Map::create(&def).expect("creating a map needs root (CAP_BPF)")
}

/// A program that returns `code`.
pub fn returning(code: i32) -> Program {
    let mut asm = Assembler::new();
    asm.mov(Reg::R0, code);
    asm.exit();
    load(&asm.finish().expect("well formed").link(|_| None).expect("no maps"))
}

/// A program that returns `cb[0]`, which a preamble has set.
pub fn returning_cb() -> Program {
    let mut asm = Assembler::new();
    asm.load(Size::U32, Reg::R0, Reg::R1, 48);
    asm.exit();
    load(&asm.finish().expect("well formed").link(|_| None).expect("no maps"))
}

fn load(insns: &[u8]) -> Program {
    Program::load(&ProgramDef::new("tt_program", ProgramKind::SchedCls, insns))
        .expect("the verifier takes it")
}

/// Runs a program on a frame: what it returned.
pub fn run(program: &Program, frame: &[u8]) -> u32 {
    program.run(&mut Run::once(frame, &mut [])).expect("the kernel runs it").code
}
