//! Owns: which of the node's interfaces leads to a client outside. Does not: know its link; the kernel's neighbours do.
//! Invariant: a flow keeps its interface for as long as that leads to the client, and asks again only once routes have
//! changed.

use crate::family::{Family, FlowEntry};
use crate::kernel::{Flows, Ways};
use crate::stage::table;
use crate::state::State;
use tortie_abi::Target;
use tortie_abi::flow::flags as flow;

/// The interface by which `client` is answered under the address `own`: this one, or where it leads to nobody beyond its
/// own links, the one that leads to the client; `None`: none does.
#[inline(always)]
pub fn way<F: Family, K: Ways<F>>(k: &K, ifindex: u32, own: &F::Addr, client: &F::Addr) -> Option<u32> {
    if k.leads(ifindex, own, client) { Some(ifindex) } else { k.way_out(own, client) }
}

/// Asks again for the flow of this packet, which goes on by what is found. Without any way out it goes as before, and the
/// next packet asks as well.
#[inline(always)]
pub fn ask_again<F: Family, K: Flows<F> + Ways<F>>(k: &K, s: &mut State<F>) {
    let core = s.flow.core();
    let known = core.target.ifindex();
    // A flow that leaves under the node's address is one that the node's routes lead.
    let own = if core.flags & flow::REPLY != 0 { s.flow.nat_address() } else { F::UNSPECIFIED };
    let found = way::<F, K>(k, known, &own, &s.tuple.destination);
    let target = Target::device(found.unwrap_or(known));
    s.flow.core_mut().target = target;
    if found.is_some() {
        let _ = table::anywhere(k, &s.own, |entry| entry.core_mut().target = target);
    }
}
