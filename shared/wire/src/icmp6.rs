//! Owns: the ICMPv6 header and its numbers (RFC 4443), and neighbour discovery's messages (RFC 4861).
//! Does not: read the packet that an error quotes. Invariant: which types quote a packet is said once.

use core::mem::offset_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::addr::{Ip6, Mac};
use crate::be::{Be16, Be32};

/// The ICMPv6 header, 8 bytes. An error's quoted packet follows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Icmp6Header {
    /// See the constants of this module.
    pub kind: u8,
    /// Depends on the type.
    pub code: u8,
    /// Of pseudo header, header and payload.
    pub checksum: Be16,
    /// Depends on the type: echo identifier and sequence number, MTU, pointer, flags.
    pub rest: Be32,
}

/// What follows the ICMPv6 header in a neighbour solicitation or advertisement.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct NeighbourTarget {
    /// The address asked for, or told.
    pub target: Ip6,
}

/// The option that carries an Ethernet address (RFC 4861 section 4.6.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct LinkLayerOption {
    /// [`OPTION_SOURCE`] or [`OPTION_TARGET`].
    pub kind: u8,
    /// In units of 8 bytes: 1.
    pub len: u8,
    /// The address.
    pub mac: Mac,
}

/// The packet could not be delivered; the code says why.
pub const UNREACHABLE: u8 = 1;
/// Larger than the next hop takes; `rest` is the MTU.
pub const PACKET_TOO_BIG: u8 = 2;
/// The hop limit or the reassembly time ran out.
pub const TIME_EXCEEDED: u8 = 3;
/// A header field is wrong.
pub const PARAMETER_PROBLEM: u8 = 4;
/// "Are you there?"
pub const ECHO_REQUEST: u8 = 128;
/// Answer to an echo request.
pub const ECHO_REPLY: u8 = 129;
/// Multicast listener query (RFC 2710).
pub const MLD_QUERY: u8 = 130;
/// Multicast listener report (RFC 2710).
pub const MLD_REPORT: u8 = 131;
/// Multicast listener done (RFC 2710).
pub const MLD_DONE: u8 = 132;
/// Router solicitation.
pub const ROUTER_SOLICITATION: u8 = 133;
/// Router advertisement.
pub const ROUTER_ADVERTISEMENT: u8 = 134;
/// Neighbour solicitation.
pub const NEIGHBOUR_SOLICITATION: u8 = 135;
/// Neighbour advertisement.
pub const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// Use another router.
pub const REDIRECT: u8 = 137;
/// Multicast listener report, version 2 (RFC 3810).
pub const MLD2_REPORT: u8 = 143;

/// Code of [`UNREACHABLE`]: no route.
pub const NO_ROUTE: u8 = 0;
/// Code of [`UNREACHABLE`]: forbidden by an administrator.
pub const PROHIBITED: u8 = 1;
/// Code of [`UNREACHABLE`]: the address does not answer.
pub const ADDRESS_UNREACHABLE: u8 = 3;
/// Code of [`UNREACHABLE`]: nobody listens on the port.
pub const PORT_UNREACHABLE: u8 = 4;
/// Code of [`TIME_EXCEEDED`]: the hop limit ran out on the way.
pub const HOP_LIMIT_EXCEEDED: u8 = 0;

/// Option: the sender's Ethernet address.
pub const OPTION_SOURCE: u8 = 1;
/// Option: the target's Ethernet address.
pub const OPTION_TARGET: u8 = 2;

/// `rest` of a neighbour advertisement: the sender is a router.
pub const NA_ROUTER: Be32 = Be32::new(0x8000_0000);
/// `rest` of a neighbour advertisement: answers a solicitation.
pub const NA_SOLICITED: Be32 = Be32::new(0x4000_0000);
/// `rest` of a neighbour advertisement: replaces what is cached.
pub const NA_OVERRIDE: Be32 = Be32::new(0x2000_0000);

/// Neighbour discovery is accepted only with this hop limit: it proves that the sender is on the link.
pub const ND_HOP_LIMIT: u8 = 255;
/// Multicast listener messages have this hop limit (RFC 3810 section 5): no router sends them on.
pub const MLD_HOP_LIMIT: u8 = 1;

impl Icmp6Header {
    /// Size in bytes.
    pub const LEN: usize = size_of::<Self>();
    /// Where the checksum is.
    pub const CHECKSUM_OFFSET: usize = offset_of!(Self, checksum);
    /// Where an echo's identifier is.
    pub const ECHO_ID_OFFSET: usize = offset_of!(Self, rest);

    /// Does a quoted packet follow this header? Errors are the types below 128 (RFC 4443 section 2.1).
    #[inline(always)]
    pub const fn is_error(&self) -> bool {
        matches!(self.kind, UNREACHABLE | PACKET_TOO_BIG | TIME_EXCEEDED | PARAMETER_PROBLEM)
    }

    /// Echo request or reply?
    #[inline(always)]
    pub const fn is_echo(&self) -> bool {
        matches!(self.kind, ECHO_REQUEST | ECHO_REPLY)
    }

    /// Router and neighbour solicitations and advertisements, and redirects: never leave the link.
    #[inline(always)]
    pub const fn is_neighbour_discovery(&self) -> bool {
        matches!(
            self.kind,
            ROUTER_SOLICITATION
                | ROUTER_ADVERTISEMENT
                | NEIGHBOUR_SOLICITATION
                | NEIGHBOUR_ADVERTISEMENT
                | REDIRECT
        )
    }

    /// Multicast listener messages: never leave the link.
    #[inline(always)]
    pub const fn is_multicast_listener(&self) -> bool {
        matches!(self.kind, MLD_QUERY | MLD_REPORT | MLD_DONE | MLD2_REPORT)
    }

    /// What only a router may send: advertisements and redirects.
    #[inline(always)]
    pub const fn is_from_router(&self) -> bool {
        matches!(self.kind, ROUTER_ADVERTISEMENT | REDIRECT)
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

    /// The MTU of the next hop, in a "packet too big" error (RFC 4443 section 3.2).
    #[inline(always)]
    pub const fn next_hop_mtu(&self) -> u32 {
        self.rest.get()
    }
}

const _: () = assert!(Icmp6Header::LEN == 8);
const _: () = assert!(size_of::<NeighbourTarget>() == 16 && size_of::<LinkLayerOption>() == 8);
