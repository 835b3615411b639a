//! A flow begins at a data interface: from outside to a pod or a Service, or from this node to a Service; or it
//! comes out of the tunnel.
//!
//! A program of its own: what every packet needs stays small, and both directions share it.

use super::{finish, known};
use crate::family::Family;
use crate::kernel::Kernel;
use crate::stage::service::{Choice, Side};
use crate::stage::{direct, exit, join, outside, route, service, source};
use crate::state::{NO_SLOT, State, phase};
use crate::verdict::{Next, Step};
use tortie_abi::flow::flags;
use tortie_abi::route::{Kind, Route};
use tortie_abi::target::TargetKind;
use tortie_abi::{DropReason, Hook, Target};

/// Goes on where [`Next::Open`] left off.
#[inline(always)]
pub fn open<F: Family, K: Kernel<F>>(k: &K, s: &mut State<F>) -> Next {
    let step = opened(k, s);
    finish(s, step)
}

#[inline(always)]
fn opened<F: Family, K: Kernel<F>>(k: &K, s: &mut State<F>) -> Step<Next> {
    if s.is_at(Hook::ToHostDevice) {
        return from_host(k, s);
    }
    if s.is_at(Hook::FromTunnel) {
        // A pod or process of this node may have asked an address of the other's that nobody here knows as a node's; but nobody
        // is answered by himself.
        if s.tuple.source == s.tuple.destination {
            return Err(DropReason::SourceSpoofed);
        }
        // The other node has chosen the back end and translated.
        s.translated = s.tuple;
        match route::find(k, s)? {
            Some(Kind::LocalPod | Kind::Host) => {}
            _ => return Err(DropReason::NoTunnel),
        }
    } else {
        // Clients in the cluster come here only for a node port that leads to this node's back ends alone.
        if service::choose(k, s, Side::Outside)? == Choice::Refuse {
            return Ok(Next::Reply);
        }
        let is_service = s.flow_flags & flags::SERVICE != 0;
        let kind = route::find(k, s)?;
        if kind == Some(Kind::Services) {
            return Ok(Next::Reply);
        }
        if !is_service && kind != Some(Kind::LocalPod) {
            return route::to_host(k, s, kind);
        }
        // Not before: the compiler would carry a route that is not there past the questions above.
        let from = k.route(&s.tuple.source);
        source::check_from_outside(from)?;
        s.reply_target = way_back(k, s, from, is_service);
        match kind {
            Some(Kind::LocalPod | Kind::Host) => {}
            _ => through_tunnel(k, s)?,
        }
    }
    if join::takes_up(k, s)? {
        known::recognise(k, s)?;
    } else {
        s.phase = phase::NEW_EGRESS;
    }
    known::proceed(k, s)
}

/// A process of this node; only Services are our business.
#[inline(always)]
fn from_host<F: Family, K: Kernel<F>>(k: &K, s: &mut State<F>) -> Step<Next> {
    if service::choose(k, s, Side::Inside)? == Choice::Refuse {
        return Ok(Next::Reply);
    }
    if s.flow_flags & flags::SERVICE == 0 {
        return Ok(Next::Pass);
    }
    route::find(k, s)?;
    // The node always reaches its own pods, and no rules of a pod are about what it sends.
    s.flow_flags |= flags::FROM_HOST;
    // A pod's interface has no address, and a node's own address is no source for anything that comes in.
    if s.server_slot != NO_SLOT || k.ifindex() == exit::LOOPBACK {
        s.flow_flags |= flags::LOOPBACK;
    }
    s.phase = phase::NEW_ALLOWED;
    known::proceed(k, s)
}

/// A back end on another node: it sees the client as it is, so that its answers must be led back through here, or its
/// node be told under which address to answer.
#[inline(always)]
fn through_tunnel<F: Family, K: Kernel<F>>(k: &K, s: &mut State<F>) -> Step<()> {
    let tunnel = k.settings(|c| c.tunnel_ifindex).ok_or(DropReason::Internal)?;
    if tunnel == 0 || s.target.kind() != TargetKind::NextHop {
        return Err(DropReason::NoTunnel);
    }
    s.flow_flags |= flags::TUNNEL;
    if s.reply_target.kind() == TargetKind::Device && direct::is_wanted(k, s)? {
        s.flow_flags |= flags::DIRECT;
    }
    Ok(())
}

/// A reply under a Service's address must not meet the stack, which takes its own address as source for a
/// forgery: it leaves by the interface that the request came in by, unless another one leads to the client.
#[inline(always)]
fn way_back<F: Family, K: Kernel<F>>(k: &K, s: &State<F>, from: Option<Route>, is_service: bool) -> Target {
    let known = from.map_or(Target::HOST, |r| r.target);
    if !is_service || known != Target::HOST {
        return known;
    }
    let arrival = k.ifindex();
    let way = outside::way::<F, K>(k, arrival, &s.tuple.destination, &s.tuple.source);
    Target::device(way.unwrap_or(arrival))
}
