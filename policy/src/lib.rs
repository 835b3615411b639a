//! `tortie-policy`: see ARCHITECTURE.md.
