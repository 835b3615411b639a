//! One side of an association that both sides have agreed on.
//!
//! Owns: the tags, the numbers of DATA chunks, and messages in pieces.
//! Does not: send, or repeat what was lost.
//! Invariant: what carries another tag, or comes out of order, is not of the association.

use super::packet::{DATA, Packet, SACK, SHUTDOWN, sack, word};

/// Payload bytes of a DATA chunk: its packet fits into every link.
const PIECE_BYTES: usize = 1000;
const LAST: u8 = 1;
const FIRST: u8 = 2;
/// Number, stream, place in the stream, and the payload's protocol, before the payload.
const DATA_HEADER_BYTES: usize = 12;

/// One side.
#[derive(Debug)]
pub struct Association {
    /// Our port.
    pub port: u16,
    /// The other's port.
    pub peer_port: u16,
    /// What the other must send as verification tag.
    pub tag: u32,
    /// What we send.
    pub peer_tag: u32,
    /// The number of our next DATA chunk.
    pub next: u32,
    /// The number of the other's next DATA chunk.
    pub expected: u32,
    /// Pieces of a message that has not ended.
    pieces: Vec<u8>,
    /// Messages so far.
    messages: u16,
}

impl Association {
    /// Nothing said yet: of each, ours and the other's.
    pub fn new(ports: (u16, u16), tags: (u32, u32), numbers: (u32, u32)) -> Self {
        let ((port, peer_port), (tag, peer_tag), (next, expected)) = (ports, tags, numbers);
        Self { port, peer_port, tag, peer_tag, next, expected, pieces: Vec::new(), messages: 0 }
    }

    /// Whether the packet is of this association.
    pub fn owns(&self, packet: &Packet) -> bool {
        (packet.source, packet.destination, packet.tag) == (self.peer_port, self.port, self.tag)
    }

    /// A packet to the other side.
    pub fn packet(&self, kind: u8, value: Vec<u8>) -> Packet {
        let (source, destination) = (self.port, self.peer_port);
        Packet { source, destination, tag: self.peer_tag, kind, flags: 0, value }
    }

    /// The DATA chunks of a message.
    pub fn say(&mut self, message: &[u8]) -> Vec<Packet> {
        let count = message.chunks(PIECE_BYTES).count();
        let mut packets = Vec::new();
        for (index, piece) in message.chunks(PIECE_BYTES).enumerate() {
            let mut value = self.next.to_be_bytes().to_vec();
            value.extend([0, 0]);
            value.extend(self.messages.to_be_bytes());
            value.extend([0; 4]);
            value.extend(piece);
            let first = if index == 0 { FIRST } else { 0 };
            let last = if index + 1 == count { LAST } else { 0 };
            packets.push(Packet { flags: first | last, ..self.packet(DATA, value) });
            self.next = self.next.wrapping_add(1);
        }
        self.messages = self.messages.wrapping_add(1);
        packets
    }

    /// Takes a DATA chunk: the SACK that it is due, and the message that it ends.
    pub fn hear(&mut self, packet: &Packet) -> (Packet, Option<Vec<u8>>) {
        let mut message = None;
        if word(&packet.value, 0) == Some(self.expected) {
            self.expected = self.expected.wrapping_add(1);
            self.pieces.extend(packet.value.get(DATA_HEADER_BYTES..).unwrap_or_default());
            if packet.flags & LAST != 0 {
                message = Some(std::mem::take(&mut self.pieces));
            }
        }
        (self.packet(SACK, sack(self.expected.wrapping_sub(1))), message)
    }

    /// Whether this SACK is about everything that was said.
    pub fn is_heard(&self, sack: &Packet) -> bool {
        word(&sack.value, 0) == Some(self.next.wrapping_sub(1))
    }

    /// Nothing more will be said.
    pub fn end(&self) -> Packet {
        self.packet(SHUTDOWN, self.expected.wrapping_sub(1).to_be_bytes().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Association, Association) {
        let side = |(port, tag, next), (peer_port, peer_tag, expected)| {
            Association::new((port, peer_port), (tag, peer_tag), (next, expected))
        };
        let (one, other) = ((1, 10, u32::MAX), (2, 20, 7));
        (side(one, other), side(other, one))
    }

    #[test]
    fn a_long_message_arrives_in_pieces_that_are_acknowledged() {
        let (mut one, mut other) = pair();
        for length in [1, 1000, 1001, 9000] {
            let message: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            let packets = one.say(&message);
            let mut came = None;
            for (index, packet) in packets.iter().enumerate() {
                assert!(other.owns(packet) && came.is_none());
                let (sack, ended) = other.hear(packet);
                assert!(one.owns(&sack));
                assert_eq!(one.is_heard(&sack), index + 1 == packets.len());
                came = ended;
            }
            assert_eq!(came, Some(message));
        }
    }

    #[test]
    fn a_piece_that_is_missing_ends_no_message() {
        let (mut one, mut other) = pair();
        let mut packets = one.say(&[1; 2500]);
        packets.remove(1);
        let heard: Vec<_> = packets.iter().map(|packet| other.hear(packet)).collect();
        assert!(heard.iter().all(|(sack, message)| message.is_none() && !one.is_heard(sack)), "{heard:?}");
    }
}
