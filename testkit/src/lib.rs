//! `tortie-testkit`: see ARCHITECTURE.md.
