//! The harness: a checker of every single intent, an expander of scenarios, builders, an evaluator of what came
//! out, and an oracle for what should have.

pub mod build;
pub mod bytes;
pub mod checker;
pub mod connectivity;
pub mod driver;
pub mod evaluate;
pub mod expand;
pub mod oracle;
pub mod state;
