//! Every byte that the kernel programs and user space share.
//!
//! Owns: map keys and values, events, flags, drop reasons, stage and tail-call indices, and the list
//! of maps ([`maps`]) with type, size, ABI version and writer.
//! Does not: hold logic, know aya, or use `bool`, `enum` or `usize` inside a layout.
//! Invariant: every layout is padding-free (derived) and its size is asserted here; a layout that
//! changes gets a new version in [`maps`], and so a new map name.
//!
//! Addresses and ports are kept in network byte order, as the types say ([`tortie_wire::Be16`]).
//! Everything else is in the byte order of the machine.
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![deny(clippy::panic)]

pub mod counter;
pub mod endpoint;
pub mod event;
pub mod flow;
mod layout;
pub mod maps;
pub mod policy;
pub mod reason;
pub mod route;
pub mod service;
pub mod settings;
pub mod socket;
pub mod stage;
pub mod sweep;
pub mod target;
pub mod time;

pub use layout::{v4, v6};
pub use reason::{DropReason, Hook};
pub use target::Target;
pub use time::Tick;
