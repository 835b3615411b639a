//! Packets from the network.

use super::{finish, known};
use crate::family::Family;
use crate::kernel::Kernel;
use crate::stage::flow::Found;
use crate::stage::{flow, parse, source};
use crate::state::{State, phase};
use crate::verdict::{Next, Step};
use tortie_abi::route::{Kind, Route};
use tortie_abi::{DropReason, Target};

/// A packet arrives at a data interface.
#[inline(always)]
pub fn from_host_device<F: Family, K: Kernel<F>>(k: &K, s: &mut State<F>) -> Next {
    let step = arriving(k, s);
    finish(s, step)
}

#[inline(always)]
fn arriving<F: Family, K: Kernel<F>>(k: &K, s: &mut State<F>) -> Step<Next> {
    // A tagged frame belongs to a VLAN device above.
    if k.has_vlan_tag() {
        return Ok(Next::Pass);
    }
    parse::ip(k, s)?;
    if let Err(reason) = parse::transport(k, s) {
        return not_for_us_or(k, s, reason);
    }
    // Whoever asks for an address has none yet.
    if parse::is_link_control(s) || s.tuple.source == F::UNSPECIFIED {
        return Ok(Next::Pass);
    }
    parse::refuse_martians(s)?;
    if parse::is_icmp_error(s) {
        return Ok(Next::Related);
    }
    match flow::lookup(k, s)? {
        Found::Known => known::recognise(k, s)?,
        Found::New => {
            if let Some(next) = opening(k, s)? {
                return Ok(next);
            }
        }
    }
    known::proceed(k, s)
}

/// Finds both ends of a new flow, or says what else becomes of the packet.
#[inline(always)]
fn opening<F: Family, K: Kernel<F>>(k: &K, s: &mut State<F>) -> Step<Option<Next>> {
    let Some(route) = local_pod(k, s) else { return Ok(Some(Next::Pass)) };
    let source = k.route(&s.tuple.source);
    source::check_from_outside(source)?;
    if !parse::opens(s) {
        return Err(DropReason::NoFlow);
    }
    s.translated = s.tuple;
    s.target = route.target;
    s.server_slot = route.target.slot();
    s.reply_target = source.map_or(Target::HOST, |r| r.target);
    s.phase = phase::NEW_EGRESS;
    Ok(None)
}

/// What cannot be read is dropped when it is for a pod; everything else is the host's business.
#[inline(always)]
fn not_for_us_or<F: Family, K: Kernel<F>>(k: &K, s: &State<F>, reason: DropReason) -> Step<Next> {
    match local_pod(k, s) {
        Some(_) => Err(reason),
        None => Ok(Next::Pass),
    }
}

#[inline(always)]
fn local_pod<F: Family, K: Kernel<F>>(k: &K, s: &State<F>) -> Option<Route> {
    k.route(&s.tuple.destination).filter(|r| r.kind == Kind::LocalPod as u8)
}
