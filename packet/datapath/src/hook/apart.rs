//! What few packets need before they leave. Once in the life of a flow that is answered directly, the other node is told
//! the front end, or the answers leave the tunnel; once routes have changed, the way to a client outside is asked for again;
//! the checksum of a translated SCTP packet follows its ports.
//!
//! A program of its own: what every packet needs stays small.

use super::finish;
use crate::family::{Family, FlowEntry as _};
use crate::kernel::Kernel;
use crate::stage::{direct, exit, outside};
use crate::state::State;
use crate::verdict::{Next, Step};

/// Goes on where [`Next::Apart`] left off.
#[inline(always)]
pub fn apart<F: Family, K: Kernel<F>>(k: &K, s: &mut State<F>) -> Next {
    let step = settled(k, s);
    finish(s, step)
}

#[inline(always)]
fn settled<F: Family, K: Kernel<F>>(k: &K, s: &mut State<F>) -> Step<Next> {
    if s.next != 0 {
        return exit::leave_summed(k, s);
    }
    if direct::is_due(s) {
        direct::settle(k, s)?;
    }
    if s.flow.core().target.is_in_doubt() {
        outside::ask_again(k, s);
    }
    exit::leave_settled(k, s)
}
