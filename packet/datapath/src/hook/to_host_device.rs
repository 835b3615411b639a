//! Packets that the node's own stack sends, at a data interface or at loopback.
//!
//! What leaves a data interface comes from a process of this node (or a pod on its network), or from our own
//! programs, or is forwarded by the stack. Only the first kind is looked at: such a client may mean a Service,
//! and such a server may be the back end of one.

use super::{finish, known};
use crate::family::Family;
use crate::kernel::Kernel;
use crate::stage::flow::Found;
use crate::stage::{exit, flow, parse, source};
use crate::state::State;
use crate::verdict::{Next, Step};

/// A packet is about to leave through a data interface, or to enter loopback.
#[inline(always)]
pub fn to_host_device<F: Family, K: Kernel<F>>(k: &K, s: &mut State<F>) -> Next {
    let step = leaving(k, s);
    finish(s, step)
}

#[inline(always)]
fn leaving<F: Family, K: Kernel<F>>(k: &K, s: &mut State<F>) -> Step<Next> {
    if exit::is_seen(k)? || k.vlan() != 0 {
        return Ok(Next::Pass);
    }
    // The host may send what it likes.
    if parse::ip(k, s).is_err()
        || parse::refuse_martians(s).is_err()
        || !source::is_own(k, s)?
        || parse::transport(k, s).is_err()
        || parse::is_link_control(s)
    {
        return Ok(Next::Pass);
    }
    if parse::is_icmp_error(s) {
        return Ok(Next::Related);
    }
    match flow::lookup(k, s)? {
        Found::Known => known::recognise(k, s)?,
        Found::New if parse::opens(s) => return Ok(Next::Open),
        Found::New => return Ok(Next::Pass),
        Found::Gone => return flow::refuse(s),
    }
    known::proceed(k, s)
}
