//! A socket is connected, and closed.

use crate::family::{V4, V6};
use crate::kernel::{Socket, SocketCall, Sockets};
use crate::stage::socket::{self, Admission, Chooser, Destination};
use tortie_wire::Ip6;

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

/// An IPv4 socket is closed: what is remembered of it can go, wherever an attempt to connect has left it.
#[inline(always)]
pub fn close4<K: Socket + Sockets<V4>>(k: &K) {
    <K as Sockets<V4>>::forget_lead(k, k.cookie());
}

/// An IPv6 socket is closed. It may have been led to an IPv4 address.
#[inline(always)]
pub fn close6<K: Socket + Sockets<V4> + Sockets<V6>>(k: &K) {
    let cookie = k.cookie();
    <K as Sockets<V4>>::forget_lead(k, cookie);
    <K as Sockets<V6>>::forget_lead(k, cookie);
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
