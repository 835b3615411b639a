//! `tortie-model`: see ARCHITECTURE.md.
