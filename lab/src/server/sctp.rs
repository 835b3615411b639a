//! SCTP without the kernel's help: whole associations over raw sockets.
//!
//! Owns: enough of RFC 9260 to open an association (INIT to COOKIE ACK), say something each way (DATA, SACK) and end it
//! (SHUTDOWN to SHUTDOWN COMPLETE). Does not: repeat what was lost; a probe without an answer times out.
//! Invariant: works on kernels that have no SCTP sockets; a port nobody serves answers with ABORT; a packet with
//! another verification tag than agreed is nobody's.

mod association;
mod packet;

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use nix::sys::socket::{setsockopt, sockopt};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol as Wire, Socket, Type};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use self::association::Association;
use self::packet::{
    ABORT, COOKIE_ACK, COOKIE_ECHO, DATA, INIT, INIT_ACK, Init, Packet, SACK, SHUTDOWN, SHUTDOWN_ACK,
    SHUTDOWN_COMPLETE,
};
use super::attempt::answered;
use super::factory::Factory;
use super::serve::reply_to;
use super::talk::{Opening, line, pattern};
use crate::proto::{Attempt, Greeting, ProbeResult, Protocol, Served, Verdict};

/// Associations that never end are forgotten when there are more.
const MOST_ASSOCIATIONS: usize = 4096;
/// As much as a UDP probe can ask for: nothing holds a sender back.
const MOST_BYTES: u64 = 65_000;
const BUFFER_BYTES: usize = 8 << 20;

/// Answers on one port, in both families.
pub async fn serve(factory: &Factory, who: Arc<Served>, port: u16, tasks: &mut JoinSet<()>) -> Result<()> {
    let sockets = factory.make(&who.netns, || Ok([raw(Domain::IPV4)?, raw(Domain::IPV6)?])).await?;
    for socket in sockets {
        tasks.spawn(answer(UdpSocket::from_std(socket)?, Door::new(who.clone(), port)));
    }
    Ok(())
}

fn raw(domain: Domain) -> Result<std::net::UdpSocket> {
    let kind = Type::from(nix::libc::SOCK_RAW).nonblocking().cloexec();
    let socket =
        Socket::new(domain, kind, Some(Wire::from(nix::libc::IPPROTO_SCTP))).context("raw SCTP socket")?;
    make_room(&socket)?;
    Ok(socket.into())
}

/// A raw socket gets the packets of all associations of its machine, and nobody repeats what it has no room for.
fn make_room(socket: &Socket) -> Result<()> {
    setsockopt(socket, sockopt::RcvBufForce, &BUFFER_BYTES).context("a larger receive buffer")
}

async fn answer(socket: UdpSocket, mut door: Door) {
    let mut buffer = vec![0; 65_536];
    loop {
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else { continue };
        let bytes = payload(buffer.get(..length).unwrap_or_default(), &client);
        let Some(packet) = Packet::read(bytes, |port| door.answers(port)) else { continue };
        for reply in door.replies(client.ip(), &packet) {
            let _ = socket.send_to(&reply.bytes(), SocketAddr::new(client.ip(), 0)).await;
        }
    }
}

/// A port that is served.
struct Door {
    who: Arc<Served>,
    port: u16,
    associations: BTreeMap<(IpAddr, u16), Association>,
}

/// What a server wants to have back before it remembers anybody.
#[derive(Debug, Serialize, Deserialize)]
struct Cookie {
    client: (u32, u32),
    server: (u32, u32),
}

impl Door {
    fn new(who: Arc<Served>, port: u16) -> Self {
        Self { who, port, associations: BTreeMap::new() }
    }

    /// Whether it is for this one to say something: the first of a pod's SCTP ports speaks for those that nobody serves.
    fn answers(&self, port: u16) -> bool {
        let mut served = self.who.ports.iter().filter(|(protocol, _)| *protocol == Protocol::Sctp);
        let speaks = served.clone().next() == Some(&(Protocol::Sctp, self.port));
        port == self.port || speaks && !served.any(|(_, its)| *its == port)
    }

