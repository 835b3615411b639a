//! Owns: another client port for a flow, when answers to its own would be another flow's. Does not: say which flows need one.
//! Invariant: answers to a port that is found belong to nobody else; a flow that had it and is over is forgotten, whole.

use crate::family::{Family, FlowEntry, Spot};
use crate::kernel::{Flows, Kernel, Topology, below};
use crate::stage::{nat, table, tcp};
use crate::state::State;
use crate::verdict::Step;
use tortie_abi::flow::{FlowCore, flags};
use tortie_abi::{DropReason, Tick};
use tortie_wire::Be16;
use tortie_wire::proto::IpProtocol;

/// Ports that are looked at before a flow is refused, as many as the kernel's own NAT looks at: while 19 of 20 are in use, one
/// search of 700 finds none.
const LOOKS: u32 = 128;

/// A flow that is over, or a question and its answer, gives its port up after this time, when no other is found.
const SPARE_TICKS: u32 = Tick::ticks_of_millis(10_000);

/// A range of ports.
#[derive(Clone, Copy)]
struct Range {
    first: u16,
    /// How many; at least 1.
    count: u32,
}

impl Range {
    /// That of the flow's kind.
    #[inline(always)]
    fn of<F: Family, K: Topology<F>>(k: &K, s: &State<F>) -> Step<Self> {
        let masqueraded = s.flow_flags & flags::NAT_SOURCE != 0;
        let (first, last) = k
            .settings(|c| match masqueraded {
                true => (c.nat_range_first, c.nat_range_last),
                false => (c.port_range_first, c.port_range_last),
            })
            .ok_or(DropReason::Internal)?;
        Ok(Self { first, count: (last.saturating_sub(first) as u32).wrapping_add(1) })
    }

    /// The port at a place, counted on from the first after the last.
    #[inline(always)]
    fn port(self, place: u32) -> Be16 {
        let place = if place >= self.count { place.wrapping_sub(self.count) } else { place };
        Be16::new(self.first.wrapping_add(place as u16))
    }
}

/// What a search has come to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Nothing,
    /// A port whose flow may be forgotten.
    Spare,
    /// A port that nobody has.
    Free,
}

/// A search among ports, one after the other from a random one on. What is looked at is in the state, since the stack is small:
/// `rewritten` is an answer to the flow, `partner` where its entry would be.
pub struct Search<'s, F: Family> {
    s: &'s mut State<F>,
    range: Range,
    start: u32,
    found: Found,
    spare: Be16,
}

impl<F: Family> Search<'_, F> {
    /// Looks at a port; whether nobody has it.
    #[inline(always)]
    pub fn look<K: Flows<F>>(&mut self, k: &K, number: u32) -> bool {
        let port = self.range.port(self.start.wrapping_add(number));
        look_at(self.s, port);
        let (protocol, now) = (self.s.tuple.protocol, self.s.now);
        match table::anywhere(k, &self.s.partner, |entry| is_spare::<F>(entry, protocol, now)) {
            None => self.found = Found::Free,
            Some(true) if self.found == Found::Nothing => (self.found, self.spare) = (Found::Spare, port),
            Some(_) => {}
        }
        self.found == Found::Free
    }
}

/// The answer goes to this port.
#[inline(always)]
fn look_at<F: Family>(s: &mut State<F>, port: Be16) {
    s.rewritten.destination_port = port;
    // A query's one identifier stands for both ports.
    if s.rewritten.protocol == F::ICMP.0 {
        s.rewritten.source_port = port;
    }
    s.partner = Spot::of(&F::flow_key(&s.rewritten));
}

/// Is this the answers' entry of a flow that has nothing more to say?
#[inline(always)]
fn is_spare<F: Family>(entry: &mut F::Flow, protocol: u8, now: Tick) -> bool {
    let core = *entry.core();
    let over = match IpProtocol(protocol) {
        IpProtocol::TCP => tcp::has_ended(core.state),
        _ => entry.counters().packets == 1,
    };
    over && core.flags & flags::REPLY != 0 && is_idle(&core, now)
}

#[inline(always)]
fn is_idle(core: &FlowCore, now: Tick) -> bool {
    now.since(core.last_seen) > SPARE_TICKS
}

/// Do the flow's packets have a port, or an identifier that stands for one?
#[inline(always)]
pub fn has_one<F: Family>(s: &State<F>) -> bool {
    let protocol = IpProtocol(s.tuple.protocol);
    protocol.has_ports() || protocol == F::ICMP
}

/// Some port of the range, for a first attempt.
#[inline(always)]
pub fn any<F: Family, K: Kernel<F>>(k: &K, s: &State<F>) -> Step<Be16> {
    let range = Range::of(k, s)?;
    Ok(range.port(below(range.count, k.random())))
}

/// A port for the flow that `s.rewritten` is a packet of, with any port as its source. Leaves other flows' in the state.
#[inline(always)]
pub fn find<F: Family, K: Kernel<F>>(k: &K, s: &mut State<F>) -> Step<Be16> {
    let range = Range::of(k, s)?;
    let start = below(range.count, k.random());
    s.rewritten = s.rewritten.reversed();
    let mut search = Search { s, range, start, found: Found::Nothing, spare: Be16::ZERO };
    k.search(range.count.min(LOOKS), &mut search);
    let Search { s, found, spare, .. } = search;
    match found {
        Found::Nothing => return Err(DropReason::SourcePortCollision),
        Found::Spare => {
            look_at(s, spare);
            forget(k, s)?;
        }
        Found::Free => {}
    }
    Ok(s.rewritten.destination_port)
}

/// Forgets the flow that has this answer, unless its client still speaks.
#[inline(always)]
fn forget<F: Family, K: Kernel<F>>(k: &K, s: &mut State<F>) -> Step<()> {
    // Gone meanwhile: as good.
    let Some(entry) = table::anywhere(k, &s.partner, |entry| *entry) else { return Ok(()) };
    s.flow = entry;
    let mut client = s.rewritten;
    nat::far_end::<F, K>(k, &mut client, &s.flow)?;
    let client = Spot::of(&F::flow_key(&client.reversed()));
    let now = s.now;
    if table::anywhere(k, &client, |entry| !is_idle(entry.core(), now)).unwrap_or(false) {
        return Err(DropReason::SourcePortCollision);
    }
    let shared = table::is_shared::<F>(&s.partner, &client, &s.flow);
    table::forget(k, &s.partner, &client, shared);
    Ok(())
}
