//! The latest dropped packets, kept in memory.
//!
//! Invariant: at most [`KEPT`] events; reading never blocks the programs.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;
use tortie_host::bpf::RingBuffer;
use tortie_host::clock;
use tortie_observe::Names;
use tortie_observe::drops::{self, Place, PlaceNames};
use zerocopy::FromBytes as _;

/// Events kept: more than are read in one go, so that who follows misses none of them.
const KEPT: usize = 4096;
/// In a window of time no more are read: what comes faster is counted, by reason and as lost, and costs no more than this.
const IN_A_WINDOW: usize = 2000;
const WINDOW: Duration = Duration::from_millis(100);

/// A dropped packet.
struct Event {
    number: u64,
    record: Vec<u8>,
    /// Of the moment when it was read, so that its time stays the same however often it is asked for.
    boot_seconds: f64,
    /// As its time.
    place: PlaceNames,
}

/// The ring's reading end and what was read.
pub struct Drops {
    ring: AsyncFd<RingBuffer>,
    latest: VecDeque<Event>,
    next: u64,
    /// Number of the first event whose place has no names yet.
    unnamed: u64,
    table_full: bool,
    /// When the window began, and how many were read in it.
    window: (Instant, usize),
}

impl Drops {
    /// Over the ring; needs a running runtime.
    #[expect(
        deprecated,
        reason = "its successor is unsafe; the ring owns its descriptor while it is registered"
    )]
    pub fn new(ring: RingBuffer) -> io::Result<Self> {
        let ring = AsyncFd::with_interest(ring, tokio::io::Interest::READABLE)?;
        let window = (Instant::now(), 0);
        Ok(Self { ring, latest: VecDeque::new(), next: 1, unnamed: 1, table_full: false, window })
    }

    /// Waits for events and takes them in. Safe to cancel.
    pub async fn read(&mut self) -> io::Result<()> {
        let mut guard = self.ring.readable_mut().await?;
        if self.window.1 >= IN_A_WINDOW {
            tokio::time::sleep_until(self.window.0 + WINDOW).await;
        }
        if self.window.0.elapsed() >= WINDOW {
            self.window = (Instant::now(), 0);
        }
        let (mut record, boot_seconds) = (Vec::new(), boot_seconds());
        for _ in self.window.1..IN_A_WINDOW {
            if !guard.get_inner_mut().next(&mut record) {
                guard.clear_ready();
                break;
            }
            self.window.1 += 1;
            self.table_full |= is_table_full(&record);
            if self.latest.len() >= KEPT {
                self.latest.pop_front();
            }
            let (number, place) = (self.next, PlaceNames::default());
            self.latest.push_back(Event { number, record: record.clone(), boot_seconds, place });
            self.next += 1;
        }
        Ok(())
    }

    /// Gives names to the places of what was read since this was last done.
    pub fn name(&mut self, names: impl Fn(Place) -> PlaceNames) {
        let unnamed = self.unnamed;
        for event in self.latest.iter_mut().rev().take_while(|event| event.number >= unnamed) {
            event.place = drops::place(&event.record).map(&names).unwrap_or_default();
        }
        self.unnamed = self.next;
    }

    /// Whether a packet was dropped for want of room for its flow since this was last asked.
    pub fn take_table_full(&mut self) -> bool {
        std::mem::take(&mut self.table_full)
    }

    /// The number of the latest event.
    pub fn last(&self) -> u64 {
        self.next.saturating_sub(1)
    }

    /// Events after number `since` as rows with names, oldest first; the last row's number comes with them, and how many of those after
    /// `since` are not kept any more (`missed`).
    pub fn rows(&self, since: u64, names: &Names) -> Value {
        let rows: Vec<Value> = self
            .latest
            .iter()
            .filter(|event| event.number > since)
            .filter_map(|event| drops::row(&event.record, names, &event.place, event.boot_seconds))
            .filter_map(|row| serde_json::to_value(row).ok())
            .collect();
        let first = self.latest.front().map_or(self.next, |event| event.number);
        let missed = first.saturating_sub(since.saturating_add(1));
        json!({"ok": true, "items": rows, "last": self.last(), "missed": missed})
    }
}

fn is_table_full(record: &[u8]) -> bool {
    tortie_abi::event::Event::read_from_prefix(record)
        .is_ok_and(|(event, _)| event.reason == tortie_abi::DropReason::FlowTableFull as u16)
}

/// Seconds since the epoch when the monotonic clock was 0.
fn boot_seconds() -> f64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    now.as_secs_f64() - clock::monotonic().as_secs_f64()
}
