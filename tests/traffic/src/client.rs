//! The clients: each does one thing over and over, and reports how often or how much.
//!
//! Owns: the measurements. Does not: retry; the first error ends a measurement.
//! Invariant: what is reported of a stream is what arrived, by the server's clock.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::socket::{setsockopt, sockopt};
use nix::unistd::{SysconfVar, sysconf};
use serde_json::{Value, json};
use socket2::SockRef;

use crate::{Asking, COUNT, SINK, pin};

/// What is given to a TCP socket at once.
const CHUNK: usize = 128 << 10;
/// Most of UDP's payload that a call can carry, over IPv4 and with room to spare, and most datagrams.
const LARGEST_CALL: usize = 65_000;
const MOST_SEGMENTS: usize = 48;

/// Single bytes there and back on one connection.
pub fn rr(asking: Asking) -> Result<Value> {
    let mut stream = TcpStream::connect(asking.server).with_context(|| format!("{}", asking.server))?;
    stream.set_nodelay(true)?;
    requests("rr", asking, || there_and_back(&mut stream))
}

/// A connection for each byte there and back.
pub fn crr(asking: Asking) -> Result<Value> {
    requests("crr", asking, || {
        let mut stream = TcpStream::connect(asking.server)?;
        stream.set_nodelay(true)?;
        there_and_back(&mut stream)?;
        reset(stream)
    })
}

/// Connections that carry nothing.
pub fn connect(asking: Asking) -> Result<Value> {
    requests("connect", asking, || reset(TcpStream::connect(asking.server)?))
}

/// One stream, as fast as it goes.
pub fn stream(asking: Asking) -> Result<Value> {
    let sink = beside(asking.server, SINK);
    let mut stream = TcpStream::connect(sink).with_context(|| format!("{sink}"))?;
    let bytes = vec![b'x'; CHUNK];
    flow("stream", asking, || stream.write_all(&bytes).map(|()| bytes.len()))
}

/// Datagrams of `segment` bytes, as many to a call as it takes, as fast as it goes.
pub fn udp(asking: Asking, segment: u16) -> Result<Value> {
    let any: SocketAddr = match asking.server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(beside(asking.server, SINK))?;
    setsockopt(&socket, sockopt::UdpGsoSegment, &i32::from(segment)).context("UDP_SEGMENT")?;
    let segment = usize::from(segment);
    let bytes = vec![b'x'; segment * (LARGEST_CALL / segment).clamp(1, MOST_SEGMENTS)];
    flow("udp", asking, || socket.send(&bytes))
        .with_context(|| format!("datagrams of {segment} bytes; do they fit the path?"))
}

/// An address of the same server.
fn beside(server: SocketAddr, port: u16) -> SocketAddr {
    SocketAddr::new(server.ip(), server.port() + port)
}

fn there_and_back(stream: &mut TcpStream) -> io::Result<()> {
    let mut byte = [b'x'];
    stream.write_all(&byte)?;
    stream.read_exact(&mut byte)
}

/// Closes without FIN, so that the port can be used again at once.
fn reset(stream: TcpStream) -> io::Result<()> {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO))
}

/// Does it for the time that was asked for. The clock is read once a request: the end of one is the next one's beginning.
fn requests(test: &str, asking: Asking, mut once: impl FnMut() -> io::Result<()>) -> Result<Value> {
    pin(asking.cpu)?;
    let warm = Instant::now();
    while warm.elapsed() < Duration::from_secs_f64(asking.warm_up) {
        once().with_context(|| format!("{test} to {}", asking.server))?;
    }
    let duration = Duration::from_secs_f64(asking.seconds);
    let mut took = Vec::with_capacity(1 << 20);
    let start = Instant::now();
    let mut last = start;
    while last - start < duration {
        once().with_context(|| format!("{test} to {}", asking.server))?;
        let now = Instant::now();
        took.push(now - last);
        last = now;
    }
    let seconds = (last - start).as_secs_f64();
    ensure!(!took.is_empty(), "{test}: --seconds {} is too short", asking.seconds);
    took.sort_unstable();
    Ok(json!({
        "test": test, "count": took.len(), "seconds": seconds, "rate": took.len() as f64 / seconds,
        "p50_us": at(&took, 50), "p90_us": at(&took, 90), "p99_us": at(&took, 99),
    }))
}

/// The smallest that so many per cent are not above, in microseconds.
fn at(sorted: &[Duration], per_cent: usize) -> f64 {
    let rank = (sorted.len() * per_cent).div_ceil(100).max(1);
    sorted[rank - 1].as_secs_f64() * 1e6
}

/// Sends for the time that was asked for; `send` says how many bytes it gave away.
fn flow(test: &str, asking: Asking, mut send: impl FnMut() -> io::Result<usize>) -> Result<Value> {
    pin(asking.cpu)?;
    let mut send_for = |seconds: f64| -> Result<u64> {
        let (start, mut sent) = (Instant::now(), 0);
        while start.elapsed() < Duration::from_secs_f64(seconds) {
            sent += send().with_context(|| format!("{test} to {}", asking.server))? as u64;
        }
        Ok(sent)
    };
    let count = beside(asking.server, COUNT);
    send_for(asking.warm_up)?;
    let before = Mark::now(count)?;
    let sent = send_for(asking.seconds)?;
    let after = Mark::now(count)?;
    let (bytes, seconds) = (after.bytes - before.bytes, (after.time - before.time).as_secs_f64());
    ensure!(bytes > 0, "{test}: nothing of {sent} bytes arrived at {}", asking.server);
    let gbit = bytes as f64 * 8.0 / 1e9;
    let cpu = after.busy - before.busy;
    Ok(json!({
        "test": test, "bytes": bytes, "sent": sent, "seconds": seconds, "gbit_per_second": gbit / seconds,
        "cpu_seconds": cpu, "cpu_seconds_per_gbit": cpu / gbit,
    }))
}

