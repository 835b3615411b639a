//! What a cluster does around a data plane: the API server's defaults, scheduler, EndpointSlice controller.
//!
//! Owns: filling in what users leave to the cluster, deterministically.
//! Does not: touch the kernel or the disk; attachments come in, objects go out.
//! Invariant: running it twice changes nothing the second time.

mod defaults;
mod nodes;
mod pods;
mod services;
mod slices;

pub use defaults::{admit, rfc3339};
pub use nodes::{default_pools, describe, felix};
pub use pods::{
    Attachment, PodName, container_ports, grace_seconds, is_host_network, is_ready_by_annotation,
    runs_host_program, schedule, status,
};
pub use slices::expected as expected_slices;

use std::collections::BTreeMap;

use crate::error::Result;
use crate::plan::Plan;
use crate::world::World;

/// Label on the slices that this laboratory keeps.
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// Its value.
pub const MANAGER: &str = "tortie-lab";

/// Brings everything that the cluster derives up to date with what users want and what is attached.
pub fn reconcile(world: &mut World, plan: &Plan, attached: &BTreeMap<PodName, Attachment>) -> Result<()> {
    nodes::reconcile(world, plan);
    pods::report(world, plan, attached);
    services::allocate(world, plan)?;
    slices::reconcile(world);
    Ok(())
}
