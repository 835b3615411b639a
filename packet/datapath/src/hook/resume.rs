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
    finish(resumed(k, s))
}

#[inline(always)]
fn resumed<F: Family, K: Kernel<F>>(k: &K, s: &mut State<F>) -> Step<Next> {
    policy::answer(k, s)?;
    match s.phase {
        phase::NEW_EGRESS => known::new_server(k, s),
        phase::NEW_INGRESS => known::admit(k, s),
        phase::AGAIN_EGRESS => known::known_server(k, s),
        phase::AGAIN_INGRESS => known::readmit(k, s),
        _ => Err(DropReason::Internal),
    }
}
