//! Owns: connections of one client to one back end from one port (its own, or that of a load balancer that stands for many) that
//! came in at two nodes, or once without a Service: which of them must begin anew. Does not: choose the new port.
//! Invariant: the connection that was there first goes on; the other one is the same client's, from another port.

use crate::family::{Family, FlowEntry, Spot};
use crate::kernel::{Kernel, Table};
use crate::stage::{nat, table};
use crate::state::State;
use crate::verdict::{Next, Step};
use tortie_abi::DropReason;
use tortie_abi::flow::flags;

/// Does a segment of a known flow open another connection than the flow is? What is sent once more may come by another way, and
/// begins with the same number.
#[inline(always)]
fn opens_another<F: Family>(s: &State<F>) -> bool {
    s.tcp().is_opening() && s.sequence_end != s.flow.core().sequence
}

/// At the node of the back end, of a segment out of the tunnel: does it open another connection than the known flow is, which
/// is answered through another node or under another front end, or goes to the back end itself?
#[inline(always)]
pub fn is_met<F: Family, K: Kernel<F>>(k: &K, s: &State<F>) -> bool {
    if !opens_another(s) {
        return false;
    }
    let of_another = |entry: &mut F::Flow| {
        let core = entry.core();
        match core.flags & (flags::TUNNEL | flags::DIRECT) {
            0 => true,
            flags::DIRECT => entry.nat_address() != s.front || core.nat_port != s.front_port,
            _ => core.target != s.reply_target,
        }
    };
    // An opening segment is an event: who found the flow has found the other direction.
    table::anywhere(k, &s.partner, of_another).unwrap_or(false)
}

/// The other way round: does a segment to the back end itself open another connection than the known flow, which comes through
/// another node?
#[inline(always)]
pub fn is_met_outside<F: Family>(s: &State<F>) -> bool {
    s.flow.core().flags & flags::TUNNEL_BACK != 0 && opens_another(s)
}

/// At the node that was asked: the request's entry goes. That of the answers stays until it has aged, and says to the client's next
/// attempt that the port is taken.
#[inline(always)]
pub fn give_way<F: Family, K: Kernel<F>>(k: &K, s: &mut State<F>) -> Step<Next> {
    let own = Spot::of(&F::flow_key(&s.tuple));
    if let Some(answers) = table::entry(k, Table::HalfOpen, &own, |entry| *entry)
        && answers.core().flags & flags::REPLY != 0
    {
        s.flow = answers;
        nat::find_partner(k, s)?;
        table::remove(k, Table::HalfOpen, &s.partner);
    }
    Err(DropReason::SourcePortCollision)
}
