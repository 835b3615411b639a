//! `tortie-observe`: see ARCHITECTURE.md.
