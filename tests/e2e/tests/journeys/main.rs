//! Journeys through a whole cluster: real agents, real CNI calls, traffic through the BPF programs. Needs root.
//! `tests/kubernetes` runs the same journeys on a real API server, with another `cluster` and `STORE`.

mod agents;
mod away;
mod connect_time;
mod damage;
mod direct;
mod doors;
mod floods;
mod growth;
mod host_ports;
mod inputs;
mod interfaces;
mod maglev;
mod recipes;
mod revocation;
mod sctp;
mod service_ranges;
mod services;
mod source_ranges;
mod storm;
mod tunnel;
mod untranslated;
mod vanished;
mod wire;

use tortie_tests_e2e::TestLab;

/// As `--store` takes it.
const STORE: &str = "dir";

/// So many nodes, dual stack.
fn cluster(nodes: usize) -> TestLab {
    TestLab::nodes(nodes)
}
