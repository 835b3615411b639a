//! `tortie-tests-progrun`: see ARCHITECTURE.md.
