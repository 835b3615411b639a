//! What passes the router, and which machine it came from.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::thread;
use std::time::Duration;

use nix::ifaddrs::getifaddrs;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket, sockopt,
};
use tortie_lab::Lab;

/// `PACKET_OUTGOING` of linux/if_packet.h: what the router itself sends.
const OUTGOING: u8 = 4;

/// Packets from one address to another, by the machine at whose port of the router they arrived.
pub type Arrivals = BTreeMap<String, usize>;

/// Listens at the router while `meanwhile` runs, and counts the packets with these ends. (Source first. What is inside a
/// tunnel does not count.)
pub fn arrivals<R>(lab: &Lab, ends: (IpAddr, IpAddr), meanwhile: impl FnOnce() -> R) -> (Arrivals, R) {
    let router = File::open(format!("/run/netns/{}", lab.name.machine("router"))).expect("the router");
    let (wire, ports) = thread::scope(|scope| scope.spawn(|| open(&router)).join().expect("the thread"))
        .expect("a socket at the router");
    let result = meanwhile();
    // What was sent last is on its way.
    thread::sleep(Duration::from_millis(50));
    (read(&wire, &ports, ends), result)
}

/// A socket that has every packet of the router, and the names of its interfaces.
fn open(router: &File) -> io::Result<(OwnedFd, BTreeMap<usize, String>)> {
    setns(router, CloneFlags::CLONE_NEWNET)?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let wire = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll)?;
    setsockopt(&wire, sockopt::RcvBufForce, &(64 << 20))?;
    let ports = getifaddrs()?
        .filter_map(|found| Some((found.address?.as_link_addr()?.ifindex(), found.interface_name)))
        .collect();
    Ok((wire, ports))
}

fn read(wire: &OwnedFd, ports: &BTreeMap<usize, String>, ends: (IpAddr, IpAddr)) -> Arrivals {
    let mut arrivals = Arrivals::new();
    let mut frame = vec![0; 1 << 16];
    while let Ok((length, Some(from))) = recvfrom::<LinkAddr>(wire.as_raw_fd(), &mut frame) {
        let Some(port) = ports.get(&from.ifindex()).filter(|name| *name != "br0") else { continue };
        if from.pkttype() != OUTGOING && ends_of(&frame[..length]) == Some(ends) {
            *arrivals.entry(port.clone()).or_default() += 1;
        }
    }
    arrivals
}

fn ends_of(frame: &[u8]) -> Option<(IpAddr, IpAddr)> {
    let v4 = |at: usize| Some(IpAddr::from(<[u8; 4]>::try_from(frame.get(at..at + 4)?).ok()?));
    let v6 = |at: usize| Some(IpAddr::from(<[u8; 16]>::try_from(frame.get(at..at + 16)?).ok()?));
    match frame.get(12..14)? {
        [0x08, 0x00] => Some((v4(26)?, v4(30)?)),
        [0x86, 0xdd] => Some((v6(22)?, v6(38)?)),
        _ => None,
    }
}
