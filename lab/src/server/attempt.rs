//! One attempt from a pod or a machine.
//!
//! Owns: connecting, asking, and putting what happened into the words of a result.
//! Does not: resolve names.
//! Invariant: an attempt ends within its time-out, whatever the peer does.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol as Wire, Socket, Type};
use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::time::{sleep, timeout};

use super::factory::Factory;
use super::sctp;
use super::talk::{Opening, exchange, line, pattern, read_greeting};
use crate::proto::{Attempt, Greeting, ProbeResult, Protocol, Verdict};

/// Makes the attempt. The time-out begins when its socket is there: many attempts wait for theirs.
pub async fn make(factory: &Factory, attempt: &Attempt) -> ProbeResult {
    let limit = Duration::from_millis(attempt.timeout_millis);
    let socket = match open(factory, attempt).await {
        Ok(socket) => socket,
        Err(error) => return failed(&error),
    };
    let work = async {
        match attempt.protocol {
            Protocol::Tcp => tcp(socket, attempt).await,
            Protocol::Udp => udp(socket, attempt).await,
            Protocol::Icmp => icmp(socket, attempt).await,
            Protocol::Sctp => sctp::ask(socket, attempt).await,
        }
    };
    match timeout(limit, work).await {
        Ok(Ok(result)) => result,
        Ok(Err(error)) => failed(&error),
        Err(_) => ProbeResult::failed(Verdict::Timeout, format!("no answer within {limit:?}")),
    }
}

async fn open(factory: &Factory, attempt: &Attempt) -> Result<Socket> {
    let icmp = if attempt.to.is_ipv4() { Wire::ICMPV4 } else { Wire::ICMPV6 };
    let (kind, wire, bound) = match attempt.protocol {
        Protocol::Tcp => (Type::STREAM, None, true),
        Protocol::Udp => (Type::DGRAM, None, true),
        Protocol::Icmp => (Type::DGRAM, Some(icmp), false),
        Protocol::Sctp => (Type::from(nix::libc::SOCK_RAW), Some(Wire::from(nix::libc::IPPROTO_SCTP)), false),
    };
    socket(factory, attempt, kind, wire, bound).await
}

/// A socket in the attempt's namespace, bound to its source port if it names one and has ports.
async fn socket(
    factory: &Factory,
    attempt: &Attempt,
    kind: Type,
    wire: Option<Wire>,
    has_ports: bool,
) -> Result<Socket> {
    let (to, source) = (attempt.to, attempt.source_port.filter(|_| has_ports));
    let make = move || {
        let socket =
            Socket::new(Domain::for_address(SocketAddr::new(to, 0)), kind.nonblocking().cloexec(), wire)?;
        if let Some(port) = source {
            socket.set_reuse_address(true)?;
            let any = if to.is_ipv4() { "0.0.0.0" } else { "::" };
            socket.bind(&SocketAddr::new(any.parse()?, port).into())?;
        }
        Ok(socket)
    };
    factory.make(&attempt.netns, make).await
}

/// Without this option an unconnected protocol hides "host unreachable" from us and we would wait.
fn told_of_errors(socket: Socket, attempt: &Attempt) -> Result<UdpSocket> {
    if attempt.to.is_ipv4() {
        setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?;
    } else {
        setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?;
    }
    Ok(UdpSocket::from_std(socket.into())?)
}

/// Opens the connection of an attempt.
pub async fn connect(factory: &Factory, attempt: &Attempt) -> Result<TcpStream> {
    start(open(factory, attempt).await?, attempt).await
}

