//! One script on both sides, compared after every step.

use crate::kernel::Kernel;
use crate::native::{Dump, Native};
use crate::step::{Script, Shot, Step};
use crate::world::World;
use std::collections::BTreeMap;
use std::fmt;
use tortie_abi::endpoint::{Endpoint, NextHop, endpoint_flags};
use zerocopy::FromZeros;

/// What one side did with a packet.
#[derive(Clone, PartialEq, Eq)]
pub struct Observed {
    /// Number of the verdict's variant, and its value.
    pub verdict: (u32, u32),
    /// Frame and mark afterwards; `None` for a dropped packet, whose bytes do not matter.
    pub packet: Option<(Vec<u8>, u32)>,
    /// State of the random generator afterwards.
    pub random: u32,
}

impl fmt::Debug for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "verdict {:?}, random {:#x}", self.verdict, self.random)?;
        if let Some((bytes, mark)) = &self.packet {
            write!(f, ", mark {mark:#x}, packet ")?;
            bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        }
        Ok(())
    }
}

/// Where the sides differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Index of the step after which it showed; the number of steps for what only shows at the end.
    pub step: usize,
    /// What differs: verdict, packet, flows …
    pub what: &'static str,
    /// The simulator's.
    pub native: String,
    /// The kernel's.
    pub kernel: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { step, what, native, kernel } = self;
        write!(f, "after step {step}: {what} differ\n  native: {native}\n  kernel: {kernel}")
    }
}

/// A session under way.
pub struct Session<'a> {
    kernel: &'a mut Kernel,
    native: Native,
    world: World,
    steps: usize,
    /// Packets that the kernel refused to run programs on.
    pub refused: usize,
    /// Verdicts seen: (variant, value where it is a drop's reason).
    pub verdicts: BTreeMap<(u32, u32), usize>,
}

/// A packet's fate, for whoever makes the next one.
pub type Outcome = Option<Observed>;

impl<'a> Session<'a> {
    /// Starts one with empty tables.
    pub fn start(kernel: &'a mut Kernel, world: u32, seed: u32) -> Result<Self, String> {
        let world = World::new(world);
        kernel.enter(&world).map_err(|error| format!("filling the maps: {error}"))?;
        let native = Native::new(&world);
        native.node.random.set(seed.max(1));
        Ok(Self { kernel, native, world, steps: 0, refused: 0, verdicts: BTreeMap::new() })
    }

    /// The world as it is now.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Takes a step on both sides. The outer error is the harness's, not a difference.
    pub fn step(&mut self, step: &Step) -> Result<Result<Outcome, Difference>, String> {
        let index = self.steps;
        self.steps += 1;
        match step {
            Step::Packet(shot) => self.packet(index, shot),
            Step::Wait(millis) => {
                self.native.node.advance_millis(*millis);
                Ok(Ok(None))
            }
            Step::Sweep => {
                let now = self.native.node.now_nanos.get();
                self.kernel.sweep(now).map_err(|error| format!("sweeping: {error}"))?;
                self.native.sweep();
                let flows =
                    [false, true].into_iter().find_map(|v6| self.compare_flows(index, v6).transpose());
                Ok(flows.transpose()?.map_or(Ok(None), Err))
            }
            change => self.change(change).map(|()| Ok(None)),
        }
    }

    fn packet(&mut self, index: usize, shot: &Shot) -> Result<Result<Outcome, Difference>, String> {
        let node = &self.native.node;
        let kernel = self.kernel.shoot(shot, node.now_nanos.get(), node.random.get())?;
        let Some(kernel) = kernel else {
            self.refused += 1;
            return Ok(Ok(None));
        };
        let native = self.native.shoot(shot);
        let drop = if native.verdict.0 == 6 { native.verdict.1 } else { 0 };
        *self.verdicts.entry((native.verdict.0, drop)).or_default() += 1;
        if native != kernel {
            let what = match () {
                () if native.verdict != kernel.verdict => "verdicts",
                () if native.packet != kernel.packet => "packets",
                () => "random numbers drawn",
            };
            return Ok(Err(difference(index, what, &native, &kernel)));
        }
        let v6 = shot.bytes.get(12..14) == Some(&[0x86, 0xdd]);
        Ok(match self.compare_flows(index, v6)? {
            Some(difference) => Err(difference),
            None => Ok(Some(native)),
        })
    }

