//! tc filters on a clsact qdisc, for kernels without TCX.
//!
//! Owns: one filter for each direction, recognised by priority, handle and name.
//! Invariant: a filter that is there is replaced in one message; other people's filters are never touched.
//!
//! The four messages are written by hand: the netlink library knows no BPF filters.

use crate::bpf::Program;
use crate::links::{Attached, Direction};
use nix::sys::socket::{self, AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType};
use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd, OwnedFd, RawFd};

const NEW_QDISC: u16 = 36;
const DEL_QDISC: u16 = 37;
const NEW_FILTER: u16 = 44;
const DEL_FILTER: u16 = 45;
const GET_FILTER: u16 = 46;
const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const REPLACE: u16 = 0x100;
const EXCL: u16 = 0x200;
const CREATE: u16 = 0x400;
const ERROR: u16 = 2;

const CLSACT: u32 = 0xffff_fff1;
const INGRESS_PARENT: u32 = 0xffff_fff2;
const EGRESS_PARENT: u32 = 0xffff_fff3;
const QDISC_HANDLE: u32 = 0xffff_0000;
/// Priority and handle of our filter: before everybody who takes the default.
const PRIORITY: u32 = 1;
const HANDLE: u32 = 0x7472_7401;
const ETH_P_ALL: u32 = 0x0003;

const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const BPF_FD: u16 = 6;
const BPF_NAME: u16 = 7;
const BPF_FLAGS: u16 = 8;
const BPF_ID: u16 = 11;
const DIRECT_ACTION: u32 = 1;
const NAME: &[u8] = b"tortie\0";

const NLMSG_HEADER: usize = 16;
const TCMSG: usize = 20;
/// Offset of the interface's index in it.
const TCMSG_IFINDEX: usize = 4;
/// `RTMGRP_TC`
const GROUP_TC: u32 = 8;

fn parent(direction: Direction) -> u32 {
    match direction {
        Direction::Ingress => INGRESS_PARENT,
        Direction::Egress => EGRESS_PARENT,
    }
}

/// Puts a program into our filter, which is made where it does not exist.
pub fn attach(ifindex: u32, direction: Direction, program: &Program) -> io::Result<Attached> {
    let id = program.info()?.id;
    let before = current(ifindex, direction)?;
    if before == Some(id) {
        return Ok(Attached::Unchanged);
    }
    match exchange(&qdisc(ifindex)) {
        Err(error) if error.raw_os_error() != Some(libc::EEXIST) => return Err(error),
        _ => {}
    }
    let mut options = Vec::new();
    attribute(&mut options, BPF_FD, &program.as_fd().as_raw_fd().to_ne_bytes());
    attribute(&mut options, BPF_NAME, NAME);
    attribute(&mut options, BPF_FLAGS, &DIRECT_ACTION.to_ne_bytes());
    let flags = CREATE | if before.is_some() { REPLACE } else { EXCL };
    let mut message = filter(NEW_FILTER, REQUEST | ACK | flags, ifindex, direction);
    attribute(&mut message, TCA_KIND, b"bpf\0");
    attribute(&mut message, TCA_OPTIONS, &options);
    exchange(&message)?;
    Ok(if before.is_some() { Attached::Replaced } else { Attached::Created })
}

/// Removes our filter. The qdisc stays: others may use it.
pub fn detach(ifindex: u32, direction: Direction) -> io::Result<()> {
    if current(ifindex, direction)?.is_none() {
        return Ok(());
    }
    exchange(&filter(DEL_FILTER, REQUEST | ACK, ifindex, direction)).map(drop)
}

/// The program in our filter.
pub fn current(ifindex: u32, direction: Direction) -> io::Result<Option<u32>> {
    let mut message = filter(GET_FILTER, REQUEST, ifindex, direction);
    attribute(&mut message, TCA_KIND, b"bpf\0");
    let reply = match exchange(&message) {
        Ok(reply) => reply,
        // No such filter, no filters of this priority, or no clsact qdisc.
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::EINVAL | libc::EOPNOTSUPP)) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let attributes = reply.get(NLMSG_HEADER + TCMSG..).unwrap_or_default();
    let Some(options) = find(attributes, TCA_OPTIONS) else { return Ok(None) };
    if find(options, BPF_NAME) != Some(NAME) {
        return Ok(None);
    }
    Ok(find(options, BPF_ID).and_then(|id| id.try_into().ok()).map(u32::from_ne_bytes))
}

/// Tells when filters or their qdiscs change: the kernel says so on the routing socket.
#[derive(Debug)]
pub struct FilterEvents {
    socket: OwnedFd,
}

