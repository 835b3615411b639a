//! What each hook does, in order. The only functions that see every trait.

mod apart;
mod connect;
mod from_host_device;
mod from_tunnel;
mod from_workload;
mod known;
mod named;
mod open;
mod other;
mod related;
mod reply;
mod resume;
mod sent;
pub mod sweep;
mod tagged;
mod to_host_device;
mod to_workload;

pub use apart::apart;
pub use connect::{close4, close6, connect4, connect6};
pub use from_host_device::from_host_device;
pub use from_tunnel::from_tunnel;
pub use from_workload::from_workload;
pub use named::{named4, named6, sender4, sender6};
pub use open::open;
pub use other::other;
pub use related::related;
pub use reply::reply;
pub use resume::resume;
pub use sent::{sent4, sent6};
pub use tagged::tagged;
pub use to_host_device::to_host_device;
pub use to_workload::to_workload;

use crate::family::Family;
use crate::state::State;
use crate::verdict::{Next, Step};

/// A refused step is a drop.
#[inline(always)]
fn finish<F: Family>(s: &mut State<F>, step: Step<Next>) -> Next {
    match step {
        Ok(next) => next,
        Err(reason) => {
            s.reason = reason as u16;
            Next::Drop
        }
    }
}
