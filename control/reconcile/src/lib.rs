//! `tortie-reconcile`: see ARCHITECTURE.md.
