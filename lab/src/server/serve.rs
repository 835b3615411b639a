//! The servers in the pods.
//!
//! Owns: listening sockets of each pod, and what they answer.
//! Does not: decide who serves what; the laboratory's commands say so.
//! Invariant: a pod that is no longer served keeps no socket, so that its namespace can go.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::factory::Factory;
use super::talk::{Opening, exchange, line, pattern};
use super::{records, sctp};
use crate::proto::{Greeting, Protocol, Served};

/// How long a connection may stay silent before it is greeted anyway.
const SHY: Duration = Duration::from_millis(100);

/// All that is being served.
#[derive(Debug, Default)]
pub struct Serving {
    pods: BTreeMap<String, (Served, JoinSet<()>)>,
}

impl Serving {
    /// Serves exactly `wanted` from now on. Returns what could not be served, in words.
    pub async fn replace(&mut self, factory: &Factory, wanted: Vec<Served>) -> Vec<String> {
        let mut complaints = Vec::new();
        let mut before = std::mem::take(&mut self.pods);
        // Old sockets close first: a host-network pod may leave its port to another.
        before.retain(|name, (served, _)| wanted.iter().any(|want| want.name == *name && want == served));
        tokio::task::yield_now().await;
        for served in wanted {
            if let Some(kept) = before.remove(&served.name) {
                self.pods.insert(served.name.clone(), kept);
                continue;
            }
            let mut tasks = JoinSet::new();
            for (protocol, port) in served.ports.iter().copied() {
                if let Err(error) = listen(factory, &served, protocol, port, &mut tasks).await {
                    complaints.push(format!(
                        "pod {} port {}/{port}: {error:#}",
                        served.name,
                        protocol.as_str()
                    ));
                }
            }
            self.pods.insert(served.name.clone(), (served, tasks));
        }
        complaints
    }
}

async fn listen(
    factory: &Factory,
    served: &Served,
    protocol: Protocol,
    port: u16,
    tasks: &mut JoinSet<()>,
) -> Result<()> {
    let who = Arc::new(served.clone());
    match protocol {
        Protocol::Tcp => {
            let make = move || wildcards(port).map(tcp_listener).collect::<Result<Vec<_>>>();
            for listener in factory.make(&served.netns, make).await? {
                tasks.spawn(accept(TcpListener::from_std(listener)?, who.clone()));
            }
        }
        Protocol::Udp => {
            let mut own: BTreeSet<IpAddr> = served.addresses.iter().copied().collect();
            let make = move || {
                own.extend(interface_addresses()?);
                let own = own.into_iter().map(|address| SocketAddr::new(address, port));
                wildcards(port).chain(own).map(udp_socket).collect::<Result<Vec<_>>>()
            };
            for socket in factory.make(&served.netns, make).await? {
                tasks.spawn(answer_datagrams(UdpSocket::from_std(socket)?, who.clone()));
            }
        }
        Protocol::Sctp => sctp::serve(factory, who, port, tasks).await?,
        Protocol::Icmp => {}
    }
    Ok(())
}

/// A socket of its own for each address answers from the one that was asked. Those of one link are left out.
fn interface_addresses() -> Result<impl Iterator<Item = IpAddr>> {
    let address = |it: nix::ifaddrs::InterfaceAddress| {
        let storage = it.address?;
        let v4 = storage.as_sockaddr_in().map(|it| IpAddr::from(it.ip()));
        v4.or_else(|| storage.as_sockaddr_in6().map(|it| IpAddr::from(it.ip())))
    };
    let on_link = |address: &IpAddr| matches!(address, IpAddr::V6(it) if it.is_unicast_link_local());
    Ok(nix::ifaddrs::getifaddrs()?.filter_map(address).filter(move |address| !on_link(address)))
}

fn wildcards(port: u16) -> impl Iterator<Item = SocketAddr> {
    let any: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    any.into_iter().map(move |address| SocketAddr::new(address, port))
}

