//! Owns: finding, following and creating flows. Does not: admit them.
//! Invariant: an entry in the main table belongs to a flow that both sides have spoken on, or to the next one between the
//! same ends (D4); both directions' entries agree on state and generation after every transition.

use crate::family::{Family, FlowEntry, Spot};
use crate::kernel::{Flows, Insert, Kernel, Table, TableFull, Topology};
use crate::seeded;
use crate::stage::{direct, nat, parse, port, table, tcp};
use crate::state::{State, answer, phase};
use crate::verdict::{Next, Step};
use tortie_abi::flow::{FlowCore, State as Life, flags};
use tortie_abi::route::Kind;
use tortie_abi::target::TargetKind;
use tortie_abi::{DropReason, Hook, Target, Tick};
use tortie_wire::proto::IpProtocol;
use tortie_wire::tcp::TcpFlags;

/// Attempts to take a client port: the first, and after each search, since another CPU may be faster.
const PORT_ATTEMPTS: u32 = 3;

/// What is known about a packet's flow. When it is known, `s.flow` holds its entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    New,
    /// It is known, and followed.
    Known,
    /// It was known, and whoever it led to is gone: it is forgotten.
    Gone,
}

/// What a packet means to its flow, beyond being counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// Nothing.
    Nothing,
    /// The flow's state changes.
    Becomes(Life),
    /// The other side has spoken: the flow moves to the main table, with this state.
    Answered(Life),
    /// The flow is forgotten; the packet then belongs to a flow that is still known, or not.
    Forgotten(Found),
    /// The flow is over, and a new one begins.
    Over,
}

/// Finds the packet's flow, counts the packet and follows the flow's state. A flow whose endpoint or next
/// hop is gone is forgotten.
#[inline(always)]
pub fn lookup<F: Family, K: Kernel<F>>(k: &K, s: &mut State<F>) -> Step<Found> {
    s.own = Spot::of(&F::flow_key(&s.tuple));
    let mut met = |entry: &mut F::Flow| {
        let segment = Segment {
            is_tcp: s.tuple.protocol == IpProtocol::TCP.0,
            flags: TcpFlags(s.tcp_flags),
            bytes: s.ip.total_bytes,
            end: s.sequence_end,
            now: s.now,
        };
        touch::<F>(entry, &mut s.flow, &segment)
    };
    let (table, eventful) = match table::entry(k, Table::Main, &s.own, &mut met) {
        Some(eventful) => (Table::Main, eventful),
        None => match table::entry(k, Table::HalfOpen, &s.own, met) {
            Some(eventful) => (Table::HalfOpen, eventful),
            None => return Ok(Found::New),
        },
    };
    let stale = is_stale::<F, K>(k, s.flow.core().target);
    if table == Table::Main && !eventful && !stale {
        return Ok(Found::Known);
    }
    nat::find_partner(k, s)?;
    let shared = table::is_shared::<F>(&s.own, &s.partner, &s.flow);
    let effect = match table {
        // Who opens a connection does not believe in the old one.
        _ if stale && parse::opens(s) => Effect::Forgotten(Found::New),
        _ if stale => Effect::Forgotten(Found::Gone),
        Table::Main => follow_main(k, s),
        Table::HalfOpen => follow_half_open(s),
    };
    match effect {
        Effect::Nothing => {}
        Effect::Becomes(life) => {
            s.flow.core_mut().state = life as u8;
            table::both(k, &s.own, &s.partner, shared, |entry| entry.core_mut().state = life as u8);
        }
        Effect::Answered(life) => {
            s.flow.core_mut().state = life as u8;
            promote(k, s, shared)?;
        }
        Effect::Over if shared => {
            s.vacant = 1;
            return Ok(Found::New);
        }
        Effect::Over => {
            table::forget(k, &s.own, &s.partner, shared);
            return Ok(Found::New);
        }
        Effect::Forgotten(found) => {
            table::forget(k, &s.own, &s.partner, shared);
            return Ok(found);
        }
    }
    Ok(Found::Known)
}

/// Is this packet of a known flow an answer, without a connection, from a pod or process of this node? When policy has come to
/// deny what the other side began, this side may begin one of its own; only the node of who sends knows whether it may.
#[inline(always)]
pub fn is_own_answer<F: Family, K: Topology<F>>(k: &K, s: &State<F>) -> bool {
    let again = s.phase == phase::AGAIN_EGRESS || s.phase == phase::AGAIN_INGRESS;
    let is_answer = s.flow.core().flags & flags::REPLY != 0 && s.tuple.protocol != IpProtocol::TCP.0;
    let is_host = || matches!(k.route(&s.tuple.source), Some(r) if r.kind == Kind::Host as u8);
    again && is_answer && (s.is_at(Hook::FromWorkload) || s.is_at(Hook::ToWorkload) && is_host())
}

