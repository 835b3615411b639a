//! Internet checksums.
//!
//! Owns: the ones' complement sum (RFC 1071), its incremental update (RFC 1624) and the pseudo headers
//! (RFC 9293 section 3.1, RFC 8200 section 8.1). Does not: know where a checksum is, or SCTP's CRC.
//! Invariant: words are added as they lie in memory, since the sum does not depend on byte order
//! (RFC 1071 section 2.B); an update of a right checksum gives the one a full computation would give.

use crate::addr::{Ip4, Ip6};
use crate::be::{Be16, Be32};
use crate::proto::IpProtocol;

/// A running sum over whole bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sum(u64);

/// What a checksum has to change by when words it covers are replaced.
///
/// Of IPv6 addresses nothing but the transport checksum depends; of IPv4 addresses both the header's and
/// the transport's do, so the same `Delta` is applied to each. ICMPv4 does not cover addresses at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Delta(u64);

/// Folds to 16 bits with end-around carry. Zero only for zero.
#[inline(always)]
#[allow(clippy::cast_possible_truncation, reason = "three folds leave 16 bits")]
const fn fold(sum: u64) -> u16 {
    // At most 0x1_ffff_fffe.
    let sum = (sum & 0xffff_ffff).wrapping_add(sum >> 32);
    // At most 0x1_fffe: the top bit is set only when the two halves are not both full.
    let sum = (sum & 0xffff).wrapping_add((sum >> 16) & 0xffff).wrapping_add(sum >> 32);
    // At most 0xffff.
    let sum = (sum & 0xffff).wrapping_add(sum >> 16);
    sum as u16
}

/// Carries gather in the upper half, which has room for those of four thousand million words; no packet has as many.
#[inline(always)]
const fn add(a: u64, b: u64) -> u64 {
    a.wrapping_add(b)
}

impl Sum {
    /// Nothing summed yet.
    pub const EMPTY: Self = Self(0);

    /// Adds a 16-bit word.
    #[inline(always)]
    pub const fn word16(self, word: Be16) -> Self {
        Self(add(self.0, word.raw() as u64))
    }

    /// Adds a 32-bit word.
    #[inline(always)]
    pub const fn word32(self, word: Be32) -> Self {
        Self(add(self.0, word.raw() as u64))
    }

    /// Adds bytes that start at an even distance from the start of what is covered; an odd number of them
    /// is padded with a zero, so nothing but the last piece may be odd.
    #[inline]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        let mut sum = self;
        let mut words = bytes.chunks_exact(2);
        for word in &mut words {
            if let &[a, b] = word {
                sum = sum.word16(Be16::from_bytes([a, b]));
            }
        }
        match words.remainder() {
            &[last] => sum.word16(Be16::from_bytes([last, 0])),
            _ => sum,
        }
    }

    /// The pseudo header of a transport protocol over IPv4. `len`: transport header and payload in bytes.
    #[inline(always)]
    pub const fn pseudo_v4(src: Ip4, dst: Ip4, protocol: IpProtocol, len: u16) -> Self {
        let protocol = Be16::new(protocol.0 as u16);
        Self::EMPTY.word32(src.0).word32(dst.0).word16(protocol).word16(Be16::new(len))
    }

    /// The pseudo header of a transport protocol over IPv6. `protocol` is the transport's, whatever extension
    /// headers come before it; `dst` is the final destination. `len`: transport header and payload in bytes.
    #[inline(always)]
    pub const fn pseudo_v6(src: Ip6, dst: Ip6, protocol: IpProtocol, len: u32) -> Self {
        let Ip6([s0, s1, s2, s3]) = src;
        let Ip6([d0, d1, d2, d3]) = dst;
        let sum = Self::EMPTY.word32(s0).word32(s1).word32(s2).word32(s3);
        let sum = sum.word32(d0).word32(d1).word32(d2).word32(d3);
        sum.word32(Be32::new(len)).word16(Be16::new(protocol.0 as u16))
    }

    /// The checksum to be stored.
    #[inline(always)]
    pub const fn checksum(self) -> Be16 {
        Be16::from_raw(!fold(self.0))
    }

    /// The checksum to be stored in a UDP header: zero there means "none", so that 0xffff stands for it (RFC 768).
    #[inline(always)]
    pub const fn udp_checksum(self) -> Be16 {
        never_zero(self.checksum())
    }

    /// Is what was summed, its stored checksum included, right?
    #[inline(always)]
    pub const fn is_valid(self) -> bool {
        fold(self.0) == 0xffff
    }
}

impl Delta {
    /// Nothing replaced yet.
    pub const NONE: Self = Self(0);

    /// A 16-bit word is replaced.
    #[inline(always)]
    pub const fn word16(self, old: Be16, new: Be16) -> Self {
        Self(add(self.0, (!old.raw() as u64).wrapping_add(new.raw() as u64)))
    }

    /// A 32-bit word is replaced.
    #[inline(always)]
    pub const fn word32(self, old: Be32, new: Be32) -> Self {
        Self(add(self.0, (!old.raw() as u64).wrapping_add(new.raw() as u64)))
    }

    /// An IPv4 address is replaced.
    #[inline(always)]
    pub const fn ip4(self, old: Ip4, new: Ip4) -> Self {
        self.word32(old.0, new.0)
    }

    /// An IPv6 address is replaced.
    #[inline(always)]
    pub const fn ip6(self, old: Ip6, new: Ip6) -> Self {
        let Ip6([o0, o1, o2, o3]) = old;
        let Ip6([n0, n1, n2, n3]) = new;
        self.word32(o0, n0).word32(o1, n1).word32(o2, n2).word32(o3, n3)
    }

    /// Both changes.
    #[inline(always)]
    pub const fn and(self, other: Self) -> Self {
        Self(add(self.0, other.0))
    }

    /// The checksum after the change: HC' = ~(~HC + ~m + m') (RFC 1624 equation 3).
    #[inline(always)]
    pub const fn apply(self, checksum: Be16) -> Be16 {
        Be16::from_raw(!fold(add(self.0, !checksum.raw() as u64)))
    }

    /// The checksum of a UDP header after the change: "none" (zero) stays, a result of zero becomes 0xffff.
    #[inline(always)]
    pub const fn apply_udp(self, checksum: Be16) -> Be16 {
        if checksum.is_zero() { checksum } else { never_zero(self.apply(checksum)) }
    }

    /// The change as a 32-bit sum in memory order: what the kernel's `bpf_l3_csum_replace` and
    /// `bpf_l4_csum_replace` take as `to` with `from` and size zero. They also do right by packets whose
    /// checksum the device is yet to compute.
    #[inline(always)]
    pub const fn to_kernel(self) -> u32 {
        fold(self.0) as u32
    }
}

#[inline(always)]
const fn never_zero(checksum: Be16) -> Be16 {
    if checksum.is_zero() { Be16::from_raw(0xffff) } else { checksum }
}
