//! Writes frames as a capture file that every tool reads (classic libpcap format, microseconds, Ethernet).

use std::io::{self, Write};

/// A capture file.
pub struct Writer<W> {
    out: W,
}

impl<W: Write> Writer<W> {
    /// Starts a file: writes its header.
    pub fn new(mut out: W) -> io::Result<Self> {
        out.write_all(&0xa1b2_c3d4_u32.to_le_bytes())?;
        for half in [2_u16, 4] {
            out.write_all(&half.to_le_bytes())?;
        }
        // Time zone, accuracy, longest frame, link type Ethernet.
        for word in [0_u32, 0, 262_144, 1] {
            out.write_all(&word.to_le_bytes())?;
        }
        Ok(Self { out })
    }

    /// Adds a frame seen at `nanos`.
    pub fn frame(&mut self, nanos: u64, bytes: &[u8]) -> io::Result<()> {
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        let seconds = (nanos / 1_000_000_000) as u32;
        let micros = (nanos % 1_000_000_000 / 1000) as u32;
        for word in [seconds, micros, length, length] {
            self.out.write_all(&word.to_le_bytes())?;
        }
        self.out.write_all(bytes)
    }
}