/// The known flow is forgotten: the next packet begins another.
#[inline(always)]
pub fn end<F: Family, K: Flows<F> + Topology<F>>(k: &K, s: &mut State<F>) -> Step<()> {
    nat::find_partner(k, s)?;
    let shared = table::is_shared::<F>(&s.own, &s.partner, &s.flow);
    table::forget(k, &s.own, &s.partner, shared);
    Ok(())
}

/// In the middle of a connection that nobody knows, or whose other end is gone: a TCP peer that still believes in it
/// gets a reset; everything else is dropped.
#[inline(always)]
pub fn refuse<F: Family>(s: &mut State<F>) -> Step<Next> {
    if s.tuple.protocol != IpProtocol::TCP.0 {
        return Err(DropReason::NoFlow);
    }
    reset(s, DropReason::NoFlow)
}

/// The sender of the packet gets a reset.
#[inline(always)]
pub fn reset<F: Family>(s: &mut State<F>, reason: DropReason) -> Step<Next> {
    s.reason = reason as u16;
    s.answer = answer::RESET;
    s.answer_source = s.tuple.destination;
    Ok(Next::Reply)
}

/// Does the target name an endpoint or next hop that is not there any more?
#[inline(always)]
pub fn is_stale<F: Family, K: Topology<F>>(k: &K, target: Target) -> bool {
    if seeded::STALE_TARGET {
        return false;
    }
    match target.kind() {
        TargetKind::Host | TargetKind::Device => false,
        TargetKind::Endpoint => !k.endpoint(target.slot(), |e| e.id == target).unwrap_or(false),
        TargetKind::NextHop => !k.next_hop(target.slot(), |n| n.id == target).unwrap_or(false),
    }
}

/// What a packet tells its flow's entry.
struct Segment {
    is_tcp: bool,
    flags: TcpFlags,
    bytes: u32,
    /// Sequence number after it.
    end: u32,
    now: Tick,
}

/// Counts the packet and copies the entry into `flow`. Whether there is more to do than forward.
#[inline(always)]
fn touch<F: Family>(entry: &mut F::Flow, flow: &mut F::Flow, segment: &Segment) -> bool {
    let counters = entry.counters();
    counters.packets = counters.packets.wrapping_add(1);
    counters.bytes = counters.bytes.wrapping_add(segment.bytes as u64);
    let core = entry.core_mut();
    core.last_seen = segment.now;
    let life = core.state;
    let eventful = match segment.is_tcp {
        true => tcp::is_eventful(life, segment.flags),
        false => life != Life::Established as u8,
    };
    *flow = *entry;
    if segment.is_tcp {
        let core = entry.core_mut();
        if eventful {
            core.tcp_seen = tcp::seen(core.tcp_seen, segment.flags);
        }
        core.sequence = tcp::highest(core.sequence, life, segment.flags, segment.end);
    }
    eventful
}

/// A main-table entry that is not plainly established, or a segment with a meaning.
#[inline(always)]
fn follow_main<F: Family, K: Flows<F>>(k: &K, s: &mut State<F>) -> Effect {
    if s.tuple.protocol != IpProtocol::TCP.0 {
        return Effect::Nothing;
    }
    let life = s.flow.core().state;
    if s.tcp().is_opening() {
        if tcp::is_over(life) {
            return Effect::Over;
        }
        // On a live flow: nothing is believed, policy is asked again.
        s.flow.core_mut().generation = !s.flow.core().generation;
        return Effect::Nothing;
    }
    // Of no other segment does it matter what the other side has shown.
    let partner_seen = match s.tcp().intersects(TcpFlags::FIN) {
        true => table::entry(k, Table::Main, &s.partner, |p| p.core().tcp_seen).unwrap_or(0),
        false => 0,
    };
    let before = Life::from_byte(life).unwrap_or(Life::Established);
    let after = tcp::next_state(s, before, partner_seen);
    if after == before { Effect::Nothing } else { Effect::Becomes(after) }
}

