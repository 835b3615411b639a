//! Owns: the ICMP header for IPv4 and its numbers (RFC 792, RFC 1191). Does not: read the packet
//! that an error quotes. Invariant: which types quote a packet is said once, by `is_error`.

use core::mem::offset_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::be::{Be16, Be32};

/// The ICMP header, 8 bytes. An error's quoted packet follows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Icmp4Header {
    /// See the constants of this module.
    pub kind: u8,
    /// Depends on the type.
    pub code: u8,
    /// Of header and payload; there is no pseudo header.
    pub checksum: Be16,
    /// Depends on the type: echo identifier and sequence number, next-hop MTU.
    pub rest: Be32,
}

/// Answer to an echo request.
pub const ECHO_REPLY: u8 = 0;
/// The packet could not be delivered; the code says why.
pub const UNREACHABLE: u8 = 3;
/// Slow down (deprecated by RFC 6633).
pub const SOURCE_QUENCH: u8 = 4;
/// Use another router.
pub const REDIRECT: u8 = 5;
/// "Are you there?"
pub const ECHO_REQUEST: u8 = 8;
/// The TTL or the reassembly time ran out.
pub const TIME_EXCEEDED: u8 = 11;
/// A header field is wrong.
pub const PARAMETER_PROBLEM: u8 = 12;

/// Code of [`UNREACHABLE`]: no route to the network.
pub const NET_UNREACHABLE: u8 = 0;
/// Code of [`UNREACHABLE`]: the host does not answer.
pub const HOST_UNREACHABLE: u8 = 1;
/// Code of [`UNREACHABLE`]: the protocol is not spoken.
pub const PROTOCOL_UNREACHABLE: u8 = 2;
/// Code of [`UNREACHABLE`]: nobody listens on the port.
pub const PORT_UNREACHABLE: u8 = 3;
/// Code of [`UNREACHABLE`]: too big, and may not be fragmented (RFC 1191).
pub const FRAGMENTATION_NEEDED: u8 = 4;
/// Code of [`UNREACHABLE`]: forbidden by an administrator (RFC 1812 section 5.2.7.1).
pub const PROHIBITED: u8 = 13;
/// Code of [`TIME_EXCEEDED`]: the TTL ran out on the way.
pub const TTL_EXCEEDED: u8 = 0;

impl Icmp4Header {
    /// Size in bytes.
    pub const LEN: usize = size_of::<Self>();
    /// Where the checksum is.
    pub const CHECKSUM_OFFSET: usize = offset_of!(Self, checksum);
    /// Where an echo's identifier is.
    pub const ECHO_ID_OFFSET: usize = offset_of!(Self, rest);

    /// Does a quoted packet follow this header (RFC 1122 section 3.2.2)?
    #[inline(always)]
    pub const fn is_error(&self) -> bool {
        matches!(self.kind, UNREACHABLE | SOURCE_QUENCH | REDIRECT | TIME_EXCEEDED | PARAMETER_PROBLEM)
    }

    /// Echo request or reply?
    #[inline(always)]
    pub const fn is_echo(&self) -> bool {
        matches!(self.kind, ECHO_REQUEST | ECHO_REPLY)
    }

    /// Identifier of an echo.
    #[inline(always)]
    pub const fn echo_id(&self) -> Be16 {
        let [a, b, _, _] = self.rest.to_bytes();
        Be16::from_bytes([a, b])
    }

    /// Sequence number of an echo.
    #[inline(always)]
    pub const fn echo_sequence(&self) -> Be16 {
        let [_, _, a, b] = self.rest.to_bytes();
        Be16::from_bytes([a, b])
    }

    /// The MTU of the next hop, in a "fragmentation needed" error (RFC 1191 section 4).
    #[inline(always)]
    pub const fn next_hop_mtu(&self) -> u16 {
        self.echo_sequence().get()
    }

    /// `rest` of an echo.
    #[inline(always)]
    pub const fn echo_rest(id: Be16, sequence: Be16) -> Be32 {
        let [a, b] = id.to_bytes();
        let [c, d] = sequence.to_bytes();
        Be32::from_bytes([a, b, c, d])
    }
}

const _: () = assert!(Icmp4Header::LEN == 8);
