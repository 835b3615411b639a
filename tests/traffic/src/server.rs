//! What answers, swallows and counts.
//!
//! Owns: listening in both families, and a thread for each thing that is served.
//! Does not: measure; clients ask it what arrived.
//! Invariant: bytes are counted after they were taken from the kernel.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{COUNT, SINK, Serving, pin};

/// What is taken from a socket at once.
const CHUNK: usize = 128 << 10;
/// Connections that wait to be accepted; what the kernel allows at most.
const BACKLOG: i32 = 4096;
/// What a server of datagrams asks for, as those of QUIC do.
const DATAGRAM_BUFFER: usize = 8 << 20;

/// Serves until standard input ends: a script that dies takes its server with it.
pub fn run(serving: Serving) -> Result<()> {
    start(serving)?;
    println!("serving on {} and the two ports after it", serving.port);
    io::copy(&mut io::stdin(), &mut io::sink()).context("standard input")?;
    Ok(())
}

/// Listens on every port, and leaves the rest to threads.
pub fn start(serving: Serving) -> Result<()> {
    let received = Arc::new(AtomicU64::new(0));
    let requests = listeners(serving.port)?;
    let streams = listeners(serving.port + SINK)?;
    let datagrams = sockets(serving.port + SINK, !serving.no_gro)?;
    let counts = listeners(serving.port + COUNT)?;
    spawn(serving.cpu, move || echo(&requests));
    for listener in streams {
        let received = Arc::clone(&received);
        spawn(serving.sink_cpu, move || take_streams(&listener, &received));
    }
    for socket in datagrams {
        let received = Arc::clone(&received);
        spawn(serving.sink_cpu, move || take_datagrams(&socket, &received));
    }
    let started = Instant::now();
    for listener in counts {
        let received = Arc::clone(&received);
        spawn(serving.cpu, move || tell(&listener, &received, started));
    }
    Ok(())
}

/// A thread that never ends, or ends the process: clients would take half a server for a slow one.
fn spawn(cpu: Option<usize>, work: impl FnOnce() -> io::Result<()> + Send + 'static) {
    thread::spawn(move || {
        if let Err(error) = pin(cpu).and_then(|()| Ok(work()?)) {
            eprintln!("tortie-traffic: the server fails: {error:#}");
            std::process::exit(1);
        }
    });
}

/// A socket of each family, so that neither carries the other's packets.
fn bound(port: u16, kind: Type, protocol: Protocol) -> Result<[Socket; 2]> {
    let one = |domain, address: SocketAddr| -> io::Result<Socket> {
        let socket = Socket::new(domain, kind, Some(protocol))?;
        if domain == Domain::IPV6 {
            socket.set_only_v6(true)?;
        }
        if kind == Type::STREAM {
            socket.set_reuse_address(true)?;
        }
        socket.bind(&address.into())?;
        Ok(socket)
    };
    let both = [
        one(Domain::IPV4, (Ipv4Addr::UNSPECIFIED, port).into()),
        one(Domain::IPV6, (Ipv6Addr::UNSPECIFIED, port).into()),
    ];
    let [four, six] = both.map(|socket| socket.with_context(|| format!("port {port}")));
    Ok([four?, six?])
}

fn listeners(port: u16) -> Result<[TcpListener; 2]> {
    let both = bound(port, Type::STREAM, Protocol::TCP)?;
    for socket in &both {
        socket.listen(BACKLOG).with_context(|| format!("port {port}"))?;
    }
    Ok(both.map(TcpListener::from))
}

fn sockets(port: u16, gro: bool) -> Result<[UdpSocket; 2]> {
    let both = bound(port, Type::DGRAM, Protocol::UDP)?;
    for socket in &both {
        setsockopt(socket, sockopt::UdpGroSegment, &gro).context("UDP_GRO")?;
        // Beyond the machine's limit as root, and as much as there may be otherwise.
        if setsockopt(socket, sockopt::RcvBufForce, &DATAGRAM_BUFFER).is_err() {
            socket.set_recv_buffer_size(DATAGRAM_BUFFER).context("SO_RCVBUF")?;
        }
    }
    Ok(both.map(UdpSocket::from))
}

/// Sends back what comes, of any number of connections, in one thread.
fn echo(listeners: &[TcpListener; 2]) -> io::Result<()> {
    let epoll = Epoll::new(EpollCreateFlags::empty())?;
    for listener in listeners {
        epoll.add(listener, readable(listener.as_raw_fd()))?;
    }
    let mut open: HashMap<u64, TcpStream> = HashMap::new();
    let mut events = [EpollEvent::empty(); 64];
    loop {
        let count = match epoll.wait(&mut events, EpollTimeout::NONE) {
            Err(Errno::EINTR) => 0,
            result => result?,
        };
        for event in &events[..count] {
            let ready = event.data();
            if let Some(listener) = listeners.iter().find(|l| key(l.as_raw_fd()) == ready) {
                let Some(stream) = accept(listener)? else { continue };
                stream.set_nodelay(true)?;
                epoll.add(&stream, readable(stream.as_raw_fd()))?;
                open.insert(key(stream.as_raw_fd()), stream);
            } else if let Some(stream) = open.get_mut(&ready)
                && !echo_once(stream)
            {
                // Closing a socket takes it out of the epoll.
                open.remove(&ready);
            }
        }
    }
}

fn key(fd: i32) -> u64 {
    u64::from(fd.unsigned_abs())
}

fn readable(fd: i32) -> EpollEvent {
    EpollEvent::new(EpollFlags::EPOLLIN, key(fd))
}

/// Whether the connection goes on; clients end theirs with a reset.
fn echo_once(stream: &mut TcpStream) -> bool {
    let mut bytes = [0; 64];
    matches!(stream.read(&mut bytes), Ok(count) if count > 0 && stream.write_all(&bytes[..count]).is_ok())
}

/// `None`: the client was gone before.
fn accept(listener: &TcpListener) -> io::Result<Option<TcpStream>> {
    match listener.accept() {
        Ok((stream, _)) => Ok(Some(stream)),
        Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn take_streams(listener: &TcpListener, received: &Arc<AtomicU64>) -> io::Result<()> {
    loop {
        let Some(mut stream) = accept(listener)? else { continue };
        let received = Arc::clone(received);
        // On this thread's processor.
        thread::spawn(move || {
            let mut bytes = vec![0; CHUNK];
            while let Ok(count @ 1..) = stream.read(&mut bytes) {
                received.fetch_add(count as u64, Ordering::Relaxed);
            }
        });
    }
}

fn take_datagrams(socket: &UdpSocket, received: &AtomicU64) -> io::Result<()> {
    let mut bytes = vec![0; CHUNK];
    loop {
        let count = socket.recv(&mut bytes)?;
        received.fetch_add(count as u64, Ordering::Relaxed);
    }
}

/// Tells whoever connects how many bytes have arrived, and when that was, in nanoseconds.
fn tell(listener: &TcpListener, received: &AtomicU64, started: Instant) -> io::Result<()> {
    loop {
        let Some(mut stream) = accept(listener)? else { continue };
        let (bytes, time) = (received.load(Ordering::Relaxed), started.elapsed().as_nanos());
        // Who does not wait for it has no use for it.
        let _ = writeln!(stream, "{bytes} {time}");
    }
}
