//! Owns: the UDP header (RFC 768). Does not: decide whether a missing checksum is acceptable.
//! Invariant: none beyond the layout.

use core::mem::offset_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::be::Be16;

/// The UDP header, 8 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct UdpHeader {
    /// Source port.
    pub src_port: Be16,
    /// Destination port.
    pub dst_port: Be16,
    /// Length of header and payload.
    pub len: Be16,
    /// Of pseudo header, header and payload; zero is "none" over IPv4 (RFC 8200 section 8.1 forbids it over IPv6).
    pub checksum: Be16,
}

impl UdpHeader {
    /// Size in bytes.
    pub const LEN: usize = size_of::<Self>();
    /// Where the source port is.
    pub const SRC_PORT_OFFSET: usize = offset_of!(Self, src_port);
    /// Where the destination port is.
    pub const DST_PORT_OFFSET: usize = offset_of!(Self, dst_port);
    /// Where the checksum is.
    pub const CHECKSUM_OFFSET: usize = offset_of!(Self, checksum);
}

const _: () = assert!(UdpHeader::LEN == 8);
