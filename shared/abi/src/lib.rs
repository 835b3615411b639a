//! `tortie-abi`: see ARCHITECTURE.md.
