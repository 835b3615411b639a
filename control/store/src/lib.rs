//! Datastores: what a user wrote, validated, as changes of [`tortie_model`] objects.
//!
//! Owns: wire types of Kubernetes and Calico, their validation, and the stream of changes ([`Store`]).
//! Does not: compute across objects, except for merging settings.
//! Invariant: what leaves here is valid; what was refused leaves the last good version in force and is
//! reported as a [`Rejection`] until it is put right.
#![forbid(unsafe_code)]

pub mod calico;
pub mod check;
pub mod dir;
pub mod event;
pub mod fault;
pub mod input;
mod json;
pub mod kind;
pub mod kube;
pub mod label_selector;
pub mod objects;
pub mod rejection;
pub mod resource;
pub mod settings;
pub mod spelling;
mod state;
pub mod stream;
pub mod strict;
pub mod text;
pub mod wire;

pub use event::{Batch, Event, Revision};
pub use rejection::{Effect, ObjectName, Origin, Rejection};
pub use stream::{Finding, Gone, Handle, NodeState, Standing, Store};
