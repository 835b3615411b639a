//! Once in the life of a flow that is answered directly: the other node is told the front end, or the answers leave the
//! tunnel.
//!
//! A program of its own: what every packet needs stays small.

use super::finish;
use crate::family::Family;
use crate::kernel::Kernel;
use crate::stage::{direct as stage, exit};
use crate::state::State;
use crate::verdict::{Next, Step};

/// Goes on where [`Next::Direct`] left off.
#[inline(always)]
pub fn direct<F: Family, K: Kernel<F>>(k: &K, s: &mut State<F>) -> Next {
    let step = settled(k, s);
    finish(s, step)
}

#[inline(always)]
fn settled<F: Family, K: Kernel<F>>(k: &K, s: &mut State<F>) -> Step<Next> {
    stage::settle(k, s)?;
    exit::leave(k, s)
}