/// A half-open entry: the first side speaks again, or the other side answers.
#[inline(always)]
fn follow_half_open<F: Family>(s: &State<F>) -> Effect {
    let reply = s.flow.core().flags & flags::REPLY != 0;
    if s.tuple.protocol != IpProtocol::TCP.0 {
        // Answers that come by another way are not seen: that the client goes on stands for them.
        let unseen = direct::is_half_seen(s.flow.core().flags);
        return if reply || unseen { Effect::Answered(Life::Established) } else { Effect::Nothing };
    }
    if s.tcp().intersects(TcpFlags::RST) {
        return Effect::Forgotten(Found::Known);
    }
    // Taken up in its middle: whether there is such a flow the other side has yet to show.
    if s.flow.core().state == Life::Established as u8 {
        return match reply {
            true => Effect::Answered(Life::Established),
            false if s.tcp().is_opening() => Effect::Forgotten(Found::New),
            false => Effect::Nothing,
        };
    }
    if reply && s.tcp().is_answer() { Effect::Answered(Life::SynReceived) } else { Effect::Nothing }
}

/// Both sides have spoken: both entries move to the main table, with the state in `s.flow`, or the flow is refused.
#[inline(always)]
fn promote<F: Family, K: Flows<F>>(k: &K, s: &State<F>, shared: bool) -> Step<()> {
    let life = s.flow.core().state;
    // Evicted in a flood: the client's retransmission starts the flow anew.
    let evicted = || {
        table::remove(k, Table::HalfOpen, &s.own);
        DropReason::NoFlow
    };
    if shared {
        match table::promote_both(k, &s.own, life) {
            Ok(true) => k.delete(Table::HalfOpen, &s.own.element),
            Ok(false) => return Err(evicted()),
            Err(TableFull) => return Err(DropReason::FlowTableFull),
        }
        return Ok(());
    }
    for at in [&s.partner, &s.own] {
        match table::promote(k, at, life) {
            Ok(true) => {}
            Ok(false) => return Err(evicted()),
            Err(TableFull) => {
                table::remove(k, Table::Main, &s.partner);
                return Err(DropReason::FlowTableFull);
            }
        }
    }
    for at in [&s.partner, &s.own] {
        table::remove(k, Table::HalfOpen, at);
    }
    Ok(())
}

/// Records an admitted flow in the half-open table, both directions, and leaves the forward entry in `s.flow`.
#[inline(always)]
pub fn create<F: Family, K: Kernel<F>>(k: &K, s: &mut State<F>) -> Step<()> {
    if s.flow_flags & flags::HAIRPIN != 0 {
        s.other_port = s.tuple.source_port;
    }
    name_front(s);
    if s.vacant != 0 && move_in(k, s)? {
        return Ok(());
    }
    if insert_reply(k, s)? {
        return Ok(());
    }
    match table::insert(k, Table::HalfOpen, &s.own, |place| *place = s.flow, table::alone::<F>, |_| false) {
        Insert::Done | Insert::Exists => Ok(()),
        Insert::Full => Err(DropReason::FlowTableFull),
    }
}

/// The new flow takes the element of the one between the same ends that is over, where it needs no other: the main table does not
/// become fuller by that, and when it is answered nothing has to move. A client that opens many connections to one server comes by the
/// same ports every few seconds. `false`: the element is gone.
#[inline(always)]
fn move_in<F: Family, K: Kernel<F>>(k: &K, s: &mut State<F>) -> Step<bool> {
    place(k, s)?;
    if nat::rewrites::<F>(&s.flow) || !table::is_shared::<F>(&s.own, &s.partner, &s.flow) {
        k.delete(Table::Main, &s.own.element);
        return Ok(false);
    }
    let moved = k.element(Table::Main, &s.own.element, |pair| {
        // Another CPU has done so for the same segment.
        if tcp::is_over(F::way(pair, s.own.way).core().state) {
            *F::way(pair, s.own.way) = s.flow;
            *F::way(pair, s.partner.way) = reply_entry(s);
        }
    });
    Ok(moved.is_some())
}

/// The packet says whom the client has asked, unless a note has said it.
#[inline(always)]
pub fn name_front<F: Family>(s: &mut State<F>) {
    if s.flow_flags & flags::DIRECT == 0 || s.flow_flags & flags::TUNNEL_BACK == 0 {
        (s.front, s.front_port) = (s.tuple.destination, s.tuple.destination_port);
    }
}

