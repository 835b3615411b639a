//! One direction of a workload: what decides it, and since which generation.
//!
//! Owns: when the generation changes. Does not: write records.
//! Invariant: another basis is another generation, and none outlives its part of the ring; without a basis there is none,
//! and the record is not READY.

use crate::generations::Generations;
use crate::policies::Policies;
use tortie_abi::endpoint::NO_PROGRAM;
use tortie_intent::{ListId, Rules};

/// What decides one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Basis {
    AllowAll,
    List {
        slot: u32,
        version: u64,
    },
    /// What was in force before the agent started, until it is known what should be.
    Kept(u32),
}

/// One direction of a workload.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Side {
    pub(super) basis: Option<Basis>,
    pub(super) generation: u32,
}

impl Side {
    pub(super) fn advance(&mut self, rules: Rules, policies: &Policies, generations: &mut Generations) {
        let basis = match rules {
            Rules::Unknown => None,
            Rules::AllowAll => Some(Basis::AllowAll),
            Rules::List(id) => match policies.in_force(id) {
                Some(now) => Some(Basis::List { slot: now.slot, version: now.version }),
                None => self.meanwhile(id, policies),
            },
        };
        let is_kept = basis == self.basis && (basis.is_none() || generations.is_fresh(self.generation));
        if !is_kept {
            self.basis = basis;
            self.generation = if basis.is_some() { generations.take() } else { 0 };
        }
    }

    /// What decides while a list is not in force: what did before. A program of an earlier agent whose sets nobody
    /// knows any more does not outlast the attempt to replace it: the classes it asks about mean something else now.
    fn meanwhile(&self, id: ListId, policies: &Policies) -> Option<Basis> {
        match self.basis {
            Some(Basis::List { slot, .. }) => policies
                .in_force_at(slot)
                .map(|now| Basis::List { slot, version: now.version })
                .or(self.basis),
            Some(Basis::Kept(_)) if policies.is_refused(id) => None,
            basis => basis,
        }
    }

    pub(super) fn program(&self) -> u32 {
        match self.basis {
            Some(Basis::List { slot, .. } | Basis::Kept(slot)) => slot,
            Some(Basis::AllowAll) | None => NO_PROGRAM,
        }
    }

    /// What was there before the agent started goes on where it is still what is wanted.
    pub(super) fn adopt(&mut self, rules: Rules, program: u32, generation: u32, policies: &Policies) {
        if generation == 0 {
            return;
        }
        let same = match rules {
            Rules::AllowAll if program == NO_PROGRAM => Some(Basis::AllowAll),
            Rules::List(id) if policies.is_adopted(id) => policies
                .in_force(id)
                .filter(|now| now.slot == program)
                .map(|now| Basis::List { slot: now.slot, version: now.version }),
            _ => None,
        };
        let kept = if program == NO_PROGRAM { Basis::AllowAll } else { Basis::Kept(program) };
        self.basis = Some(same.unwrap_or(kept));
        self.generation = generation;
    }

    pub(super) fn is_settled(&self, rules: Rules, policies: &Policies) -> bool {
        match rules {
            Rules::Unknown => false,
            Rules::AllowAll => self.basis == Some(Basis::AllowAll),
            Rules::List(id) => {
                let now =
                    policies.in_force(id).map(|now| Basis::List { slot: now.slot, version: now.version });
                now.is_some() && now == self.basis && policies.is_settled(id)
            }
        }
    }
}
