//! Addresses.
//!
//! Owns: IPv4, IPv6 and Ethernet addresses as they lie in a header, and what kind of address each is.
//! Does not: know prefixes, pools or who has an address. Invariant: the value is the wire bytes; any
//! bytes are an address.

use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::be::{Be16, Be32};

/// An IPv4 address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Ip4(pub Be32);

/// An IPv6 address, as four words.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Ip6(pub [Be32; 4]);

#[inline(always)]
const fn exchanged(a: Be32, b: Be32, mask: u32) -> (Be32, Be32) {
    let difference = (a.raw() ^ b.raw()) & mask;
    (Be32::from_raw(a.raw() ^ difference), Be32::from_raw(b.raw() ^ difference))
}

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Mac(pub [u8; 6]);

impl Ip4 {
    /// 0.0.0.0
    pub const UNSPECIFIED: Self = Self(Be32::ZERO);
    /// 255.255.255.255
    pub const BROADCAST: Self = Self(Be32::new(u32::MAX));

    /// From bytes in wire order.
    #[inline(always)]
    pub const fn from_octets(octets: [u8; 4]) -> Self {
        Self(Be32::from_bytes(octets))
    }

    /// Bytes in wire order.
    #[inline(always)]
    pub const fn octets(self) -> [u8; 4] {
        self.0.to_bytes()
    }

    /// 64 bits of the address and a port, by which the two ends of a flow are put in order.
    #[inline(always)]
    pub const fn rank(self, port: Be16) -> u64 {
        ((self.0.raw() as u64) << 32) | ((port.raw() as u64) << 16)
    }

    /// Two addresses, exchanged where `mask` is all ones, as they are where it is zero: without a branch.
    #[inline(always)]
    pub const fn exchanged(a: Self, b: Self, mask: u32) -> (Self, Self) {
        let (a, b) = exchanged(a.0, b.0, mask);
        (Self(a), Self(b))
    }

    /// Are the first bits, those set in `mask` (host order), equal to `prefix`?
    #[inline(always)]
    const fn within(self, prefix: u32, mask: u32) -> bool {
        self.0.raw() & mask.to_be() == prefix.to_be()
    }

    /// 0.0.0.0 alone.
    #[inline(always)]
    pub const fn is_unspecified(self) -> bool {
        self.0.is_zero()
    }

    /// 0.0.0.0/8, "this network" (RFC 6890 section 2.2.2): never a destination, a source only of DHCP.
    #[inline(always)]
    pub const fn is_this_network(self) -> bool {
        self.within(0, 0xff00_0000)
    }

    /// 127.0.0.0/8 (RFC 1122 section 3.2.1.3).
    #[inline(always)]
    pub const fn is_loopback(self) -> bool {
        self.within(0x7f00_0000, 0xff00_0000)
    }

    /// 224.0.0.0/4 (RFC 5771).
    #[inline(always)]
    pub const fn is_multicast(self) -> bool {
        self.within(0xe000_0000, 0xf000_0000)
    }

    /// 240.0.0.0/4 without the limited broadcast address (RFC 1112 section 4).
    #[inline(always)]
    pub const fn is_reserved(self) -> bool {
        self.within(0xf000_0000, 0xf000_0000) && !self.is_broadcast()
    }

    /// 255.255.255.255 (RFC 919 section 7).
    #[inline(always)]
    pub const fn is_broadcast(self) -> bool {
        self.0.raw() == u32::MAX
    }

    /// 169.254.0.0/16 (RFC 3927).
    #[inline(always)]
    pub const fn is_link_local(self) -> bool {
        self.within(0xa9fe_0000, 0xffff_0000)
    }
}

impl Ip6 {
    /// `::`
    pub const UNSPECIFIED: Self = Self([Be32::ZERO; 4]);
    /// `::1`
    pub const LOOPBACK: Self = Self([Be32::ZERO, Be32::ZERO, Be32::ZERO, Be32::new(1)]);

    /// From four words in host order.
    #[inline(always)]
    pub const fn new(a: u32, b: u32, c: u32, d: u32) -> Self {
        Self([Be32::new(a), Be32::new(b), Be32::new(c), Be32::new(d)])
    }

    /// 64 bits of the address and a port, by which the two ends of a flow are put in order. Few addresses share them.
    #[inline(always)]
    pub const fn rank(self, port: Be16) -> u64 {
        let Self([a, b, c, d]) = self;
        let (high, low) = (a.raw() ^ d.raw(), b.raw() ^ c.raw() ^ ((port.raw() as u32) << 8));
        ((high as u64) << 32) | low as u64
    }

    /// Two addresses, exchanged where `mask` is all ones, as they are where it is zero: without a branch.
    #[inline(always)]
    pub const fn exchanged(a: Self, b: Self, mask: u32) -> (Self, Self) {
        let (Self([a0, a1, a2, a3]), Self([b0, b1, b2, b3])) = (a, b);
        let (a0, b0) = exchanged(a0, b0, mask);
        let (a1, b1) = exchanged(a1, b1, mask);
        let (a2, b2) = exchanged(a2, b2, mask);
        let (a3, b3) = exchanged(a3, b3, mask);
        (Self([a0, a1, a2, a3]), Self([b0, b1, b2, b3]))
    }

    /// From bytes in wire order.
    #[inline(always)]
    pub const fn from_octets(octets: [u8; 16]) -> Self {
        let n = u128::from_be_bytes(octets);
        Self::new(word(n, 96), word(n, 64), word(n, 32), word(n, 0))
    }

