//! What happens in a session, one line each: the form in which a difference is printed and kept.

use std::fmt;
use std::str::FromStr;
use tortie_abi::Hook;

/// A packet at a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shot {
    /// Where it is met.
    pub hook: Hook,
    /// The endpoint whose interface that is; 0 at other hooks.
    pub slot: u32,
    /// Its firewall mark.
    pub mark: u32,
    /// Many packets in one buffer.
    pub aggregate: bool,
    /// The frame.
    pub bytes: Vec<u8>,
}

/// What happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A packet arrives.
    Packet(Shot),
    /// Milliseconds pass.
    Wait(u64),
    /// An endpoint's policies change: the generation grows.
    Generation {
        /// Endpoint.
        slot: u32,
        /// Of its egress or its ingress policy.
        egress: bool,
    },
    /// Another program, or none, decides for an endpoint.
    Program {
        /// Endpoint.
        slot: u32,
        /// Its egress or its ingress policy.
        egress: bool,
        /// Slot of `policy`.
        program: u32,
    },
    /// An endpoint's programs are in force, or not.
    Ready {
        /// Endpoint.
        slot: u32,
        /// In force.
        ready: bool,
    },
    /// An endpoint goes, and another takes its slot, with the same address.
    Replace {
        /// Endpoint.
        slot: u32,
    },
    /// An endpoint goes.
    Remove {
        /// Endpoint.
        slot: u32,
    },
    /// A next hop goes.
    Unreachable {
        /// Next hop.
        slot: u32,
    },
    /// A back end leaves a Service.
    Leave {
        /// Last number of the Service's address.
        service: u32,
        /// Which of its back ends.
        ordinal: u32,
    },
    /// The flow tables are swept.
    Sweep,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Packet(Shot { hook, slot, mark, aggregate, bytes }) => {
                write!(f, "packet {} {slot} {mark:#x} {} ", hook.name(), u8::from(*aggregate))?;
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
            Self::Wait(millis) => write!(f, "wait {millis}"),
            Self::Generation { slot, egress } => write!(f, "generation {slot} {}", u8::from(*egress)),
            Self::Program { slot, egress, program } => {
                write!(f, "program {slot} {} {program}", u8::from(*egress))
            }
            Self::Ready { slot, ready } => write!(f, "ready {slot} {}", u8::from(*ready)),
            Self::Replace { slot } => write!(f, "replace {slot}"),
            Self::Remove { slot } => write!(f, "remove {slot}"),
            Self::Unreachable { slot } => write!(f, "unreachable {slot}"),
            Self::Leave { service, ordinal } => write!(f, "leave {service} {ordinal}"),
            Self::Sweep => write!(f, "sweep"),
        }
    }
}

impl FromStr for Step {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        parse(line).ok_or_else(|| format!("not a step: {line:?}"))
    }
}

fn parse(line: &str) -> Option<Step> {
    let mut words = line.split_whitespace();
    let kind = words.next()?;
    let mut number = || words.next().and_then(|word| word.parse::<u32>().ok());
    Some(match kind {
        "packet" => return packet(line),
        "wait" => Step::Wait(u64::from(number()?)),
        "generation" => Step::Generation { slot: number()?, egress: number()? != 0 },
        "program" => Step::Program { slot: number()?, egress: number()? != 0, program: number()? },
        "ready" => Step::Ready { slot: number()?, ready: number()? != 0 },
        "replace" => Step::Replace { slot: number()? },
        "remove" => Step::Remove { slot: number()? },
        "unreachable" => Step::Unreachable { slot: number()? },
        "leave" => Step::Leave { service: number()?, ordinal: number()? },
        "sweep" => Step::Sweep,
        _ => return None,
    })
}

fn packet(line: &str) -> Option<Step> {
    let mut words = line.split_whitespace().skip(1);
    let hook = words.next()?;
    let hook = Hook::ALL.into_iter().find(|h| h.name() == hook)?;
    let slot = words.next()?.parse().ok()?;
    let mark = u32::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?;
    let aggregate = words.next()? == "1";
    let bytes = hex(words.next().unwrap_or_default())?;
    Some(Step::Packet(Shot { hook, slot, mark, aggregate, bytes }))
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect();
    Some(digits?.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// A whole session: the world it happens in, and the steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// [`crate::world::World::number`].
    pub world: u32,
    /// Seed of what the programs take for random.
    pub seed: u32,
    /// What happens.
    pub steps: Vec<Step>,
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "world {} {}", self.world, self.seed)?;
        self.steps.iter().try_for_each(|step| writeln!(f, "{step}"))
    }
}

impl FromStr for Script {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let head = lines.next().and_then(|line| line.strip_prefix("world "));
        let (world, seed) =
            head.and_then(|rest| rest.split_once(' ')).ok_or("no line `world NUMBER SEED`")?;
        let number = |text: &str| text.trim().parse::<u32>().map_err(|error| format!("{text:?}: {error}"));
        let steps = lines.map(str::parse).collect::<Result<_, _>>()?;
        Ok(Self { world: number(world)?, seed: number(seed)?, steps })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_reads_back_as_it_was_printed() {
        let shot =
            Shot { hook: Hook::ToWorkload, slot: 2, mark: 0x1f, aggregate: true, bytes: vec![0, 255, 16] };
        let steps = vec![
            Step::Packet(shot),
            Step::Wait(17),
            Step::Generation { slot: 1, egress: true },
            Step::Program { slot: 1, egress: false, program: 3 },
            Step::Ready { slot: 2, ready: false },
            Step::Replace { slot: 3 },
            Step::Remove { slot: 3 },
            Step::Unreachable { slot: 1 },
            Step::Leave { service: 11, ordinal: 2 },
            Step::Sweep,
        ];
        let script = Script { world: 5, seed: 77, steps };
        assert_eq!(script.to_string().parse(), Ok(script));
        assert!("world 1 2\nfly".parse::<Script>().is_err());
    }
}