    /// What is sent back for a packet to a port that it answers.
    fn replies(&mut self, client: IpAddr, packet: &Packet) -> Vec<Packet> {
        if packet.kind == INIT {
            return self.open(packet).into_iter().collect();
        }
        if packet.destination != self.port {
            return Vec::new();
        }
        if packet.kind == COOKIE_ECHO {
            return self.establish(client, packet).into_iter().collect();
        }
        let key = (client, packet.source);
        let Some(association) = self.associations.get_mut(&key).filter(|it| it.owns(packet)) else {
            return Vec::new();
        };
        match packet.kind {
            DATA => {
                let (sack, message) = association.hear(packet);
                let seen = SocketAddr::new(client, packet.source);
                let greeting = Greeting {
                    server: self.who.name.clone(),
                    node: self.who.node.clone(),
                    client_seen: seen,
                };
                let reply = message.and_then(|message| reply_to(&message, &greeting));
                let said = reply.map(|reply| association.say(&reply)).unwrap_or_default();
                std::iter::once(sack).chain(said).collect()
            }
            SHUTDOWN => vec![association.packet(SHUTDOWN_ACK, Vec::new())],
            SHUTDOWN_COMPLETE | ABORT => {
                self.associations.remove(&key);
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn open(&self, packet: &Packet) -> Option<Packet> {
        let init = Init::read(&packet.value)?;
        let (source, destination, tag) = (packet.destination, packet.source, init.tag);
        let reply = |kind, value| Some(Packet { source, destination, tag, kind, flags: 0, value });
        if packet.destination == self.port {
            let (tag, first) = (random() | 1, random());
            let cookie = Cookie { client: (init.tag, init.first), server: (tag, first) };
            let cookie = serde_json::to_vec(&cookie).ok()?;
            return reply(INIT_ACK, Init { tag, first, cookie }.value());
        }
        reply(ABORT, Vec::new())
    }

    fn establish(&mut self, client: IpAddr, packet: &Packet) -> Option<Packet> {
        let cookie: Cookie = serde_json::from_slice(&packet.value).ok()?;
        let Cookie { client: theirs, server: ours } = cookie;
        let (tags, numbers) = ((ours.0, theirs.0), (ours.1, theirs.1));
        let association = Association::new((self.port, packet.source), tags, numbers);
        if !association.owns(packet) {
            return None;
        }
        if self.associations.len() >= MOST_ASSOCIATIONS {
            self.associations.clear();
        }
        let ack = association.packet(COOKIE_ACK, Vec::new());
        self.associations.insert((client, packet.source), association);
        Some(ack)
    }
}

/// Opens an association over a raw socket, asks, and ends it.
pub async fn ask(socket: Socket, attempt: &Attempt) -> Result<ProbeResult> {
    let started = Instant::now();
    make_room(&socket)?;
    let socket = UdpSocket::from_std(socket.into())?;
    socket.connect(SocketAddr::new(attempt.to, 0)).await?;
    let mut peer = Peer { socket, address: attempt.to, buffer: vec![0; 65_536] };
    let source = attempt.source_port.unwrap_or_else(next_port);
    let Some(mut association) = open(&mut peer, source, attempt.port).await? else {
        return Ok(ProbeResult::failed(Verdict::Refused, "the peer answered with ABORT"));
    };
    let connected = started.elapsed();
    let bytes = attempt.bytes.min(MOST_BYTES);
    let mut question = line(&Opening::Probe { bytes })?;
    question.extend(pattern(0, bytes));
    let answer = exchange(&mut peer, &mut association, &question).await?;
    peer.send(&association.end()).await?;
    while peer.next(&association).await?.kind != SHUTDOWN_ACK {}
    peer.send(&association.packet(SHUTDOWN_COMPLETE, Vec::new())).await?;
    let mut parts = answer.splitn(2, |byte| *byte == b'\n');
    let greeting = serde_json::from_slice(parts.next().unwrap_or_default())?;
    let came = parts.next().unwrap_or_default();
    if came != pattern(0, bytes) {
        bail!("the answer carried {} bytes, or others, instead of {bytes}", came.len());
    }
    Ok(answered(greeting, SocketAddr::new(attempt.to, association.peer_port), connected))
}

/// The four steps of the beginning. `None`: refused.
async fn open(peer: &mut Peer, port: u16, peer_port: u16) -> Result<Option<Association>> {
    let own = Init { tag: random() | 1, first: random(), cookie: Vec::new() };
    // The other's tag and number come with INIT ACK.
    let mut association = Association::new((port, peer_port), (own.tag, 0), (own.first, 0));
    peer.send(&association.packet(INIT, own.value())).await?;
    let theirs = loop {
        let packet = peer.receive(&association).await?;
        match packet.kind {
            ABORT => return Ok(None),
            INIT_ACK => break Init::read(&packet.value).context("INIT ACK without a beginning")?,
            _ => {}
        }
    };
    (association.peer_tag, association.expected) = (theirs.tag, theirs.first);
    peer.send(&association.packet(COOKIE_ECHO, theirs.cookie)).await?;
    while peer.next(&association).await?.kind != COOKIE_ACK {}
    Ok(Some(association))
}

/// Sends a message, and waits until it is acknowledged and another has come.
async fn exchange(peer: &mut Peer, association: &mut Association, message: &[u8]) -> Result<Vec<u8>> {
    for packet in association.say(message) {
        peer.send(&packet).await?;
    }
    let (mut heard, mut answer) = (false, None);
    while !heard || answer.is_none() {
        let packet = peer.next(association).await?;
        if packet.kind == SACK {
            heard = association.is_heard(&packet);
        } else if packet.kind == DATA {
            let (sack, message) = association.hear(&packet);
            answer = answer.or(message);
            peer.send(&sack).await?;
        }
    }
    answer.context("no answer")
}

/// The other side, as a client sees it.
struct Peer {
    socket: UdpSocket,
    address: IpAddr,
    buffer: Vec<u8>,
}

impl Peer {
    async fn send(&self, packet: &Packet) -> Result<()> {
        self.socket.send(&packet.bytes()).await?;
        Ok(())
    }

    async fn receive(&mut self, association: &Association) -> Result<Packet> {
        loop {
            let length = self.socket.recv(&mut self.buffer).await?;
            let peer = SocketAddr::new(self.address, 0);
            let bytes = payload(self.buffer.get(..length).unwrap_or_default(), &peer);
            let packet = Packet::read(bytes, |port| port == association.port);
            if let Some(packet) = packet.filter(|packet| association.owns(packet)) {
                return Ok(packet);
            }
        }
    }

    /// The next packet of an association that nobody has ended.
    async fn next(&mut self, association: &Association) -> Result<Packet> {
        let packet = self.receive(association).await?;
        if packet.kind == ABORT {
            bail!("the peer has aborted the association");
        }
        Ok(packet)
    }
}

/// An IPv4 raw socket hands over the IP header as well.
fn payload<'a>(bytes: &'a [u8], peer: &SocketAddr) -> &'a [u8] {
    let header =
        if peer.is_ipv4() { bytes.first().map_or(0, |first| usize::from(first & 0xf) * 4) } else { 0 };
    bytes.get(header..).unwrap_or_default()
}

/// A port that no other association of this process has had lately: no kernel keeps two of them apart, and to a server
/// that hears both, the same ports are the same association.
fn next_port() -> u16 {
    static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| AtomicU16::new((random() & 0xffff) as u16));
    NEXT.fetch_add(1, Ordering::Relaxed) | 0x8000
}

