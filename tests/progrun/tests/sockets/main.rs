//! The programs at a cgroup, with real sockets in a process that is in it. Needs root.

mod links;
mod rig;
mod tcp;
mod udp;
