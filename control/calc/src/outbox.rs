//! The order in which one flush speaks.
//!
//! Owns: the one list of phases and their reasons. Does not: decide what is said.
//! Invariant: the guarantees of `tortie_intent` hold after every single intent, whatever order the
//! parts of the calculation spoke in.

use tortie_intent::Intent;

/// Phases of a flush, first to last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Everything else is read in their light.
    Settings,
    /// Whose addresses these are, as far as no endpoint is named.
    Route,
    /// Before members and lists.
    SetCreate,
    /// Before the lists that need them, and before removals: a pod that moves from one set to another
    /// is never in neither.
    MemberAdd,
    /// Revocation: before lists and endpoints, because making those can fail and this must not wait.
    /// Every clause over a set of pods allows and is not negated (`rules` makes no other), so a member that leaves
    /// early only denies early. A set in a clause that denies or is negated must lose its members after the lists
    /// instead: whoever lets `rules` make one has to give such sets a phase of their own behind [`Phase::List`].
    MemberRemove,
    /// Before the endpoints that name them.
    List,
    /// Before the routes that name them.
    Endpoint,
    /// Routes that name an endpoint.
    LocalRoute,
    /// Front ends that another Service takes over in this flush are let go first.
    ServiceRelease,
    /// New and changed Services.
    Service,
    /// From here on, removals in reverse.
    ServiceRemove,
    /// Before the endpoints they name.
    RouteRemove,
    /// Before the lists they name.
    EndpointRemove,
    /// Before the sets they name.
    ListRemove,
    /// Nothing names them any more.
    SetRemove,
    /// After everything known at the start.
    InSync,
}

/// Intents of one flush.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    intents: Vec<(Phase, Intent)>,
}

impl Outbox {
    /// Says `intent` in `phase`, after what was already put into that phase.
    pub(crate) fn push(&mut self, phase: Phase, intent: Intent) {
        self.intents.push((phase, intent));
    }

    /// Speaks.
    pub(crate) fn emit(mut self, out: &mut impl FnMut(Intent)) {
        self.intents.sort_by_key(|(phase, _)| *phase);
        self.intents.into_iter().for_each(|(_, intent)| out(intent));
    }
}
