//! Owns: the IPv4 header (RFC 791 section 3.1). Does not: look at options, which only move what
//! follows. Invariant: `header_len` is 20 to 60 or `None`, so that an offset made of it is bounded.

use core::mem::offset_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::addr::Ip4;
use crate::be::Be16;
use crate::proto::IpProtocol;

/// The IPv4 header without options, 20 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Ip4Header {
    /// Version (4 bits) and header length in words (4 bits).
    pub version_ihl: u8,
    /// Differentiated services (6 bits, RFC 2474) and congestion (2 bits, RFC 3168).
    pub tos: u8,
    /// Length of header and payload in bytes.
    pub total_len: Be16,
    /// Identifies the fragments of one packet.
    pub id: Be16,
    /// Reserved, don't-fragment, more-fragments (3 bits), offset in units of 8 bytes (13 bits).
    pub flags_fragment: Be16,
    /// Hops left.
    pub ttl: u8,
    /// What follows.
    pub protocol: IpProtocol,
    /// Of the header with its options.
    pub checksum: Be16,
    /// Source.
    pub src: Ip4,
    /// Destination.
    pub dst: Ip4,
}

/// Flag: routers may not fragment.
pub const DONT_FRAGMENT: u16 = 0x4000;
/// Flag: more fragments follow.
pub const MORE_FRAGMENTS: u16 = 0x2000;
/// The bits of the offset, in units of 8 bytes.
pub const FRAGMENT_OFFSET_MASK: u16 = 0x1fff;
/// Longest header with options.
pub const MAX_HEADER_LEN: usize = 60;

impl Ip4Header {
    /// Size in bytes, without options.
    pub const LEN: usize = size_of::<Self>();
    /// Where the total length is.
    pub const TOTAL_LEN_OFFSET: usize = offset_of!(Self, total_len);
    /// Where the TTL is; its checksum word holds the protocol too.
    pub const TTL_OFFSET: usize = offset_of!(Self, ttl);
    /// Where the checksum is.
    pub const CHECKSUM_OFFSET: usize = offset_of!(Self, checksum);
    /// Where the source is.
    pub const SRC_OFFSET: usize = offset_of!(Self, src);
    /// Where the destination is.
    pub const DST_OFFSET: usize = offset_of!(Self, dst);

    /// Should be 4.
    #[inline(always)]
    pub const fn version(&self) -> u8 {
        self.version_ihl >> 4
    }

    /// Length of the header with options in bytes, 20 to 60; `None` when the field says less than 20.
    #[inline(always)]
    pub const fn header_len(&self) -> Option<usize> {
        let len = ((self.version_ihl & 0x0f) as usize) << 2;
        if len < Self::LEN { None } else { Some(len) }
    }

    /// May routers not fragment this packet?
    #[inline(always)]
    pub const fn dont_fragment(&self) -> bool {
        self.flags_fragment.get() & DONT_FRAGMENT != 0
    }

    /// Do more fragments follow?
    #[inline(always)]
    pub const fn more_fragments(&self) -> bool {
        self.flags_fragment.get() & MORE_FRAGMENTS != 0
    }

    /// Where in the whole packet's payload this one starts, in bytes (at most 65,528).
    #[inline(always)]
    pub const fn fragment_offset(&self) -> u16 {
        (self.flags_fragment.get() & FRAGMENT_OFFSET_MASK) << 3
    }

    /// Is this a piece of a packet (first, middle or last)?
    #[inline(always)]
    pub const fn is_fragment(&self) -> bool {
        self.flags_fragment.get() & (MORE_FRAGMENTS | FRAGMENT_OFFSET_MASK) != 0
    }

    /// Is this a piece other than the first, so that no ports are in it?
    #[inline(always)]
    pub const fn is_later_fragment(&self) -> bool {
        self.flags_fragment.get() & FRAGMENT_OFFSET_MASK != 0
    }

    /// The checksum word of TTL and protocol, for an incremental update when the TTL changes.
    #[inline(always)]
    pub const fn ttl_word(&self) -> Be16 {
        Be16::from_bytes([self.ttl, self.protocol.0])
    }
}

const _: () = assert!(Ip4Header::LEN == 20);
