//! Conversations that stay open: numbered records both ways.
//!
//! Owns: the record, its check, and the account of what came, what did not, and the longest silence.
//! Does not: reconnect; that a connection broke is the finding.
//! Invariant: a record counts as received only when it is the next one and undamaged.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{MissedTickBehavior, interval};

use crate::names::hash;

/// Size of a record on the wire.
pub const RECORD_BYTES: usize = 32;

/// One record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// 1, 2, 3, …
    pub number: u64,
    /// How many of the peer's records its sender had received, in order.
    pub received: u64,
    /// How many of the peer's records its sender missed.
    pub missed: u64,
}

impl Record {
    /// Its bytes, with a checksum.
    pub fn bytes(self) -> [u8; RECORD_BYTES] {
        let mut bytes = [0; RECORD_BYTES];
        let words = [self.number, self.received, self.missed];
        for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        let sum = hash(bytes.get(..24).unwrap_or_default());
        if let Some(place) = bytes.get_mut(24..) {
            place.copy_from_slice(&sum.to_be_bytes());
        }
        bytes
    }

    /// The record in these bytes, if they are one.
    pub fn read(bytes: &[u8; RECORD_BYTES]) -> Option<Self> {
        let word = |at: usize| Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        (hash(bytes.get(..24)?) == word(24)?).then_some(())?;
        Some(Self { number: word(0)?, received: word(8)?, missed: word(16)? })
    }
}

/// What one side knows about a conversation.
#[derive(Debug, Clone)]
pub struct Account {
    /// When it was opened.
    pub opened: Instant,
    /// Records sent.
    pub sent: u64,
    /// The peer's records received, in order.
    pub received: u64,
    /// Numbers of the peer that were skipped.
    pub missed: u64,
    /// Records that were damaged, or not newer than one before.
    pub disordered: u64,
    /// What the peer says it received.
    pub peer_received: u64,
    /// What the peer says it missed.
    pub peer_missed: u64,
    highest: u64,
    last: Instant,
    last_wall: SystemTime,
    longest: Duration,
}

impl Account {
    /// Of a conversation that opens now.
    pub fn open(now: Instant) -> Self {
        Self {
            opened: now,
            sent: 0,
            received: 0,
            missed: 0,
            disordered: 0,
            peer_received: 0,
            peer_missed: 0,
            highest: 0,
            last: now,
            last_wall: SystemTime::now(),
            longest: Duration::ZERO,
        }
    }

    /// The next record to send.
    pub fn next(&mut self) -> Record {
        self.sent += 1;
        Record { number: self.sent, received: self.received, missed: self.missed }
    }

    /// Takes account of what came.
    pub fn take(&mut self, bytes: &[u8; RECORD_BYTES], now: Instant) {
        self.longest = self.longest.max(now.duration_since(self.last));
        (self.last, self.last_wall) = (now, SystemTime::now());
        match Record::read(bytes) {
            Some(record) if record.number > self.highest => {
                self.missed += record.number - self.highest - 1;
                self.highest = record.number;
                self.received += 1;
                self.peer_received = record.received;
                self.peer_missed = record.missed;
            }
            _ => self.disordered += 1,
        }
    }

    /// Since the last record.
    pub fn silence(&self, now: Instant) -> Duration {
        now.duration_since(self.last)
    }

    /// The longest time without a record, the present silence included.
    pub fn longest_pause(&self, now: Instant) -> Duration {
        self.longest.max(self.silence(now))
    }

    /// When the last record came, by the wall clock.
    pub fn last_unix_micros(&self) -> u64 {
        let since = self.last_wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }
}

/// The server's side over TCP: records out at that interval, records in as they come, until the peer closes.
pub async fn serve<R, W>(reader: &mut R, writer: &mut W, interval_micros: u64) -> Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut account = Account::open(Instant::now());
    let mut ticks = every(interval_micros);
    let mut bytes = [0; RECORD_BYTES];
    let mut filled = 0;
    loop {
        tokio::select! {
            _ = ticks.tick() => writer.write_all(&account.next().bytes()).await?,
            read = fill(reader, &mut bytes, filled) => {
                filled = read?;
                if filled == RECORD_BYTES {
                    account.take(&bytes, Instant::now());
                    filled = 0;
                }
            }
        }
    }
}

/// Reads more of a record; cancelling it loses nothing. The end of the stream is an error.
pub async fn fill<R: AsyncRead + Unpin>(
    reader: &mut R,
    bytes: &mut [u8; RECORD_BYTES],
    filled: usize,
) -> std::io::Result<usize> {
    let read = reader.read(bytes.get_mut(filled..).unwrap_or_default()).await?;
    if read == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(filled + read)
}

/// A clock that does not catch up after a pause.
pub fn every(interval_micros: u64) -> tokio::time::Interval {
    let mut ticks = interval(Duration::from_micros(interval_micros.max(200)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_repeats_and_damage_are_counted_apart() {
        let start = Instant::now();
        let mut account = Account::open(start);
        let record = |number| Record { number, received: 5, missed: 1 }.bytes();
        account.take(&record(1), start + Duration::from_millis(1));
        account.take(&record(4), start + Duration::from_millis(31));
        account.take(&record(3), start + Duration::from_millis(32));
        let mut damaged = record(5);
        damaged[0] ^= 1;
        account.take(&damaged, start + Duration::from_millis(33));
        assert_eq!((account.received, account.missed, account.disordered), (2, 2, 2));
        assert_eq!((account.peer_received, account.peer_missed), (5, 1));
        assert_eq!(account.longest_pause(start + Duration::from_millis(40)), Duration::from_millis(30));
        assert_eq!(account.longest_pause(start + Duration::from_secs(1)), Duration::from_millis(967));
    }
}
