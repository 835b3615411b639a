//! A message of a socket that sends each to an address of its own.

use super::connect::conclude;
use crate::family::{V4, V6};
use crate::stage::socket::{self, Admission, Chooser};

/// To an IPv4 address, also when an IPv6 socket names it: the kernel asks here then.
#[inline(always)]
pub fn sent4<K: Chooser<V4>>(k: &K) -> Admission {
    let destination = socket::sent::<V4, K>(k, (k.address4(), k.port()));
    conclude(k, destination, |address| k.set_address4(address))
}

/// To an IPv6 address.
#[inline(always)]
pub fn sent6<K: Chooser<V6>>(k: &K) -> Admission {
    let destination = socket::sent::<V6, K>(k, (k.address6(), k.port()));
    conclude(k, destination, |address| k.set_address6(address))
}
