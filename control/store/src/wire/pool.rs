//! IPPool of Calico.
//!
//! Owns: its wire type, conversion and checks. Does not: hand out addresses.
//! Invariant: one wire type serves `projectcalico.org/v3` and `crd.projectcalico.org/v1`.

use super::{Noun, Reading, metadata_of};
use crate::check;
use crate::fault::{Fault, Wrong, invalid};
use crate::resource::Resource;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use tortie_model::pool::Pool;
use tortie_model::{Change, Object};

/// An IPPool as written.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IpPool {
    #[serde(default, rename = "apiVersion")]
    _api_version: Option<String>,
    #[serde(default, rename = "kind")]
    _kind: Option<String>,
    #[serde(default)]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Option<IpPoolSpec>,
    #[serde(default, rename = "status")]
    _status: Option<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct IpPoolSpec {
    #[serde(default)]
    cidr: Option<String>,
    #[serde(default)]
    vxlan_mode: Option<String>,
    #[serde(default)]
    ipip_mode: Option<String>,
    #[serde(default)]
    nat_outgoing: Option<bool>,
    #[serde(default)]
    disabled: Option<bool>,
    #[serde(default, rename = "disableBGPExport")]
    _disable_bgp_export: Option<bool>,
    #[serde(default)]
    block_size: Option<i64>,
    #[serde(default)]
    node_selector: Option<String>,
    #[serde(default)]
    namespace_selector: Option<String>,
    #[serde(default)]
    allowed_uses: Option<Vec<String>>,
    #[serde(default)]
    assignment_mode: Option<String>,
}

invalid! {
    /// Why an IPPool is refused.
    InvalidPool {
        /// `spec`.
        Spec {} => "spec",
        /// `spec.cidr`.
        Cidr {} => "spec.cidr",
        /// `spec.vxlanMode`.
        VxlanMode {} => "spec.vxlanMode",
        /// `spec.ipipMode`.
        IpipMode {} => "spec.ipipMode",
        /// `spec.blockSize`.
        BlockSize {} => "spec.blockSize",
        /// One of `spec.allowedUses`.
        AllowedUses { index: usize } => "spec.allowedUses[{index}]",
        /// `spec.assignmentMode`.
        AssignmentMode {} => "spec.assignmentMode",
    }
}

/// Of `spec.allowedUses`: pods.
const WORKLOAD: &str = "Workload";

const MODES: &[&str] = &["Never", "Always", "CrossSubnet"];

/// Reads an IPPool.
pub fn read(resource: &Resource, pool: IpPool) -> Result<Reading, Fault> {
    let IpPool { metadata, spec, _api_version: _, _kind: _, _status: _ } = pool;
    metadata_of(resource, metadata, check::subdomain)?;
    let spec = spec.ok_or(InvalidPool::Spec { wrong: Wrong::Missing { expected: "cidr" } })?;
    let notes = notes(&spec);
    let value = Some(read_spec(spec)?);
    let noun = Noun::Object(Object::Pool(Change { key: resource.key.name.as_str().into(), value }));
    Ok(Reading { noun, notes })
}

fn read_spec(spec: IpPoolSpec) -> Result<Pool, InvalidPool> {
    let IpPoolSpec {
        cidr,
        vxlan_mode,
        ipip_mode,
        nat_outgoing,
        disabled,
        _disable_bgp_export: _,
        block_size,
        node_selector: _,
        namespace_selector: _,
        allowed_uses,
        assignment_mode,
    } = spec;
    let cidr = cidr.ok_or(Wrong::Missing { expected: "a prefix such as 10.244.0.0/16" });
    let cidr =
        cidr.and_then(|text| check::strict_cidr(&text)).map_err(|wrong| InvalidPool::Cidr { wrong })?;
    let vxlan = mode(vxlan_mode.as_deref()).map_err(|wrong| InvalidPool::VxlanMode { wrong })?;
    let ipip = mode(ipip_mode.as_deref()).map_err(|wrong| InvalidPool::IpipMode { wrong })?;
    check_modes(vxlan, ipip, cidr.addr().is_ipv6())?;
    check_block_size(block_size, cidr).map_err(|wrong| InvalidPool::BlockSize { wrong })?;
    let uses = allowed_uses.unwrap_or_default();
    for (index, used) in uses.iter().enumerate() {
        check::word(used, &[WORKLOAD, "Tunnel", "LoadBalancer"], &[(); 3])
            .map_err(|wrong| InvalidPool::AllowedUses { index, wrong })?;
    }
    if let Some(mode) = assignment_mode.filter(|mode| !mode.is_empty()) {
        check::word(&mode, &["Automatic", "Manual"], &[(); 2])
            .map_err(|wrong| InvalidPool::AssignmentMode { wrong })?;
    }
    let for_pods = uses.is_empty() || uses.iter().any(|used| used == WORKLOAD);
    let (nat_outgoing, disabled) = (nat_outgoing.unwrap_or(false), disabled.unwrap_or(false));
    Ok(Pool { cidr, nat_outgoing, for_pods, disabled })
}

/// Whether there is an overlay.
fn mode(text: Option<&str>) -> Result<bool, Wrong> {
    match text {
        None | Some("") => Ok(false),
        Some(text) => check::word(text, MODES, &[false, true, true]),
    }
}

fn check_modes(vxlan: bool, ipip: bool, v6: bool) -> Result<(), InvalidPool> {
    if ipip && v6 {
        let why = "IPIP carries no IPv6";
        return Err(InvalidPool::IpipMode { wrong: Wrong::Conflict { why, fix: "use vxlanMode or Never" } });
    }
    if ipip && vxlan {
        let why = "a pool has one overlay, and vxlanMode is set";
        return Err(InvalidPool::IpipMode {
            wrong: Wrong::Conflict { why, fix: "set one of them to Never" },
        });
    }
    Ok(())
}

fn check_block_size(size: Option<i64>, cidr: ipnet::IpNet) -> Result<(), Wrong> {
    let Some(size) = size.filter(|size| *size != 0) else { return Ok(()) };
    let (least, most) = if cidr.addr().is_ipv6() { (116, 128) } else { (20, 32) };
    if !(least..=most).contains(&size) {
        return Err(Wrong::OutOfRange { value: size, least, most });
    }
    if size < i64::from(cidr.prefix_len()) {
        let why = "a block is larger than the pool";
        return Err(Wrong::Conflict { why, fix: "use at least the prefix length of cidr" });
    }
    Ok(())
}

fn notes(spec: &IpPoolSpec) -> Vec<Fault> {
    let set = |text: &Option<String>| text.as_deref().is_some_and(|t| !matches!(t, "" | "Never" | "all()"));
    let unused = [
        ("spec.vxlanMode", set(&spec.vxlan_mode), "this version builds no overlay"),
        ("spec.ipipMode", set(&spec.ipip_mode), "this version builds no overlay"),
        ("spec.nodeSelector", set(&spec.node_selector), "this version hands out no addresses"),
        ("spec.namespaceSelector", set(&spec.namespace_selector), "this version hands out no addresses"),
    ];
    let note = |(field, _, problem): (&str, bool, &str)| Fault {
        field: field.into(),
        problem: problem.into(),
        fix: "do not rely on it".into(),
    };
    unused.into_iter().filter(|(_, set, _)| *set).map(note).collect()
}