    /// Bytes in wire order.
    #[inline(always)]
    pub const fn octets(self) -> [u8; 16] {
        let Self([a, b, c, d]) = self;
        let high = ((a.get() as u128) << 96) | ((b.get() as u128) << 64);
        (high | ((c.get() as u128) << 32) | d.get() as u128).to_be_bytes()
    }

    /// Are the first bits, those set in `mask` (host order), equal to `prefix`?
    #[inline(always)]
    const fn first_word_within(self, prefix: u32, mask: u32) -> bool {
        let Self([first, _, _, _]) = self;
        first.raw() & mask.to_be() == prefix.to_be()
    }

    /// `::` alone (RFC 4291 section 2.5.2).
    #[inline(always)]
    pub const fn is_unspecified(self) -> bool {
        let Self([a, b, c, d]) = self;
        a.raw() | b.raw() | c.raw() | d.raw() == 0
    }

    /// `::1` alone (RFC 4291 section 2.5.3).
    #[inline(always)]
    pub const fn is_loopback(self) -> bool {
        let Self([a, b, c, d]) = self;
        a.raw() | b.raw() | c.raw() | (d.raw() ^ Be32::new(1).raw()) == 0
    }

    /// `ff00::/8` (RFC 4291 section 2.7).
    #[inline(always)]
    pub const fn is_multicast(self) -> bool {
        self.first_word_within(0xff00_0000, 0xff00_0000)
    }

    /// `fe80::/10` (RFC 4291 section 2.5.6).
    #[inline(always)]
    pub const fn is_link_local(self) -> bool {
        self.first_word_within(0xfe80_0000, 0xffc0_0000)
    }

    /// The link-local address that an interface gives itself by its Ethernet address (RFC 4291 appendix A).
    #[inline(always)]
    pub const fn link_local_of(mac: Mac) -> Self {
        let Mac([a, b, c, d, e, f]) = mac;
        let [third, fourth] = [[a ^ 2, b, c, 0xff], [0xfe, d, e, f]];
        Self([Be32::new(0xfe80_0000), Be32::ZERO, Be32::from_bytes(third), Be32::from_bytes(fourth)])
    }

    /// IPv6 has no broadcast: always false, so that code generic over families can ask.
    #[inline(always)]
    pub const fn is_broadcast(self) -> bool {
        false
    }

    /// `ff01::/16` and `ff02::/16`, multicast that no router forwards (RFC 4291 section 2.7).
    #[inline(always)]
    pub const fn is_link_scope_multicast(self) -> bool {
        self.first_word_within(0xff01_0000, 0xff0f_0000) || self.first_word_within(0xff02_0000, 0xff0f_0000)
    }

    /// `::ffff:0:0/96`, an IPv4 address in a socket's clothes, never legal on the wire (RFC 4291 section 2.5.5.2).
    #[inline(always)]
    pub const fn is_v4_mapped(self) -> bool {
        let Self([a, b, c, _]) = self;
        a.raw() | b.raw() | (c.raw() ^ Be32::new(0xffff).raw()) == 0
    }

    /// The socket's clothes for an IPv4 address.
    #[inline(always)]
    pub const fn v4_mapped(address: Ip4) -> Self {
        Self([Be32::ZERO, Be32::ZERO, Be32::new(0xffff), address.0])
    }

    /// The IPv4 address in the last word, when it is in such clothes.
    #[inline(always)]
    pub const fn as_v4_mapped(self) -> Option<Ip4> {
        let Self([_, _, _, last]) = self;
        if self.is_v4_mapped() { Some(Ip4(last)) } else { None }
    }

    /// The multicast group on which an address is solicited, `ff02::1:ffXX:XXXX` (RFC 4291 section 2.7.1).
    #[inline(always)]
    pub const fn solicited_node(self) -> Self {
        let Self([_, _, _, last]) = self;
        Self::new(0xff02_0000, 0, 1, 0xff00_0000 | (last.get() & 0x00ff_ffff))
    }
}

#[allow(clippy::cast_possible_truncation, reason = "the word wanted is exactly the low 32 bits")]
#[inline(always)]
const fn word(n: u128, shift: u32) -> u32 {
    n.wrapping_shr(shift) as u32
}

impl Mac {
    /// 00:00:00:00:00:00
    pub const ZERO: Self = Self([0; 6]);
    /// ff:ff:ff:ff:ff:ff
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// Is the group bit set (multicast or broadcast, IEEE 802 section 8.2.2)?
    #[inline(always)]
    pub const fn is_group(self) -> bool {
        let Self([first, ..]) = self;
        first & 1 != 0
    }

    /// ff:ff:ff:ff:ff:ff
    #[inline(always)]
    pub fn is_broadcast(self) -> bool {
        self == Self::BROADCAST
    }
}

impl From<Ipv4Addr> for Ip4 {
    #[inline(always)]
    fn from(address: Ipv4Addr) -> Self {
        Self::from_octets(address.octets())
    }
}

impl From<Ip4> for Ipv4Addr {
    #[inline(always)]
    fn from(address: Ip4) -> Self {
        address.octets().into()
    }
}

impl From<Ipv6Addr> for Ip6 {
    #[inline(always)]
    fn from(address: Ipv6Addr) -> Self {
        Self::from_octets(address.octets())
    }
}

impl From<Ip6> for Ipv6Addr {
    #[inline(always)]
    fn from(address: Ip6) -> Self {
        address.octets().into()
    }
}

impl fmt::Display for Ip4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ipv4Addr::from(*self).fmt(f)
    }
}

impl fmt::Debug for Ip4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Ip6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ipv6Addr::from(*self).fmt(f)
    }
}

impl fmt::Debug for Ip6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self([a, b, c, d, e, g]) = self;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
