//! A socket's peer is told: `getpeername`, and the sender of a message that `recvmsg` gives.

use crate::family::{V4, V6};
use crate::kernel::{SocketCall, Sockets};
use crate::stage::socket;
use crate::tuple::Place;
use tortie_wire::{Ip4, Ip6};

/// `getpeername` with an IPv4 peer.
#[inline(always)]
pub fn named4<K: SocketCall + Sockets<V4>>(k: &K) {
    tell4(k, socket::name::<V4, K>);
}

/// `getpeername` with an IPv6 peer, which may be an IPv4 one in its clothes.
#[inline(always)]
pub fn named6<K: SocketCall + Sockets<V4> + Sockets<V6>>(k: &K) {
    tell6(k, socket::name::<V4, K>, socket::name::<V6, K>);
}

/// `recvmsg` with an IPv4 sender.
#[inline(always)]
pub fn sender4<K: SocketCall + Sockets<V4>>(k: &K) {
    tell4(k, socket::sender::<V4, K>);
}

/// `recvmsg` with an IPv6 sender, which may be an IPv4 one in its clothes.
#[inline(always)]
pub fn sender6<K: SocketCall + Sockets<V4> + Sockets<V6>>(k: &K) {
    tell6(k, socket::sender::<V4, K>, socket::sender::<V6, K>);
}

#[inline(always)]
fn tell4<K: SocketCall>(k: &K, name: impl FnOnce(&K, Place<Ip4>) -> Option<Place<Ip4>>) {
    if let Some((address, port)) = name(k, (k.address4(), k.port())) {
        k.set_address4(address);
        k.set_port(port);
    }
}

#[inline(always)]
fn tell6<K: SocketCall>(
    k: &K,
    name4: impl FnOnce(&K, Place<Ip4>) -> Option<Place<Ip4>>,
    name6: impl FnOnce(&K, Place<Ip6>) -> Option<Place<Ip6>>,
) {
    let (address, port) = (k.address6(), k.port());
    let name = match address.as_v4_mapped() {
        Some(mapped) => name4(k, (mapped, port)).map(|(address, port)| (Ip6::v4_mapped(address), port)),
        None => name6(k, (address, port)),
    };
    if let Some((address, port)) = name {
        k.set_address6(address);
        k.set_port(port);
    }
}
