//! Owns: the choice of a back end. Does not: rewrite, or decide where the back end is.
//! Invariant: `s.translated` is the tuple that policy and routes see, Service or not; a back end that the Service
//! does not have (any more) is never chosen, whatever an affinity entry says.

use crate::family::Family;
use crate::kernel::{Random, Services, Topology, below};
use crate::stage::maglev;
use crate::state::{State, answer};
use crate::tuple::{Place, Tuple};
use crate::verdict::Step;
use tortie_abi::flow::flags;
use tortie_abi::route::Kind;
use tortie_abi::service::{self, BackendKey, Frontend};
use tortie_abi::{DropReason, Tick};
use tortie_wire::Be16;
use tortie_wire::proto::IpProtocol;

/// What the destination is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Not a Service, or a back end was chosen.
    Go,
    /// A Service without back ends: the client gets an answer at once (`s.answer`).
    Refuse,
}

/// Where the client is, as traffic policies see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// A pod, or the node itself.
    Inside,
    /// Anybody else.
    Outside,
}

/// The ordinals that may be chosen.
#[derive(Clone, Copy)]
pub struct Range {
    first: u32,
    count: u32,
}

impl Range {
    /// May this one be chosen?
    #[inline(always)]
    pub const fn contains(self, ordinal: u32) -> bool {
        ordinal.wrapping_sub(self.first) < self.count
    }
}

/// Translates the destination when it is a Service's front end.
#[inline(always)]
pub fn choose<F: Family, K: Services<F> + Topology<F> + Random>(
    k: &K,
    s: &mut State<F>,
    side: Side,
) -> Step<Choice> {
    s.translated = s.tuple;
    let Some(frontend) = frontend_at::<F, K>(k, &s.tuple).filter(is_translated) else {
        return Ok(Choice::Go);
    };
    s.flow_flags |= flags::SERVICE;
    if frontend.flags & service::flags::SOURCE_RANGES != 0
        && !k.is_admitted(&F::source_range_key(frontend.service, s.tuple.source))
    {
        return Err(DropReason::SourceRange);
    }
    if frontend.backends == 0 {
        refuse(s);
        return Ok(Choice::Refuse);
    }
    let (address, port) = if is_by_hash(&frontend, side) {
        s.flow_flags |= flags::MAGLEV;
        maglev::backend::<F, K>(k, &frontend, &s.tuple)?
    } else {
        let range = usable(&frontend, side);
        let client = F::affinity_key(s.tuple.source, frontend.service);
        backend::<F, K>(k, &frontend, range, &client, s.now)?
    };
    s.translated.destination = address;
    s.translated.destination_port = port;
    s.flow_flags |= flags::NAT_DESTINATION;
    if s.translated.destination == s.tuple.source {
        s.flow_flags |= flags::HAIRPIN;
    }
    Ok(Choice::Go)
}

/// Of one that is not, packets and sockets go on as if nobody served there.
#[inline(always)]
pub const fn is_translated(frontend: &Frontend) -> bool {
    frontend.flags & service::flags::UNTRANSLATED == 0
}

/// The front end at the packet's destination: its own address, or a port of every node.
#[inline(always)]
pub fn frontend_at<F: Family, K: Services<F> + Topology<F>>(
    k: &K,
    tuple: &Tuple<F::Addr>,
) -> Option<Frontend> {
    let own = k.frontend(&F::frontend_key(tuple));
    if own.is_some() || !IpProtocol(tuple.protocol).has_ports() {
        return own;
    }
    let kind = k.route(&tuple.destination).and_then(|r| Kind::from_byte(r.kind));
    if !matches!(kind, Some(Kind::Host | Kind::RemoteHost)) {
        return None;
    }
    let frontend = k.frontend(&F::frontend_key(&node_port::<F>(tuple)))?;
    // Which of the back ends are on another node is that node's to know: it gets the packet as it is.
    let bound = frontend.flags & service::flags::EXTERNAL_LOCAL != 0 && kind == Some(Kind::RemoteHost);
    (!bound).then_some(frontend)
}

/// The front end that a flow's tuple went through, when there still is one.
#[inline(always)]
pub fn frontend_of<F: Family, K: Services<F>>(k: &K, tuple: &Tuple<F::Addr>) -> Option<Frontend> {
    k.frontend(&F::frontend_key(tuple)).or_else(|| k.frontend(&F::frontend_key(&node_port::<F>(tuple))))
}

