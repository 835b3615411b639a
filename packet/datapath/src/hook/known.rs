//! What every hook does once it has a flow: both ends' policies where they have to be asked, then the way out.
//!
//! One path for new and known flows, driven by [`phase`], so that every program has each stage once.

use crate::family::Family;
use crate::kernel::Kernel;
use crate::stage::policy::{self, Ask};
use crate::stage::{exit, flow};
use crate::state::{State, phase};
use crate::verdict::{Next, Step};

/// A known flow: policy is asked only when it has changed since it admitted the flow.
#[inline(always)]
pub fn recognise<F: Family, K: Kernel<F>>(k: &K, s: &mut State<F>) -> Step<()> {
    s.phase = phase::CURRENT;
    if !policy::is_current(k, s)? {
        policy::restore_tuple(k, s)?;
        s.phase = phase::AGAIN_EGRESS;
    }
    Ok(())
}

/// Goes on from `s.phase`: asks the ends that are still to be asked, the client's first, records what they
/// allow, and sends the packet on its way.
#[inline(always)]
pub fn proceed<F: Family, K: Kernel<F>>(k: &K, s: &mut State<F>) -> Step<Next> {
    if s.phase == phase::NEW_EGRESS || s.phase == phase::AGAIN_EGRESS {
        if policy::ask_client(k, s)? == Ask::Program {
            return Ok(Next::Policy);
        }
        allowed(s);
    }
    if s.phase == phase::NEW_INGRESS || s.phase == phase::AGAIN_INGRESS {
        if policy::ask_server(k, s)? == Ask::Program {
            return Ok(Next::Policy);
        }
        allowed(s);
    }
    match s.phase {
        phase::NEW_ALLOWED => flow::create(k, s)?,
        phase::AGAIN_ALLOWED => flow::set_generation(k, s)?,
        _ => {}
    }
    exit::leave(k, s)
}

/// The end that was asked allows it: on to the next.
#[inline(always)]
pub fn allowed<F: Family>(s: &mut State<F>) {
    s.phase = s.phase.wrapping_add(1);
}
