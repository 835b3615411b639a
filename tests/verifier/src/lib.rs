//! `tortie-tests-verifier`: see ARCHITECTURE.md.
