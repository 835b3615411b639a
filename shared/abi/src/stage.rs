//! Constant indices of the program array `stage`, and what a preamble hands over.
//!
//! Each workload interface carries a few generated instructions (the preamble) that put the endpoint's
//! slot into `skb->cb[0]` and tail call the shared program of hook and family. An empty slot drops.

/// Packets leaving a pod, IPv4.
pub const FROM_WORKLOAD4: u32 = 0;
/// Packets leaving a pod, IPv6.
pub const FROM_WORKLOAD6: u32 = 1;
/// Packets leaving a pod that are neither IP nor ARP.
pub const FROM_WORKLOAD_OTHER: u32 = 2;
/// Packets from the host stack to a pod, IPv4.
pub const TO_WORKLOAD4: u32 = 3;
/// Packets from the host stack to a pod, IPv6.
pub const TO_WORKLOAD6: u32 = 4;
/// Packets from the host stack to a pod that are neither IP nor ARP.
pub const TO_WORKLOAD_OTHER: u32 = 5;
/// After a policy program, IPv4.
pub const RESUME4: u32 = 6;
/// After a policy program, IPv6.
pub const RESUME6: u32 = 7;
/// Answer with a TCP reset or an ICMP error, IPv4.
pub const REPLY4: u32 = 8;
/// Answer with a TCP reset or an ICMP error, IPv6.
pub const REPLY6: u32 = 9;
/// ICMP errors about a flow: match and translate the quoted packet, IPv4.
pub const RELATED4: u32 = 10;
/// ICMP errors about a flow: match and translate the quoted packet, IPv6.
pub const RELATED6: u32 = 11;
/// A flow that begins at a data interface, in or out, IPv4.
pub const OPEN4: u32 = 12;
/// A flow that begins at a data interface, in or out, IPv6.
pub const OPEN6: u32 = 13;
/// What few packets need before they leave, IPv4.
pub const APART4: u32 = 14;
/// What few packets need before they leave, IPv6.
pub const APART6: u32 = 15;
/// Size of the array.
pub const COUNT: u32 = 16;
