//! The same packets through the native build of the packet logic and through its programs in the kernel.
//!
//! Owns: worlds ([`world`]), steps and their text form ([`step`]), both sides ([`native`], [`kernel`]), the
//! comparison ([`session`]), the generator ([`generate`]), and the shortest form of a difference ([`shrink`]).
//! Does not: know what is right; both sides are asked, and must agree.
//! Invariant: a session starts with empty tables on both sides, and every change is made to both.
#![forbid(unsafe_code)]

pub mod generate;
pub mod kernel;
pub mod native;
pub mod objects;
pub mod random;
pub mod session;
pub mod shrink;
pub mod step;
pub mod world;
