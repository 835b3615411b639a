//! SCTP's checksum (RFC 9260 section 6.8), as far as a packet needs it whose ports change.
//!
//! Owns: what the checksum changes by. Does not: sum a packet, or know where its checksum is.
//! Invariant: a CRC is linear, so that the change depends on the changed bits and on their distance from the end
//! alone, and an update of a right checksum gives the one a full computation would give.

use crate::be::{Be16, Be32};

/// The Castagnoli polynomial, its lowest bit the coefficient of x³¹.
const POLYNOMIAL: u32 = 0x82f6_3b78;
/// x⁸, the way a byte goes.
const BYTE: u32 = 1 << 23;

/// What the checksum of an SCTP packet has to change by when its ports do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortChange(u32);

impl PortChange {
    /// The source and destination ports of a packet of so many bytes, SCTP's header included.
    #[inline(always)]
    pub const fn new(old: [Be16; 2], new: [Be16; 2], packet_bytes: u16) -> Self {
        let ([old_source, old_destination], [new_source, new_destination]) = (old, new);
        let source = u16::from_le(old_source.raw() ^ new_source.raw()) as u32;
        let destination = u16::from_le(old_destination.raw() ^ new_destination.raw()) as u32;
        Self(along(source | destination.wrapping_shl(16), packet_bytes))
    }

    /// The checksum after the change. None (RFC 9653), or one that the device is yet to compute, is zero and stays.
    #[inline(always)]
    pub const fn apply(self, checksum: Be32) -> Be32 {
        // Unlike everything else in a packet it lies with its lowest byte first.
        if checksum.is_zero() { checksum } else { Be32::from_raw(checksum.raw() ^ self.0.to_le()) }
    }
}

/// A remainder, after so many more bytes of zero: for each bit of their number, times a power of x.
#[inline(always)]
const fn along(remainder: u32, bytes: u16) -> u32 {
    let remainder = step::<0>(remainder, bytes);
    let remainder = step::<1>(remainder, bytes);
    let remainder = step::<2>(remainder, bytes);
    let remainder = step::<3>(remainder, bytes);
    let remainder = step::<4>(remainder, bytes);
    let remainder = step::<5>(remainder, bytes);
    let remainder = step::<6>(remainder, bytes);
    let remainder = step::<7>(remainder, bytes);
    let remainder = step::<8>(remainder, bytes);
    let remainder = step::<9>(remainder, bytes);
    let remainder = step::<10>(remainder, bytes);
    let remainder = step::<11>(remainder, bytes);
    let remainder = step::<12>(remainder, bytes);
    let remainder = step::<13>(remainder, bytes);
    let remainder = step::<14>(remainder, bytes);
    step::<15>(remainder, bytes)
}

#[inline(always)]
const fn step<const BIT: u32>(remainder: u32, bytes: u16) -> u32 {
    if bytes & const { 1u16.wrapping_shl(BIT) } == 0 {
        return remainder;
    }
    times(remainder, const { way(BIT) })
}

/// x to the power of 8 · 2^`doublings`.
const fn way(doublings: u32) -> u32 {
    let (mut way, mut done) = (BYTE, 0u32);
    while done < doublings {
        way = times(way, way);
        done = done.wrapping_add(1);
    }
    way
}

/// The product of two remainders.
#[inline(always)]
const fn times(a: u32, b: u32) -> u32 {
    let (mut a, mut b, mut product, mut bit) = (a, b, 0, 0u32);
    while bit < 32 {
        product ^= b & (a >> 31).wrapping_neg();
        a = a.wrapping_shl(1);
        b = (b >> 1) ^ (POLYNOMIAL & (b & 1).wrapping_neg());
        bit = bit.wrapping_add(1);
    }
    product
}
