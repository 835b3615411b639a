//! The CNI plugin with real namespaces, a real address plugin and an agent that does what the test tells it.

mod adding;
mod pod_cidr;
mod process;
mod removing;
mod versions;
mod world;
