//! SCTP without the kernel's help: the first exchange, INIT and INIT ACK, over raw sockets.
//!
//! Owns: enough of RFC 9260 (sections 3.2, 3.3.2, 3.3.3) to see whether a path and a policy let SCTP through.
//! Does not: set up an association; the state cookie carries our greeting instead.
//! Invariant: works on kernels that have no SCTP sockets; a port nobody serves answers with ABORT.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use socket2::{Domain, Protocol as Wire, Socket, Type};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use super::attempt::answered;
use super::factory::Factory;
use crate::names::hash;
use crate::proto::{Attempt, Greeting, ProbeResult, Protocol, Served, Verdict};

const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const ABORT: u8 = 6;
const STATE_COOKIE: u16 = 7;
const HEADER_BYTES: usize = 12;
const INIT_BYTES: usize = 20;

/// Answers on one port, in both families.
pub async fn serve(factory: &Factory, who: Arc<Served>, port: u16, tasks: &mut JoinSet<()>) -> Result<()> {
    let sockets = factory.make(&who.netns, || Ok([raw(Domain::IPV4)?, raw(Domain::IPV6)?])).await?;
    for socket in sockets {
        tasks.spawn(answer(UdpSocket::from_std(socket)?, who.clone(), port));
    }
    Ok(())
}

fn raw(domain: Domain) -> Result<std::net::UdpSocket> {
    let kind = Type::from(nix::libc::SOCK_RAW).nonblocking().cloexec();
    let socket =
        Socket::new(domain, kind, Some(Wire::from(nix::libc::IPPROTO_SCTP))).context("raw SCTP socket")?;
    Ok(socket.into())
}

async fn answer(socket: UdpSocket, who: Arc<Served>, port: u16) {
    let mut buffer = vec![0; 65_536];
    // The first of a pod's SCTP ports speaks for those that nobody serves.
    let speaks =
        who.ports.iter().find(|(protocol, _)| *protocol == Protocol::Sctp) == Some(&(Protocol::Sctp, port));
    loop {
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else { continue };
        let Some(packet) = Packet::read(payload(buffer.get(..length).unwrap_or_default(), &client)) else {
            continue;
        };
        if packet.kind != INIT {
            continue;
        }
        let served = who.ports.contains(&(Protocol::Sctp, packet.destination));
        let reply = if packet.destination == port {
            let seen = SocketAddr::new(client.ip(), packet.source);
            let greeting = Greeting { server: who.name.clone(), node: who.node.clone(), client_seen: seen };
            let Ok(cookie) = serde_json::to_vec(&greeting) else { continue };
            build(port, packet.source, packet.tag, &init(INIT_ACK, hash(&cookie), &cookie))
        } else if speaks && !served {
            build(packet.destination, packet.source, packet.tag, &[ABORT, 0, 0, 4])
        } else {
            continue;
        };
        let _ = socket.send_to(&reply, SocketAddr::new(client.ip(), 0)).await;
    }
}

/// Sends INIT over a raw socket and waits for the answer.
pub async fn ask(socket: Socket, attempt: &Attempt) -> Result<ProbeResult> {
    let started = Instant::now();
    let socket = UdpSocket::from_std(socket.into())?;
    socket.connect(SocketAddr::new(attempt.to, 0)).await?;
    let random =
        std::hash::BuildHasher::hash_one(&std::collections::hash_map::RandomState::new(), attempt.port);
    let [a, b, ..] = random.to_ne_bytes();
    let source = attempt.source_port.unwrap_or(u16::from_ne_bytes([a, b]) | 0x8000);
    let chunk = init(INIT, random, &[]);
    let tag = tag_of(&chunk);
    socket.send(&build(source, attempt.port, 0, &chunk)).await?;
    let mut buffer = vec![0; 65_536];
    loop {
        let (length, server) = socket.recv_from(&mut buffer).await?;
        let Some(packet) = Packet::read(payload(buffer.get(..length).unwrap_or_default(), &server)) else {
            continue;
        };
        if packet.destination != source || packet.verification != tag {
            continue;
        }
        if packet.kind == ABORT {
            return Ok(ProbeResult::failed(Verdict::Refused, "the peer answered with ABORT"));
        }
        let Some(cookie) = packet.cookie else { continue };
        let greeting = serde_json::from_slice(&cookie).context("the state cookie is not a greeting")?;
        return Ok(answered(greeting, SocketAddr::new(server.ip(), packet.source), started.elapsed()));
    }
}

