//! Owns: asking the policy programs of both ends, and noticing that the answer is out of date.
//! Does not: know rules. Invariant: an end without a generation has no policy in force, and denies; a
//! verdict for one end never counts for the other.

use crate::family::{Family, FlowEntry};
use crate::kernel::{Policies, Topology};
use crate::seeded;
use crate::stage::nat;
use crate::state::{NO_SLOT, State, phase};
use crate::verdict::Step;
use tortie_abi::endpoint::NO_PROGRAM;
use tortie_abi::flow::flags;
use tortie_abi::policy::Verdict;
use tortie_abi::target::TargetKind;
use tortie_abi::{DropReason, Hook};

/// Whose rules are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The client's egress rules; the server is remote to it.
    Client,
    /// The server's ingress rules; the client is remote to it.
    Server,
}

/// What an end's rules say so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// No rules apply: allowed.
    Allowed,
    /// Ask the program in the slot `s.output`.
    Program,
}

/// Prepares the question to the client's egress rules.
#[inline(always)]
pub fn ask_client<F: Family, K: Policies<F> + Topology<F>>(k: &K, s: &mut State<F>) -> Step<Ask> {
    ask(k, s, End::Client)
}

/// Prepares the question to the server's ingress rules.
#[inline(always)]
pub fn ask_server<F: Family, K: Policies<F> + Topology<F>>(k: &K, s: &mut State<F>) -> Step<Ask> {
    ask(k, s, End::Server)
}

#[inline(always)]
fn ask<F: Family, K: Policies<F> + Topology<F>>(k: &K, s: &mut State<F>, end: End) -> Step<Ask> {
    let (slot, remote_slot, flag) = match end {
        End::Client => (s.client_slot, s.server_slot, flags::CLIENT_POLICY),
        End::Server => (s.server_slot, s.client_slot, flags::SERVER_POLICY),
    };
    // A pod always reaches itself.
    if slot == NO_SLOT || slot == remote_slot {
        return Ok(Ask::Allowed);
    }
    let (generation, program) = k
        .endpoint(slot, |e| match end {
            End::Client => (e.egress_generation, e.egress_program),
            End::Server => (e.ingress_generation, e.ingress_program),
        })
        .ok_or(DropReason::Internal)?;
    if generation == 0 {
        return Err(DropReason::PolicyNotReady);
    }
    s.generation = s.generation.wrapping_add(generation);
    s.flow_flags |= flag;
    if program == NO_PROGRAM {
        return Ok(Ask::Allowed);
    }
    let class = remote_class(k, s, end, remote_slot)?;
    fill(k, s, end, class)?;
    s.output = program;
    Ok(Ask::Program)
}

#[inline(always)]
fn remote_class<F: Family, K: Policies<F> + Topology<F>>(
    k: &K,
    s: &State<F>,
    end: End,
    remote_slot: u32,
) -> Step<u32> {
    let address = match end {
        End::Client => &s.translated.destination,
        End::Server => &s.translated.source,
    };
    if remote_slot != NO_SLOT {
        let known = k.endpoint(remote_slot, |e| (F::endpoint_address(e), F::endpoint_class(e)));
        if let Some((first, class)) = known
            && first == *address
        {
            return Ok(class);
        }
    }
    Ok(k.class_of(address))
}

#[inline(always)]
fn fill<F: Family, K: Policies<F>>(k: &K, s: &State<F>, end: End, class: u32) -> Step<()> {
    k.policy_io(|io| {
        io.remote_class = class;
        let one_off = seeded::PORT_OFF_BY_ONE as u16;
        io.destination_port = s.translated.destination_port.get().wrapping_add(one_off);
        io.source_port = s.translated.source_port.get();
        io.protocol = s.translated.protocol;
        io.icmp_type = s.icmp_type;
        io.icmp_code = s.icmp_code;
        io.family = F::VERSION;
        io.remote_address = F::widen(match end {
            End::Client => &s.translated.destination,
            End::Server => &s.translated.source,
        });
        io.verdict = Verdict::Deny as u32;
        io.rule = 0;
        if s.translated.protocol == F::ICMP.0 {
            io.destination_port = 0;
            io.source_port = 0;
        }
    })
    .ok_or(DropReason::Internal)
}

/// Reads the program's answer: counts the rule, refuses what was denied.
#[inline(always)]
pub fn answer<F: Family, K: Policies<F>>(k: &K, s: &mut State<F>) -> Step<()> {
    let (verdict, rule) =
        k.policy_io(|io| (Verdict::from_word(io.verdict), io.rule)).ok_or(DropReason::Internal)?;
    s.rule = rule;
    k.count_rule(rule, s.ip.total_bytes);
    match verdict {
        Verdict::Allow => Ok(()),
        Verdict::Deny if s.phase == phase::NEW_EGRESS || s.phase == phase::AGAIN_EGRESS => {
            Err(DropReason::PolicyEgress)
        }
        Verdict::Deny => Err(DropReason::PolicyIngress),
    }
}

/// Was the known flow in `s.flow` admitted by the policy in force? Else prepares asking again.
#[inline(always)]
pub fn is_current<F: Family, K: Topology<F>>(k: &K, s: &mut State<F>) -> Step<bool> {
    let core = *s.flow.core();
    if core.flags & (flags::CLIENT_POLICY | flags::SERVER_POLICY) == 0 {
        return Ok(true);
    }
    let reply = core.flags & flags::REPLY != 0;
    let target = match core.target.kind() {
        TargetKind::Endpoint => core.target.slot(),
        _ => NO_SLOT,
    };
    // At from-workload the packet's own endpoint is the other end; elsewhere nobody here is.
    let own = if s.is_at(Hook::FromWorkload) { s.slot } else { NO_SLOT };
    let (client, server) = if reply { (target, own) } else { (own, target) };
    s.client_slot = if core.flags & flags::CLIENT_POLICY != 0 { client } else { NO_SLOT };
    s.server_slot = if core.flags & flags::SERVER_POLICY != 0 { server } else { NO_SLOT };
    let mut now = 0_u32;
    if s.client_slot != NO_SLOT {
        now = now.wrapping_add(k.endpoint(s.client_slot, |e| e.egress_generation).unwrap_or(0));
    }
    if s.server_slot != NO_SLOT {
        now = now.wrapping_add(k.endpoint(s.server_slot, |e| e.ingress_generation).unwrap_or(0));
    }
    // Few of the object's instructions may depend on this one: with some left out there is not enough stack.
    let ignored = if seeded::GENERATION_IGNORED { 0xffff } else { 0 };
    Ok(now.wrapping_sub(core.generation) & !ignored == 0)
}

/// Makes `s.translated` the tuple that admitted the known flow: client to server, as policy sees it.
#[inline(always)]
pub fn restore_tuple<F: Family, K: Topology<F>>(k: &K, s: &mut State<F>) -> Step<()> {
    s.rewritten = s.tuple;
    nat::translate::<F, K>(k, &mut s.rewritten, &s.flow)?;
    if s.flow.core().flags & flags::REPLY != 0 {
        s.translated = s.tuple.reversed();
        s.translated.source = s.rewritten.destination;
        s.translated.source_port = s.rewritten.destination_port;
    } else {
        s.translated = s.tuple;
        s.translated.destination = s.rewritten.destination;
        s.translated.destination_port = s.rewritten.destination_port;
    }
    if s.tuple.protocol == F::ICMP.0 {
        // Rules are about the query, whoever speaks now.
        s.icmp_type = F::ECHO_REQUEST;
        s.icmp_code = 0;
    }
    s.generation = 0;
    s.flow_flags = s.flow.core().flags;
    Ok(())
}
