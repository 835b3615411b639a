//! IP pools.

use ipnet::IpNet;

/// A range of pod addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The range.
    pub cidr: IpNet,
    /// Masquerade what leaves the pools.
    pub nat_outgoing: bool,
    /// No new addresses from it.
    pub disabled: bool,
}
