//! A steady stream of numbered packets between two pods, and when it begins or ceases to arrive.
//!
//! Owns: its two sockets and threads. Does not: know why packets stop.
//! Invariant: a packet's time is taken before it is sent, so that a change is never found too early.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tortie_lab::Place;

/// Between two packets: what a change can be told to.
const INTERVAL: Duration = Duration::from_micros(500);
/// A stream that has not arrived for so many packets in a row is cut.
const SILENCE: usize = 60;

/// Whether a stream is to begin or to cease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Packets arrive.
    Begins,
    /// No packet arrives.
    Ceases,
}

/// A stream; it ends when dropped.
pub struct Stream {
    log: Arc<Mutex<Log>>,
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// Every packet in the order of sending: when, and whether it arrived.
#[derive(Debug, Default)]
struct Log(Vec<(Instant, bool)>);

impl Stream {
    /// Sends UDP from one pod to an address of another.
    pub fn open(from: &Place, to: &Place, address: IpAddr) -> tortie_lab::Result<Self> {
        let any = SocketAddr::new(unspecified(address), 0);
        let sender = from.run(|| UdpSocket::bind(any).context("a socket in the sending pod"))?;
        let receiver =
            to.run(|| UdpSocket::bind(SocketAddr::new(address, 0)).context("a socket in the receiving pod"))?;
        let target = receiver.local_addr().context("the receiving pod's socket")?;
        receiver.set_read_timeout(Some(Duration::from_millis(100))).context("the receiving pod's socket")?;
        let (log, over) = (Arc::default(), Arc::default());
        let sending = spawn("bench-send", &log, &over, move |log, over| send(&sender, target, log, over))?;
        let receiving = spawn("bench-receive", &log, &over, move |log, over| receive(&receiver, log, over))?;
        Ok(Self { log, over, threads: vec![sending, receiving] })
    }

    /// When the first packet that was treated differently was sent, counted from `since`; `None`: none yet.
    pub fn turned(&self, turn: Turn, since: Instant) -> Option<Duration> {
        lock(&self.log).turned(turn, since)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // Its panic has been printed.
            let _ = thread.join();
        }
    }
}

impl Log {
    fn turned(&self, turn: Turn, since: Instant) -> Option<Duration> {
        let first = match turn {
            Turn::Begins => self.0.iter().position(|(sent, arrived)| *arrived && *sent >= since)?,
            Turn::Ceases => {
                let first = self.0.iter().rposition(|(_, arrived)| *arrived)? + 1;
                (self.0.len() - first >= SILENCE).then_some(first)?
            }
        };
        self.0.get(first).map(|(sent, _)| sent.saturating_duration_since(since))
    }
}

fn unspecified(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => IpAddr::from([0; 4]),
        IpAddr::V6(_) => IpAddr::from([0; 16]),
    }
}

fn lock(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

fn spawn(
    name: &str,
    log: &Arc<Mutex<Log>>,
    over: &Arc<AtomicBool>,
    work: impl FnOnce(&Mutex<Log>, &AtomicBool) + Send + 'static,
) -> anyhow::Result<JoinHandle<()>> {
    let (log, over) = (Arc::clone(log), Arc::clone(over));
    thread::Builder::new().name(name.to_owned()).spawn(move || work(&log, &over)).context("starting a thread")
}

fn send(socket: &UdpSocket, to: SocketAddr, log: &Mutex<Log>, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        let number = {
            let mut log = lock(log);
            log.0.push((Instant::now(), false));
            log.0.len() - 1
        };
        // A refusal is what is waited for; the receiver is who judges.
        let _ = socket.send_to(&number.to_be_bytes(), to);
        thread::sleep(INTERVAL);
    }
}

fn receive(socket: &UdpSocket, log: &Mutex<Log>, over: &AtomicBool) {
    let mut number = [0; size_of::<usize>()];
    while !over.load(Ordering::Relaxed) {
        match socket.recv_from(&mut number) {
            Ok((length, _)) if length == number.len() => {
                if let Some((_, arrived)) = lock(log).0.get_mut(usize::from_be_bytes(number)) {
                    *arrived = true;
                }
            }
            Err(error) if !is_passing(&error) => return,
            _ => {}
        }
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(start: Instant, arrived: impl Iterator<Item = bool>) -> Log {
        Log((0..).zip(arrived).map(|(at, arrived)| (start + INTERVAL * at, arrived)).collect())
    }

    #[test]
    fn a_cut_is_at_the_first_packet_of_a_long_silence_and_a_single_loss_is_none() {
        let start = Instant::now();
        let arrived = |n: usize| n < 20 && n != 7;
        let cut = log(start, (0..20 + SILENCE).map(arrived));
        assert_eq!(cut.turned(Turn::Ceases, start + INTERVAL * 10), Some(INTERVAL * 10));
        let too_soon = log(start, (0..19 + SILENCE).map(arrived));
        assert_eq!(too_soon.turned(Turn::Ceases, start), None);
    }

    #[test]
    fn a_stream_begins_with_the_first_packet_that_was_sent_after_the_change_and_arrived() {
        let start = Instant::now();
        let late = log(start, (0..30).map(|n| n == 3 || n >= 20));
        assert_eq!(late.turned(Turn::Begins, start + INTERVAL * 10), Some(INTERVAL * 10));
        assert_eq!(late.turned(Turn::Begins, start + INTERVAL * 40), None);
    }
}
