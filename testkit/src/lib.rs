//! What tests share: packets, worlds, fakes. See ARCHITECTURE.md.
//!
//! Never part of a shipped binary; a misuse of it panics with the reason, as a test should.
#![forbid(unsafe_code)]

pub mod fake_table;
pub mod netns;
pub mod packet;
