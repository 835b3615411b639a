//! Services.
//!
//! Owns: their conversion and checks, and which are not ours to serve. Does not: know endpoints.
//! Invariant: a Service of the model has one or two cluster addresses, of different families, or serves nothing.

use super::policy::transport;
use super::{Reading, metadata_of, object};
use crate::check;
use crate::fault::{Fault, Wrong, invalid};
use crate::resource::Resource;
use ipnet::IpNet;
use k8s_openapi::api::core::v1 as wire;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use tortie_model::namespace::Labels;
use tortie_model::service::{Service, ServicePort, ServiceType, TrafficPolicy};
use tortie_model::{Change, Object, ServiceId};

invalid! {
    /// Why a Service is refused.
    InvalidService {
        /// An annotation.
        Annotation { key: String } => "metadata.annotations[{key}]",
        /// `spec`.
        Spec {} => "spec",
        /// `spec.type`.
        Type {} => "spec.type",
        /// `spec.clusterIP`.
        ClusterIp {} => "spec.clusterIP",
        /// One of `spec.clusterIPs`.
        ClusterIps { index: usize } => "spec.clusterIPs[{index}]",
        /// One of `spec.ipFamilies`.
        IpFamilies { index: usize } => "spec.ipFamilies[{index}]",
        /// `spec.ipFamilyPolicy`.
        IpFamilyPolicy {} => "spec.ipFamilyPolicy",
        /// One of `spec.externalIPs`.
        ExternalIps { index: usize } => "spec.externalIPs[{index}]",
        /// One of the load balancer's addresses.
        Ingress { index: usize } => "status.loadBalancer.ingress[{index}].ip",
        /// Whether packets to it reach the nodes unchanged.
        IngressMode { index: usize } => "status.loadBalancer.ingress[{index}].ipMode",
        /// One of `spec.loadBalancerSourceRanges`.
        SourceRange { index: usize } => "spec.loadBalancerSourceRanges[{index}]",
        /// `spec.healthCheckNodePort`.
        HealthCheckNodePort {} => "spec.healthCheckNodePort",
        /// `spec.ports`.
        Ports {} => "spec.ports",
        /// A port's name.
        PortName { port: usize } => "spec.ports[{port}].name",
        /// A port's protocol.
        Protocol { port: usize } => "spec.ports[{port}].protocol",
        /// A port's number.
        Port { port: usize } => "spec.ports[{port}].port",
        /// A port's `nodePort`.
        NodePort { port: usize } => "spec.ports[{port}].nodePort",
        /// A port's `targetPort`.
        TargetPort { port: usize } => "spec.ports[{port}].targetPort",
        /// `spec.sessionAffinity`.
        SessionAffinity {} => "spec.sessionAffinity",
        /// The affinity's time-out.
        AffinityTimeout {} => "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
        /// `spec.internalTrafficPolicy`.
        InternalTrafficPolicy {} => "spec.internalTrafficPolicy",
        /// `spec.externalTrafficPolicy`.
        ExternalTrafficPolicy {} => "spec.externalTrafficPolicy",
    }
}

/// Reads a Service. Headless ones, names of other hosts, and those of another proxy serve nothing here.
pub fn read(resource: &Resource, service: wire::Service) -> Result<Reading, Fault> {
    let wire::Service { metadata, spec, status } = service;
    let (maglev, mut notes) = is_by_hash(metadata.annotations.as_ref());
    let untranslated = is_excluded(metadata.annotations.as_ref());
    let labels = metadata_of(resource, metadata, check::label)?;
    let spec = spec.ok_or(InvalidService::Spec { wrong: Wrong::Missing { expected: "ports" } })?;
    let ingress_ips = ingress_addresses(status, &mut notes)?;
    let ours = read_spec(spec, &mut notes)?.filter(|_| !is_foreign(&labels));
    let created = resource.created().unwrap_or(0);
    let complete = |service| Service { created, maglev, untranslated, ..with_ingress(service, ingress_ips) };
    let value = Some(Arc::new(ours.map(complete).unwrap_or_default()));
    let key = ServiceId::new(resource.key.namespace.as_str(), resource.key.name.as_str());
    Ok(Reading { notes, ..object(Object::Service(Change { key, value })) })
}

