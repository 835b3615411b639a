//! Packets from the network.

use super::{finish, known};
use crate::family::Family;
use crate::kernel::Kernel;
use crate::stage::flow::Found;
use crate::stage::{collision, flow, parse, route, service, source};
use crate::state::State;
use crate::verdict::{Next, Step};
use tortie_abi::DropReason;
use tortie_abi::route::Kind;
use tortie_abi::settings::TUNNEL_PORT;
use tortie_wire::Be16;
use tortie_wire::proto::IpProtocol;

/// A packet arrives at a data interface.
#[inline(always)]
pub fn from_host_device<F: Family, K: Kernel<F>>(k: &K, s: &mut State<F>) -> Next {
    let step = arriving(k, s);
    finish(s, step)
}

#[inline(always)]
fn arriving<F: Family, K: Kernel<F>>(k: &K, s: &mut State<F>) -> Step<Next> {
    // Such a frame belongs to a VLAN device above.
    if k.vlan() != 0 {
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
    if is_tunnel(k, s)? {
        return Ok(Next::Pass);
    }
    match flow::lookup(k, s)? {
        // No node is there that could move the port: the client has to.
        Found::Known if collision::is_met_outside(s) => {
            return flow::reset(s, DropReason::SourcePortCollision);
        }
        Found::Known => known::recognise(k, s)?,
        Found::New if parse::opens(s) => return Ok(Next::Open),
        Found::New => return unknown_flow(k, s),
        Found::Gone => return flow::refuse(s),
    }
    known::proceed(k, s)
}

/// The tunnel's own packets: what is inside is judged when it comes out.
#[inline(always)]
fn is_tunnel<F: Family, K: Kernel<F>>(k: &K, s: &State<F>) -> Step<bool> {
    if s.tuple.protocol != IpProtocol::UDP.0 || s.tuple.destination_port != Be16::new(TUNNEL_PORT) {
        return Ok(false);
    }
    let own = k.settings(F::node_address).ok_or(DropReason::Internal)?;
    Ok(s.tuple.destination == own)
}

/// In the middle of a connection that nobody here knows: a pod gets none of it, a Service that is led by hash may have
/// been asked at another node, what no Service or pod has does not go round, and the host may know more.
#[inline(always)]
fn unknown_flow<F: Family, K: Kernel<F>>(k: &K, s: &mut State<F>) -> Step<Next> {
    match route::kind(k, &s.tuple.destination) {
        Some(Kind::LocalPod) => {}
        // No address that moves from node to node, and most of what the host's stack gets.
        Some(Kind::Host) => return Ok(Next::Pass),
        _ if parse::continues(s) && service::is_anywhere(k, s) => return Ok(Next::Open),
        Some(Kind::Services) if route::ends_loops(k)? => return Err(DropReason::NoService),
        kind => return route::to_host(k, s, kind),
    }
    source::check_from_outside(k.route(&s.tuple.source))?;
    flow::refuse(s)
}

/// What cannot be read is dropped when it is for a pod; everything else is the host's business.
#[inline(always)]
fn not_for_us_or<F: Family, K: Kernel<F>>(k: &K, s: &State<F>, reason: DropReason) -> Step<Next> {
    match route::kind(k, &s.tuple.destination) {
        Some(Kind::LocalPod) => Err(reason),
        kind => route::to_host(k, s, kind),
    }
}
