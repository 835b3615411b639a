//! The store at its boundary.
#![allow(clippy::unwrap_used)]

mod conformance;
mod edit;
mod edits;
mod fields;
mod kube;
mod kube_faults;
mod kube_input;
mod live;
mod meaning;
mod messages;
mod objects;
mod server;
mod settings;
mod suite;
