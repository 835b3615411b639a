//! Owns: the VXLAN header (RFC 7348 section 5). Does not: know which network numbers are ours.
//! Invariant: a network number is 24 bits; higher bits given are cut.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::be::{Be16, Be32};

/// The VXLAN header, 8 bytes. An Ethernet frame follows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VxlanHeader {
    /// Flags (8 bits), reserved (24 bits).
    pub flags: Be32,
    /// Network number (24 bits), reserved (8 bits).
    pub vni_reserved: Be32,
}

/// The UDP port assigned by IANA.
pub const PORT: Be16 = Be16::new(4789);
/// Flag: the network number is valid.
pub const FLAG_VNI: Be32 = Be32::new(0x0800_0000);
/// What VXLAN adds over IPv4: Ethernet 14, IPv4 20, UDP 8, VXLAN 8.
pub const OVERHEAD_V4: usize = 50;
/// What VXLAN adds over IPv6.
pub const OVERHEAD_V6: usize = 70;

impl VxlanHeader {
    /// Size in bytes.
    pub const LEN: usize = size_of::<Self>();

    /// A header for the network `vni`.
    #[inline(always)]
    pub const fn new(vni: u32) -> Self {
        Self { flags: FLAG_VNI, vni_reserved: Be32::new(vni << 8) }
    }

    /// The network number, or `None` when the header does not say that it is valid.
    #[inline(always)]
    pub const fn vni(&self) -> Option<u32> {
        if self.flags.raw() & FLAG_VNI.raw() == 0 { None } else { Some(self.vni_reserved.get() >> 8) }
    }
}

const _: () = assert!(VxlanHeader::LEN == 8);
