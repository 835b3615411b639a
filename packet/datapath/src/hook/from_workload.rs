//! Packets leaving a pod.

use super::{finish, known};
use crate::family::Family;
use crate::kernel::Kernel;
use crate::stage::flow::Found;
use crate::stage::service::{Choice, Side};
use crate::stage::{flow, masquerade, parse, route, service, source};
use crate::state::{State, phase};
use crate::verdict::{Next, Step};
use tortie_abi::DropReason;
use tortie_abi::route::Kind;

/// A packet leaves a pod.
#[inline(always)]
pub fn from_workload<F: Family, K: Kernel<F>>(k: &K, s: &mut State<F>) -> Next {
    let step = leaving(k, s);
    finish(s, step)
}

#[inline(always)]
fn leaving<F: Family, K: Kernel<F>>(k: &K, s: &mut State<F>) -> Step<Next> {
    if k.has_vlan_tag() {
        return Err(DropReason::VlanTag);
    }
    parse::ip(k, s)?;
    let is_first_fragment = parse::headers(k, s)?;
    if parse::is_from_router(s) {
        return Err(DropReason::RouterImpersonation);
    }
    if parse::is_link_control(s) && stays_on_link(k, s) {
        source::check_neighbour(k, s)?;
        return Ok(Next::Pass);
    }
    parse::refuse_martians(s)?;
    source::check_not_spoofed(k, s)?;
    if is_first_fragment {
        parse::learn_ports(k, s);
    }
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

/// Neighbour discovery is between the pod and the node; addressed to others it is a packet like any other.
#[inline(always)]
fn stays_on_link<F: Family, K: Kernel<F>>(k: &K, s: &State<F>) -> bool {
    F::is_link_scope(&s.tuple.destination)
        || matches!(k.route(&s.tuple.destination), Some(r) if r.kind == Kind::Host as u8)
}

/// Finds both ends of a new flow, or says what else becomes of the packet.
#[inline(always)]
fn opening<F: Family, K: Kernel<F>>(k: &K, s: &mut State<F>) -> Step<Option<Next>> {
    if !parse::opens(s) {
        return flow::refuse(s).map(Some);
    }
    if service::choose(k, s, Side::Inside)? == Choice::Refuse {
        return Ok(Some(Next::Reply));
    }
    source::check_not_encapsulated(k, s)?;
    let kind = route::find(k, s)?;
    if kind == Some(Kind::Services) {
        return Ok(Some(Next::Reply));
    }
    masquerade::choose(k, s, kind)?;
    s.client_slot = s.slot;
    s.reply_target = k.endpoint(s.slot, |e| e.id).ok_or(DropReason::Internal)?;
    s.phase = phase::NEW_EGRESS;
    Ok(None)
}
