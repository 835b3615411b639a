//! A socket is connected, and closed.

use crate::family::{V4, V6};
use crate::kernel::{Socket, SocketCall, Sockets};
use crate::stage::socket::{self, Admission, Chooser, Destination};
use tortie_wire::{Be16, Ip4, Ip6};

/// `connect` with an IPv4 address.
#[inline(always)]
pub fn connect4<K: Chooser<V4>>(k: &K) -> Admission {
    let destination = socket::connected::<V4, K>(k, (k.address4(), k.port()));
    conclude(k, destination, |address| k.set_address4(address))
}

/// `connect` with an IPv6 address, which may be an IPv4 one in its clothes.
#[inline(always)]
pub fn connect6<K: Chooser<V4> + Chooser<V6>>(k: &K) -> Admission {
    let (address, port) = (k.address6(), k.port());
    if let Some(mapped) = address.as_v4_mapped() {
        let destination = socket::connected::<V4, K>(k, (mapped, port));
        return conclude(k, destination, |address| k.set_address6(Ip6::v4_mapped(address)));
    }
    let destination = socket::connected::<V6, K>(k, (address, port));
    conclude(k, destination, |address| k.set_address6(address))
}

/// An IPv4 socket is closed.
#[inline(always)]
pub fn close4<K: Socket + Sockets<V4>>(k: &K, peer: Ip4, port: Be16) {
    // An unconnected socket has no port there.
    if !port.is_zero() {
        socket::forget::<V4, K>(k, (peer, port));
    }
}

/// An IPv6 socket is closed.
#[inline(always)]
pub fn close6<K: Socket + Sockets<V4> + Sockets<V6>>(k: &K, peer: Ip6, port: Be16) {
    if let Some(mapped) = peer.as_v4_mapped() {
        close4(k, mapped, port);
    } else if !port.is_zero() {
        socket::forget::<V6, K>(k, (peer, port));
    }
}

/// Writes the new destination, if there is one.
#[inline(always)]
pub(super) fn conclude<A, K: SocketCall>(
    k: &K,
    destination: Destination<A>,
    set_address: impl FnOnce(A),
) -> Admission {
    match destination {
        Destination::Stays => Admission::Allow,
        Destination::Becomes((address, port)) => {
            set_address(address);
            k.set_port(port);
            Admission::Allow
        }
        Destination::Refused(admission) => admission,
    }
}
