//! A whole cluster against what is wrong: packets, files, processes, moments. Needs root.

mod faults;
mod frames;
mod full_disk;
mod half_open;
mod malformed;
mod matrix;
mod pods;
mod refusals;
mod revocation;
mod verbs;

/// So many nodes, dual stack. `tests/kubernetes` runs some of this on a real API server, with another one.
fn cluster(nodes: usize) -> tortie_tests_e2e::TestLab {
    tortie_tests_e2e::TestLab::nodes(nodes)
}
