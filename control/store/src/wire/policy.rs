//! NetworkPolicy of Kubernetes.
//!
//! Owns: its conversion and checks, and the defaults of `policyTypes`. Does not: compile it.
//! Invariant: a policy that is refused in part is refused as a whole, since half a policy isolates wrongly; but where no version
//! was ever good, its pods are not left open for it ([`meanwhile`]).

use super::{Reading, metadata_of, object, selector};
use crate::check;
use crate::fault::{Fault, Wrong, invalid};
use crate::resource::Resource;
use k8s_openapi::api::networking::v1 as wire;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::sync::Arc;
use tortie_model::policy::{NetworkPolicy, Peer, Port, PortMatch, Rule};
use tortie_model::selector::Selector;
use tortie_model::workload::Transport;
use tortie_model::{Change, Object, PolicyId};

invalid! {
    /// Why a NetworkPolicy is refused; `at` is the path of the rule, peer or port.
    InvalidNetworkPolicy {
        /// `spec`.
        Spec {} => "spec",
        /// One of `policyTypes`.
        PolicyType { index: usize } => "spec.policyTypes[{index}]",
        /// A peer as a whole.
        Peer { at: String } => "{at}",
        /// `ipBlock` beside selectors.
        IpBlock { at: String } => "{at}.ipBlock",
        /// `ipBlock.cidr`.
        Cidr { at: String } => "{at}.ipBlock.cidr",
        /// One of `ipBlock.except`.
        Except { at: String, index: usize } => "{at}.ipBlock.except[{index}]",
        /// A port's `protocol`.
        Protocol { at: String } => "{at}.protocol",
        /// A port's `port`.
        Port { at: String } => "{at}.port",
        /// A port's `endPort`.
        EndPort { at: String } => "{at}.endPort",
    }
}

/// Reads a NetworkPolicy.
pub fn read(resource: &Resource, policy: wire::NetworkPolicy) -> Result<Reading, Fault> {
    let wire::NetworkPolicy { metadata, spec } = policy;
    metadata_of(resource, metadata, check::subdomain)?;
    let spec =
        spec.ok_or(InvalidNetworkPolicy::Spec { wrong: Wrong::Missing { expected: "podSelector" } })?;
    let value = read_spec(spec)?;
    let key = PolicyId::new(resource.key.namespace.as_str(), resource.key.name.as_str());
    Ok(object(Object::NetworkPolicy(Change { key, value: Some(Arc::new(value)) })))
}

/// What holds of a NetworkPolicy that [`read`] refuses and of which no version was good: it isolates the pods that it selects, and
/// a rule that cannot be read matches nothing, since rules only ever allow. `None`: whom it isolates cannot be read.
pub fn meanwhile(resource: &Resource, policy: wire::NetworkPolicy) -> Option<Object> {
    let value = read_spec_with(policy.spec?, |rules| Ok(rules.filter_map(Result::ok).collect())).ok()?;
    let key = PolicyId::new(resource.key.namespace.as_str(), resource.key.name.as_str());
    Some(Object::NetworkPolicy(Change { key, value: Some(Arc::new(value)) }))
}

fn read_spec(spec: wire::NetworkPolicySpec) -> Result<NetworkPolicy, Fault> {
    read_spec_with(spec, |rules| rules.collect())
}

fn read_spec_with(
    spec: wire::NetworkPolicySpec,
    take: impl Fn(&mut dyn Iterator<Item = Result<Rule, Fault>>) -> Result<Vec<Rule>, Fault>,
) -> Result<NetworkPolicy, Fault> {
    let wire::NetworkPolicySpec { pod_selector, policy_types, ingress, egress } = spec;
    let pods = selector::read("spec.podSelector", pod_selector.unwrap_or_default())?;
    let (isolates_ingress, isolates_egress) = directions(policy_types, egress.as_deref())?;
    let mut ingress = ingress.unwrap_or_default().into_iter().enumerate().map(|(index, rule)| {
        let wire::NetworkPolicyIngressRule { from, ports } = rule;
        read_rule(&format!("spec.ingress[{index}]"), "from", from, ports)
    });
    let ingress = take(&mut ingress)?;
    let mut egress = egress.unwrap_or_default().into_iter().enumerate().map(|(index, rule)| {
        let wire::NetworkPolicyEgressRule { to, ports } = rule;
        read_rule(&format!("spec.egress[{index}]"), "to", to, ports)
    });
    let egress = take(&mut egress)?;
    Ok(NetworkPolicy {
        pods,
        ingress: isolates_ingress.then_some(ingress),
        egress: isolates_egress.then_some(egress),
    })
}

/// Without `policyTypes`: ingress always, egress when there are egress rules.
fn directions(
    types: Option<Vec<String>>,
    egress: Option<&[wire::NetworkPolicyEgressRule]>,
) -> Result<(bool, bool), InvalidNetworkPolicy> {
    let types = types.unwrap_or_default();
    if types.is_empty() {
        return Ok((true, egress.is_some_and(|rules| !rules.is_empty())));
    }
    let mut directions = (false, false);
    for (index, name) in types.iter().enumerate() {
        match name.as_str() {
            "Ingress" => directions.0 = true,
            "Egress" => directions.1 = true,
            other => {
                let wrong = Wrong::NotOneOf { value: other.into(), allowed: &["Ingress", "Egress"] };
                return Err(InvalidNetworkPolicy::PolicyType { index, wrong });
            }
        }
    }
    Ok(directions)
}

