//! Owns: flows of Services with a consistent-hash table that come in at another node than they did: whose packets they
//! are, and where the answers go from then on. Does not: choose the back end.
//! Invariant: a node that has the back end believes only in flows that it knows by the back end's answers; policy admits
//! them as it did before.

use crate::family::{Family, FlowEntry};
use crate::kernel::{Flows, Insert, Kernel, Packet, Table, Topology};
use crate::stage::{flow, nat, parse, table};
use crate::state::State;
use crate::verdict::Step;
use tortie_abi::flow::flags;
use tortie_abi::target::TargetKind;
use tortie_abi::{DropReason, Hook};
use tortie_wire::Be32;
use tortie_wire::proto::IpProtocol;
use tortie_wire::tcp::TcpHeader;

/// Whether the packet belongs to a flow that is known here by its answers alone. Then `s.flow` is its entry, as of any
/// known flow. `false`: the flow may begin here.
#[inline(always)]
pub fn takes_up<F: Family, K: Kernel<F>>(k: &K, s: &mut State<F>) -> Step<bool> {
    let opens = parse::opens(s);
    let shared = s.flow_flags & flags::MAGLEV != 0;
    if opens && (!shared || s.tuple.protocol == IpProtocol::TCP.0) {
        return Ok(false);
    }
    if know(k, s)? {
        return Ok(true);
    }
    if opens {
        return Ok(false);
    }
    // The node of the back end knows; without a table nobody does.
    if !shared || s.target.kind() != TargetKind::NextHop {
        return Err(DropReason::NoFlow);
    }
    s.acknowledged = acknowledged(k, s).ok_or(DropReason::Internal)?;
    Ok(false)
}

/// From here the other side goes on.
#[inline(always)]
fn acknowledged<F: Family, K: Packet>(k: &K, s: &State<F>) -> Option<u32> {
    k.load::<Be32>(s.transport_offset.wrapping_add(TcpHeader::ACKNOWLEDGMENT_OFFSET as u32)).map(Be32::get)
}

/// Looks for the answers' entry. Where it is found, the packet's direction gets one too, in the same state.
#[inline(always)]
fn know<F: Family, K: Kernel<F>>(k: &K, s: &mut State<F>) -> Step<bool> {
    flow::name_front(s);
    s.flow = flow::forward_entry(k, s)?;
    nat::find_partner(k, s)?;
    s.flow = flow::reply_entry(s);
    let turns = s.is_at(Hook::FromHostDevice);
    let known = match table::anywhere(k, &s.partner, |entry| meet::<F>(entry, &s.flow, turns)) {
        Some(known) => known,
        None => return Ok(false),
    };
    if known.life == STRANGER {
        // What opens a flow may take another source port.
        return if parse::opens(s) { Ok(false) } else { Err(DropReason::SourcePortCollision) };
    }
    s.generation = known.generation;
    s.flow_flags |= known.policy;
    s.flow = flow::forward_entry(k, s)?;
    s.flow.core_mut().state = known.life;
    let put = |table| table::insert(k, table, &s.own, |place| *place = s.flow, table::alone::<F>, |_| false);
    // Where the answers are. Without room there it stands in the other table, which makes no difference to it.
    let established = table::entry(k, Table::Main, &s.partner, |_| ()).is_some();
    if !established || put(Table::Main) == Insert::Full {
        let _ = put(Table::HalfOpen);
    }
    Ok(true)
}

/// No state of a flow: it is another's.
const STRANGER: u8 = 0;

/// What the answers' entry says of the flow.
struct Known {
    life: u8,
    generation: u32,
    policy: u16,
}

#[inline(always)]
fn meet<F: Family>(entry: &mut F::Flow, answers: &F::Flow, turns: bool) -> Known {
    let core = *entry.core();
    // Out of the tunnel nothing says which front end was asked.
    let ours = match core.flags & flags::REPLY != 0 {
        true if turns => turn::<F>(entry, answers),
        true => core.flags & flags::MAGLEV != 0,
        false => false,
    };
    let life = if ours { core.state } else { STRANGER };
    Known { life, generation: core.generation, policy: core.flags & flags::SERVER_POLICY }
}

/// Answers that another node has led to the client so far leave from here, under the front end's address. `false`: they
/// are no answers to this flow.
#[inline(always)]
fn turn<F: Family>(entry: &mut F::Flow, answers: &F::Flow) -> bool {
    let (old, new) = (*entry.core(), *answers.core());
    if old.flags & (flags::TUNNEL | flags::DIRECT) == 0 {
        return entry.nat_address() == answers.nat_address() && old.nat_port == new.nat_port;
    }
    let core = entry.core_mut();
    core.flags = new.flags | old.flags & flags::SERVER_POLICY;
    core.target = new.target;
    core.nat_port = new.nat_port;
    entry.set_nat_address(answers.nat_address());
    true
}

/// A request has come through another node than before: the answers follow it. Those that leave from here do so under the
/// front end that a note names.
#[inline(always)]
pub fn lead_back<F: Family, K: Flows<F> + Topology<F>>(k: &K, s: &mut State<F>) -> Step<()> {
    nat::find_partner(k, s)?;
    let (sender, front, front_port) = (s.reply_target, s.front, s.front_port);
    let noted = s.flow_flags & flags::DIRECT;
    let lead = |entry: &mut F::Flow| {
        let core = entry.core_mut();
        if core.flags & flags::TUNNEL != 0 {
            core.target = sender;
        }
        if core.flags & noted != 0 {
            core.nat_port = front_port;
            entry.set_nat_address(front);
        }
    };
    let _ = table::anywhere(k, &s.partner, lead);
    Ok(())
}