/// An IPv4 raw socket hands over the IP header as well.
fn payload<'a>(bytes: &'a [u8], peer: &SocketAddr) -> &'a [u8] {
    let header =
        if peer.is_ipv4() { bytes.first().map_or(0, |first| usize::from(first & 0xf) * 4) } else { 0 };
    bytes.get(header..).unwrap_or_default()
}

struct Packet {
    source: u16,
    destination: u16,
    verification: u32,
    kind: u8,
    tag: u32,
    cookie: Option<Vec<u8>>,
}

impl Packet {
    /// Reads the header and the first chunk; `None` when short, damaged or something else.
    fn read(bytes: &[u8]) -> Option<Self> {
        let half = |at: usize| Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
        let word = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let sum = u32::from_le_bytes(bytes.get(8..12)?.try_into().ok()?);
        if crc32c(&[bytes.get(..8)?, &[0; 4], bytes.get(HEADER_BYTES..)?].concat()) != sum {
            return None;
        }
        let kind = *bytes.get(HEADER_BYTES)?;
        let parameter = HEADER_BYTES + INIT_BYTES;
        let cookie = (kind == INIT_ACK && half(parameter) == Some(STATE_COOKIE))
            .then(|| Some(bytes.get(parameter + 4..parameter + usize::from(half(parameter + 2)?))?.to_vec()))
            .flatten();
        let tag = word(HEADER_BYTES + 4).unwrap_or_default();
        Some(Self { source: half(0)?, destination: half(2)?, verification: word(4)?, kind, tag, cookie })
    }
}

/// An INIT or INIT ACK chunk, padded to a multiple of four.
fn init(kind: u8, random: u64, cookie: &[u8]) -> Vec<u8> {
    let parameter = if cookie.is_empty() { 0 } else { cookie.len() + 4 };
    let length = u16::try_from(INIT_BYTES + parameter).unwrap_or_default();
    let mut chunk = vec![kind, 0];
    chunk.extend(length.to_be_bytes());
    // A tag of zero is not allowed.
    let [a, b, c, d, ..] = random.to_be_bytes();
    chunk.extend([a | 1, b, c, d]);
    chunk.extend(65_536u32.to_be_bytes());
    chunk.extend([0, 1, 0, 1]);
    chunk.extend([d, c, b, a]);
    if !cookie.is_empty() {
        chunk.extend(STATE_COOKIE.to_be_bytes());
        chunk.extend(u16::try_from(parameter).unwrap_or_default().to_be_bytes());
        chunk.extend(cookie);
        chunk.resize(chunk.len().next_multiple_of(4), 0);
    }
    chunk
}

fn tag_of(chunk: &[u8]) -> u32 {
    chunk.get(4..8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes)
}

fn build(source: u16, destination: u16, verification: u32, chunk: &[u8]) -> Vec<u8> {
    let mut packet = Vec::with_capacity(HEADER_BYTES + chunk.len());
    packet.extend(source.to_be_bytes());
    packet.extend(destination.to_be_bytes());
    packet.extend(verification.to_be_bytes());
    packet.extend([0; 4]);
    packet.extend(chunk);
    let sum = crc32c(&packet).to_le_bytes();
    packet.splice(8..12, sum);
    packet
}

/// CRC-32C (Castagnoli), bit by bit: a few hundred bytes for each probe.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |sum: u32, _: u8| if sum & 1 == 1 { (sum >> 1) ^ 0x82f6_3b78 } else { sum >> 1 };
    !bytes.iter().fold(u32::MAX, |sum, byte| (0..8).fold(sum ^ u32::from(*byte), step))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_rfc_3720() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    }

    #[test]
    fn an_init_ack_carries_the_cookie_and_a_damaged_one_is_no_packet() {
        let packet = build(7, 9, 0x0102_0304, &init(INIT_ACK, 0x1122_3344_5566_7788, b"hello"));
        let read = Packet::read(&packet).unwrap();
        assert_eq!(
            (read.source, read.destination, read.verification, read.kind),
            (7, 9, 0x0102_0304, INIT_ACK)
        );
        assert_eq!(read.cookie.as_deref(), Some(&b"hello"[..]));
        assert_eq!(packet.len() % 4, 0);
        for at in 0..packet.len() {
            let mut damaged = packet.clone();
            damaged[at] ^= 0x10;
            assert!(Packet::read(&damaged).is_none(), "byte {at}");
            assert!(Packet::read(&packet[..at]).is_none(), "cut at {at}");
        }
    }
}