fn read_rule(
    at: &str,
    peers_field: &str,
    peers: Option<Vec<wire::NetworkPolicyPeer>>,
    ports: Option<Vec<wire::NetworkPolicyPort>>,
) -> Result<Rule, Fault> {
    let peers = peers.unwrap_or_default().into_iter().enumerate();
    let peers = peers.map(|(index, peer)| read_peer(&format!("{at}.{peers_field}[{index}]"), peer));
    let ports = ports.unwrap_or_default().into_iter().enumerate();
    let ports = ports.map(|(index, port)| read_port(&format!("{at}.ports[{index}]"), port));
    Ok(Rule { peers: peers.collect::<Result<_, _>>()?, ports: ports.collect::<Result<_, _>>()? })
}

fn read_peer(at: &str, peer: wire::NetworkPolicyPeer) -> Result<Peer, Fault> {
    let wire::NetworkPolicyPeer { ip_block, namespace_selector, pod_selector } = peer;
    match (ip_block, namespace_selector, pod_selector) {
        (Some(block), None, None) => Ok(read_block(at, block)?),
        (Some(_), _, _) => {
            let why = "an address block cannot be combined with selectors";
            let wrong = Wrong::Conflict { why, fix: "give the selectors in a peer of their own" };
            Err(InvalidNetworkPolicy::IpBlock { at: at.into(), wrong }.into())
        }
        (None, None, None) => {
            let expected = "podSelector, namespaceSelector or ipBlock; podSelector: {} for every pod";
            Err(InvalidNetworkPolicy::Peer { at: at.into(), wrong: Wrong::Missing { expected } }.into())
        }
        (None, namespaces, pods) => {
            let named = |field: &str, it: LabelSelector| selector::read(&format!("{at}.{field}"), it);
            let namespaces = namespaces.map(|it| named("namespaceSelector", it)).transpose()?;
            let pods = pods.map_or(Ok(Selector::default()), |it| named("podSelector", it))?;
            Ok(Peer::Pods { namespaces, pods })
        }
    }
}

fn read_block(at: &str, block: wire::IPBlock) -> Result<Peer, InvalidNetworkPolicy> {
    let wire::IPBlock { cidr, except } = block;
    let outer = check::cidr(&cidr).map_err(|wrong| InvalidNetworkPolicy::Cidr { at: at.into(), wrong })?;
    let inner = |(index, text): (usize, &String)| {
        let net = check::cidr(text).and_then(|net| {
            let inside = outer.contains(&net) && net.prefix_len() > outer.prefix_len();
            let outside = || Wrong::NotInside { value: text.clone(), outer: outer.to_string() };
            inside.then_some(net).ok_or_else(outside)
        });
        net.map_err(|wrong| InvalidNetworkPolicy::Except { at: at.into(), index, wrong })
    };
    let except = except.unwrap_or_default().iter().enumerate().map(inner).collect::<Result<_, _>>()?;
    Ok(Peer::Block { cidr: outer, except })
}

fn read_port(at: &str, port: wire::NetworkPolicyPort) -> Result<PortMatch, InvalidNetworkPolicy> {
    let wire::NetworkPolicyPort { protocol, port, end_port } = port;
    let transport = transport(protocol.as_deref())
        .map_err(|wrong| InvalidNetworkPolicy::Protocol { at: at.into(), wrong })?;
    let end = |wrong| InvalidNetworkPolicy::EndPort { at: at.into(), wrong };
    let start = |wrong| InvalidNetworkPolicy::Port { at: at.into(), wrong };
    let port = match (port, end_port) {
        (None, None) => Port::Any,
        (None, Some(_)) => {
            let why = "there is no port that the range starts at";
            return Err(end(Wrong::Conflict { why, fix: "give port too, or remove endPort" }));
        }
        (Some(IntOrString::String(name)), None) => {
            check::port_name(&name).map_err(start)?;
            Port::Named(name)
        }
        (Some(IntOrString::String(_)), Some(_)) => {
            let why = "a range cannot start at a named port";
            return Err(end(Wrong::Conflict { why, fix: "give port as a number, or remove endPort" }));
        }
        (Some(IntOrString::Int(first)), last) => range(first, last.unwrap_or(first), start, end)?,
    };
    Ok(PortMatch { transport, port })
}

fn range(
    first: i32,
    last: i32,
    start: impl Fn(Wrong) -> InvalidNetworkPolicy,
    end: impl Fn(Wrong) -> InvalidNetworkPolicy,
) -> Result<Port, InvalidNetworkPolicy> {
    let lowest = check::port(first.into()).map_err(start)?;
    let highest = check::port(last.into()).map_err(&end)?;
    if highest < lowest {
        return Err(end(Wrong::EndBelow { end: last.into(), start: first.into() }));
    }
    Ok(Port::Range { first: lowest, last: highest })
}

/// `protocol`; TCP when absent.
pub(crate) fn transport(protocol: Option<&str>) -> Result<Transport, Wrong> {
    let all = [Transport::Tcp, Transport::Udp, Transport::Sctp];
    check::word(protocol.unwrap_or("TCP"), &["TCP", "UDP", "SCTP"], &all)
}
