//! Owns: which entries of the flow tables are in which elements. Does not: know what becomes of a flow.
//! Invariant: an element goes with its last entry; an entry that is not there is never written by who only changes one.

use crate::family::{Family, FlowEntry, Spot};
use crate::kernel::{Flows, Insert, Table, TableFull};
use crate::stage::nat;

/// Are both directions of the flow in one element? `entry` is that of `own`, the other one is at `partner`.
#[inline(always)]
pub fn is_shared<F: Family>(own: &Spot<F>, partner: &Spot<F>, entry: &F::Flow) -> bool {
    // Where both ends rank alike each direction has an element.
    nat::is_keyed_plainly::<F>(entry) && own.way != partner.way
}

/// Applies `f` to an entry.
#[inline(always)]
pub fn entry<F: Family, K: Flows<F>, R>(
    k: &K,
    table: Table,
    at: &Spot<F>,
    f: impl FnOnce(&mut F::Flow) -> R,
) -> Option<R> {
    let found = k.element(table, &at.element, |pair| {
        let entry = F::way(pair, at.way);
        if entry.core().is_there() { Some(f(entry)) } else { None }
    });
    found?
}

/// Applies `f` to the entry in the main table, else to the one in the half-open table.
#[inline(always)]
pub fn anywhere<F: Family, K: Flows<F>, R>(
    k: &K,
    at: &Spot<F>,
    mut f: impl FnMut(&mut F::Flow) -> R,
) -> Option<R> {
    match entry(k, Table::Main, at, &mut f) {
        Some(found) => Some(found),
        None => entry(k, Table::HalfOpen, at, f),
    }
}

/// Applies `f` to both directions of a flow in the main table.
#[inline(always)]
pub fn both<F: Family, K: Flows<F>>(
    k: &K,
    own: &Spot<F>,
    partner: &Spot<F>,
    shared: bool,
    f: impl Fn(&mut F::Flow),
) {
    if !shared {
        let _ = entry(k, Table::Main, own, &f);
        let _ = entry(k, Table::Main, partner, &f);
        return;
    }
    let _ = k.element(Table::Main, &own.element, |pair| {
        for way in 0..2 {
            let entry = F::way(pair, way);
            if entry.core().is_there() {
                f(entry);
            }
        }
    });
}

/// Puts an entry into a table, over one that is there unless `keep` says so; then `Exists` is returned. `other` writes the
/// other direction's place in the same way, when it says that it has something to write.
#[inline(always)]
pub fn insert<F: Family, K: Flows<F>>(
    k: &K,
    table: Table,
    at: &Spot<F>,
    fill: impl FnOnce(&mut F::Flow),
    other: impl FnOnce(&mut F::Flow) -> bool,
    keep: impl FnOnce(&F::Flow) -> bool,
) -> Insert {
    let fill = |new: &mut F::FlowPair| {
        fill(F::way(new, at.way));
        let other_way = F::way(new, at.way ^ 1);
        if !other(other_way) {
            // What else stands in a place without an entry does not matter.
            other_way.core_mut().state = 0;
        }
    };
    k.insert(table, &at.element, fill, |there, new| {
        let place = F::way(there, at.way);
        if place.core().is_there() && keep(place) {
            return Insert::Exists;
        }
        *place = *F::way(new, at.way);
        let other_way = F::way(new, at.way ^ 1);
        if other_way.core().is_there() {
            *F::way(there, at.way ^ 1) = *other_way;
        }
        Insert::Done
    })
}

/// Nothing is written in the other direction's place.
#[inline(always)]
pub fn alone<F: Family>(_: &mut F::Flow) -> bool {
    false
}

/// Copies an entry from the half-open to the main table, in this state, replacing one that is there. `Ok(false)`: it is
/// not in the half-open table.
#[inline(always)]
pub fn promote<F: Family, K: Flows<F>>(k: &K, at: &Spot<F>, life: u8) -> Result<bool, TableFull> {
    let copied = entry(k, Table::HalfOpen, at, |flow| {
        flow.core_mut().state = life;
        insert(k, Table::Main, at, |place| *place = *flow, alone::<F>, |_| false)
    });
    match copied {
        None => Ok(false),
        Some(Insert::Full) => Err(TableFull),
        Some(_) => Ok(true),
    }
}

/// As [`promote`], for both directions of a flow that share an element: both, or none.
#[inline(always)]
pub fn promote_both<F: Family, K: Flows<F>>(k: &K, at: &Spot<F>, life: u8) -> Result<bool, TableFull> {
    let copied = k.element(Table::HalfOpen, &at.element, |pair| {
        for way in 0..2 {
            let core = F::way(pair, way).core_mut();
            if !core.is_there() {
                return Ok(false);
            }
            core.state = life;
        }
        k.copy_to_main(&at.element, pair).map(|()| true)
    });
    copied.unwrap_or(Ok(false))
}

/// Removes an entry; whether it was there.
#[inline(always)]
pub fn remove<F: Family, K: Flows<F>>(k: &K, table: Table, at: &Spot<F>) -> bool {
    let left = k.element(table, &at.element, |pair| {
        let core = F::way(pair, at.way).core_mut();
        let was_there = core.is_there();
        core.state = 0;
        (was_there, F::way(pair, at.way ^ 1).core().is_there())
    });
    let Some((was_there, other)) = left else { return false };
    if !other {
        k.delete(table, &at.element);
    }
    was_there
}

/// Removes both directions of a flow from both tables.
#[inline(always)]
pub fn forget<F: Family, K: Flows<F>>(k: &K, own: &Spot<F>, partner: &Spot<F>, shared: bool) {
    if shared {
        k.delete(Table::Main, &own.element);
        k.delete(Table::HalfOpen, &own.element);
        return;
    }
    for at in [own, partner] {
        remove(k, Table::Main, at);
        remove(k, Table::HalfOpen, at);
    }
}
