//! Owns: the numbers of IP in IP (RFC 2003). Does not: have a header of its own; the outer header is an
//! IPv4 header whose protocol is [`crate::IpProtocol::IPIP`]. Invariant: none.

/// What IP in IP adds to a packet.
pub const OVERHEAD: usize = 20;
