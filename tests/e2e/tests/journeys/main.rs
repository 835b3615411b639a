//! Journeys through a whole cluster: real agents, real CNI calls, traffic through the BPF programs. Needs root.

mod agents;
mod floods;
mod inputs;
mod recipes;
mod revocation;
mod services;
