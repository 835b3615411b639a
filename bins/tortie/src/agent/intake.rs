//! What the store says, as it comes in.
//!
//! Owns: what is known before the kernel's parts are opened, and the way of a batch into the calculation.
//! Does not: carry anything out.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use tortie::pod_cidrs::PodCidrs;
use tortie_calc::Calc;
use tortie_model::Object;
use tortie_store::{Batch, Event, Handle, Rejection, Revision};

use super::Options;
use super::node_names::NodeNames;
use super::observe::Observer;
use super::pods::Running;

/// What is known before the kernel's parts are opened.
pub struct Beginning {
    pub calc: Calc,
    pub rejections: BTreeSet<Arc<Rejection>>,
    pub names: NodeNames,
    pub revision: Revision,
    pub node_addresses: Option<Vec<IpAddr>>,
    pub store: Handle,
    pub running: Running,
}

impl Beginning {
    /// Nothing.
    pub fn new(options: &Options, store: Handle) -> Self {
        Self {
            calc: Calc::new(options.node.clone()),
            rejections: BTreeSet::new(),
            names: NodeNames::new(&options.node),
            revision: Revision::default(),
            node_addresses: None,
            store,
            running: Running::default(),
        }
    }
}

/// Counts what the store says, and lets settings that are about the agent itself take effect: they do not wait
/// for the rest.
pub fn count(batch: &Batch, observer: &Observer) {
    for event in &batch.events {
        let Event::Changed(object) = event else { continue };
        observer.live.store_changes.with_label_values(&[kind(object)]).inc();
        if let Object::Node(change) = object
            && change.key.as_str() == observer.vitals.node
        {
            observer.vitals.set_eligible(change.value.as_ref().is_some_and(|node| !node.leaving));
        }
        if let Object::Settings(settings) = object {
            observer.configure(settings);
            crate::logging::set_level(&settings.log_level);
        }
    }
}

pub fn kind(object: &Object) -> &'static str {
    match object {
        Object::Namespace(_) => "namespace",
        Object::Node(_) => "node",
        Object::Workload(_) => "pod",
        Object::Attachment(_) => "attachment",
        Object::Service(_) => "service",
        Object::Slice(_) => "endpointslice",
        Object::NetworkPolicy(_) => "networkpolicy",
        Object::Pool(_) => "ippool",
        Object::Ranges(_) => "ranges",
        Object::OwnAddresses(_) => "addresses",
        Object::Settings(_) => "settings",
    }
}

/// Takes in what the store says; `true`: it is in sync from now on.
pub fn take_in(
    batch: Batch,
    options: &Options,
    calc: &mut Calc,
    rejections: &mut BTreeSet<Arc<Rejection>>,
    names: &mut NodeNames,
    running: &mut Running,
) -> (bool, Option<Vec<IpAddr>>) {
    let (mut in_sync, mut addresses) = (false, None);
    for event in batch.events {
        match event {
            Event::Changed(object) => {
                if let Object::Node(change) = &object {
                    let found = change.value.as_ref().map(|node| node.addresses.clone()).unwrap_or_default();
                    names.set(&change.key, &found);
                    if change.key == options.node {
                        addresses = Some(found);
                        let prefixes = change.value.iter().flat_map(|node| &node.pod_cidrs).copied();
                        publish_pod_cidrs(options, &prefixes.collect::<Vec<_>>());
                    }
                }
                running.heard(&options.node, &object);
                calc.apply(&object);
            }
            Event::Rejected(rejection) => {
                tracing::warn!(%rejection, "not in force");
                rejections.insert(rejection);
            }
            Event::Resolved(rejection) => {
                tracing::info!(%rejection, "resolved");
                rejections.remove(&rejection);
            }
            Event::InSync => in_sync = true,
        }
    }
    if in_sync {
        calc.in_sync();
    }
    (in_sync, addresses)
}

/// The CNI plugin reads them there.
fn publish_pod_cidrs(options: &Options, prefixes: &[ipnet::IpNet]) {
    if let Err(error) = PodCidrs::publish(&options.run_dir, prefixes) {
        tracing::error!(%error, "pod-cidrs.json cannot be written; new pods get no addresses by usePodCidr");
    }
}
