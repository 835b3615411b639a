//! Owns: the node's address as source of what leaves the pools (`natOutgoing`). Does not: rewrite.
//! Invariant: the port it takes is of a range that no socket of the node uses; a Service's flow keeps its client.

use crate::family::Family;
use crate::kernel::Kernel;
use crate::stage::port;
use crate::state::State;
use crate::verdict::Step;
use tortie_abi::flow::flags as flow;
use tortie_abi::route::{Kind, flags as route};
use tortie_abi::{DropReason, Target};

/// Decides for a new flow of a pod; `kind` is what its destination is.
#[inline(always)]
pub fn choose<F: Family, K: Kernel<F>>(k: &K, s: &mut State<F>, kind: Option<Kind>) -> Step<()> {
    if !matches!(kind, None | Some(Kind::RemoteHost)) || s.flow_flags & flow::NAT_DESTINATION != 0 {
        return Ok(());
    }
    let asked = k.route(&s.tuple.source).is_some_and(|r| r.flags & route::NAT_OUTGOING != 0);
    let own = k.settings(F::node_address).ok_or(DropReason::Internal)?;
    if !asked || own == F::UNSPECIFIED || F::is_group(&s.tuple.destination) {
        return Ok(());
    }
    if kind.is_none() {
        // Without a way the stack tells the pod.
        let Some(ifindex) = k.way_out(&F::UNSPECIFIED, &s.tuple.destination) else { return Ok(()) };
        s.target = Target::device(ifindex);
    }
    s.flow_flags |= flow::NAT_SOURCE;
    s.other_port = if port::has_one(s) { port::any(k, s)? } else { s.tuple.source_port };
    Ok(())
}