/// How clients outside are spread over the back ends, by our own name and by Calico's.
const STRATEGIES: [&str; 2] =
    ["tortie.dev/external-traffic-strategy", "lb.projectcalico.org/external-traffic-strategy"];

/// Whether clients outside are led by a consistent-hash table. A strategy that nobody knows is no reason not to serve.
fn is_by_hash(annotations: Option<&BTreeMap<String, String>>) -> (bool, Vec<Fault>) {
    let given = |key| annotations.and_then(|all| all.get(key)).map(|value| (key, value));
    let Some((key, value)) = STRATEGIES.into_iter().find_map(given) else { return (false, Vec::new()) };
    match check::word(value, &["maglev"], &[true]) {
        Ok(maglev) => (maglev, Vec::new()),
        Err(wrong) => (false, vec![InvalidService::Annotation { key: key.into(), wrong }.into()]),
    }
}

/// Whose addresses are not translated, by our own name and by Calico's.
const EXCLUDES: [&str; 2] = ["tortie.dev/nat-exclude-service", "projectcalico.org/natExcludeService"];

fn is_excluded(annotations: Option<&BTreeMap<String, String>>) -> bool {
    let given = |key| annotations.and_then(|all| all.get(key));
    EXCLUDES.into_iter().find_map(given).is_some_and(|value| value == "true")
}

/// A label that takes Services and EndpointSlices away from this proxy.
pub(super) fn is_foreign(labels: &Labels) -> bool {
    labels.contains_key("service.kubernetes.io/service-proxy-name")
        || labels.contains_key("service.kubernetes.io/headless")
}

fn read_spec(spec: wire::ServiceSpec, notes: &mut Vec<Fault>) -> Result<Option<Service>, InvalidService> {
    let wire::ServiceSpec {
        cluster_ip,
        cluster_ips,
        external_ips,
        external_traffic_policy,
        internal_traffic_policy,
        ip_families,
        ip_family_policy,
        ports,
        publish_not_ready_addresses,
        session_affinity,
        session_affinity_config,
        type_,
        allocate_load_balancer_node_ports: _,
        external_name: _,
        health_check_node_port,
        load_balancer_class: _,
        load_balancer_ip: _,
        load_balancer_source_ranges,
        selector: _,
        traffic_distribution: _,
    } = spec;
    let Some(service_type) = service_type(type_.as_deref())? else { return Ok(None) };
    let headless = cluster_ip.as_deref() == Some("None")
        || cluster_ips.as_ref().is_some_and(|ips| ips.iter().any(|ip| ip == "None"));
    let ports = super::ports::read(ports.unwrap_or_default(), headless)?;
    check_policy(ip_family_policy.as_deref())?;
    let affinity_seconds = affinity(session_affinity.as_deref(), session_affinity_config)?;
    let internal_traffic_policy = traffic(internal_traffic_policy.as_deref())
        .map_err(|wrong| InvalidService::InternalTrafficPolicy { wrong })?;
    let external_traffic_policy = traffic(external_traffic_policy.as_deref())
        .map_err(|wrong| InvalidService::ExternalTrafficPolicy { wrong })?;
    let mut external = Vec::new();
    for (index, text) in external_ips.unwrap_or_default().iter().enumerate() {
        let invalid = |wrong| InvalidService::ExternalIps { index, wrong };
        external.extend(outside(text, invalid, notes)?.filter(|address| !external.contains(address)));
    }
    let health_check_port = match health_check_node_port.unwrap_or(0) {
        0 => None,
        port => {
            let port = check::port(port.into());
            Some(port.map_err(|wrong| InvalidService::HealthCheckNodePort { wrong })?)
        }
    };
    // Only then does a load balancer need to know where endpoints are.
    let asked = service_type == ServiceType::LoadBalancer && external_traffic_policy == TrafficPolicy::Local;
    let health_check_port = health_check_port.filter(|_| asked);
    let source_ranges = source_ranges(&load_balancer_source_ranges.unwrap_or_default())?;
    if headless {
        return Ok(None);
    }
    let cluster_ips = cluster_addresses(cluster_ip, cluster_ips)?;
    check_families(&ip_families.unwrap_or_default(), &cluster_ips)?;
    // No address yet, as on a server before it has given one: nothing to serve.
    Ok((!cluster_ips.is_empty()).then_some(Service {
        created: 0,
        service_type,
        cluster_ips,
        external_ips: external,
        ingress_ips: Vec::new(),
        source_ranges,
        ports,
        affinity_seconds,
        internal_traffic_policy,
        external_traffic_policy,
        health_check_port,
        maglev: false,
        untranslated: false,
        publish_not_ready: publish_not_ready_addresses.unwrap_or(false),
    }))
}

