//! `tortie-lab`: see ARCHITECTURE.md.
