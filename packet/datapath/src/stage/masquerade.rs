//! Owns: the node's address as source of what leaves the pools (`natOutgoing`). Does not: rewrite.
//! Invariant: the port it takes is of a range that no socket of the node uses; a Service's flow keeps its client.

use crate::family::Family;
use crate::kernel::{Random, Topology, Ways};
use crate::stage::nat;
use crate::state::State;
use crate::verdict::Step;
use tortie_abi::flow::flags as flow;
use tortie_abi::route::{Kind, flags as route};
use tortie_abi::{DropReason, Target};
use tortie_wire::proto::IpProtocol;

/// Decides for a new flow of a pod; `kind` is what its destination is.
#[inline(always)]
pub fn choose<F: Family, K: Topology<F> + Ways<F> + Random>(
    k: &K,
    s: &mut State<F>,
    kind: Option<Kind>,
) -> Step<()> {
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
    s.other_port = s.tuple.source_port;
    move_port(k, s)
}

/// Another port of the range.
#[inline(always)]
pub fn move_port<F: Family, K: Topology<F> + Random>(k: &K, s: &mut State<F>) -> Step<()> {
    let protocol = IpProtocol(s.tuple.protocol);
    if !(protocol.has_ports() || protocol == F::ICMP) {
        return Ok(());
    }
    let (first, last) =
        k.settings(|c| (c.port_range_first, c.port_range_last)).ok_or(DropReason::Internal)?;
    s.other_port = nat::moved_port(k.random(), first, last);
    Ok(())
}
