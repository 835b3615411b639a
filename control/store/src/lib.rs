//! `tortie-store`: see ARCHITECTURE.md.
