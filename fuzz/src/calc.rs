//! Any bytes as a history of objects: the calculation keeps its order guarantees after every intent, ends as a fresh
//! start would, and decides as the documentation of NetworkPolicy says.

/// The harness of the calculation's own tests.
#[allow(dead_code)]
#[path = "../../control/calc/tests/calc/support/mod.rs"]
mod support;

/// Checks one input.
pub fn check(bytes: &[u8]) {
    support::bytes::body(bytes);
}
