//! Owns: the choice of a back end. Does not: rewrite, or decide where the back end is.
//! Invariant: `s.translated` is the tuple that policy and routes see, Service or not.

use crate::family::Family;
use crate::kernel::{Random, Services};
use crate::state::{State, answer};
use crate::verdict::Step;
use tortie_abi::DropReason;
use tortie_abi::flow::flags;
use tortie_abi::service::{self, BackendKey};
use tortie_wire::proto::IpProtocol;

/// What the destination is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Not a Service, or a back end was chosen.
    Go,
    /// A Service without back ends: the client gets an answer at once (`s.answer`).
    Refuse,
}

/// Translates the destination when it is a Service's front end.
#[inline(always)]
pub fn choose<F: Family, K: Services<F> + Random>(k: &K, s: &mut State<F>) -> Step<Choice> {
    s.translated = s.tuple;
    let Some(frontend) = k.frontend(&F::frontend_key(&s.tuple)) else { return Ok(Choice::Go) };
    s.flow_flags |= flags::SERVICE;
    let local_only = frontend.flags & service::flags::INTERNAL_LOCAL != 0;
    let usable = if local_only { frontend.local_backends } else { frontend.backends };
    if frontend.backends == 0 {
        refuse(s);
        return Ok(Choice::Refuse);
    }
    if usable == 0 {
        return Err(DropReason::NoBackend);
    }
    let ordinal = ((k.random() as u64).wrapping_mul(usable as u64) >> 32) as u32;
    let key = BackendKey { service: frontend.service, ordinal };
    let backend = k.backend(&key).ok_or(DropReason::BackendMissing)?;
    let (address, port) = F::backend(&backend);
    s.translated.destination = address;
    s.translated.destination_port = port;
    s.flow_flags |= flags::NAT_DESTINATION;
    if address == s.tuple.source {
        s.flow_flags |= flags::HAIRPIN;
    }
    Ok(Choice::Go)
}

#[inline(always)]
fn refuse<F: Family>(s: &mut State<F>) {
    let is_tcp = s.tuple.protocol == IpProtocol::TCP.0;
    s.answer = if is_tcp { answer::RESET } else { answer::PORT_UNREACHABLE };
    s.answer_source = s.tuple.destination;
    s.reason = DropReason::NoBackend as u16;
}
