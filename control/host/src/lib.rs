//! Effects on the machine: BPF objects, links, pins, network devices, sysctls, clock.
//!
//! Owns: the `bpf(2)` wrapper ([`bpf`]) and everything else that changes or asks the kernel.
//! Does not: decide what is desired (`control/reconcile`), know the datastore or the packet logic.
//! Invariant: unsafe code is inside [`bpf`] only; what it exposes checks sizes before the kernel reads or writes.

pub mod bpf;
mod clsact;
pub mod kernel_btf;
pub mod links;
pub mod lock;
pub mod maps;
pub mod object;
pub mod policy;
pub mod policy_bench;
pub mod verifier;
