//! Contradictions between objects, told to whoever may have to do with them.
//!
//! Owns: the log lines and what the store is told. Does not: find contradictions; the calculation does.
//! Invariant: each is told once when it appears, and once in the log when it is gone.

use tortie_calc::Conflicts;
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
        for (contested, conflict) in now.iter().filter(|(key, value)| self.0.get(*key) != Some(*value)) {
            let message = format!("{contested}: {}", contested.explain(conflict));
            tracing::warn!("{message}");
            let Some(reason) = contested.reason() else { continue };
            let alone = contested.is_of_this_node(conflict);
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
