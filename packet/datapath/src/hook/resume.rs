//! After a policy program: read its answer, ask the next end, or go on.

use super::{finish, known};
use crate::family::Family;
use crate::kernel::Kernel;
use crate::stage::policy;
use crate::state::{State, phase};
use crate::verdict::{Next, Step};
use tortie_abi::DropReason;

/// Goes on where [`Next::Policy`] left off.
#[inline(always)]
pub fn resume<F: Family, K: Kernel<F>>(k: &K, s: &mut State<F>) -> Next {
    let step = resumed(k, s);
    finish(s, step)
}

#[inline(always)]
fn resumed<F: Family, K: Kernel<F>>(k: &K, s: &mut State<F>) -> Step<Next> {
    match s.phase {
        phase::NEW_EGRESS | phase::NEW_INGRESS | phase::AGAIN_EGRESS | phase::AGAIN_INGRESS => {}
        _ => return Err(DropReason::Internal),
    }
    policy::answer(k, s)?;
    known::allowed(s);
    known::proceed(k, s)
}
