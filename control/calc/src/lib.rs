//! `tortie-calc`: see ARCHITECTURE.md.