/// An address that clients outside use. The API server takes some that nobody can send to: such a one is left out, and the
/// rest of the Service counts.
fn outside(
    text: &str,
    invalid: impl Fn(Wrong) -> InvalidService,
    notes: &mut Vec<Fault>,
) -> Result<Option<IpAddr>, InvalidService> {
    match check::reachable_address(text) {
        Ok(address) => Ok(Some(address)),
        Err(wrong @ Wrong::UselessAddress { .. }) => {
            notes.push(invalid(wrong).into());
            Ok(None)
        }
        Err(wrong) => Err(invalid(wrong)),
    }
}

/// The API server lets blanks around them pass.
fn source_ranges(texts: &[String]) -> Result<Vec<IpNet>, InvalidService> {
    let read = |(index, text): (usize, &String)| {
        check::cidr(text.trim()).map_err(|wrong| InvalidService::SourceRange { index, wrong })
    };
    texts.iter().enumerate().map(read).collect()
}

/// Addresses whose packets reach the nodes as the client sent them. Of one with `ipMode: Proxy` they do not: clients
/// in the cluster go to the load balancer like all others.
fn ingress_addresses(
    status: Option<wire::ServiceStatus>,
    notes: &mut Vec<Fault>,
) -> Result<Vec<IpAddr>, InvalidService> {
    let wire::ServiceStatus { conditions: _, load_balancer } = status.unwrap_or_default();
    let entries = load_balancer.and_then(|it| it.ingress).unwrap_or_default();
    let mut read = Vec::new();
    for (index, wire::LoadBalancerIngress { ip, ip_mode, hostname: _, ports: _ }) in
        entries.into_iter().enumerate()
    {
        let Some(text) = ip.filter(|text| !text.is_empty()) else { continue };
        let vip = check::word(ip_mode.as_deref().unwrap_or("VIP"), &["VIP", "Proxy"], &[true, false])
            .map_err(|wrong| InvalidService::IngressMode { index, wrong })?;
        let address = outside(&text, |wrong| InvalidService::Ingress { index, wrong }, notes)?;
        read.extend(address.filter(|address| vip && !read.contains(address)));
    }
    Ok(read)
}

/// Only a Service of type LoadBalancer has such addresses, whatever its status still says.
fn with_ingress(service: Service, ingress_ips: Vec<IpAddr>) -> Service {
    match service.service_type {
        ServiceType::LoadBalancer => Service { ingress_ips, ..service },
        ServiceType::ClusterIp | ServiceType::NodePort => service,
    }
}

fn service_type(text: Option<&str>) -> Result<Option<ServiceType>, InvalidService> {
    const TYPES: &[&str] = &["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"];
    let meanings =
        [Some(ServiceType::ClusterIp), Some(ServiceType::NodePort), Some(ServiceType::LoadBalancer), None];
    check::word(text.unwrap_or("ClusterIP"), TYPES, &meanings).map_err(|wrong| InvalidService::Type { wrong })
}

fn check_policy(text: Option<&str>) -> Result<(), InvalidService> {
    const POLICIES: &[&str] = &["SingleStack", "PreferDualStack", "RequireDualStack"];
    let Some(text) = text else { return Ok(()) };
    check::word(text, POLICIES, &[(); 3]).map_err(|wrong| InvalidService::IpFamilyPolicy { wrong })
}

