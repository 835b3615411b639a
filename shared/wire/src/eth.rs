//! Owns: the Ethernet header and the VLAN tag (IEEE 802.3, 802.1Q). Does not: handle 802.3 length
//! frames, which carry no IP. Invariant: `EtherType` keeps every value.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::addr::Mac;
use crate::be::Be16;

/// The Ethernet header, 14 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EthHeader {
    /// Destination.
    pub dst: Mac,
    /// Source.
    pub src: Mac,
    /// What follows, see [`EtherType`].
    pub ethertype: Be16,
}

/// A VLAN tag: what follows an ethertype of [`EtherType::Vlan`] or [`EtherType::QinQ`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VlanTag {
    /// Priority (3 bits), drop eligible (1 bit), VLAN (12 bits).
    pub control: Be16,
    /// What follows the tag.
    pub ethertype: Be16,
}

/// What an Ethernet header says follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EtherType {
    /// 0x0800
    Ipv4,
    /// 0x0806
    Arp,
    /// 0x8100, a customer VLAN tag.
    Vlan,
    /// 0x88a8, a service VLAN tag.
    QinQ,
    /// 0x86dd
    Ipv6,
    /// Anything else.
    Unknown(u16),
}

impl EthHeader {
    /// Size in bytes.
    pub const LEN: usize = size_of::<Self>();

    /// What follows.
    #[inline(always)]
    pub const fn kind(&self) -> EtherType {
        EtherType::from_be(self.ethertype)
    }
}

impl VlanTag {
    /// Size in bytes.
    pub const LEN: usize = size_of::<Self>();

    /// The VLAN's number in the control field, beside priority and drop eligibility.
    pub const ID: u16 = 0x0fff;

    /// The VLAN's number.
    #[inline(always)]
    pub const fn id(&self) -> u16 {
        self.control.get() & Self::ID
    }
}

impl EtherType {
    /// The field of the IPv4 ethertype.
    pub const IPV4: Be16 = Be16::new(0x0800);
    /// The field of the ARP ethertype.
    pub const ARP: Be16 = Be16::new(0x0806);
    /// The field of a customer VLAN tag.
    pub const VLAN: Be16 = Be16::new(0x8100);
    /// The field of a service VLAN tag.
    pub const QINQ: Be16 = Be16::new(0x88a8);
    /// The field of the IPv6 ethertype.
    pub const IPV6: Be16 = Be16::new(0x86dd);

    /// From the header's field.
    #[inline(always)]
    pub const fn from_be(field: Be16) -> Self {
        match field.get() {
            0x0800 => Self::Ipv4,
            0x0806 => Self::Arp,
            0x8100 => Self::Vlan,
            0x88a8 => Self::QinQ,
            0x86dd => Self::Ipv6,
            other => Self::Unknown(other),
        }
    }

    /// The header's field.
    #[inline(always)]
    pub const fn to_be(self) -> Be16 {
        match self {
            Self::Ipv4 => Self::IPV4,
            Self::Arp => Self::ARP,
            Self::Vlan => Self::VLAN,
            Self::QinQ => Self::QINQ,
            Self::Ipv6 => Self::IPV6,
            Self::Unknown(other) => Be16::new(other),
        }
    }
}

const _: () = assert!(EthHeader::LEN == 14 && VlanTag::LEN == 4);