/// The same port at every address of every node.
#[inline(always)]
fn node_port<F: Family>(tuple: &Tuple<F::Addr>) -> Tuple<F::Addr> {
    Tuple { destination: F::UNSPECIFIED, ..*tuple }
}

/// The back end for a new connection of a client, which is remembered where the Service asks for it. The front
/// end has back ends; [`DropReason::NoBackend`]: but none that may be used from here.
#[inline(always)]
pub fn backend<F: Family, K: Services<F> + Random>(
    k: &K,
    frontend: &Frontend,
    range: Range,
    client: &F::AffinityKey,
    now: Tick,
) -> Step<Place<F::Addr>> {
    if range.count == 0 {
        return Err(DropReason::NoBackend);
    }
    let place = match recall::<F, K>(k, frontend, range, client, now) {
        Some(place) => place,
        None => pick::<F, K>(k, frontend, range)?,
    };
    if frontend.affinity != 0 {
        k.remember(client, &F::affinity(place.0, place.1, now));
    }
    Ok(place)
}

/// Clients outside of a Service with a consistent-hash table are led by it, whatever its traffic policy: at another node
/// it would leave other back ends.
#[inline(always)]
const fn is_by_hash(frontend: &Frontend, side: Side) -> bool {
    frontend.maglev_slots != 0 && matches!(side, Side::Outside)
}

/// Does the packet of a flow that nobody knows here go to a front end whose flows may come in at any node?
#[inline(always)]
pub fn is_anywhere<F: Family, K: Services<F>>(k: &K, s: &State<F>) -> bool {
    k.frontend(&F::frontend_key(&s.tuple)).is_some_and(|frontend| is_by_hash(&frontend, Side::Outside))
}

/// Which back ends the traffic policies leave. An address for the outside has no policy for the inside.
#[inline(always)]
pub fn usable(frontend: &Frontend, side: Side) -> Range {
    let external = frontend.flags & service::flags::EXTERNAL != 0;
    let policy = match side {
        Side::Inside if external => 0,
        Side::Outside if external => service::flags::EXTERNAL_LOCAL,
        Side::Inside | Side::Outside => service::flags::INTERNAL_LOCAL,
    };
    if frontend.flags & policy != 0 {
        Range { first: 0, count: frontend.local_backends }
    } else {
        Range { first: frontend.first, count: frontend.backends }
    }
}

/// The only one of the range, where the front end itself tells it.
#[inline(always)]
pub fn lone<F: Family>(frontend: &Frontend, range: Range) -> Option<Place<F::Addr>> {
    if frontend.lone_port == Be16::ZERO || range.first != frontend.first || range.count != 1 {
        return None;
    }
    Some((F::narrow(&frontend.lone_address), frontend.lone_port))
}

/// Session affinity: the back end that the client was led to last, while it may still be chosen.
#[inline(always)]
fn recall<F: Family, K: Services<F>>(
    k: &K,
    frontend: &Frontend,
    range: Range,
    client: &F::AffinityKey,
    now: Tick,
) -> Option<Place<F::Addr>> {
    if frontend.affinity == 0 {
        return None;
    }
    let (address, port, last_use) = F::remembered(&k.affinity(client)?);
    if now.since(last_use) > frontend.affinity {
        return None;
    }
    let member = k.member(&F::member_key(frontend.service, address, port))?;
    range.contains(member.ordinal).then_some((address, port))
}

/// One of them, at random. A lone one needs no dice, which take as long as finding it.
#[inline(always)]
fn pick<F: Family, K: Services<F> + Random>(
    k: &K,
    frontend: &Frontend,
    range: Range,
) -> Step<Place<F::Addr>> {
    let dice = if range.count == 1 { 0 } else { k.random() };
    let offset = below(range.count, dice);
    let key = BackendKey { service: frontend.service, ordinal: range.first.wrapping_add(offset) };
    let backend = k.backend(&key).ok_or(DropReason::BackendMissing)?;
    Ok(F::backend(&backend))
}

#[inline(always)]
fn refuse<F: Family>(s: &mut State<F>) {
    let is_tcp = s.tuple.protocol == IpProtocol::TCP.0;
    s.answer = if is_tcp { answer::RESET } else { answer::PORT_UNREACHABLE };
    s.answer_source = s.tuple.destination;
    s.reason = DropReason::NoBackend as u16;
}
