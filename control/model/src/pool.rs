//! IP pools.

use ipnet::IpNet;

/// A range of pod addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The range.
    pub cidr: IpNet,
    /// Masquerade what leaves the pools.
    pub nat_outgoing: bool,
    /// Its addresses are for pods, and not for load balancers or tunnels alone.
    pub for_pods: bool,
    /// No new addresses from it.
    pub disabled: bool,
}
