//! Network policy: the normalised form of rules, its reference evaluator, and the compiler to BPF.
//!
//! Owns: [`form`] (rules as every data plane receives them).
//! Does not: load programs, know Kubernetes objects, or resolve selectors (that is `control/calc`).
//! Invariant: the evaluator and the compiled program of one list agree on every packet.
#![forbid(unsafe_code)]

pub mod form;
