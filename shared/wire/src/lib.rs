//! `tortie-wire`: see ARCHITECTURE.md.
