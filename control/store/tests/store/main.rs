//! The store at its boundary.
#![allow(clippy::unwrap_used)]

mod conformance;
mod edit;
mod edits;
mod live;
mod meaning;
mod messages;
mod settings;
mod suite;
