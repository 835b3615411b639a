//! The front of every store: batches out, questions in.
//!
//! Owns: [`Store`] and [`Handle`]. Does not: read anything; a driver such as `dir` does, on a thread of its own.
//! Invariant: a rescan is answered only after the batches it speaks of are in the channel.

use crate::event::{Batch, Revision};
use ipnet::IpNet;
use std::sync::Arc;
use std::time::SystemTime;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tortie_model::ObjectId;

/// An open store. Dropping it ends its driver.
pub struct Store {
    batches: mpsc::UnboundedReceiver<Batch>,
    handle: Handle,
}

/// Asks a store questions; clones ask the same store.
#[derive(Clone)]
pub struct Handle {
    requests: mpsc::UnboundedSender<Rescan>,
    wake: Arc<dyn Fn() + Send + Sync>,
    standing: Arc<dyn Fn() -> Option<Standing> + Send + Sync>,
    node: Arc<dyn Fn(NodeState) + Send + Sync>,
    findings: Arc<dyn Fn(Finding) + Send + Sync>,
}

/// What a store may be told of the agent's own node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeState {
    /// Everything is in force: pods may come.
    pub ready: bool,
    /// The node's own addresses with the prefixes they are in; the first of each family counts.
    pub addresses: Vec<IpNet>,
}

/// What an agent has found out about an object that is valid by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whose user should know.
    pub object: ObjectId,
    /// One word for the kind of trouble, in the form of an Event's reason.
    pub reason: &'static str,
    /// What is wrong, and what to do.
    pub message: String,
    /// Other agents do not find it: it is about this node alone.
    pub alone: bool,
}

/// How a store that is somewhere else can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The server that was asked last.
    pub server: String,
    /// `None`: it answers. Else why not.
    pub trouble: Option<String>,
    /// Since when that is so.
    pub since: SystemTime,
    /// What is in force is what was known before the agent began: the server has not said everything yet.
    pub from_cache: bool,
    /// Kinds that have not been read yet.
    pub waiting_for: Vec<String>,
    /// Kinds that were lost sight of and are not followed again: what is in force of them may be old.
    pub behind: Vec<String>,
    /// Why what is remembered of the time before the agent began is not in force: file and damage.
    pub memory: Option<String>,
    /// Why what is in force is not remembered for a start without the server: file and cause.
    pub unwritten: Option<String>,
    /// Why Calico's kinds are read in another form than the one that is preferred.
    pub fallback: Option<String>,
}

/// The store has been closed or its driver has ended.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the store is closed; restart the agent")]
pub struct Gone;

pub(crate) type Rescan = oneshot::Sender<Revision>;

/// What a driver holds.
pub(crate) struct Driver {
    pub batches: mpsc::UnboundedSender<Batch>,
    pub requests: mpsc::UnboundedReceiver<Rescan>,
}

/// Both ends of a store; `wake` makes the driver look at its end.
pub(crate) fn pair(wake: impl Fn() + Send + Sync + 'static) -> (Store, Driver) {
    let (batches_in, batches) = mpsc::unbounded_channel();
    let (requests, requests_out) = mpsc::unbounded_channel();
    let handle = Handle {
        requests,
        wake: Arc::new(wake),
        standing: Arc::new(|| None),
        node: Arc::new(drop),
        findings: Arc::new(drop),
    };
    (Store { batches, handle }, Driver { batches: batches_in, requests: requests_out })
}

impl Store {
    /// The next batch; `None`: the driver has ended. Safe to cancel.
    pub async fn next(&mut self) -> Option<Batch> {
        self.batches.recv().await
    }

    /// The same, for a thread without a runtime.
    pub fn blocking_next(&mut self) -> Option<Batch> {
        self.batches.blocking_recv()
    }

    /// The next batch if there is one now.
    pub fn try_next(&mut self) -> Option<Batch> {
        self.batches.try_recv().ok()
    }

    /// Says how it can be reached.
    pub(crate) fn with_standing(
        mut self,
        standing: impl Fn() -> Option<Standing> + Send + Sync + 'static,
    ) -> Self {
        self.handle.standing = Arc::new(standing);
        self
    }

    /// Passes on what the agent says of its node.
    pub(crate) fn with_node(mut self, node: impl Fn(NodeState) + Send + Sync + 'static) -> Self {
        self.handle.node = Arc::new(node);
        self
    }

    /// Passes on what the agent finds out about objects.
    pub(crate) fn with_findings(mut self, findings: impl Fn(Finding) + Send + Sync + 'static) -> Self {
        self.handle.findings = Arc::new(findings);
        self
    }

    /// For questions.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.batches.close();
        (self.handle.wake)();
    }
}

impl Handle {
    /// Reads again now. Every change that was visible when this was called is in a batch of the returned
    /// revision or an earlier one, and that batch has been sent.
    pub async fn rescan(&self) -> Result<Revision, Gone> {
        self.ask()?.await.map_err(|_| Gone)
    }

    /// The same, for a thread without a runtime.
    pub fn blocking_rescan(&self) -> Result<Revision, Gone> {
        self.ask()?.blocking_recv().map_err(|_| Gone)
    }

    /// How the store can be reached; `None`: it is here.
    pub fn standing(&self) -> Option<Standing> {
        (self.standing)()
    }

    /// Tells the store how this node is, where it wants to know; never waits.
    pub fn set_node(&self, state: NodeState) {
        (self.node)(state);
    }

    /// Tells the store what was found out about an object, where it can tell the object's user; never waits.
    pub fn report(&self, finding: Finding) {
        (self.findings)(finding);
    }

    fn ask(&self) -> Result<oneshot::Receiver<Revision>, Gone> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(reply).map_err(|_| Gone)?;
        (self.wake)();
        Ok(answer)
    }
}
