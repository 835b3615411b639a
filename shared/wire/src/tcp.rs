//! Owns: the TCP header and its flags (RFC 9293 section 3.1). Does not: read options or follow a
//! connection. Invariant: `header_len` is 20 to 60 or `None`.

use core::mem::offset_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::be::{Be16, Be32};

/// The TCP header without options, 20 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TcpHeader {
    /// Source port.
    pub src_port: Be16,
    /// Destination port.
    pub dst_port: Be16,
    /// Sequence number of the first byte (or of the SYN).
    pub seq: Be32,
    /// Next byte expected, when ACK is set.
    pub ack: Be32,
    /// Header length in words (4 bits), reserved (4 bits).
    pub data_offset: u8,
    /// Control bits.
    pub flags: TcpFlags,
    /// Receive window.
    pub window: Be16,
    /// Of pseudo header, header and payload.
    pub checksum: Be16,
    /// Urgent pointer.
    pub urgent: Be16,
}

/// The control bits of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Debug)]
#[repr(transparent)]
pub struct TcpFlags(pub u8);

impl TcpHeader {
    /// Size in bytes, without options.
    pub const LEN: usize = size_of::<Self>();
    /// Where the source port is.
    pub const SRC_PORT_OFFSET: usize = offset_of!(Self, src_port);
    /// Where the destination port is.
    pub const DST_PORT_OFFSET: usize = offset_of!(Self, dst_port);
    /// Where the acknowledgment number is.
    pub const ACKNOWLEDGMENT_OFFSET: usize = offset_of!(Self, ack);
    /// Where the checksum is.
    pub const CHECKSUM_OFFSET: usize = offset_of!(Self, checksum);

    /// Length of the header with options in bytes, 20 to 60; `None` when the field says less than 20.
    #[inline(always)]
    pub const fn header_len(&self) -> Option<usize> {
        let len = ((self.data_offset >> 4) as usize) << 2;
        if len < Self::LEN { None } else { Some(len) }
    }
}

impl TcpFlags {
    /// No more data from the sender.
    pub const FIN: Self = Self(0x01);
    /// Opens a connection.
    pub const SYN: Self = Self(0x02);
    /// Ends a connection at once.
    pub const RST: Self = Self(0x04);
    /// Deliver without delay.
    pub const PSH: Self = Self(0x08);
    /// The acknowledgement number counts.
    pub const ACK: Self = Self(0x10);
    /// The urgent pointer counts.
    pub const URG: Self = Self(0x20);
    /// Congestion was seen (RFC 3168).
    pub const ECE: Self = Self(0x40);
    /// Congestion window reduced (RFC 3168).
    pub const CWR: Self = Self(0x80);

    /// Are all bits of `other` set?
    #[inline(always)]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Is any bit of `other` set?
    #[inline(always)]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Both sets of bits.
    #[inline(always)]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// SYN without ACK and RST: a client opens a connection.
    #[inline(always)]
    pub const fn is_opening(self) -> bool {
        self.0 & (Self::SYN.0 | Self::ACK.0 | Self::RST.0) == Self::SYN.0
    }

    /// SYN with ACK, without RST: a server answers.
    #[inline(always)]
    pub const fn is_answer(self) -> bool {
        self.0 & (Self::SYN.0 | Self::ACK.0 | Self::RST.0) == Self::SYN.0 | Self::ACK.0
    }

    /// Combinations that no TCP sends. What is left are SYN, SYN with ACK, RST, RST with ACK, FIN with ACK and ACK
    /// (RFC 9293 section 3.10.7 has no place for others); PSH, URG, ECE and CWR may come with any of them.
    #[inline(always)]
    pub const fn is_bogus(self) -> bool {
        const FIN_ACK: u8 = TcpFlags::FIN.0 | TcpFlags::ACK.0;
        const SYN_ACK: u8 = TcpFlags::SYN.0 | TcpFlags::ACK.0;
        const RST_ACK: u8 = TcpFlags::RST.0 | TcpFlags::ACK.0;
        const ACK: u8 = TcpFlags::ACK.0;
        const SYN: u8 = TcpFlags::SYN.0;
        const RST: u8 = TcpFlags::RST.0;
        let steering = self.0 & (Self::SYN.0 | Self::FIN.0 | Self::RST.0 | Self::ACK.0);
        !matches!(steering, SYN | SYN_ACK | RST | RST_ACK | FIN_ACK | ACK)
    }
}

impl core::ops::BitOr for TcpFlags {
    type Output = Self;

    #[inline(always)]
    fn bitor(self, other: Self) -> Self {
        self.union(other)
    }
}

const _: () = assert!(TcpHeader::LEN == 20);