impl FilterEvents {
    /// Of the network namespace of this thread, from now on.
    pub fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket =
            socket::socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
        socket::bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUP_TC))?;
        Ok(Self { socket })
    }

    /// Interfaces whose filters changed since the last call; `None`: more happened than the socket holds, so
    /// any of them.
    pub fn changed(&self) -> io::Result<Option<BTreeSet<u32>>> {
        let (mut changed, mut lost) = (BTreeSet::new(), false);
        let mut buffer = vec![0; 32 << 10];
        loop {
            match socket::recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(length) => interfaces(buffer.get(..length).unwrap_or_default(), &mut changed),
                Err(nix::errno::Errno::ENOBUFS) => lost = true,
                Err(nix::errno::Errno::EINTR) => {}
                Err(nix::errno::Errno::EAGAIN) => return Ok((!lost).then_some(changed)),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl AsRawFd for FilterEvents {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// The interfaces of every message about a filter or qdisc.
fn interfaces(mut messages: &[u8], changed: &mut BTreeSet<u32>) {
    let word = |bytes: Option<&[u8]>| bytes?.try_into().ok().map(u32::from_ne_bytes);
    while let Some(length) = word(messages.get(..4)) {
        let kind = messages.get(4..6).and_then(|b| b.try_into().ok()).map(u16::from_ne_bytes);
        let at = NLMSG_HEADER + TCMSG_IFINDEX;
        if matches!(kind, Some(NEW_FILTER | DEL_FILTER | DEL_QDISC))
            && let Some(ifindex) = word(messages.get(at..at + 4))
        {
            changed.insert(ifindex);
        }
        let next = (length as usize).max(NLMSG_HEADER).next_multiple_of(4);
        messages = messages.get(next..).unwrap_or_default();
    }
}

fn header(kind: u16, flags: u16, ifindex: u32, handle: u32, parent: u32, info: u32) -> Vec<u8> {
    let mut message = Vec::with_capacity(128);
    message.extend(0u32.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0; 8]);
    message.extend([0; 4]);
    for word in [ifindex, handle, parent, info] {
        message.extend(word.to_ne_bytes());
    }
    message
}

fn qdisc(ifindex: u32) -> Vec<u8> {
    let mut message = header(NEW_QDISC, REQUEST | ACK | CREATE | EXCL, ifindex, QDISC_HANDLE, CLSACT, 0);
    attribute(&mut message, TCA_KIND, b"clsact\0");
    message
}

fn filter(kind: u16, flags: u16, ifindex: u32, direction: Direction) -> Vec<u8> {
    let info = (PRIORITY << 16) | u32::from((ETH_P_ALL as u16).to_be());
    header(kind, flags, ifindex, HANDLE, parent(direction), info)
}

fn attribute(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = value.len().saturating_add(4);
    message.extend((length as u16).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

fn find(mut attributes: &[u8], kind: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16::from_ne_bytes(attributes.get(..2)?.try_into().ok()?));
        let this = u16::from_ne_bytes(attributes.get(2..4)?.try_into().ok()?) & 0x3fff;
        if this == kind {
            return attributes.get(4..length);
        }
        attributes = attributes.get(length.max(4).next_multiple_of(4)..)?;
    }
}

fn socket() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let fd = socket::socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
    socket::connect(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    Ok(fd)
}

/// Sends one request and takes its one answer; an error message becomes an error.
fn exchange(message: &[u8]) -> io::Result<Vec<u8>> {
    let socket = socket()?;
    let mut message = message.to_vec();
    let length = (message.len() as u32).to_ne_bytes();
    for (to, from) in message.iter_mut().zip(length) {
        *to = from;
    }
    socket::send(socket.as_raw_fd(), &message, MsgFlags::empty())?;
    let mut reply = vec![0; 16 << 10];
    let length = socket::recv(socket.as_raw_fd(), &mut reply, MsgFlags::empty())?;
    reply.truncate(length);
    let kind = reply.get(4..6).and_then(|b| b.try_into().ok()).map(u16::from_ne_bytes);
    if kind == Some(ERROR) {
        let code = reply.get(16..20).and_then(|b| b.try_into().ok()).map_or(0, i32::from_ne_bytes);
        if code != 0 {
            return Err(io::Error::from_raw_os_error(code.saturating_neg()));
        }
    }
    Ok(reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_of_a_datagram_names_its_interface() {
        let mut datagram = Vec::new();
        for (kind, ifindex) in [(DEL_FILTER, 7), (NEW_QDISC, 8), (DEL_QDISC, 9)] {
            let mut message = header(kind, 0, ifindex, 0, 0, 0);
            attribute(&mut message, TCA_KIND, b"bpf\0");
            let length = (message.len() as u32).to_ne_bytes();
            message.splice(..4, length);
            datagram.extend(message);
        }
        let mut changed = BTreeSet::new();
        interfaces(&datagram, &mut changed);
        assert_eq!(changed, BTreeSet::from([7, 9]));
        interfaces(&datagram[..20], &mut changed);
        interfaces(&[0; 64], &mut changed);
        assert_eq!(changed.len(), 2, "a short or empty message names none");
    }
}
