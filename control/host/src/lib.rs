//! `tortie-host`: see ARCHITECTURE.md.
