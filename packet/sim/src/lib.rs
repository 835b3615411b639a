//! `tortie-sim`: see ARCHITECTURE.md.
