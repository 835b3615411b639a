//! Packets that another node sends on to this one: a client outside that came in there, a back end here; or the
//! other way round, the back end's answers.
//!
//! Invariant: only a node of the cluster sends through the tunnel; replies go back to the node that did.

use super::{finish, known};
use crate::family::Family;
use crate::kernel::Kernel;
use crate::stage::flow::Found;
use crate::stage::{collision, direct, flow, join, parse};
use crate::state::State;
use crate::verdict::{Next, Step};
use tortie_abi::DropReason;
use tortie_abi::flow::flags;
use tortie_abi::route::Kind;
use tortie_abi::settings::tunnel_flags;
use tortie_wire::proto::IpProtocol;

/// A packet comes out of the tunnel.
#[inline(always)]
pub fn from_tunnel<F: Family, K: Kernel<F>>(k: &K, s: &mut State<F>) -> Next {
    let step = arriving(k, s);
    finish(s, step)
}

#[inline(always)]
fn arriving<F: Family, K: Kernel<F>>(k: &K, s: &mut State<F>) -> Step<Next> {
    if k.has_vlan_tag() {
        return Err(DropReason::VlanTag);
    }
    parse::ip(k, s)?;
    let (sender, network) = k.tunnel_source().ok_or(DropReason::TunnelSource)?;
    match k.route(&sender) {
        Some(node) if node.kind == Kind::RemoteHost as u8 => s.reply_target = node.target,
        _ => return Err(DropReason::TunnelSource),
    }
    if network & tunnel_flags::NOTE != 0 {
        direct::hear(k, s)?;
    }
    parse::transport(k, s)?;
    parse::refuse_martians(s)?;
    if network & tunnel_flags::TAKEN != 0 {
        return collision::give_way(k, s);
    }
    if parse::is_icmp_error(s) {
        return Ok(Next::Related);
    }
    let shared = network & tunnel_flags::MAGLEV != 0;
    match flow::lookup(k, s)? {
        Found::Known => {
            // Of TCP a segment that comes through another node is of another connection, unless any node may lead it.
            if shared || s.tuple.protocol != IpProtocol::TCP.0 {
                join::lead_back(k, s)?;
            } else if collision::is_met(k, s) {
                return flow::reset(s, DropReason::SourcePortCollision);
            }
            known::recognise(k, s)?;
        }
        Found::New if parse::opens(s) || shared && parse::continues(s) => {
            s.flow_flags |= flags::TUNNEL_BACK | if shared { flags::MAGLEV } else { 0 };
            return Ok(Next::Open);
        }
        Found::New | Found::Gone => return flow::refuse(s),
    }
    known::proceed(k, s)
}
