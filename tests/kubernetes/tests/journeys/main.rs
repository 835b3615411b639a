//! The journeys of tests/e2e, on a real API server. Needs root and scripts/kubernetes.sh. One is missing: `inputs` breaks
//! files, which only a directory has; `tests/manifests/bad_input.rs` has its counterpart.

#[path = "../../../e2e/tests/journeys/agents.rs"]
mod agents;
#[path = "../../../e2e/tests/journeys/connect_time.rs"]
mod connect_time;
#[path = "../../../e2e/tests/journeys/doors.rs"]
mod doors;
#[path = "../../../e2e/tests/journeys/floods.rs"]
mod floods;
#[path = "../../../e2e/tests/journeys/recipes.rs"]
mod recipes;
#[path = "../../../e2e/tests/journeys/revocation.rs"]
mod revocation;
#[path = "../../../e2e/tests/journeys/services.rs"]
mod services;

use tortie_tests_e2e::TestLab;

/// As `--store` takes it.
const STORE: &str = "kube";

/// So many nodes, dual stack.
fn cluster(nodes: usize) -> TestLab {
    tortie_tests_kubernetes::cluster(nodes)
}
