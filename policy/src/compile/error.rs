//! Why a list cannot be compiled, and which policy to look at.

use crate::asm::AsmError;
use crate::form::{List, Origin};
use std::collections::BTreeMap;

/// What there is too much of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Pressure {
    /// More alternatives of rules than can be numbered.
    #[error("too many rules; use fewer rules or fewer source port ranges")]
    Rules,
    /// More distinct combinations of ports than the working memory holds.
    #[error("too many distinct combinations of destination ports; use ranges or fewer ports")]
    Services,
    /// More distinct combinations of peers than rows can be numbered.
    #[error("too many distinct combinations of peers; use fewer selectors or CIDRs")]
    Rows,
    /// More rules with source ports, ICMP codes or an IP version than both forms take.
    #[error(
        "{found} rules with source ports, ICMP codes or an IP version; {allowed} fit a list of this size"
    )]
    Residuals {
        /// How many there are.
        found: usize,
        /// How many are allowed.
        allowed: usize,
    },
    /// More kernel memory than configured.
    #[error("its tables need {needed} bytes, {allowed} are allowed; use fewer rules, ports or selectors")]
    Memory {
        /// Needed at least.
        needed: usize,
        /// The limit.
        allowed: usize,
    },
    /// The generated program is not well formed: a defect, please report it.
    #[error("the generated program is not well formed ({0}); please report this")]
    Program(AsmError),
}

/// A list was refused. Whatever was in force stays in force.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a list of {rules} rules cannot be compiled: {pressure}; its largest part is {policy} in tier {tier}"
)]
pub struct CompileError {
    /// The policy with the most rules in the list.
    pub policy: String,
    /// Its tier.
    pub tier: String,
    /// Rules in the list.
    pub rules: usize,
    /// What there is too much of.
    pub pressure: Pressure,
}

impl CompileError {
    pub(super) fn new(list: &List, pressure: Pressure) -> Self {
        let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for rule in &list.rules {
            let Origin { tier, policy, .. } = &*rule.origin;
            *counts.entry((tier, policy)).or_default() += 1;
        }
        let largest = counts.into_iter().max_by_key(|(_, count)| *count).map(|(origin, _)| origin);
        let (tier, policy) = largest.unwrap_or(("", "no policy"));
        Self { policy: policy.to_owned(), tier: tier.to_owned(), rules: list.rules.len(), pressure }
    }
}
