//! SCTP packets with one chunk each (RFC 9260 section 3).
//!
//! Owns: their bytes and their checksum. Does not: know what they mean to an association.
//! Invariant: what is damaged or cut is no packet.

use crc::{CRC_32_ISCSI, Crc};

/// The checksum (appendix A).
const CRC32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// Payload (section 3.3.1).
pub const DATA: u8 = 0;
/// Opens an association (3.3.2).
pub const INIT: u8 = 1;
/// Answers that, with the state cookie (3.3.3).
pub const INIT_ACK: u8 = 2;
/// What has come so far (3.3.4).
pub const SACK: u8 = 3;
/// Ends the association at once (3.3.7).
pub const ABORT: u8 = 6;
/// Nothing more will be sent (3.3.8).
pub const SHUTDOWN: u8 = 7;
/// Nor by the other side (3.3.9).
pub const SHUTDOWN_ACK: u8 = 8;
/// Gives the cookie back (3.3.11).
pub const COOKIE_ECHO: u8 = 10;
/// The association is there (3.3.12).
pub const COOKIE_ACK: u8 = 11;
/// It is over (3.3.13).
pub const SHUTDOWN_COMPLETE: u8 = 14;

const STATE_COOKIE: u16 = 7;
const HEADER_BYTES: usize = 12;
const CHUNK_HEADER_BYTES: usize = 4;
const INIT_BYTES: usize = 16;
const WINDOW_BYTES: u32 = 1 << 20;

/// A packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Source port.
    pub source: u16,
    /// Destination port.
    pub destination: u16,
    /// The verification tag: zero with INIT, else what the receiver has asked for.
    pub tag: u32,
    /// The chunk's type.
    pub kind: u8,
    /// The chunk's flags.
    pub flags: u8,
    /// The chunk without its header and padding.
    pub value: Vec<u8>,
}

impl Packet {
    /// Reads the header and the first chunk of what is sent to one of the ports asked for. What is not, which is most of
    /// what a raw socket gets, is not looked into.
    pub fn read(bytes: &[u8], is_asked_for: impl FnOnce(u16) -> bool) -> Option<Self> {
        let destination = half(bytes, 2).filter(|port| is_asked_for(*port))?;
        let sum = u32::from_le_bytes(bytes.get(8..HEADER_BYTES)?.try_into().ok()?);
        let mut digest = CRC32C.digest();
        [bytes.get(..8)?, &[0; 4], bytes.get(HEADER_BYTES..)?].iter().for_each(|part| digest.update(part));
        if digest.finalize() != sum {
            return None;
        }
        let length = usize::from(half(bytes, HEADER_BYTES + 2)?);
        let value = bytes.get(HEADER_BYTES + CHUNK_HEADER_BYTES..HEADER_BYTES + length)?.to_vec();
        Some(Self {
            source: half(bytes, 0)?,
            destination,
            tag: word(bytes, 4)?,
            kind: *bytes.get(HEADER_BYTES)?,
            flags: *bytes.get(HEADER_BYTES + 1)?,
            value,
        })
    }

    /// As it is sent.
    pub fn bytes(&self) -> Vec<u8> {
        let length = u16::try_from(CHUNK_HEADER_BYTES + self.value.len()).unwrap_or_default();
        let mut bytes = [self.source.to_be_bytes(), self.destination.to_be_bytes()].concat();
        bytes.extend(self.tag.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend([self.kind, self.flags]);
        bytes.extend(length.to_be_bytes());
        bytes.extend(&self.value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        let sum = CRC32C.checksum(&bytes).to_le_bytes();
        bytes.splice(8..HEADER_BYTES, sum);
        bytes
    }
}

/// What INIT and INIT ACK say of their sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Init {
    /// The verification tag that it wants to get.
    pub tag: u32,
    /// The number of its first DATA chunk.
    pub first: u32,
    /// INIT ACK: the state cookie.
    pub cookie: Vec<u8>,
}

impl Init {
    /// Reads the chunk's value. A cookie that is not the first parameter is not found.
    pub fn read(value: &[u8]) -> Option<Self> {
        let cookie = match half(value, INIT_BYTES) {
            Some(STATE_COOKIE) => {
                value.get(INIT_BYTES + 4..INIT_BYTES + usize::from(half(value, INIT_BYTES + 2)?))?
            }
            _ => &[],
        };
        Some(Self { tag: word(value, 0)?, first: word(value, 12)?, cookie: cookie.to_vec() })
    }

    /// The chunk's value, with one stream each way.
    pub fn value(&self) -> Vec<u8> {
        let mut value = [self.tag.to_be_bytes(), WINDOW_BYTES.to_be_bytes()].concat();
        value.extend([0, 1, 0, 1]);
        value.extend(self.first.to_be_bytes());
        if !self.cookie.is_empty() {
            let length = u16::try_from(self.cookie.len() + 4).unwrap_or_default();
            value.extend(STATE_COOKIE.to_be_bytes());
            value.extend(length.to_be_bytes());
            value.extend(&self.cookie);
        }
        value
    }
}

/// The value of a SACK: everything up to this number has come.
pub fn sack(last: u32) -> Vec<u8> {
    [last, WINDOW_BYTES, 0].map(u32::to_be_bytes).concat()
}

/// The big-endian 32 bits at an offset.
pub fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_init_ack_carries_the_cookie_and_a_damaged_one_is_no_packet() {
        let init = Init { tag: 0x1122_3344, first: 0x5566_7788, cookie: b"hello".to_vec() };
        let (source, destination, tag) = (7, 9, 0x0102_0304);
        let sent = Packet { source, destination, tag, kind: INIT_ACK, flags: 3, value: init.value() };
        let bytes = sent.bytes();
        assert_eq!(Packet::read(&bytes, |port| port == 9), Some(sent.clone()));
        assert_eq!(Init::read(&sent.value), Some(init));
        assert_eq!(Packet::read(&bytes, |port| port != 9), None, "to somebody else");
        assert_eq!(bytes.len() % 4, 0);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            assert!(Packet::read(&damaged, |_| true).is_none(), "byte {at}");
            assert!(Packet::read(&bytes[..at], |_| true).is_none(), "cut at {at}");
        }
    }

    #[test]
    fn a_chunk_that_says_it_is_longer_than_its_packet_or_shorter_than_its_header_is_no_packet() {
        for (length, kept) in [(9u16, false), (8, true), (4, true), (3, false), (0, false)] {
            let packet =
                Packet { source: 1, destination: 2, tag: 3, kind: SHUTDOWN, flags: 0, value: vec![0; 4] };
            let mut bytes = packet.bytes();
            bytes.splice(14..16, length.to_be_bytes());
            bytes.splice(8..12, [0; 4]);
            let sum = CRC32C.checksum(&bytes).to_le_bytes();
            bytes.splice(8..12, sum);
            assert_eq!(Packet::read(&bytes, |port| port == 2).is_some(), kept, "{length}");
        }
    }
}
