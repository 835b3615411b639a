//! One thing each. A stage's bounds say what it may touch.

pub mod collision;
pub mod direct;
pub mod exit;
pub mod flow;
pub mod join;
pub mod maglev;
pub mod masquerade;
pub mod nat;
pub mod outside;
pub mod parse;
pub mod policy;
pub mod port;
pub mod route;
pub mod service;
pub mod socket;
pub mod source;
pub mod table;
pub mod tcp;
