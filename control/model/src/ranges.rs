//! Ranges that Services have their addresses from.

use std::fmt;
use std::sync::Arc;

/// Who says so.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RangesId {
    /// A ServiceCIDR: cluster addresses, which the API server gives out.
    ServiceCidr(Arc<str>),
    /// A BGPConfiguration: whatever is announced to the network.
    BgpConfiguration(Arc<str>),
}

impl fmt::Display for RangesId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ServiceCidr(name) => write!(f, "ServiceCIDR {name}"),
            Self::BgpConfiguration(name) => write!(f, "BGPConfiguration {name}"),
        }
    }
}
