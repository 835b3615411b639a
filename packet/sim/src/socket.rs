//! A process and its sockets: the system calls that the programs at a cgroup see.
//!
//! Owns: what the kernel does around the programs. Does not: send packets; [`crate::world`] does.
//! Invariant: the programs see addresses in the form that the kernel shows them: a v4-mapped one stays mapped at
//! `connect`, `getpeername` and `recvmsg`, and is an IPv4 one at `sendmsg`.

use crate::context::Context;
use crate::node::{HasTables, Node};
use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use tortie_abi::counter::CounterKey;
use tortie_abi::{DropReason, Hook};
use tortie_datapath::hook;
use tortie_datapath::kernel::{Refusals, Socket as Id, SocketCall, Sockets};
use tortie_datapath::stage::socket::Admission;
use tortie_datapath::tuple::Place;
use tortie_wire::{Be16, Ip4, Ip6};
use zerocopy::IntoBytes;

/// What a program sees of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    protocol: u8,
    cookie: u64,
    netns: u64,
    address4: Ip4,
    address6: Ip6,
    port: Be16,
    connected: bool,
}

impl Call {
    pub(crate) const NONE: Self = Self {
        protocol: 0,
        cookie: 0,
        netns: 0,
        address4: Ip4::UNSPECIFIED,
        address6: Ip6::UNSPECIFIED,
        port: Be16::ZERO,
        connected: false,
    };
}

/// Why a call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Errno {
    /// `ECONNREFUSED`
    Refused,
    /// `EPERM`
    NotPermitted,
    /// `ENOTCONN`
    NotConnected,
}

/// A socket in a pod or on the host.
pub struct Socket<'a> {
    node: &'a Node,
    cookie: u64,
    netns: u64,
    protocol: u8,
    /// What was last to be connected to.
    asked: Cell<Option<SocketAddr>>,
    peer: Cell<Option<SocketAddr>>,
}

impl<'a> Socket<'a> {
    /// A socket of the namespace numbered `netns`.
    pub fn new(node: &'a Node, netns: u64, protocol: u8) -> Self {
        let cookie = node.next_cookie();
        Self { node, cookie, netns, protocol, asked: Cell::new(None), peer: Cell::new(None) }
    }

    fn call(&self, address: SocketAddr) -> Context<'a> {
        let (address4, address6) = match address.ip() {
            IpAddr::V4(address) => (Ip4::from(address), Ip6::UNSPECIFIED),
            IpAddr::V6(address) => (Ip4::UNSPECIFIED, Ip6::from(address)),
        };
        let port = Be16::new(address.port());
        let (protocol, cookie, netns) = (self.protocol, self.cookie, self.netns);
        let connected = self.peer.get().is_some();
        Context::of_call(self.node, Call { protocol, cookie, netns, address4, address6, port, connected })
    }

    /// The other end has refused: the socket has no peer again.
    pub fn refused(&self) {
        self.peer.set(None);
    }

    /// `connect`: where packets go.
    pub fn connect(&self, to: SocketAddr) -> Result<SocketAddr, Errno> {
        self.asked.set(Some(to));
        let k = self.call(to);
        let admission = if to.is_ipv4() { hook::connect4(&k) } else { hook::connect6(&k) };
        let goes = conclude(admission, &k, to)?;
        self.peer.set(Some(goes));
        Ok(goes)
    }

    /// `sendto`: where the message goes.
    pub fn send(&self, to: SocketAddr) -> Result<SocketAddr, Errno> {
        // The kernel strips an IPv4 address before it asks.
        let to = SocketAddr::new(to.ip().to_canonical(), to.port());
        let k = self.call(to);
        let admission = if to.is_ipv4() { hook::sent4(&k) } else { hook::sent6(&k) };
        conclude(admission, &k, to)
    }

    /// `recvfrom`: the sender that is told.
    pub fn receive(&self, from: SocketAddr) -> SocketAddr {
        let k = self.call(from);
        if from.is_ipv4() {
            hook::sender4(&k);
        } else {
            hook::sender6(&k);
        }
        conclude(Admission::Allow, &k, from).unwrap_or(from)
    }

    /// `getpeername`.
    pub fn peer(&self) -> Result<SocketAddr, Errno> {
        self.named(self.peer.get().ok_or(Errno::NotConnected)?)
    }

    fn named(&self, peer: SocketAddr) -> Result<SocketAddr, Errno> {
        let k = self.call(peer);
        if peer.is_ipv4() {
            hook::named4(&k)
        } else {
            hook::named6(&k)
        }
        conclude(Admission::Allow, &k, peer)
    }

    /// `close`, also after an attempt to connect that failed.
    pub fn close(self) {
        let Some(asked) = self.asked.get() else { return };
        let k = self.call(asked);
        if asked.is_ipv4() {
            hook::close4(&k);
        } else {
            hook::close6(&k);
        }
    }
}

