//! What an operator does to a cluster and what a cluster does to an operator, on a real API server. Needs root and
//! scripts/kubernetes.sh.
//!
//! In one program, since both wait more than they work: one goes on while the other waits.

mod control_plane;
mod manifests;
