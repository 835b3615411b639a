//! Wire objects to our nouns.
//!
//! Owns: which conversion reads which kind, and what all kinds share (names, labels, selectors).
//! Does not: know files or servers. Invariant: a conversion names every field of the wire type it reads, so
//! that a new one is a decision.

pub mod node;
pub mod pod;
pub mod policy;
pub mod pool;
mod ports;
pub mod ranges;
pub mod selector;
pub mod service;
pub mod slice;

use crate::check;
use crate::fault::{Fault, Wrong, invalid};
use crate::kind::{KINDS, Role};
use crate::resource::Resource;
use crate::settings::Layer;
use crate::strict;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::DeserializeOwned;
use tortie_model::namespace::{Labels, Namespace};
use tortie_model::{Change, NamespaceName, Object};

/// What an object means to us.
#[derive(Clone, Debug, PartialEq)]
pub enum Noun {
    /// An object of the model; its value may be `None`: there is such an object, and it means nothing.
    Object(Object),
    /// A FelixConfiguration.
    Settings(Layer),
    /// Kept only.
    Kept,
}

/// An object that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// What it means.
    pub noun: Noun,
    /// What of it is kept but not acted on.
    pub notes: Vec<Fault>,
}

invalid! {
    /// Why an object's metadata is refused.
    InvalidMetadata {
        /// `metadata.name`.
        Name {} => "metadata.name",
        /// `metadata.namespace`.
        Namespace {} => "metadata.namespace",
        /// A key of `metadata.labels`.
        LabelKey { key: String } => "metadata.labels[{key}]",
        /// A value of `metadata.labels`.
        LabelValue { key: String } => "metadata.labels[{key}]",
        /// A key of `metadata.annotations`.
        AnnotationKey { key: String } => "metadata.annotations[{key}]",
    }
}

/// Reads and checks an object of any kind.
pub fn read(resource: &Resource) -> Result<Reading, Vec<Fault>> {
    let one = |result: Result<Reading, Fault>| result.map_err(|fault| vec![fault]);
    match resource.role() {
        Role::Namespace => namespace(resource),
        Role::Pod => one(pod::read(resource, typed(resource)?)),
        Role::Node => one(node::read(resource, typed(resource)?)),
        Role::Service => one(service::read(resource, typed(resource)?)),
        Role::EndpointSlice => one(slice::read(resource, typed(resource)?)),
        Role::NetworkPolicy => one(policy::read(resource, typed(resource)?)),
        Role::IpPool => one(pool::read(resource, typed(resource)?)),
        Role::ServiceCidr => ranges::read_cidr(resource),
        Role::BgpConfiguration => ranges::read_bgp(resource),
        Role::FelixConfiguration => crate::settings::felix::read(resource),
        Role::Kept => kept(resource),
    }
}

/// What holds of an object that is refused while no version of it was good, if not nothing.
pub fn meanwhile(resource: &Resource) -> Option<Noun> {
    match resource.role() {
        Role::NetworkPolicy => policy::meanwhile(resource, typed(resource).ok()?).map(Noun::Object),
        _ => None,
    }
}

fn typed<T: DeserializeOwned>(resource: &Resource) -> Result<T, Vec<Fault>> {
    strict::read("", &resource.value)
}

fn namespace(resource: &Resource) -> Result<Reading, Vec<Fault>> {
    let core::Namespace { metadata, spec: _, status: _ } = typed(resource)?;
    let mut labels = metadata_of(resource, metadata, check::label).map_err(|e| vec![e.into()])?;
    labels.insert("kubernetes.io/metadata.name".into(), resource.key.name.clone());
    let key = NamespaceName::new(resource.key.name.as_str());
    Ok(object(Object::Namespace(Change { key, value: Some(Namespace { labels }) })))
}

fn kept(resource: &Resource) -> Result<Reading, Vec<Fault>> {
    check_metadata(resource, if resource.kind.is_some() { check::subdomain } else { any_name })?;
    let quiet = resource.kind.is_some_and(|kind| matches!(kind.kind, "ServiceAccount" | "ConfigMap"));
    let (problem, fix) = match resource.kind {
        Some(_) => ("this kind is kept, but this version does not enforce it".into(), NOT_RELIED_ON.into()),
        None => unknown_kind(resource),
    };
    let note = Fault { field: String::new(), problem, fix };
    Ok(Reading { noun: Noun::Kept, notes: if quiet { Vec::new() } else { vec![note] } })
}

const NOT_RELIED_ON: &str = "do not rely on it, or remove it";

fn unknown_kind(resource: &Resource) -> (String, String) {
    let (kind, group) = (&resource.key.kind, group(resource));
    let names: Vec<_> = KINDS.iter().filter(|it| it.group == resource.key.group).map(|it| it.kind).collect();
    let fix = match strict::closest(kind, &names) {
        Some(like) => format!("did you mean {like}?"),
        None => NOT_RELIED_ON.into(),
    };
    (format!("kind {kind} of {group} is unknown; it is kept, not enforced"), fix)
}

fn group(resource: &Resource) -> &str {
    if resource.key.group.is_empty() { "v1" } else { &resource.key.group }
}

fn any_name(_: &str) -> Result<(), Wrong> {
    Ok(())
}

pub(crate) fn object(object: Object) -> Reading {
    Reading { noun: Noun::Object(object), notes: Vec::new() }
}

/// The same checks for an object that is not read as a whole.
pub(crate) fn check_metadata(
    resource: &Resource,
    name_rule: fn(&str) -> Result<(), Wrong>,
) -> Result<(), Vec<Fault>> {
    let metadata: ObjectMeta = strict::read("metadata", resource.value.get("metadata").unwrap_or_default())?;
    metadata_of(resource, metadata, name_rule).map(drop).map_err(|e| vec![e.into()])
}

/// Checks names, labels and annotation keys; gives the labels.
pub(crate) fn metadata_of(
    resource: &Resource,
    metadata: ObjectMeta,
    name_rule: fn(&str) -> Result<(), Wrong>,
) -> Result<Labels, InvalidMetadata> {
    name_rule(&resource.key.name).map_err(|wrong| InvalidMetadata::Name { wrong })?;
    if !resource.key.namespace.is_empty() {
        check::label(&resource.key.namespace).map_err(|wrong| InvalidMetadata::Namespace { wrong })?;
    }
    let labels: Labels = metadata.labels.into_iter().flatten().collect();
    for (key, value) in &labels {
        check::label_key(key).map_err(|wrong| InvalidMetadata::LabelKey { key: key.clone(), wrong })?;
        check::label_value(value).map_err(|wrong| InvalidMetadata::LabelValue { key: key.clone(), wrong })?;
    }
    for key in metadata.annotations.unwrap_or_default().keys() {
        check::label_key(&key.to_lowercase())
            .map_err(|wrong| InvalidMetadata::AnnotationKey { key: key.clone(), wrong })?;
    }
    Ok(labels)
}
