//! Owns: ARP for IPv4 over Ethernet (RFC 826). Does not: answer. Invariant: a packet of another
//! hardware or protocol type is told apart by `is_ipv4_over_ethernet`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::addr::{Ip4, Mac};
use crate::be::Be16;
use crate::eth::EtherType;

/// An ARP packet for IPv4 over Ethernet, 28 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ArpPacket {
    /// Hardware type, 1 for Ethernet.
    pub hardware: Be16,
    /// Protocol type, an ethertype.
    pub protocol: Be16,
    /// Length of a hardware address, 6.
    pub hardware_len: u8,
    /// Length of a protocol address, 4.
    pub protocol_len: u8,
    /// [`REQUEST`] or [`REPLY`].
    pub operation: Be16,
    /// Sender's Ethernet address.
    pub sender_mac: Mac,
    /// Sender's IPv4 address (not aligned here, see [`ArpPacket::sender`]).
    pub sender_ip: [u8; 4],
    /// Target's Ethernet address, zero in a request.
    pub target_mac: Mac,
    /// Target's IPv4 address (see [`ArpPacket::target`]).
    pub target_ip: [u8; 4],
}

/// Operation: who has the target address?
pub const REQUEST: Be16 = Be16::new(1);
/// Operation: the sender has it.
pub const REPLY: Be16 = Be16::new(2);
/// Hardware type: Ethernet.
pub const ETHERNET: Be16 = Be16::new(1);

impl ArpPacket {
    /// Size in bytes.
    pub const LEN: usize = size_of::<Self>();

    /// Do the types and lengths say IPv4 over Ethernet?
    #[inline(always)]
    pub fn is_ipv4_over_ethernet(&self) -> bool {
        self.hardware == ETHERNET
            && self.protocol == EtherType::IPV4
            && self.hardware_len == 6
            && self.protocol_len == 4
    }

    /// Sender's IPv4 address.
    #[inline(always)]
    pub const fn sender(&self) -> Ip4 {
        Ip4::from_octets(self.sender_ip)
    }

    /// Target's IPv4 address.
    #[inline(always)]
    pub const fn target(&self) -> Ip4 {
        Ip4::from_octets(self.target_ip)
    }
}

const _: () = assert!(ArpPacket::LEN == 28);
