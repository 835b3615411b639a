//! Those who wait for something to be in force.
//!
//! Invariant: each gets exactly one answer, at its deadline at the latest.

use std::time::Instant;

use serde_json::{Value, json};
use tokio::sync::oneshot;
use tortie_model::WorkloadId;
use tortie_store::Revision;

/// What somebody waits for.
pub enum Goal {
    /// Everything the store held at this revision is in force.
    Enforced(Revision),
    /// This incarnation of a workload can be let go.
    Endpoint {
        /// Workload.
        id: WorkloadId,
        /// CNI container id.
        container: String,
    },
}

/// Somebody who waits.
pub struct Waiter {
    /// For what.
    pub goal: Goal,
    /// Until when.
    pub deadline: Instant,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Value>,
}

/// How a goal stands.
pub enum Standing {
    /// Reached, with the answer.
    Reached(Value),
    /// Not yet; the answer if there were no more time.
    NotYet(Value),
}

/// All who wait.
#[derive(Default)]
pub struct Waiters {
    waiting: Vec<Waiter>,
}

impl Waiters {
    /// One more.
    pub fn add(&mut self, waiter: Waiter) {
        self.waiting.push(waiter);
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The next deadline.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.waiting.iter().map(|waiter| waiter.deadline).min()
    }

    /// Answers those whose goal is reached and those whose time is over.
    pub fn answer(&mut self, standing: impl Fn(&Goal) -> Standing) {
        let now = Instant::now();
        for waiter in std::mem::take(&mut self.waiting) {
            match standing(&waiter.goal) {
                // Who has hung up needs no answer.
                Standing::Reached(answer) => drop(waiter.reply.send(answer)),
                Standing::NotYet(answer) if waiter.deadline <= now => drop(waiter.reply.send(answer)),
                Standing::NotYet(_) => self.waiting.push(waiter),
            }
        }
    }
}

/// A refusal in the form of the socket.
pub fn refused(code: &str, error: impl Into<String>) -> Value {
    json!({"ok": false, "code": code, "error": error.into()})
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn everybody_is_answered_once_at_the_goal_or_at_the_deadline() {
        let mut waiters = Waiters::default();
        let mut add = |revision, deadline| {
            let (reply, answer) = oneshot::channel();
            waiters.add(Waiter { goal: Goal::Enforced(Revision(revision)), deadline, reply });
            answer
        };
        let later = Instant::now() + Duration::from_secs(60);
        let (mut reached, mut over, mut patient) = (add(1, later), add(2, Instant::now()), add(2, later));
        waiters.answer(|goal| match goal {
            Goal::Enforced(Revision(1)) => Standing::Reached(json!({"ok": true})),
            _ => Standing::NotYet(refused("timeout", "not yet")),
        });
        assert_eq!(reached.try_recv().unwrap(), json!({"ok": true}));
        assert_eq!(over.try_recv().unwrap()["code"], "timeout");
        assert!(patient.try_recv().is_err() && waiters.next_deadline() == Some(later));
    }
}