/// The reply's entry goes first: its key may be taken by another flow, when one of the two is translated. `s.flow` becomes
/// the forward entry, which goes with it (`true`) where they share an element.
#[inline(always)]
fn insert_reply<F: Family, K: Kernel<F>>(k: &K, s: &mut State<F>) -> Step<bool> {
    let mut attempt: u32 = 0;
    while attempt < PORT_ATTEMPTS {
        place(k, s)?;
        // Behind a port that was moved even a plain flow is another's.
        let translated = nat::rewrites::<F>(&s.flow);
        let of_another = |entry: &F::Flow| translated || nat::rewrites::<F>(entry);
        let shared = table::is_shared::<F>(&s.own, &s.partner, &s.flow);
        let taken = table::entry(k, Table::Main, &s.partner, |entry| of_another(entry)).unwrap_or(false);
        let reply = |place: &mut F::Flow| *place = reply_entry(s);
        let forward = |place: &mut F::Flow| {
            *place = s.flow;
            shared
        };
        let inserted = match taken {
            true => Insert::Exists,
            false => table::insert(k, Table::HalfOpen, &s.partner, reply, forward, of_another),
        };
        match inserted {
            Insert::Done => return Ok(shared),
            Insert::Full => return Err(DropReason::FlowTableFull),
            Insert::Exists => move_port(k, s)?,
        }
        attempt = attempt.wrapping_add(1);
    }
    Err(DropReason::SourcePortCollision)
}

/// The forward entry, and where that of the replies is.
#[inline(always)]
fn place<F: Family, K: Kernel<F>>(k: &K, s: &mut State<F>) -> Step<()> {
    s.flow = forward_entry(k, s)?;
    nat::find_partner(k, s)
}

/// Another client port.
#[inline(always)]
fn move_port<F: Family, K: Kernel<F>>(k: &K, s: &mut State<F>) -> Step<()> {
    if !port::has_one(s) {
        return Err(DropReason::SourcePortCollision);
    }
    if s.flow_flags & flags::NAT_SOURCE == 0 {
        // Only here is the port set right: the node of the back end would answer the wrong one, and if it is this one, look for
        // the request under the one that is not moved.
        s.flow_flags = (s.flow_flags | flags::PORT_MOVED) & !flags::DIRECT;
    }
    place(k, s)?;
    s.other_port = port::find(k, s)?;
    Ok(())
}

#[inline(always)]
fn core<F: Family>(s: &State<F>, flow_flags: u16) -> FlowCore {
    let is_tcp = s.tuple.protocol == IpProtocol::TCP.0;
    let masqueraded = s.flow_flags & flags::NAT_SOURCE != 0;
    FlowCore {
        created: s.now,
        last_seen: s.now,
        target: s.target,
        generation: s.generation,
        nat_port: if masqueraded { s.other_port } else { s.translated.destination_port },
        other_port: s.other_port,
        flags: flow_flags,
        state: match (is_tcp, s.tcp().is_opening()) {
            (true, true) => Life::SynSent as u8,
            // In the middle of a flow that began at another node.
            (true, false) => Life::Established as u8,
            (false, _) => Life::Unreplied as u8,
        },
        tcp_seen: if is_tcp { tcp::seen(0, s.tcp()) } else { 0 },
        sequence: s.sequence_end,
    }
}

/// What the packet's direction of a new flow remembers.
#[inline(always)]
pub fn forward_entry<F: Family, K: Topology<F>>(k: &K, s: &State<F>) -> Step<F::Flow> {
    let address = if s.flow_flags & flags::NAT_SOURCE != 0 {
        k.settings(F::node_address).ok_or(DropReason::Internal)?
    } else {
        s.translated.destination
    };
    let mut entry = F::Flow::new(core(s, direct::of_direction(s.flow_flags)), address);
    let counters = entry.counters();
    counters.packets = 1;
    counters.bytes = s.ip.total_bytes as u64;
    Ok(entry)
}

/// What the other direction of a new flow remembers.
#[inline(always)]
pub fn reply_entry<F: Family>(s: &State<F>) -> F::Flow {
    let masqueraded = s.flow_flags & flags::NAT_SOURCE != 0;
    let reply_flags = flags::turned(s.flow_flags) | flags::REPLY;
    let reply = FlowCore {
        target: s.reply_target,
        nat_port: if masqueraded { s.tuple.source_port } else { s.front_port },
        other_port: s.tuple.source_port,
        tcp_seen: 0,
        sequence: s.acknowledged,
        ..core(s, direct::of_direction(reply_flags))
    };
    F::Flow::new(reply, if masqueraded { s.tuple.source } else { s.front })
}

/// Both directions of a known flow take over the generation that policy has just admitted.
#[inline(always)]
pub fn set_generation<F: Family, K: Flows<F> + Topology<F>>(k: &K, s: &mut State<F>) -> Step<()> {
    let generation = s.generation;
    nat::find_partner(k, s)?;
    for at in [&s.own, &s.partner] {
        let _ = table::anywhere(k, at, |entry| entry.core_mut().generation = generation);
    }
    s.flow.core_mut().generation = generation;
    Ok(())
}
