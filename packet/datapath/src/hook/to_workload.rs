//! Packets from the host's stack to a pod.

use super::{finish, known};
use crate::family::Family;
use crate::kernel::Kernel;
use crate::stage::flow::Found;
use crate::stage::{exit, flow, parse};
use crate::state::{State, phase};
use crate::verdict::{Next, Step};
use tortie_abi::DropReason;
use tortie_abi::flow::flags;
use tortie_abi::route::Kind;

/// A packet enters a pod from the host's stack.
#[inline(always)]
pub fn to_workload<F: Family, K: Kernel<F>>(k: &K, s: &mut State<F>) -> Next {
    let step = entering(k, s);
    finish(s, step)
}

#[inline(always)]
fn entering<F: Family, K: Kernel<F>>(k: &K, s: &mut State<F>) -> Step<Next> {
    if exit::is_seen(k)? {
        return Ok(Next::Pass);
    }
    parse::ip(k, s)?;
    parse::transport(k, s)?;
    if parse::is_link_control(s) {
        return Ok(Next::Pass);
    }
    parse::refuse_martians(s)?;
    if parse::is_icmp_error(s) {
        return Ok(Next::Related);
    }
    match flow::lookup(k, s)? {
        Found::Known => known::recognise(k, s)?,
        Found::New | Found::Gone => {
            if let Some(next) = opening(k, s)? {
                return Ok(next);
            }
        }
    }
    known::proceed(k, s)
}

/// The node always reaches its own pods; what it forwards for others meets their policy.
#[inline(always)]
fn opening<F: Family, K: Kernel<F>>(k: &K, s: &mut State<F>) -> Step<Option<Next>> {
    s.translated = s.tuple;
    s.target = k.endpoint(s.slot, |e| e.id).ok_or(DropReason::Internal)?;
    let from_host = matches!(k.route(&s.tuple.source), Some(r) if r.kind == Kind::Host as u8);
    if from_host {
        s.flow_flags |= flags::FROM_HOST;
        s.phase = phase::NEW_ALLOWED;
        return Ok(None);
    }
    if !parse::opens(s) {
        return Err(DropReason::NoFlow);
    }
    s.server_slot = s.slot;
    s.phase = phase::NEW_EGRESS;
    Ok(None)
}
