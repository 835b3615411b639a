//! Frames at a pod's interface, or out of the tunnel, that are neither IP nor ARP.

use super::finish;
use crate::family::Family;
use crate::kernel::Packet;
use crate::state::State;
use crate::verdict::{Next, Step};
use tortie_abi::DropReason;
use tortie_wire::eth::EthHeader;

/// Such a frame, either way: nothing that a pod may send or should get.
#[inline(always)]
pub fn other<F: Family, K: Packet>(k: &K, s: &mut State<F>) -> Next {
    let step = refused(k);
    finish(s, step)
}

#[inline(always)]
fn refused<K: Packet>(k: &K) -> Step<Next> {
    if k.has_vlan_tag() {
        return Err(DropReason::VlanTag);
    }
    match k.load::<EthHeader>(0) {
        Some(_) => Err(DropReason::UnknownEthertype),
        None => Err(DropReason::FrameTooShort),
    }
}