async fn start(socket: Socket, attempt: &Attempt) -> Result<TcpStream> {
    let watched = socket.try_clone()?;
    let connecting = TcpSocket::from_std_stream(socket.into()).connect(peer(attempt));
    tokio::pin!(connecting);
    let stream = loop {
        tokio::select! {
            connected = &mut connecting => break connected?,
            () = sleep(SOFT_ERRORS) => {
                if let Some(error) = watched.take_error()? {
                    return Err(error.into());
                }
            }
        }
    };
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// How often a connection that is being opened is asked for errors. An ICMP error that arrives while the
/// kernel is still in `connect` is noted on the socket but wakes nobody up.
const SOFT_ERRORS: Duration = Duration::from_millis(50);

async fn tcp(socket: Socket, attempt: &Attempt) -> Result<ProbeResult> {
    let started = Instant::now();
    let mut stream = start(socket, attempt).await?;
    let connected = started.elapsed();
    let server_address = stream.peer_addr()?;
    let (reader, mut writer) = stream.split();
    let mut reader = BufReader::new(reader);
    writer.write_all(&line(&Opening::Probe { bytes: attempt.bytes })?).await?;
    let greeting = read_greeting(&mut reader).await?;
    exchange(&mut reader, &mut writer, attempt.bytes).await?;
    Ok(answered(greeting, server_address, connected))
}

async fn udp(socket: Socket, attempt: &Attempt) -> Result<ProbeResult> {
    let started = Instant::now();
    let socket = told_of_errors(socket, attempt)?;
    if !attempt.unconnected {
        socket.connect(peer(attempt)).await?;
    }
    let mut question = line(&Opening::Probe { bytes: attempt.bytes })?;
    question.extend(pattern(0, attempt.bytes.min(65_000)));
    let mut buffer = vec![0; 65_536];
    let (length, server_address) = if attempt.unconnected {
        socket.send_to(&question, peer(attempt)).await?;
        socket.recv_from(&mut buffer).await?
    } else {
        socket.send(&question).await?;
        (socket.recv(&mut buffer).await?, socket.peer_addr()?)
    };
    let answer = buffer.get(..length).unwrap_or_default();
    let mut parts = answer.splitn(2, |byte| *byte == b'\n');
    let greeting: Greeting = serde_json::from_slice(parts.next().unwrap_or_default())?;
    let came = parts.next().unwrap_or_default();
    if came != pattern(0, attempt.bytes.min(65_000)) {
        anyhow::bail!("the answer carried {} bytes, or others, instead of {}", came.len(), attempt.bytes);
    }
    Ok(answered(greeting, server_address, started.elapsed()))
}

/// An echo through the kernel's own ICMP sockets: it fills in identifier and checksum.
async fn icmp(socket: Socket, attempt: &Attempt) -> Result<ProbeResult> {
    let (request, reply) = if attempt.to.is_ipv4() { (8, 0) } else { (128, 129) };
    let started = Instant::now();
    let socket = told_of_errors(socket, attempt)?;
    socket.connect(SocketAddr::new(attempt.to, 0)).await?;
    let mut echo = vec![request, 0, 0, 0, 0, 0, 0, 1];
    echo.extend(pattern(0, attempt.bytes.clamp(32, 65_000)));
    socket.send(&echo).await?;
    let mut buffer = vec![0; 65_536];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let answer = buffer.get(..length).unwrap_or_default();
        if answer.first() == Some(&reply) && answer.get(8..) == echo.get(8..) {
            break;
        }
    }
    Ok(ProbeResult {
        result: Verdict::Connected,
        server: None,
        node: None,
        client_seen: None,
        server_address: Some(attempt.to.to_string()),
        connect_micros: Some(micros(started.elapsed())),
        detail: None,
    })
}

fn peer(attempt: &Attempt) -> SocketAddr {
    SocketAddr::new(attempt.to, attempt.port)
}

/// A result with an answer.
pub fn answered(greeting: Greeting, server_address: SocketAddr, took: Duration) -> ProbeResult {
    ProbeResult {
        result: Verdict::Connected,
        server: Some(greeting.server),
        node: Some(greeting.node),
        client_seen: Some(plain(greeting.client_seen)),
        server_address: Some(plain(server_address)),
        connect_micros: Some(micros(took)),
        detail: None,
    }
}

/// `addr:port`. An IPv6 address has no brackets, like every address this laboratory prints; the port is what
/// follows the last colon.
pub fn plain(address: SocketAddr) -> String {
    format!("{}:{}", address.ip(), address.port())
}

fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}

fn failed(error: &anyhow::Error) -> ProbeResult {
    let os = error.chain().find_map(|cause| match cause.downcast_ref::<io::Error>() {
        Some(error) => error.raw_os_error().map(Errno::from_raw),
        None => cause.downcast_ref::<Errno>().copied(),
    });
    let verdict = match os {
        Some(Errno::ECONNREFUSED) => Verdict::Refused,
        Some(Errno::ETIMEDOUT) => Verdict::Timeout,
        // An ICMP error that speaks of a prohibition arrives as EACCES in IPv6.
        Some(
            Errno::EHOSTUNREACH | Errno::ENETUNREACH | Errno::ENETDOWN | Errno::EACCES | Errno::ENOPROTOOPT,
        ) => Verdict::Unreachable,
        _ => Verdict::Error,
    };
    ProbeResult::failed(verdict, format!("{error:#}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_becomes_one_of_five_words() {
        let of = |errno: Errno| {
            let error = anyhow::Error::from(io::Error::from_raw_os_error(errno as i32)).context("connecting");
            failed(&error).result
        };
        assert_eq!(of(Errno::ECONNREFUSED), Verdict::Refused);
        assert_eq!(of(Errno::ETIMEDOUT), Verdict::Timeout);
        assert_eq!(of(Errno::EHOSTUNREACH), Verdict::Unreachable);
        assert_eq!(of(Errno::EACCES), Verdict::Unreachable);
        assert_eq!(of(Errno::EPERM), Verdict::Error);
        assert_eq!(of(Errno::ECONNRESET), Verdict::Error);
    }
}