fn bound(address: SocketAddr, kind: Type) -> Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind.nonblocking().cloexec(), None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into()).with_context(|| format!("binding {address}"))?;
    Ok(socket)
}

fn tcp_listener(address: SocketAddr) -> Result<std::net::TcpListener> {
    let socket = bound(address, Type::STREAM)?;
    socket.listen(1024)?;
    Ok(socket.into())
}

fn udp_socket(address: SocketAddr) -> Result<std::net::UdpSocket> {
    let socket = bound(address, Type::DGRAM)?;
    // A burst of probes must not be lost to a small buffer; the kernel may grant less.
    let _ = socket.set_recv_buffer_size(4 << 20);
    Ok(socket.into())
}

async fn accept(listener: TcpListener, who: Arc<Served>) {
    let mut conversations = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, client)) => {
                    conversations.spawn(converse(stream, client, who.clone()));
                }
                // Out of descriptors: wait for some to be given back.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            Some(_) = conversations.join_next() => {}
        }
    }
}

async fn converse(stream: TcpStream, client: SocketAddr, who: Arc<Served>) {
    if let Err(error) = answer(stream, greeting(&who, client)).await {
        tracing::debug!(server = who.name, %client, "conversation ended: {error:#}");
    }
}

/// Answers a probe, a stream, an HTTP request, or anybody who waits or types something.
async fn answer(mut stream: TcpStream, greeting: Greeting) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut first = [0; 4];
    let asked = timeout(SHY, stream.peek(&mut first)).await.is_ok();
    let (reader, mut writer) = stream.split();
    let mut reader = BufReader::new(reader);
    if !asked {
        writer.write_all(&line(&greeting)?).await?;
        tokio::io::copy_buf(&mut reader, &mut writer).await?;
        return Ok(());
    }
    let text = super::talk::read_line(&mut reader).await?;
    match serde_json::from_str(&text) {
        Ok(Opening::Probe { bytes }) => {
            writer.write_all(&line(&greeting)?).await?;
            exchange(&mut reader, &mut writer, bytes).await
        }
        Ok(Opening::Stream { interval_micros }) => {
            writer.write_all(&line(&greeting)?).await?;
            records::serve(&mut reader, &mut writer, interval_micros).await
        }
        Err(_) if text.ends_with("HTTP/1.1") || text.ends_with("HTTP/1.0") => {
            let body = line(&greeting)?;
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            writer.write_all(&[head.into_bytes(), body].concat()).await?;
            writer.shutdown().await?;
            // Reading the rest of the request keeps our close from becoming a reset.
            tokio::io::copy(&mut reader.take(1 << 20), &mut tokio::io::sink()).await?;
            Ok(())
        }
        Err(_) => {
            writer.write_all(&line(&greeting)?).await?;
            tokio::io::copy_buf(&mut reader, &mut writer).await?;
            Ok(())
        }
    }
}

async fn answer_datagrams(socket: UdpSocket, who: Arc<Served>) {
    let mut buffer = vec![0; 65_536];
    loop {
        // An error here is an ICMP error about an earlier answer.
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else { continue };
        let datagram = buffer.get(..length).unwrap_or_default();
        if let Some(reply) = reply_to(datagram, &greeting(&who, client)) {
            let _ = socket.send_to(&reply, client).await;
        }
    }
}

/// A record is answered by a record, anything else by the greeting and as many bytes as were asked for.
pub(super) fn reply_to(datagram: &[u8], greeting: &Greeting) -> Option<Vec<u8>> {
    let first = datagram.split(|byte| *byte == b'\n').next()?;
    let bytes = match serde_json::from_slice(first) {
        Ok(Opening::Probe { bytes }) => bytes,
        _ => 0,
    };
    let mut reply = line(greeting).ok()?;
    reply.extend(pattern(0, bytes.min(65_000)));
    Some(reply)
}

fn greeting(who: &Served, client: SocketAddr) -> Greeting {
    Greeting { server: who.name.clone(), node: who.node.clone(), client_seen: client }
}
