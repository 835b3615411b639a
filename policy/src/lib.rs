//! Network policy: the normalised form of rules, its reference evaluator, and the compiler to BPF.
//!
//! Owns: [`form`] (rules as every data plane receives them), [`evaluate`] (what they mean), [`classes`]
//! (addresses by set membership), [`compile`] (lists as programs and tables), [`preamble`], and [`asm`].
//! Does not: load programs, know Kubernetes objects, or resolve selectors (that is `control/calc`).
//! Invariant: the evaluator and the compiled program of one list agree on every packet.
#![forbid(unsafe_code)]

pub mod asm;
pub mod classes;
pub mod compile;
mod emit;
pub mod evaluate;
pub mod form;
pub mod preamble;
pub mod synthetic;

#[cfg(any(test, feature = "testing"))]
pub mod testing;