/// Where a stream is.
struct Mark {
    /// What has arrived at the server since it began, and when that was.
    bytes: u64,
    time: Duration,
    /// Seconds that all processors of the machine have worked.
    busy: f64,
}

impl Mark {
    fn now(count: SocketAddr) -> Result<Self> {
        let mut line = String::new();
        let mut stream = TcpStream::connect(count).with_context(|| format!("{count}"))?;
        stream.read_to_string(&mut line)?;
        let mut numbers = line.split_whitespace().map(str::parse);
        let (Some(Ok(bytes)), Some(Ok(nanos))) = (numbers.next(), numbers.next()) else {
            anyhow::bail!("{count} answered {line:?}: is that a server of this program?");
        };
        Ok(Self { bytes, time: Duration::from_nanos(nanos), busy: busy(&fs::read_to_string("/proc/stat")?)? })
    }
}

/// From `/proc/stat`: all that is neither idle, nor waiting, nor another machine's.
fn busy(stat: &str) -> Result<f64> {
    let line = stat.lines().next().unwrap_or_default();
    let ticks: Vec<u64> = line.split_whitespace().skip(1).map_while(|ticks| ticks.parse().ok()).collect();
    let [user, nice, system, _idle, _waiting, irq, softirq, ..] = ticks[..] else {
        anyhow::bail!("/proc/stat begins with {line:?}");
    };
    let per_second = sysconf(SysconfVar::CLK_TCK)?.context("ticks a second are not known")?;
    Ok((user + nice + system + irq + softirq) as f64 / per_second as f64)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::OnceLock;

    use super::*;
    use crate::Serving;
    use crate::server;

    const LOOPBACKS: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

    /// One server for all tests, on the first three ports that are free.
    fn asking(address: IpAddr) -> Asking {
        static PORT: OnceLock<u16> = OnceLock::new();
        let serving = |port| Serving { port, cpu: None, sink_cpu: None, no_gro: false };
        let free = || (20_000..30_000).step_by(3).find(|port| server::start(serving(*port)).is_ok());
        let port = *PORT.get_or_init(|| free().expect("three free ports"));
        Asking { server: SocketAddr::new(address, port), seconds: 0.05, warm_up: 0.01, cpu: None }
    }

    fn number(report: &Value, field: &str) -> f64 {
        report[field].as_f64().unwrap_or_else(|| panic!("{field} of {report}"))
    }

    #[test]
    fn requests_and_connections_are_answered_in_both_families() {
        for address in LOOPBACKS {
            for test in [rr, crr, connect] {
                let report = test(asking(address)).expect("a report");
                assert!(number(&report, "count") > 10.0, "{report}");
                let rate = number(&report, "count") / number(&report, "seconds");
                assert!((number(&report, "rate") - rate).abs() < 1.0, "{report}");
                assert!(number(&report, "p50_us") <= number(&report, "p99_us"), "{report}");
            }
        }
    }

    #[test]
    fn what_a_stream_reports_is_what_arrived_in_both_families() {
        for address in LOOPBACKS {
            for report in [stream(asking(address)), udp(asking(address), 1350)] {
                let report = report.expect("a report");
                // Other tests' bytes are not of this size.
                assert!(number(&report, "bytes") > 1e6, "{report}");
                assert!(number(&report, "seconds") >= 0.05, "{report}");
            }
        }
    }

    #[test]
    fn a_datagram_that_no_packet_can_carry_is_an_error_that_says_so() {
        let mut far_too_large = asking(LOOPBACKS[0]);
        far_too_large.warm_up = 0.0;
        let error = udp(far_too_large, u16::MAX).expect_err("65,535 bytes are no datagram");
        assert!(format!("{error:#}").contains("65535"), "{error:#}");
    }

    #[test]
    fn nobody_there_is_an_error_that_names_the_address() {
        let nobody = Asking { server: SocketAddr::new(LOOPBACKS[0], 9), ..asking(LOOPBACKS[0]) };
        for test in [rr, crr, connect, stream] {
            let error = format!("{:#}", test(nobody).expect_err("nobody listens"));
            assert!(error.contains("127.0.0.1:"), "{error}");
        }
    }

    #[test]
    fn percentiles_are_of_the_sorted_times() {
        let took: Vec<Duration> = (1..=200).map(Duration::from_micros).collect();
        let close = |per_cent, micros: f64| assert!((at(&took, per_cent) - micros).abs() < 1e-6);
        close(50, 100.0);
        close(99, 198.0);
        assert!((at(&took[..1], 50) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn idle_waiting_and_stolen_time_is_not_work() {
        let per_second = sysconf(SysconfVar::CLK_TCK).expect("sysconf").expect("known") as f64;
        let work = busy("cpu  1 2 4 1000 1000 8 16 1000 0 0\ncpu0 5\n").expect("a line of ten numbers");
        assert!((work - 31.0 / per_second).abs() < 1e-9);
        assert!(busy("intr 5\n").is_err());
    }
}
