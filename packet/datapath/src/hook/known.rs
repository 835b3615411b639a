//! What every hook does with a flow: a known one goes its way, a new one through both ends' policies.

use crate::family::Family;
use crate::kernel::Kernel;
use crate::stage::policy::{self, Ask};
use crate::stage::{exit, flow};
use crate::state::{State, phase};
use crate::verdict::{Next, Step};

/// A known flow: forward it, unless policy has changed since it was admitted.
#[inline(always)]
pub fn known<F: Family, K: Kernel<F>>(k: &K, s: &mut State<F>) -> Step<Next> {
    if policy::is_current(k, s)? {
        return exit::leave(k, s);
    }
    policy::restore_tuple(k, s)?;
    s.phase = phase::AGAIN_EGRESS;
    match policy::ask_client(k, s)? {
        Ask::Program(slot) => Ok(Next::Policy(slot)),
        Ask::Allowed => known_server(k, s),
    }
}

/// The client's end allows it: the server's end.
#[inline(always)]
pub fn known_server<F: Family, K: Kernel<F>>(k: &K, s: &mut State<F>) -> Step<Next> {
    s.phase = phase::AGAIN_INGRESS;
    match policy::ask_server(k, s)? {
        Ask::Program(slot) => Ok(Next::Policy(slot)),
        Ask::Allowed => readmit(k, s),
    }
}

/// Both ends allow it again.
#[inline(always)]
pub fn readmit<F: Family, K: Kernel<F>>(k: &K, s: &mut State<F>) -> Step<Next> {
    flow::set_generation(k, s)?;
    exit::leave(k, s)
}

/// A new flow, with its ends and target known: the client's end first.
#[inline(always)]
pub fn new<F: Family, K: Kernel<F>>(k: &K, s: &mut State<F>) -> Step<Next> {
    s.phase = phase::NEW_EGRESS;
    match policy::ask_client(k, s)? {
        Ask::Program(slot) => Ok(Next::Policy(slot)),
        Ask::Allowed => new_server(k, s),
    }
}

/// The client's end allows it: the server's end.
#[inline(always)]
pub fn new_server<F: Family, K: Kernel<F>>(k: &K, s: &mut State<F>) -> Step<Next> {
    s.phase = phase::NEW_INGRESS;
    match policy::ask_server(k, s)? {
        Ask::Program(slot) => Ok(Next::Policy(slot)),
        Ask::Allowed => admit(k, s),
    }
}

/// Both ends allow it.
#[inline(always)]
pub fn admit<F: Family, K: Kernel<F>>(k: &K, s: &mut State<F>) -> Step<Next> {
    flow::create(k, s)?;
    exit::leave(k, s)
}
