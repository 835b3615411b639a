//! Ranges that Services have their addresses from: ServiceCIDR of Kubernetes, BGPConfiguration of Calico.
//!
//! Owns: their conversion and checks. Does not: give out or announce addresses.
//! Invariant: of a BGPConfiguration only what is about Services means something; the rest is kept.

use super::{Noun, Reading, check_metadata, metadata_of, object};
use crate::check;
use crate::fault::{Fault, Wrong, invalid};
use crate::resource::Resource;
use crate::strict;
use ipnet::IpNet;
use k8s_openapi::Resource as _;
use k8s_openapi::api::networking::v1 as wire;
use serde::Deserialize;
use tortie_model::{Change, Object, RangesId};

invalid! {
    /// Why ranges of Services are refused.
    InvalidRanges {
        /// One of a ServiceCIDR's.
        Cidrs { index: usize } => "spec.cidrs[{index}]",
        /// One of a BGPConfiguration's.
        Announced { list: &'static str, index: usize } => "spec.{list}[{index}].cidr",
    }
}

/// Reads a ServiceCIDR. One that is being deleted gives out nothing new; what it gave out is there until it is gone.
pub fn read_cidr(resource: &Resource) -> Result<Reading, Vec<Fault>> {
    // The two versions differ in name alone.
    let mut value = resource.value.clone();
    value["apiVersion"] = wire::ServiceCIDR::API_VERSION.into();
    let wire::ServiceCIDR { metadata, spec, status: _ } = strict::read("", &value)?;
    metadata_of(resource, metadata, check::subdomain).map_err(|e| vec![e.into()])?;
    let wire::ServiceCIDRSpec { cidrs } = spec.unwrap_or_default();
    let read = |(index, text): (usize, &String)| {
        check::cidr(text).map_err(|wrong| vec![InvalidRanges::Cidrs { index, wrong }.into()])
    };
    let nets =
        cidrs.unwrap_or_default().iter().enumerate().map(read).collect::<Result<Vec<_>, Vec<Fault>>>()?;
    Ok(object(ranges(RangesId::ServiceCidr(resource.key.name.as_str().into()), nets)))
}

/// One block of addresses.
#[derive(Debug, Deserialize)]
struct Block {
    #[serde(default)]
    cidr: Option<String>,
}

const LISTS: [&str; 3] = ["serviceClusterIPs", "serviceExternalIPs", "serviceLoadBalancerIPs"];

/// Reads a BGPConfiguration. As in Calico the ranges are those of the one called `default`.
pub fn read_bgp(resource: &Resource) -> Result<Reading, Vec<Fault>> {
    check_metadata(resource, check::subdomain)?;
    let mut nets = Vec::new();
    for list in LISTS {
        nets.extend(announced(resource, list)?);
    }
    let name = resource.key.name.as_str();
    let nets = if name == "default" { nets } else { Vec::new() };
    let note = Fault {
        field: String::new(),
        problem: "of this kind only the ranges of Services in default count; this version speaks no BGP"
            .into(),
        fix: "do not rely on the rest of it".into(),
    };
    let noun = Noun::Object(ranges(RangesId::BgpConfiguration(name.into()), nets));
    Ok(Reading { noun, notes: vec![note] })
}

fn announced(resource: &Resource, list: &'static str) -> Result<Vec<IpNet>, Vec<Fault>> {
    let Some(value) = resource.value.get("spec").and_then(|spec| spec.get(list)) else {
        return Ok(Vec::new());
    };
    let blocks: Option<Vec<Block>> = strict::read(&format!("spec.{list}"), value)?;
    let read = |(index, Block { cidr }): (usize, Block)| {
        let invalid = |wrong| vec![InvalidRanges::Announced { list, index, wrong }.into()];
        let text = cidr.ok_or_else(|| invalid(Wrong::Missing { expected: "a CIDR" }))?;
        check::cidr(&text).map_err(invalid)
    };
    blocks.unwrap_or_default().into_iter().enumerate().map(read).collect()
}

fn ranges(key: RangesId, mut nets: Vec<IpNet>) -> Object {
    nets.sort();
    nets.dedup();
    Object::Ranges(Change { key, value: Some(nets) })
}
