//! Effects on the machine: BPF objects, links, pins, network devices, sysctls, clock.
//!
//! Owns: the `bpf(2)` wrapper ([`bpf`]) and everything else that changes or asks the kernel.
//! Does not: decide what is desired (`control/reconcile`), know the datastore or the packet logic.
//! Invariant: unsafe code is inside [`bpf`] only, where what is exposed checks sizes before the kernel reads or writes, and
//! in [`memory`].

pub mod bpf;
pub mod bpffs;
pub mod cgroup;
pub mod clock;
pub mod clsact;
pub mod datapath;
pub mod features;
pub mod hooks;
pub mod kernel;
pub mod links;
pub mod lock;
pub mod maps;
pub mod memory;
pub mod netlink;
pub mod object;
pub mod packet_bench;
pub mod policy;
pub mod policy_bench;
pub mod programs;
pub mod socket_bench;
pub mod sockets;
pub mod sweep;
pub mod sysctl;
pub mod tables;
pub mod verifier;
