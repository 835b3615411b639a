//! Frames at a pod's interface that are neither IP nor ARP.

use crate::family::Family;
use crate::kernel::Packet;
use crate::state::State;
use crate::verdict::Next;
use tortie_abi::DropReason;
use tortie_wire::eth::EthHeader;

/// Such a frame, either way: nothing that a pod may send or should get.
#[inline(always)]
pub fn other<F: Family, K: Packet>(k: &K, _state: &mut State<F>) -> Next {
    if k.has_vlan_tag() {
        return Next::drop(DropReason::VlanTag);
    }
    match k.load::<EthHeader>(0) {
        Some(_) => Next::drop(DropReason::UnknownEthertype),
        None => Next::drop(DropReason::FrameTooShort),
    }
}
