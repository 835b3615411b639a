//! Preambles on workload interfaces.
//!
//! Invariant: a preamble is recognised by its name, which holds direction and slot, and by the program
//! array it calls; one that calls another array is replaced.

use crate::bpf::{Map, Program};
use crate::links::{Direction, LinkError, Links};
use crate::policy::load_preamble;
use std::collections::BTreeMap;
use std::os::fd::AsFd as _;
use std::rc::Rc;
use tortie_policy::preamble::{Towards, preamble};
use tortie_reconcile::{HookError, Hooks};

/// The links of workload interfaces.
#[derive(Debug)]
pub struct WorkloadHooks {
    links: Rc<Links>,
    stage: Map,
}

const DIRECTIONS: [(Direction, Towards, &str); 2] =
    [(Direction::Ingress, Towards::FromWorkload, "fw_"), (Direction::Egress, Towards::ToWorkload, "tw_")];

fn kernel(error: impl std::fmt::Display) -> HookError {
    HookError::Kernel(error.to_string())
}

impl WorkloadHooks {
    /// Over the links and the program array `stage`.
    pub fn new(links: Rc<Links>, stage: Map) -> Self {
        Self { links, stage }
    }

    /// The slot of a preamble of ours that leads into our `stage`.
    fn slot_of(&self, program_id: u32, prefix: &str) -> Option<u32> {
        let program = Program::by_id(program_id).ok()?;
        if !program.map_ids().ok()?.contains(&self.stage.info().id) {
            return None;
        }
        program.info().ok()?.name.strip_prefix(prefix)?.parse().ok()
    }
}

impl Hooks for WorkloadHooks {
    fn list(&mut self) -> Result<Vec<(String, u32, u32)>, HookError> {
        let mut slots: BTreeMap<(String, u32), Vec<u32>> = BTreeMap::new();
        for found in self.links.attached().map_err(kernel)? {
            let prefix = DIRECTIONS.iter().find(|(d, _, _)| *d == found.direction).map_or("", |(_, _, p)| *p);
            if found.ifindex != 0
                && let Some(slot) = self.slot_of(found.program_id, prefix)
            {
                slots.entry((found.interface, found.ifindex)).or_default().push(slot);
            }
        }
        let both = |((name, ifindex), slots): ((String, u32), Vec<u32>)| match slots[..] {
            [a, b] if a == b => Some((name, ifindex, a)),
            _ => None,
        };
        Ok(slots.into_iter().filter_map(both).collect())
    }

    fn attach(&mut self, interface: &str, ifindex: u32, slot: u32) -> Result<(), HookError> {
        for (direction, towards, prefix) in DIRECTIONS {
            let name = format!("{prefix}{slot}");
            let code = preamble(slot, towards).map_err(kernel)?;
            let program = load_preamble(&name, &code, self.stage.as_fd()).map_err(kernel)?;
            match self.links.attach_at_once(interface, ifindex, direction, &program) {
                Ok(_) => {}
                Err(LinkError::Gone(_)) => return Err(HookError::Gone),
                Err(error) => return Err(kernel(error)),
            }
        }
        Ok(())
    }

    fn detach(&mut self, interface: &str, ifindex: u32) -> Result<(), HookError> {
        for (direction, _, _) in DIRECTIONS {
            self.links.detach(interface, ifindex, direction).map_err(kernel)?;
        }
        Ok(())
    }
}
