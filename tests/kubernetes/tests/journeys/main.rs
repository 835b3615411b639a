//! The journeys of tests/e2e, and what its cluster suite does with pods, on a real API server. Needs root and
//! scripts/kubernetes.sh. What breaks, fills or floods files is missing, since only a directory has them (`inputs`,
//! `storm`, `away`), and so is what packets and interfaces alone decide (`floods`, `half_open`, `interfaces`, `malformed`, `sctp`,
//! `tunnel`); `tests/operator/manifests/bad_input.rs` and `tests/operator/control_plane` have the counterparts.
//!
//! They have few control planes, one for each that runs at once, and use them in turn: `turns` is the test of that.

#[path = "../../../e2e/tests/journeys/agents.rs"]
mod agents;
#[path = "../../../e2e/tests/journeys/connect_time.rs"]
mod connect_time;
#[path = "../../../e2e/tests/journeys/direct.rs"]
mod direct;
#[path = "../../../e2e/tests/journeys/doors.rs"]
mod doors;
#[path = "../../../e2e/tests/journeys/growth.rs"]
mod growth;
#[path = "../../../e2e/tests/journeys/host_ports.rs"]
mod host_ports;
#[path = "../../../e2e/tests/journeys/maglev.rs"]
mod maglev;
#[path = "../../../e2e/tests/cluster/matrix.rs"]
mod matrix;
#[path = "../../../e2e/tests/cluster/pods.rs"]
mod pods;
#[path = "../../../e2e/tests/journeys/recipes.rs"]
mod recipes;
#[path = "../../../e2e/tests/journeys/revocation.rs"]
mod revocation;
#[path = "../../../e2e/tests/journeys/service_ranges.rs"]
mod service_ranges;
#[path = "../../../e2e/tests/journeys/services.rs"]
mod services;
#[path = "../../../e2e/tests/journeys/source_ranges.rs"]
mod source_ranges;
mod turns;
#[path = "../../../e2e/tests/journeys/untranslated.rs"]
mod untranslated;
#[path = "../../../e2e/tests/journeys/vanished.rs"]
mod vanished;
#[path = "../../../e2e/tests/cluster/verbs.rs"]
#[allow(dead_code, reason = "not everything that the cluster suite has runs here")]
mod verbs;
#[path = "../../../e2e/tests/journeys/wire.rs"]
mod wire;

use tortie_tests_e2e::TestLab;

/// As `--store` takes it.
const STORE: &str = "kube";

/// So many nodes, dual stack.
fn cluster(nodes: usize) -> TestLab {
    tortie_tests_kubernetes::cluster_in_turn(nodes)
}
