//! One thing that was found.
//!
//! Owns: its form. Does not: find it. Invariant: what blocks or differs says what to do.

use serde::Serialize;

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// Something would be open, closed or unreachable that is not now.
    Blocks,
    /// It works in another way, or a setting has no effect.
    Differs,
    /// It works as before.
    Supported,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub verdict: Verdict,
    /// Which object, or how many of which kind.
    pub object: String,
    /// What of it.
    pub what: String,
    /// What to do.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub fix: String,
}

impl Finding {
    pub fn blocks(object: &str, what: &str, fix: &str) -> Self {
        Self { verdict: Verdict::Blocks, object: object.into(), what: what.into(), fix: fix.into() }
    }

    pub fn differs(object: &str, what: &str, fix: &str) -> Self {
        Self { verdict: Verdict::Differs, ..Self::blocks(object, what, fix) }
    }

    pub fn supported(object: &str, what: &str) -> Self {
        Self { verdict: Verdict::Supported, ..Self::blocks(object, what, "") }
    }
}
