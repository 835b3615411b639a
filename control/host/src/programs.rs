//! The program array `policy`: generated programs in their slots.
//!
//! Invariant: a slot is swapped in one step, after program and tables are complete.

use crate::bpf::{Map, Program};
use crate::policy::{LoadedPolicy, PolicyError, Shared};
use crate::tables::table_error;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd as _;
use tortie_abi::maps::POLICY_SLOTS;
use tortie_policy::compile::{Compiled, TableWrite};
use tortie_reconcile::{KernelError, Programs, TableError};

/// The slots, and the tables of the programs in them.
#[derive(Debug)]
pub struct PolicySlots {
    slots: Map,
    policy_io: Map,
    stage: Map,
    loaded: BTreeMap<u32, LoadedPolicy>,
    /// Nobody has put a program into any of them yet.
    all_empty: bool,
}

impl PolicySlots {
    /// Over the three shared maps; of slots that are new nobody has to be asked what is in each.
    pub fn new(slots: Map, policy_io: Map, stage: Map, all_empty: bool) -> Self {
        Self { slots, policy_io, stage, loaded: BTreeMap::new(), all_empty }
    }

    fn program_in(&self, slot: u32) -> io::Result<Option<Program>> {
        let mut id = [0; 4];
        if !self.slots.lookup(&slot.to_ne_bytes(), &mut id)? {
            return Ok(None);
        }
        Program::by_id(u32::from_ne_bytes(id)).map(Some)
    }

    /// The program in a slot, with its tables; one from before a restart is opened.
    fn loaded(&mut self, slot: u32) -> Result<&LoadedPolicy, TableError> {
        if !self.loaded.contains_key(&slot) {
            let program = self.program_in(slot).map_err(|e| table_error("opening a policy program", &e))?;
            let program = program.ok_or(TableError::OutOfRange)?;
            let policy =
                LoadedPolicy::open(program).map_err(|e| table_error("opening a policy's tables", &e))?;
            self.loaded.insert(slot, policy);
        }
        self.loaded.get(&slot).ok_or(TableError::OutOfRange)
    }
}

fn policy_error(error: PolicyError) -> TableError {
    let text = match error {
        PolicyError::Load(error) => crate::verifier::VerifierError::from(error).to_string(),
        other => other.to_string(),
    };
    TableError::Kernel(KernelError { operation: "loading a policy program", errno: 0, text })
}

impl Programs for PolicySlots {
    fn list(&mut self) -> Result<Vec<(u32, String)>, TableError> {
        let mut found = Vec::new();
        if std::mem::take(&mut self.all_empty) {
            return Ok(found);
        }
        for slot in 0..POLICY_SLOTS {
            match self.program_in(slot) {
                Ok(None) => {}
                Ok(Some(program)) => {
                    let info = program.info().map_err(|e| table_error("asking for a policy program", &e))?;
                    found.push((slot, info.name));
                }
                // It was replaced between the two questions.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(table_error("reading the policy slots", &error)),
            }
        }
        Ok(found)
    }

    fn install(&mut self, slot: u32, name: &str, compiled: &Compiled) -> Result<(), TableError> {
        let shared = Shared { policy_io: self.policy_io.as_fd(), stage: self.stage.as_fd() };
        let policy = LoadedPolicy::load(name, compiled, shared).map_err(policy_error)?;
        self.slots
            .set_fd(slot, policy.program().as_fd())
            .map_err(|e| table_error("putting a policy program into its slot", &e))?;
        self.loaded.insert(slot, policy);
        self.all_empty = false;
        Ok(())
    }

    fn write(&mut self, slot: u32, writes: &[TableWrite]) -> Result<(), TableError> {
        let policy = self.loaded(slot)?;
        writes.iter().try_for_each(|write| policy.write(write)).map_err(policy_error)
    }

    fn clear(&mut self, slot: u32) -> Result<(), TableError> {
        self.slots.delete(&slot.to_ne_bytes()).map_err(|e| table_error("emptying a policy slot", &e))?;
        self.loaded.remove(&slot);
        Ok(())
    }
}