/// The address as the program has left it.
fn conclude(admission: Admission, k: &Context<'_>, before: SocketAddr) -> Result<SocketAddr, Errno> {
    let call = k.call.get();
    let address = match before {
        SocketAddr::V4(_) => IpAddr::V4(call.address4.into()),
        SocketAddr::V6(_) => IpAddr::V6(call.address6.into()),
    };
    match admission {
        Admission::Allow => Ok(SocketAddr::new(address, call.port.get())),
        Admission::Refuse => Err(Errno::Refused),
        Admission::Forbid => Err(Errno::NotPermitted),
    }
}

impl Context<'_> {
    fn change(&self, change: impl FnOnce(&mut Call)) {
        let mut call = self.call.get();
        change(&mut call);
        self.call.set(call);
    }
}

impl Id for Context<'_> {
    fn cookie(&self) -> u64 {
        self.call.get().cookie
    }
}

impl SocketCall for Context<'_> {
    fn protocol(&self) -> u8 {
        self.call.get().protocol
    }

    fn netns(&self) -> u64 {
        self.call.get().netns
    }

    fn port(&self) -> Be16 {
        self.call.get().port
    }

    fn set_port(&self, port: Be16) {
        self.change(|call| call.port = port);
    }

    fn address4(&self) -> Ip4 {
        self.call.get().address4
    }

    fn set_address4(&self, address: Ip4) {
        self.change(|call| call.address4 = address);
    }

    fn address6(&self) -> Ip6 {
        self.call.get().address6
    }

    fn set_address6(&self, address: Ip6) {
        self.change(|call| call.address6 = address);
    }

    fn is_connected(&self) -> bool {
        self.call.get().connected
    }
}

impl<F: HasTables> Sockets<F> for Context<'_> {
    fn lead(&self, cookie: u64) -> Option<F::SocketLead> {
        F::tables(self.node).socket.borrow().get(&cookie.to_ne_bytes()).copied()
    }

    fn set_lead(&self, cookie: u64, lead: &F::SocketLead) {
        let _ = F::tables(self.node).socket.borrow_mut().insert(&cookie.to_ne_bytes(), *lead, true);
    }

    fn forget_lead(&self, cookie: u64) {
        F::tables(self.node).socket.borrow_mut().remove(&cookie.to_ne_bytes());
    }

    fn message(&self, key: &F::SocketKey) -> Option<F::SocketPeer> {
        F::tables(self.node).message.borrow_mut().get_mut(key.as_bytes()).copied()
    }

    fn set_message(&self, key: &F::SocketKey, peer: &F::SocketPeer) {
        let _ = F::tables(self.node).message.borrow_mut().insert(key.as_bytes(), *peer, true);
    }
}

impl<F: HasTables> Refusals<F> for Context<'_> {
    fn refused(&self, reason: DropReason, _: Place<F::Addr>, _: u32) {
        self.node.count(&CounterKey { ifindex: 0, hook: Hook::Socket as u16, reason: reason as u16 }, 0);
    }
}