fn random() -> u32 {
    let [a, b, c, d, ..] = RandomState::new().hash_one(()).to_ne_bytes();
    u32::from_ne_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

    fn door() -> Door {
        let who = Served {
            name: "default/a".into(),
            node: "node1".into(),
            netns: "/none".into(),
            uid: "1".into(),
            addresses: Vec::new(),
            ports: vec![(Protocol::Tcp, 80), (Protocol::Sctp, 99), (Protocol::Sctp, 100)],
        };
        Door::new(Arc::new(who), 99)
    }

    fn init(port: u16) -> Packet {
        let value = Init { tag: 5, first: 1, cookie: Vec::new() }.value();
        Packet { source: 7, destination: port, tag: 0, kind: INIT, flags: 0, value }
    }

    #[test]
    fn a_port_that_nobody_serves_aborts_and_one_that_another_serves_is_left_to_it() {
        let kinds = |port| door().replies(CLIENT, &init(port)).iter().map(|it| it.kind).collect::<Vec<_>>();
        assert_eq!((kinds(99), kinds(98)), (vec![INIT_ACK], vec![ABORT]));
        assert_eq!([99, 98, 100].map(|port| door().answers(port)), [true, true, false]);
    }

    #[test]
    fn associations_at_one_time_have_different_ports_all_of_them_ephemeral() {
        let ports: BTreeSet<u16> = (0..0x8000).map(|_| next_port()).collect();
        assert_eq!((ports.len(), ports.first()), (0x8000, Some(&0x8000)));
    }

    #[test]
    fn nobody_is_remembered_before_the_cookie_is_back_and_nobody_after_the_end() {
        let mut door = door();
        let ack = door.replies(CLIENT, &init(99)).remove(0);
        assert!(door.associations.is_empty());
        let theirs = Init::read(&ack.value).unwrap();
        let send = |tag, kind, value| Packet { source: 7, destination: 99, tag, kind, flags: 0, value };
        let wrong = send(theirs.tag ^ 2, COOKIE_ECHO, theirs.cookie.clone());
        assert!(door.replies(CLIENT, &wrong).is_empty() && door.associations.is_empty());
        let echo = send(theirs.tag, COOKIE_ECHO, theirs.cookie);
        assert_eq!(door.replies(CLIENT, &echo)[0].kind, COOKIE_ACK);
        let other = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 8));
        let end = send(theirs.tag, SHUTDOWN, Vec::new());
        assert!(door.replies(other, &end).is_empty(), "another's address");
        assert_eq!(door.replies(CLIENT, &end)[0].kind, SHUTDOWN_ACK);
        assert!(door.replies(CLIENT, &send(theirs.tag, SHUTDOWN_COMPLETE, Vec::new())).is_empty());
        assert!(door.associations.is_empty());
    }
}
