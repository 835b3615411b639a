//! The front of every store: batches out, questions in.
//!
//! Owns: [`Store`] and [`Handle`]. Does not: read anything; a driver such as `dir` does, on a thread of its own.
//! Invariant: a rescan is answered only after the batches it speaks of are in the channel.

use crate::event::{Batch, Revision};
use std::sync::Arc;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

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
    let handle = Handle { requests, wake: Arc::new(wake) };
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

    fn ask(&self) -> Result<oneshot::Receiver<Revision>, Gone> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(reply).map_err(|_| Gone)?;
        (self.wake)();
        Ok(answer)
    }
}
