//! `tortie-tests-e2e`: see ARCHITECTURE.md.
