//! What must hold for any input at all: one module for each fuzz target.
//!
//! Owns: the invariants and, in `corpus/`, the inputs worth keeping. Does not: know libFuzzer (`targets/`).
//! Invariant: every target is in [`TARGETS`], so that the ordinary tests replay its corpus.
#![forbid(unsafe_code)]

pub mod calc;
pub mod datapath;
pub mod resources;
pub mod selector;
pub mod wire;

pub use tortie_policy::testing::fuzz as policy;

/// A check of one input; it panics when an invariant is broken.
pub type Check = fn(&[u8]);

/// Every target by name, which is also the name of its corpus and of its file in `targets/`.
pub const TARGETS: [(&str, Check); 6] = [
    ("wire", wire::check),
    ("policy", policy),
    ("calc", calc::check),
    ("datapath", datapath::check),
    ("resources", resources::check),
    ("selector", selector::check),
];
