//! A socket's peer is told: `getpeername`, and the sender of a message that `recvmsg` gives.

use crate::family::{V4, V6};
use crate::kernel::{SocketCall, Sockets};
use crate::stage::socket;
use tortie_wire::Ip6;

/// An IPv4 peer.
#[inline(always)]
pub fn named4<K: SocketCall + Sockets<V4>>(k: &K) {
    if let Some((address, port)) = socket::name::<V4, K>(k, (k.address4(), k.port())) {
        k.set_address4(address);
        k.set_port(port);
    }
}

/// An IPv6 peer, which may be an IPv4 one in its clothes.
#[inline(always)]
pub fn named6<K: SocketCall + Sockets<V4> + Sockets<V6>>(k: &K) {
    let (address, port) = (k.address6(), k.port());
    if let Some(mapped) = address.as_v4_mapped() {
        if let Some((address, port)) = socket::name::<V4, K>(k, (mapped, port)) {
            k.set_address6(Ip6::v4_mapped(address));
            k.set_port(port);
        }
    } else if let Some((address, port)) = socket::name::<V6, K>(k, (address, port)) {
        k.set_address6(address);
        k.set_port(port);
    }
}
