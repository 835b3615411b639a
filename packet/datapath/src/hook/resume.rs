//! After a policy program: read its answer, ask the next end, or go on. And where no end had one to be asked: record the flow.

use super::{finish, known};
use crate::family::Family;
use crate::kernel::Kernel;
use crate::stage::{flow, policy};
use crate::state::{State, phase};
use crate::verdict::{Next, Step};
use tortie_abi::DropReason;

/// Goes on where [`Next::Policy`] or [`Next::Admit`] left off.
#[inline(always)]
pub fn resume<F: Family, K: Kernel<F>>(k: &K, s: &mut State<F>) -> Next {
    let step = resumed(k, s);
    finish(s, step)
}

#[inline(always)]
fn resumed<F: Family, K: Kernel<F>>(k: &K, s: &mut State<F>) -> Step<Next> {
    match s.phase {
        phase::NEW_EGRESS | phase::NEW_INGRESS | phase::AGAIN_EGRESS | phase::AGAIN_INGRESS => {
            if let Err(denied) = policy::answer(k, s) {
                if flow::is_own_answer(k, s) {
                    flow::end(k, s)?;
                }
                return Err(denied);
            }
            known::allowed(s);
        }
        phase::NEW_ALLOWED | phase::AGAIN_ALLOWED => {}
        _ => return Err(DropReason::Internal),
    }
    known::admit(k, s)
}
