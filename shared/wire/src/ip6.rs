//! Owns: the IPv6 header and the extension headers that can be walked (RFC 8200 sections 3 and 4).
//! Does not: walk them; the caller loads each header and bounds the number of steps. Invariant: an
//! extension header's length is 8 to 2,048 bytes, so that an offset made of a bounded number of them is bounded.

use core::mem::offset_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::addr::Ip6;
use crate::be::{Be16, Be32};
use crate::proto::IpProtocol;

/// The IPv6 header, 40 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Ip6Header {
    /// Version (4 bits), traffic class (8 bits), flow label (20 bits).
    pub version_class_flow: Be32,
    /// Length of all that follows this header in bytes, extension headers included.
    pub payload_len: Be16,
    /// What follows.
    pub next: IpProtocol,
    /// Hops left.
    pub hop_limit: u8,
    /// Source.
    pub src: Ip6,
    /// Destination.
    pub dst: Ip6,
}

/// The first two bytes of every extension header that has a length.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ExtHeader {
    /// What follows.
    pub next: IpProtocol,
    /// In a unit that depends on the kind, see [`ExtKind::byte_len`].
    pub len: u8,
}

/// The fragment header, 8 bytes (RFC 8200 section 4.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FragmentHeader {
    /// What follows in the first fragment.
    pub next: IpProtocol,
    /// Zero.
    pub reserved: u8,
    /// Offset in units of 8 bytes (13 bits), reserved (2 bits), more fragments (1 bit).
    pub offset_more: Be16,
    /// Identifies the fragments of one packet.
    pub id: Be32,
}

/// An extension header that has to be stepped over to find the transport header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExtKind {
    /// Only directly after the IPv6 header (RFC 8200 section 4.3).
    HopByHop,
    /// RFC 8200 section 4.4.
    Routing,
    /// RFC 8200 section 4.5; see [`FragmentHeader`].
    Fragment,
    /// RFC 4302.
    Authentication,
    /// RFC 8200 section 4.6.
    Destination,
}

/// What a next-header value stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NextHeader {
    /// An extension header: step over it and look again.
    Extension(ExtKind),
    /// Nothing readable follows: encrypted (ESP), or nothing at all (no next header).
    Opaque,
    /// A transport protocol.
    Transport(IpProtocol),
}

impl Ip6Header {
    /// Size in bytes.
    pub const LEN: usize = size_of::<Self>();
    /// Where the payload length is.
    pub const PAYLOAD_LEN_OFFSET: usize = offset_of!(Self, payload_len);
    /// Where the hop limit is.
    pub const HOP_LIMIT_OFFSET: usize = offset_of!(Self, hop_limit);
    /// Where the source is.
    pub const SRC_OFFSET: usize = offset_of!(Self, src);
    /// Where the destination is.
    pub const DST_OFFSET: usize = offset_of!(Self, dst);
    /// The first word of a packet of class 0 and flow label 0.
    pub const VERSION_6: Be32 = Be32::new(6 << 28);

    /// Should be 6.
    #[inline(always)]
    pub const fn version(&self) -> u8 {
        let [first, ..] = self.version_class_flow.to_bytes();
        first >> 4
    }

    /// Differentiated services and congestion bits.
    #[inline(always)]
    pub const fn traffic_class(&self) -> u8 {
        let [first, second, ..] = self.version_class_flow.to_bytes();
        (first << 4) | (second >> 4)
    }

    /// The flow label, 20 bits.
    #[inline(always)]
    pub const fn flow_label(&self) -> u32 {
        self.version_class_flow.get() & 0x000f_ffff
    }
}

impl NextHeader {
    /// What the next-header value stands for.
    #[inline(always)]
    pub const fn of(next: IpProtocol) -> Self {
        match next {
            IpProtocol::HOP_BY_HOP => Self::Extension(ExtKind::HopByHop),
            IpProtocol::ROUTING => Self::Extension(ExtKind::Routing),
            IpProtocol::FRAGMENT => Self::Extension(ExtKind::Fragment),
            IpProtocol::AH => Self::Extension(ExtKind::Authentication),
            IpProtocol::DESTINATION => Self::Extension(ExtKind::Destination),
            IpProtocol::ESP | IpProtocol::NO_NEXT => Self::Opaque,
            other => Self::Transport(other),
        }
    }
}

impl ExtKind {
    /// Length in bytes of the whole extension header whose length field is `len`: 8 to 2,048.
    #[inline(always)]
    pub const fn byte_len(self, len: u8) -> usize {
        let len = len as usize;
        match self {
            Self::HopByHop | Self::Routing | Self::Destination => len.wrapping_add(1) << 3,
            // In words, not counting the first two (RFC 4302 section 2.2).
            Self::Authentication => len.wrapping_add(2) << 2,
            // Its second byte is reserved.
            Self::Fragment => FragmentHeader::LEN,
        }
    }
}

impl ExtHeader {
    /// Size in bytes of the part that is here.
    pub const LEN: usize = size_of::<Self>();
    /// The longest an extension header can be.
    pub const MAX_BYTE_LEN: usize = 2048;
}

impl FragmentHeader {
    /// Size in bytes.
    pub const LEN: usize = size_of::<Self>();

    /// Where in the whole packet's payload this piece starts, in bytes.
    #[inline(always)]
    pub const fn offset(&self) -> u16 {
        self.offset_more.get() & 0xfff8
    }

    /// Do more fragments follow?
    #[inline(always)]
    pub const fn more_fragments(&self) -> bool {
        self.offset_more.get() & 1 != 0
    }

    /// Whole packet in one "atomic" fragment (RFC 6946): to be treated as if the header were not there.
    #[inline(always)]
    pub const fn is_atomic(&self) -> bool {
        self.offset() == 0 && !self.more_fragments()
    }
}

const _: () = assert!(Ip6Header::LEN == 40 && ExtHeader::LEN == 2 && FragmentHeader::LEN == 8);
