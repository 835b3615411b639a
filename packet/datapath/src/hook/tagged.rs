//! Frames from the network with a tag behind the one that was taken off. Does not: read what is inside.
//!
//! Invariant: nothing reaches the interface itself that its program has not judged. The kernel takes tags without a VLAN off
//! one after the other, most of them after the program.

use super::finish;
use crate::family::Family;
use crate::kernel::Packet;
use crate::state::{IP_OFFSET, State};
use crate::verdict::{Next, Step};
use tortie_abi::DropReason;
use tortie_wire::eth::VlanTag;

/// Such a frame arrives at a data interface.
#[inline(always)]
pub fn tagged<F: Family, K: Packet>(k: &K, s: &mut State<F>) -> Next {
    let step = of_vlan(k);
    finish(s, step)
}

/// A VLAN device's, by either tag.
#[inline(always)]
fn of_vlan<K: Packet>(k: &K) -> Step<Next> {
    let inner: VlanTag = k.load(IP_OFFSET).ok_or(DropReason::FrameTooShort)?;
    if k.vlan() == 0 && inner.id() == 0 { Err(DropReason::VlanTag) } else { Ok(Next::Pass) }
}
