//! Owns: where a new flow's packets go. Invariant: an address nobody told us about goes to the host's
//! stack, which knows more; one that nobody has of Services, or of this node's pods, does not go round.

use crate::family::Family;
use crate::kernel::{Kernel, Topology};
use crate::state::{State, answer};
use crate::verdict::{Next, Step};
use tortie_abi::route::Kind;
use tortie_abi::settings::flags;
use tortie_abi::{DropReason, Hook, Target};

/// Finds the target of the translated destination, and the server's endpoint when it is here. [`Kind::Services`]: the
/// sender is to be told that nobody serves there (`s.answer`).
#[inline(always)]
pub fn find<F: Family, K: Topology<F>>(k: &K, s: &mut State<F>) -> Step<Option<Kind>> {
    s.target = Target::HOST;
    let Some(route) = k.route(&s.translated.destination) else {
        // Nobody routes these: the host's stack would take them for itself.
        if s.is_at(Hook::FromWorkload) && F::is_for_neighbours(&s.translated.destination) {
            refuse_to_host(k)?;
        }
        return Ok(None);
    };
    let kind = Kind::from_byte(route.kind);
    match kind {
        Some(Kind::LocalPod) => {
            s.target = route.target;
            s.server_slot = route.target.slot();
        }
        Some(Kind::RemotePod | Kind::RemoteHost) => s.target = route.target,
        Some(Kind::Host) if s.is_at(Hook::FromWorkload) => refuse_to_host(k)?,
        Some(Kind::Services) => return unserved(k, s),
        Some(Kind::Host | Kind::Pool | Kind::Blackhole) | None => {}
    }
    Ok(kind)
}

/// Nobody in the network has such an address: a router would send the packet back here (`serviceLoopPrevention`).
#[inline(always)]
fn unserved<F: Family, K: Topology<F>>(k: &K, s: &mut State<F>) -> Step<Option<Kind>> {
    let (mode, source) = k.settings(|c| (c.flags, F::error_source(c))).ok_or(DropReason::Internal)?;
    if mode & flags::DROP_TO_SERVICES != 0 {
        return Err(DropReason::NoService);
    }
    if mode & flags::REJECT_TO_SERVICES == 0 {
        return Ok(None);
    }
    s.reason = DropReason::NoService as u16;
    s.answer = answer::PORT_UNREACHABLE;
    s.answer_source = source;
    Ok(Some(Kind::Services))
}

/// From the network to what is neither a pod's nor a Service's. Where nobody we know has an address of this node's pods,
/// another CNI plugin's pod may, and the host's routes lead there; where they lead back to the network that the packet came
/// from, it would go round until its hops are used up.
#[inline(always)]
pub fn to_host<F: Family, K: Kernel<F>>(k: &K, s: &State<F>, kind: Option<Kind>) -> Step<Next> {
    let goes_round = || k.way_out(&s.tuple.source, &s.tuple.destination) == Some(k.ifindex());
    if kind == Some(Kind::Blackhole) && goes_round() {
        return Err(DropReason::Blackhole);
    }
    Ok(Next::Pass)
}

/// What an address is.
#[inline(always)]
pub fn kind<F: Family, K: Topology<F>>(k: &K, address: &F::Addr) -> Option<Kind> {
    k.route(address).and_then(|route| Kind::from_byte(route.kind))
}

/// Is `serviceLoopPrevention` on, in either way?
#[inline(always)]
pub fn ends_loops<F: Family, K: Topology<F>>(k: &K) -> Step<bool> {
    let either = flags::DROP_TO_SERVICES | flags::REJECT_TO_SERVICES;
    k.settings(|c| c.flags & either != 0).ok_or(DropReason::Internal)
}

#[inline(always)]
fn refuse_to_host<F: Family, K: Topology<F>>(k: &K) -> Step<()> {
    let refuse = k.settings(|c| c.flags & flags::DROP_TO_HOST != 0).ok_or(DropReason::Internal)?;
    if refuse { Err(DropReason::EndpointToHost) } else { Ok(()) }
}
