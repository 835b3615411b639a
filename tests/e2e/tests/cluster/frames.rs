//! Frames of any content, sent from inside a pod or by a node.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::thread;

use nix::ifaddrs::getifaddrs;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, sendto, socket};
use tortie_lab::{Lab, Where};

/// Writes each frame to the wire of the `eth0` that is there, as it is.
pub fn send(lab: &Lab, from: &Where, frames: &[Vec<u8>]) {
    let place = lab.place(from).expect("a place");
    let namespace = File::open(&place.netns).expect("its network namespace");
    let sent = thread::scope(|scope| {
        let sender = scope.spawn(|| -> io::Result<()> {
            setns(namespace, CloneFlags::CLONE_NEWNET)?;
            let wire = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
            let device = eth0()?;
            for frame in frames {
                sendto(wire.as_raw_fd(), frame, &device, MsgFlags::empty())?;
            }
            Ok(())
        });
        sender.join().expect("the sending thread")
    });
    sent.expect("sending frames");
}

fn eth0() -> io::Result<LinkAddr> {
    let mut all = getifaddrs()?.filter(|found| found.interface_name == "eth0");
    let link = all.find_map(|found| found.address?.as_link_addr().copied());
    link.ok_or_else(|| io::Error::other("no eth0"))
}
