//! What every hook does once it has a flow: both ends' policies where they have to be asked, then the way out.
//!
//! One path for new and known flows, driven by [`phase`], so that every program has each stage once. What only new flows need is
//! in the program that comes after policy: the others stay small.

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

/// Goes on from `s.phase`: asks the ends that are still to be asked, the client's first, and sends the packet of a known flow
/// on its way. What both ends allow is recorded by the one program that has room for it.
#[inline(always)]
pub fn proceed<F: Family, K: Kernel<F>>(k: &K, s: &mut State<F>) -> Step<Next> {
    if asks(k, s)? {
        return Ok(Next::Policy);
    }
    if s.phase == phase::CURRENT { exit::leave(k, s) } else { Ok(Next::Admit) }
}

/// As [`proceed`], and records what both ends allow, in the program that comes after.
#[inline(always)]
pub fn admit<F: Family, K: Kernel<F>>(k: &K, s: &mut State<F>) -> Step<Next> {
    if asks(k, s)? {
        return Ok(Next::Policy);
    }
    match s.phase {
        phase::NEW_ALLOWED => flow::create(k, s)?,
        phase::AGAIN_ALLOWED => flow::set_generation(k, s)?,
        _ => {}
    }
    exit::leave(k, s)
}

/// Is the program of an end to be asked? Ends without one allow everything.
#[inline(always)]
fn asks<F: Family, K: Kernel<F>>(k: &K, s: &mut State<F>) -> Step<bool> {
    if s.phase == phase::NEW_EGRESS || s.phase == phase::AGAIN_EGRESS {
        if policy::ask_client(k, s)? == Ask::Program {
            return Ok(true);
        }
        allowed(s);
    }
    if s.phase == phase::NEW_INGRESS || s.phase == phase::AGAIN_INGRESS {
        if policy::ask_server(k, s)? == Ask::Program {
            return Ok(true);
        }
        allowed(s);
    }
    Ok(false)
}

/// The end that was asked allows it: on to the next.
#[inline(always)]
pub fn allowed<F: Family>(s: &mut State<F>) {
    s.phase = s.phase.wrapping_add(1);
}
