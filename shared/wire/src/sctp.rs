//! Owns: the SCTP common header and the head of a chunk (RFC 9260 section 3). Does not: compute
//! CRC32c; addresses are not in it, and [`crate::crc32c`] follows ports.
//! Invariant: `ChunkType` keeps every value.

use core::mem::offset_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::be::{Be16, Be32};

/// The SCTP common header, 12 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SctpHeader {
    /// Source port.
    pub src_port: Be16,
    /// Destination port.
    pub dst_port: Be16,
    /// Identifies the association; zero only beside an INIT chunk.
    pub verification_tag: Be32,
    /// CRC32c over header and chunks, not over addresses.
    pub checksum: Be32,
}

/// The first four bytes of a chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ChunkHeader {
    /// See [`ChunkType`].
    pub kind: u8,
    /// Depends on the kind.
    pub flags: u8,
    /// Length with this header, without padding.
    pub len: Be16,
}

/// What a chunk is (RFC 9260 section 3.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChunkType {
    /// 0: payload.
    Data,
    /// 1: opens an association.
    Init,
    /// 2: answers it.
    InitAck,
    /// 3: selective acknowledgement.
    Sack,
    /// 4
    Heartbeat,
    /// 5
    HeartbeatAck,
    /// 6: ends at once.
    Abort,
    /// 7: starts a graceful end.
    Shutdown,
    /// 8
    ShutdownAck,
    /// 9
    Error,
    /// 10: third step of the opening.
    CookieEcho,
    /// 11: fourth step: established.
    CookieAck,
    /// 14: the end.
    ShutdownComplete,
    /// Anything else.
    Unknown(u8),
}

impl SctpHeader {
    /// Size in bytes.
    pub const LEN: usize = size_of::<Self>();
    /// Where the source port is.
    pub const SRC_PORT_OFFSET: usize = offset_of!(Self, src_port);
    /// Where the destination port is.
    pub const DST_PORT_OFFSET: usize = offset_of!(Self, dst_port);
    /// Where the checksum is.
    pub const CHECKSUM_OFFSET: usize = offset_of!(Self, checksum);
}

impl ChunkHeader {
    /// Size in bytes.
    pub const LEN: usize = size_of::<Self>();

    /// What it is.
    #[inline(always)]
    pub const fn chunk_type(&self) -> ChunkType {
        ChunkType::from_u8(self.kind)
    }
}

impl ChunkType {
    /// From the header's field.
    #[inline(always)]
    pub const fn from_u8(kind: u8) -> Self {
        match kind {
            0 => Self::Data,
            1 => Self::Init,
            2 => Self::InitAck,
            3 => Self::Sack,
            4 => Self::Heartbeat,
            5 => Self::HeartbeatAck,
            6 => Self::Abort,
            7 => Self::Shutdown,
            8 => Self::ShutdownAck,
            9 => Self::Error,
            10 => Self::CookieEcho,
            11 => Self::CookieAck,
            14 => Self::ShutdownComplete,
            other => Self::Unknown(other),
        }
    }

    /// The header's field.
    #[inline(always)]
    pub const fn to_u8(self) -> u8 {
        match self {
            Self::Data => 0,
            Self::Init => 1,
            Self::InitAck => 2,
            Self::Sack => 3,
            Self::Heartbeat => 4,
            Self::HeartbeatAck => 5,
            Self::Abort => 6,
            Self::Shutdown => 7,
            Self::ShutdownAck => 8,
            Self::Error => 9,
            Self::CookieEcho => 10,
            Self::CookieAck => 11,
            Self::ShutdownComplete => 14,
            Self::Unknown(other) => other,
        }
    }
}

const _: () = assert!(SctpHeader::LEN == 12 && ChunkHeader::LEN == 4);
