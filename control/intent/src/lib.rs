//! `tortie-intent`: see ARCHITECTURE.md.
