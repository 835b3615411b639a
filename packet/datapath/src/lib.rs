//! `tortie-datapath`: see ARCHITECTURE.md.
