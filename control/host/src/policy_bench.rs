//! What policy costs a packet, from its class on, by number and shape of rules.
//!
//! Owns: the measurement (`BPF_PROG_TEST_RUN`, net of the same run without policy). Does not: print.
//! Invariant: a figure belongs to a program that decided rightly just before.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use tortie_abi::maps::MapKind;
use tortie_abi::policy::{PolicyIo, Verdict};
use tortie_abi::stage;
use tortie_policy::asm::{
    AsmError, Assembler, Condition, MapRef, MissingMap, Op, Program as Listing, Reg, Size,
};
use tortie_policy::classes::Classes;
use tortie_policy::compile::{CompileError, Compiled, Form, Limits, compile};
use tortie_policy::synthetic::{Shape, Synthetic};
use zerocopy::{FromZeros, IntoBytes};

use crate::bpf::{LoadError, Map, MapDef, Program, ProgramDef, ProgramKind, Run, Update, possible_cpus};
use crate::policy::{LoadedPolicy, PolicyError, Shared};

/// Why there is no figure.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A map or a run failed.
    #[error("measuring policy needs root (CAP_BPF, CAP_NET_ADMIN): {0}")]
    Kernel(#[from] io::Error),
    /// A program was refused.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The driver was refused.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The list does not fit.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// A defect of the driver.
    #[error("the driver is not well formed: {0}; please report this")]
    Driver(#[from] AsmError),
    /// A defect of the driver.
    #[error(transparent)]
    Map(#[from] MissingMap),
    /// The program decided something else than its last rule says.
    #[error("{rules} rules {shape:?} decided {found:?} for a packet of the last rule; please report this")]
    Wrong {
        /// Rules.
        rules: usize,
        /// Shape.
        shape: Shape,
        /// Verdict and rule.
        found: (u32, u32),
    },
}

/// What one list costs.
#[derive(Clone, Copy, Debug)]
pub struct Figure {
    /// Rules in the list.
    pub rules: usize,
    /// What they differ in.
    pub shape: Shape,
    /// Which form.
    pub form: Form,
    /// Rows and columns.
    pub size: (usize, usize),
    /// Kernel memory of the tables.
    pub table_bytes: usize,
    /// Instructions of the program.
    pub instructions: usize,
    /// Making program and tables.
    pub compile_time: Duration,
    /// Filling tables, verifying and loading.
    pub load_time: Duration,
    /// One packet that only the last rule matches, the same every time: net nanoseconds.
    pub last_rule_nanos: u64,
    /// Packets from random peers to random ports of the list: net nanoseconds.
    pub random_nanos: u64,
}

const REPEAT: u32 = 100_000;
const ROUNDS: usize = 5;
/// Slot of the program array for the policy program.
const POLICY: u32 = stage::COUNT - 1;
/// `bpf_map_lookup_elem`, `bpf_get_prandom_u32`, `bpf_tail_call`
const HELPERS: (i32, i32, i32) = (1, 7, 12);

/// Measures one list in the form that `limits` allow.
pub fn measure(shape: Shape, rules: u32, limits: &Limits) -> Result<Figure, BenchError> {
    let synthetic = Synthetic::new(shape, rules);
    let classes = classes(&synthetic);
    let started = Instant::now();
    let (_, compiled) = compile(&synthetic.list, &classes, &|index| index as u32 + 1, limits)?;
    let compile_time = started.elapsed();
    let bench = Bench::new()?;
    let started = Instant::now();
    let shared = Shared { policy_io: bench.policy_io.as_fd(), stage: bench.stage.as_fd() };
    let loaded = LoadedPolicy::load("tortie_bench", &compiled, shared)?;
    let load_time = started.elapsed();
    bench.stage.set_fd(POLICY, loaded.program().as_fd())?;
    let io = last_packet(&synthetic, &classes);
    bench.check(&io, &synthetic)?;
    Ok(Figure {
        rules: synthetic.list.rules.len(),
        shape,
        form: compiled.form,
        size: (compiled.rows, compiled.columns),
        table_bytes: compiled.table_bytes(),
        instructions: compiled.program.instructions.len(),
        compile_time,
        load_time,
        last_rule_nanos: bench.net(&io, None)?,
        random_nanos: bench.net(&io, Some(spread(&compiled)))?,
    })
}

fn classes(synthetic: &Synthetic) -> Classes {
    let mut classes = Classes::new();
    for (set, members) in &synthetic.members.sets {
        classes.update(*set, members, &[]);
    }
    classes
}

fn last_packet(synthetic: &Synthetic, classes: &Classes) -> PolicyIo {
    let (remote, packet) = synthetic.last();
    PolicyIo {
        remote_class: classes.class_of(remote),
        destination_port: packet.destination_port,
        source_port: packet.source_port,
        protocol: packet.protocol,
        family: 4,
        ..PolicyIo::new_zeroed()
    }
}

/// How many classes and ports random packets are spread over: powers of two within the list's.
#[derive(Clone, Copy, Debug)]
struct Spread {
    classes: u32,
    ports: u32,
}

fn spread(compiled: &Compiled) -> Spread {
    let below = |count: usize| 1u32 << count.max(1).ilog2();
    Spread { classes: below(compiled.rows), ports: below(compiled.columns) }
}

struct Bench {
    policy_io: Map,
    stage: Map,
}

impl Bench {
    fn new() -> Result<Self, BenchError> {
        let map = |name, kind: MapKind, value_bytes, max_entries| {
            Map::create(&MapDef { name, kind: kind as u32, key_bytes: 4, value_bytes, max_entries, flags: 0 })
        };
        let bench = Self {
            policy_io: map("bench_policy_io", MapKind::PerCpuArray, size_of::<PolicyIo>() as u32, 1)?,
            stage: map("bench_stage", MapKind::ProgArray, 4, stage::COUNT)?,
        };
        let mut asm = Assembler::new();
        asm.mov(Reg::R0, 0);
        asm.exit();
        let resumed = bench.load(&asm.finish()?)?;
        bench.stage.set_fd(stage::RESUME4, resumed.as_fd())?;
        Ok(bench)
    }

    fn load(&self, program: &Listing) -> Result<Program, BenchError> {
        let insns = program.link(|map| match map {
            MapRef::PolicyIo => Some(self.policy_io.as_fd().as_raw_fd()),
            MapRef::Stage => Some(self.stage.as_fd().as_raw_fd()),
            _ => None,
        })?;
        Ok(Program::load(&ProgramDef::new("tortie_bench", ProgramKind::SchedCls, &insns))?)
    }

    fn preset(&self, io: &PolicyIo) -> Result<(), BenchError> {
        let mut bytes = io.as_bytes().to_vec();
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        let all = bytes.repeat(possible_cpus()?);
        Ok(self.policy_io.update(&0u32.to_ne_bytes(), &all, Update::Any)?)
    }

    /// The program decides for the last rule; whichever CPU ran it.
    fn check(&self, io: &PolicyIo, synthetic: &Synthetic) -> Result<(), BenchError> {
        self.preset(io)?;
        let driver = self.load(&driver(POLICY, None)?)?;
        run(&driver, 1)?;
        let mut all = vec![0; self.policy_io.value_stride()];
        self.policy_io.lookup(&0u32.to_ne_bytes(), &mut all)?;
        let rules = synthetic.list.rules.len();
        let expected = PolicyIo { verdict: Verdict::Allow as u32, rule: rules as u32, ..*io };
        let values = all.chunks(all.len().checked_div(possible_cpus()?).unwrap_or(1).max(1));
        if values.clone().any(|value| value.starts_with(expected.as_bytes())) {
            return Ok(());
        }
        let word = |value: &[u8], at: usize| {
            value.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_ne_bytes)
        };
        let found = values.map(|value| (word(value, 28), word(value, 32))).max().unwrap_or_default();
        Err(BenchError::Wrong { rules, shape: synthetic.shape, found })
    }

    /// Best of the rounds with policy, minus best of the rounds without, interleaved.
    fn net(&self, io: &PolicyIo, random: Option<Spread>) -> Result<u64, BenchError> {
        self.preset(io)?;
        let with = self.load(&driver(POLICY, random)?)?;
        let without = self.load(&driver(stage::RESUME4, random)?)?;
        let (mut best_with, mut best_without) = (u64::MAX, u64::MAX);
        for _ in 0..ROUNDS {
            best_without = best_without.min(run(&without, REPEAT)?);
            best_with = best_with.min(run(&with, REPEAT)?);
        }
        Ok(best_with.saturating_sub(best_without))
    }
}

fn run(program: &Program, repeat: u32) -> Result<u64, BenchError> {
    let result = program.run(&mut Run { repeat, ..Run::once(&[0; 64], &mut []) })?;
    Ok(u64::try_from(result.duration.as_nanos()).unwrap_or(u64::MAX))
}

/// Sets a random class and port, if asked to, and goes on to `slot`.
fn driver(slot: u32, random: Option<Spread>) -> Result<Listing, AsmError> {
    let mut asm = Assembler::new();
    let out = asm.label();
    asm.mov(Reg::R6, Reg::R1);
    asm.store(Size::U32, Reg::R10, -4, 0);
    asm.mov(Reg::R2, Reg::R10);
    asm.alu(Op::Add, Reg::R2, -4);
    asm.load_map(Reg::R1, MapRef::PolicyIo);
    asm.call(HELPERS.0);
    asm.jump_if(Condition::Equal, Reg::R0, 0, out);
    asm.mov(Reg::R7, Reg::R0);
    if let Some(Spread { classes, ports }) = random {
        asm.call(HELPERS.1);
        asm.mov(Reg::R1, Reg::R0);
        asm.alu(Op::And, Reg::R1, classes as i32 - 1);
        asm.store(Size::U32, Reg::R7, std::mem::offset_of!(PolicyIo, remote_class) as i16, Reg::R1);
        asm.alu(Op::ShiftRight, Reg::R0, 16);
        asm.alu(Op::And, Reg::R0, ports as i32 - 1);
        asm.alu(Op::Add, Reg::R0, 1000);
        asm.store(Size::U16, Reg::R7, std::mem::offset_of!(PolicyIo, destination_port) as i16, Reg::R0);
    }
    asm.mov(Reg::R1, Reg::R6);
    asm.load_map(Reg::R2, MapRef::Stage);
    asm.mov(Reg::R3, slot as i32);
    asm.call(HELPERS.2);
    asm.place(out);
    asm.mov(Reg::R0, 2);
    asm.exit();
    asm.finish()
}
