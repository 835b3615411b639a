//! Contradictions between objects, told to whoever may have to do with them.
//!
//! Owns: the log lines and what the store is told. Does not: find contradictions; the calculation does.
//! Invariant: each is told once when it appears, and once in the log when it is gone; of one that has grown only what is new.

use tortie_calc::{Conflict, Conflicts};
use tortie_store::{Finding, Handle};

/// What has been told.
#[derive(Debug, Default)]
pub struct Told(Conflicts);

impl Told {
    /// Says what is new and what is gone.
    pub fn tell(&mut self, now: &Conflicts, store: &Handle) {
        if self.0 == *now {
            return;
        }
        for (contested, conflict) in now {
            let Some(conflict) = news(conflict, self.0.get(contested)) else { continue };
            let message = format!("{contested}: {}", contested.explain(&conflict));
            tracing::warn!("{message}");
            let Some(reason) = contested.reason() else { continue };
            let alone = contested.is_of_this_node(&conflict);
            for loser in &conflict.losers {
                store.report(Finding { object: loser.clone(), reason, message: message.clone(), alone });
            }
        }
        for contested in self.0.keys().filter(|key| !now.contains_key(*key)) {
            tracing::info!("{contested}: no contradiction any more");
        }
        self.0 = now.clone();
    }
}

/// What has come to a conflict that is known; another winner makes it another one.
fn news(now: &Conflict, before: Option<&Conflict>) -> Option<Conflict> {
    let Some(before) = before.filter(|before| before.winner == now.winner) else { return Some(now.clone()) };
    let losers = now.losers.iter().filter(|loser| !before.losers.contains(loser));
    let losers: Vec<_> = losers.cloned().collect();
    let winner = now.winner.clone();
    (!losers.is_empty()).then_some(Conflict { winner, losers })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tortie_model::{ObjectId, SliceId};

    fn conflict(names: &[&str]) -> Conflict {
        let slice = |name: &&str| ObjectId::Slice(SliceId::new("n", *name));
        Conflict { winner: None, losers: names.iter().map(slice).collect() }
    }

    #[test]
    fn of_a_conflict_that_grows_only_what_is_new_is_told() {
        assert_eq!(news(&conflict(&["a"]), None), Some(conflict(&["a"])));
        assert_eq!(news(&conflict(&["a"]), Some(&conflict(&["a"]))), None);
        assert_eq!(news(&conflict(&["a", "b"]), Some(&conflict(&["a"]))), Some(conflict(&["b"])));
        assert_eq!(news(&conflict(&["b"]), Some(&conflict(&["a", "b"]))), None, "less is no news");
    }
}