    fn compare_flows(&self, index: usize, v6: bool) -> Result<Option<Difference>, String> {
        let kernel = self.kernel.flows(v6).map_err(|error| format!("reading flow tables: {error}"))?;
        let native = self.native.flows(v6);
        let what =
            ["entries of the main flow table", "entries of the half-open table", "entries of affinity"];
        let differing = (0..3).find(|table| native[*table] != kernel[*table]);
        Ok(differing.map(|t| Difference {
            step: index,
            what: what[t],
            native: only(&native, &kernel, t),
            kernel: only(&kernel, &native, t),
        }))
    }

    /// Compares what is only looked at when everything has happened.
    pub fn finish(self) -> Result<Option<Difference>, String> {
        let text = |error: std::io::Error| format!("reading counters: {error}");
        for v6 in [false, true] {
            if let Some(difference) = self.compare_flows(self.steps, v6)? {
                return Ok(Some(difference));
            }
        }
        let (native, kernel) = (self.native.counters(), self.kernel.counters().map_err(text)?);
        if native != kernel {
            return Ok(Some(difference(self.steps, "counters of drops", &native, &kernel)));
        }
        let (native, kernel) = (self.native.rules(), self.kernel.rules(&self.world).map_err(text)?);
        let differ = native != kernel;
        Ok(differ.then(|| difference(self.steps, "counters of rules", &native, &kernel)))
    }

    fn change(&mut self, step: &Step) -> Result<(), String> {
        let text = |error: std::io::Error| format!("{step}: {error}");
        if let Step::Leave { service, ordinal } = step {
            self.native.leave(&self.world, *service, *ordinal);
            return self.kernel.leave(&self.world, *service, *ordinal).map_err(text);
        }
        if let Step::Unreachable { slot } = step {
            if self.world.next_hops.contains_key(slot) {
                self.world.next_hops.insert(*slot, NextHop::new_zeroed());
                self.kernel.set_next_hop(&self.world, *slot).map_err(text)?;
                self.native.set_next_hop(&self.world, *slot);
            }
            return Ok(());
        }
        let slot = match step {
            Step::Generation { slot, .. } | Step::Program { slot, .. } | Step::Ready { slot, .. } => *slot,
            Step::Replace { slot } | Step::Remove { slot } => *slot,
            Step::Packet(_) | Step::Wait(_) | Step::Sweep => return Ok(()),
            Step::Unreachable { .. } | Step::Leave { .. } => return Ok(()),
        };
        if let Step::Replace { .. } = step
            && self.world.endpoints.contains_key(&slot)
        {
            self.world.replace(slot);
        }
        let Some(endpoint) = self.world.endpoints.get_mut(&slot) else { return Ok(()) };
        match step {
            Step::Generation { egress: true, .. } => endpoint.egress_generation += 1,
            Step::Generation { .. } => endpoint.ingress_generation += 1,
            Step::Program { egress: true, program, .. } => endpoint.egress_program = *program,
            Step::Program { program, .. } => endpoint.ingress_program = *program,
            Step::Ready { ready: true, .. } => endpoint.flags |= endpoint_flags::READY,
            Step::Ready { .. } => endpoint.flags &= !endpoint_flags::READY,
            Step::Remove { .. } => *endpoint = Endpoint::new_zeroed(),
            _ => {}
        }
        self.kernel.set_endpoint(&self.world, slot).map_err(text)?;
        self.native.set_endpoint(&self.world, slot);
        Ok(())
    }
}

/// Runs a whole script. `Ok(None)`: no difference.
pub fn run(kernel: &mut Kernel, script: &Script) -> Result<Option<Difference>, String> {
    let mut session = Session::start(kernel, script.world, script.seed)?;
    for step in &script.steps {
        if let Err(difference) = session.step(step)? {
            return Ok(Some(difference));
        }
    }
    session.finish()
}

fn difference(
    step: usize,
    what: &'static str,
    native: &impl fmt::Debug,
    kernel: &impl fmt::Debug,
) -> Difference {
    Difference { step, what, native: format!("{native:?}"), kernel: format!("{kernel:?}") }
}

/// The entries of one table that the other side does not have like that.
fn only(these: &Dump, those: &Dump, table: usize) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let differing = these[table].iter().filter(|(key, value)| those[table].get(*key) != Some(value));
    let lines: Vec<String> = differing.map(|(key, value)| format!("{} = {}", hex(key), hex(value))).collect();
    if lines.is_empty() { "nothing the other side has not".to_owned() } else { lines.join("\n          ") }
}
