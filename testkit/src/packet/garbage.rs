//! Owns: breaking frames. Invariant: what comes out differs from what went in, and nothing is random, so
//! that a failure repeats.

/// Every proper beginning of `frame`, the empty one first.
pub fn truncations(frame: &[u8]) -> impl Iterator<Item = &[u8]> {
    (0..frame.len()).map(|len| &frame[..len])
}

/// `frame` with each bit of its first `bytes` bytes flipped in turn.
pub fn bit_flips(frame: &[u8], bytes: usize) -> impl Iterator<Item = Vec<u8>> {
    (0..bytes.min(frame.len()) * 8).map(|bit| {
        let mut flipped = frame.to_vec();
        flipped[bit / 8] ^= 0x80 >> (bit % 8);
        flipped
    })
}
