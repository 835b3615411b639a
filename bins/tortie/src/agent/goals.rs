//! How the goals of those who wait stand.
//!
//! Does not: wait, or answer.

use serde_json::{Value, json};
use tortie_model::WorkloadId;
use tortie_reconcile::{Dirty, Readiness};
use tortie_store::Revision;

use super::node::Node;
use super::waiters::{Goal, Standing, refused};

impl Node {
    /// How a goal stands.
    pub fn standing(&self, goal: &Goal) -> Standing {
        match goal {
            Goal::Enforced(revision) => self.enforced(*revision),
            Goal::Endpoint { id, container } => self.endpoint(id, container),
        }
    }

    fn enforced(&self, revision: Revision) -> Standing {
        let dirty = self.dirty();
        if self.revision >= revision && dirty.is_empty() {
            let generation = self.reconciler.generation();
            return Standing::Reached(
                json!({"ok": true, "revision": self.revision.0, "generation": generation}),
            );
        }
        let mut answer =
            refused("timeout", format!("not enforced within the time given: {}", summary(&dirty)));
        if let Some(fields) = answer.as_object_mut() {
            fields.insert("dirty".into(), dirty_rows(&dirty));
        }
        Standing::NotYet(answer)
    }

    fn endpoint(&self, id: &WorkloadId, container: &str) -> Standing {
        if self.reconciler.container_id(id) != Some(container) {
            let problem = self.attachments.bad_of(id);
            let why = problem.map_or("no record of it in the run directory's endpoints", String::as_str);
            return Standing::NotYet(refused("timeout", format!("pod {id}: {why}")));
        }
        match self.reconciler.readiness(id) {
            Readiness::Ready { generation } => {
                Standing::Reached(json!({"ok": true, "generation": generation}))
            }
            Readiness::NoPod | Readiness::Unknown => Standing::NotYet(refused(
                "unknownPod",
                format!(
                    "the store has no pod {id} on node {}; its policy cannot be known",
                    self.options.node
                ),
            )),
            Readiness::NoInterface => {
                Standing::NotYet(refused("timeout", format!("pod {id}: its interface is not on this node")))
            }
            Readiness::Waiting(reason) if reason.is_empty() => {
                Standing::NotYet(refused("timeout", format!("pod {id}: its policy is not in force yet")))
            }
            Readiness::Waiting(reason) => Standing::NotYet(refused("kernel", format!("pod {id}: {reason}"))),
        }
    }
}

/// Rows of what is dirty, for JSON.
pub fn dirty_rows(dirty: &[Dirty]) -> Value {
    let row = |d: &Dirty| json!({"object": d.object, "reason": d.reason, "attempts": d.attempts});
    Value::Array(dirty.iter().map(row).collect())
}

fn summary(dirty: &[Dirty]) -> String {
    match dirty {
        [] => "the store's newest state has not been read".to_owned(),
        [first, rest @ ..] => {
            let reason = if first.reason.is_empty() { "waiting" } else { &first.reason };
            let more = if rest.is_empty() { String::new() } else { format!(", and {} more", rest.len()) };
            format!("{}: {reason}{more}", first.object)
        }
    }
}