fn affinity(
    text: Option<&str>,
    config: Option<wire::SessionAffinityConfig>,
) -> Result<Option<u32>, InvalidService> {
    let sticky = check::word(text.unwrap_or("None"), &["None", "ClientIP"], &[false, true])
        .map_err(|wrong| InvalidService::SessionAffinity { wrong })?;
    let wire::SessionAffinityConfig { client_ip } = config.unwrap_or_default();
    let wire::ClientIPConfig { timeout_seconds } = client_ip.unwrap_or_default();
    let seconds = timeout_seconds.unwrap_or(10_800);
    if !(1..=86_400).contains(&seconds) {
        let wrong = Wrong::OutOfRange { value: seconds.into(), least: 1, most: 86_400 };
        return Err(InvalidService::AffinityTimeout { wrong });
    }
    Ok(sticky.then_some(seconds.unsigned_abs()))
}

fn traffic(text: Option<&str>) -> Result<TrafficPolicy, Wrong> {
    let text = text.filter(|text| !text.is_empty()).unwrap_or("Cluster");
    check::word(text, &["Cluster", "Local"], &[TrafficPolicy::Cluster, TrafficPolicy::Local])
}

fn addresses(
    texts: &[String],
    invalid: impl Fn(usize, Wrong) -> InvalidService,
) -> Result<Vec<IpAddr>, InvalidService> {
    let mut read: Vec<IpAddr> = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let address = check::reachable_address(text).map_err(|wrong| invalid(index, wrong))?;
        if !read.contains(&address) {
            read.push(address);
        }
    }
    Ok(read)
}

fn cluster_addresses(one: Option<String>, many: Option<Vec<String>>) -> Result<Vec<IpAddr>, InvalidService> {
    let many = many.unwrap_or_default();
    let one = one.filter(|text| !text.is_empty());
    if many.is_empty() {
        let read = |text: String| {
            check::reachable_address(&text).map_err(|wrong| InvalidService::ClusterIp { wrong })
        };
        return one.map(read).into_iter().collect();
    }
    let read = addresses(&many, |index, wrong| InvalidService::ClusterIps { index, wrong })?;
    if one.is_some() && one.as_ref() != many.first() {
        let wrong = Wrong::Conflict { why: "differs from clusterIPs[0]", fix: "give both the same address" };
        return Err(InvalidService::ClusterIp { wrong });
    }
    match *read.as_slice() {
        [] | [_] => Ok(read),
        [first, second] if first.is_ipv4() != second.is_ipv4() => Ok(read),
        _ => {
            let why = "more than one address of a family";
            let wrong = Wrong::Conflict { why, fix: "give at most one of each family" };
            Err(InvalidService::ClusterIps { index: 1, wrong })
        }
    }
}

fn check_families(families: &[String], addresses: &[IpAddr]) -> Result<(), InvalidService> {
    for (index, text) in families.iter().enumerate() {
        let invalid = |wrong| InvalidService::IpFamilies { index, wrong };
        let v6 = check::word(text, &["IPv4", "IPv6"], &[false, true]).map_err(invalid)?;
        if families.iter().take(index).any(|other| other == text) {
            return Err(invalid(Wrong::Duplicate { first: "spec.ipFamilies[0]".into() }));
        }
        if addresses.get(index).is_some_and(|address| address.is_ipv6() != v6) {
            let why = "the cluster address of this place is of the other family";
            return Err(invalid(Wrong::Conflict { why, fix: "give ipFamilies in the order of clusterIPs" }));
        }
    }
    Ok(())
}

/// Protocol, for [`super::ports`].
pub(super) fn protocol(
    text: Option<&str>,
    port: usize,
) -> Result<tortie_model::workload::Transport, InvalidService> {
    transport(text).map_err(|wrong| InvalidService::Protocol { port, wrong })
}

/// A port of the model, for [`super::ports`].
pub(super) type Port = ServicePort;
