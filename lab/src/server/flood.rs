//! Half-open connections by the hundred thousand.
//!
//! Owns: TCP SYNs over a raw socket, each of another flow.
//! Does not: answer what comes back; where nobody answers, the flows stay half open.
//! Invariant: the packets are valid, so that what refuses them refuses them for their number.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result};
use socket2::{Domain, Protocol as Wire, Socket, Type};
use tokio::net::UdpSocket;

use super::factory::Factory;
use crate::proto::Flood;

const HEADER_BYTES: usize = 20;
const SYN: u8 = 0x02;
/// Source ports of one round; the next round takes the next destination port.
const PORTS: std::ops::Range<u16> = 1024..65_024;

/// Sends all of them. Returns how many.
pub async fn send(factory: &Factory, flood: &Flood) -> Result<u64> {
    let to = flood.to;
    let (raw, source) = factory.make(&flood.netns, move || Ok((raw(to)?, source_of(to)?))).await?;
    let socket = UdpSocket::from_std(raw)?;
    let peer = SocketAddr::new(to, 0);
    for number in 0..flood.count {
        let per_round = u64::from(PORTS.end - PORTS.start);
        let from_port = PORTS.start + u16::try_from(number % per_round)?;
        let to_port = flood.port.wrapping_add(u16::try_from(number / per_round)?);
        socket.send_to(&syn(source, to, from_port, to_port, number), peer).await.context("sending a SYN")?;
    }
    Ok(flood.count)
}

fn raw(to: IpAddr) -> Result<std::net::UdpSocket> {
    let kind = Type::from(nix::libc::SOCK_RAW).nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(SocketAddr::new(to, 0)), kind, Some(Wire::TCP))?;
    Ok(socket.into())
}

/// The address that the kernel will send from.
fn source_of(to: IpAddr) -> Result<IpAddr> {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = std::net::UdpSocket::bind(any)?;
    socket.connect(SocketAddr::new(to, 9)).with_context(|| format!("no way to {to}"))?;
    Ok(socket.local_addr()?.ip())
}

fn syn(from: IpAddr, to: IpAddr, from_port: u16, to_port: u16, number: u64) -> Vec<u8> {
    let sequence = u32::try_from(number & 0xffff_ffff).unwrap_or_default();
    let mut header = Vec::with_capacity(HEADER_BYTES);
    header.extend(from_port.to_be_bytes());
    header.extend(to_port.to_be_bytes());
    header.extend(sequence.to_be_bytes());
    header.extend([0, 0, 0, 0, 0x50, SYN, 0xff, 0xff, 0, 0, 0, 0]);
    let sum = checksum(&[&octets(from), &octets(to), &[0, 6, 0, HEADER_BYTES as u8], &header]);
    header.splice(16..18, sum.to_be_bytes());
    header
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// RFC 1071, over parts of even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks_exact(2));
    let sum: u64 = words.filter_map(|pair| pair.try_into().ok()).map(u16::from_be_bytes).map(u64::from).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_syn_has_a_valid_checksum_in_both_families() {
        for (from, to) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "2001:db8::2")] {
            let (from, to): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
            let header = syn(from, to, 1024, 80, 7);
            // Summed with its checksum in place, a valid header gives zero.
            let parts: [&[u8]; 4] = [&octets(from), &octets(to), &[0, 6, 0, 20], &header];
            assert_eq!(checksum(&parts), 0);
        }
    }
}
