//! Ports of a Service.
//!
//! Owns: their conversion and checks. Does not: join them with endpoints.
//! Invariant: names are given once each, and every number and protocol once.

use super::service::{InvalidService, Port, protocol};
use crate::check;
use crate::fault::Wrong;
use k8s_openapi::api::core::v1 as wire;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// Converts the ports; only a headless Service may have none.
pub(super) fn read(ports: Vec<wire::ServicePort>, headless: bool) -> Result<Vec<Port>, InvalidService> {
    if ports.is_empty() && !headless {
        let wrong = Wrong::Missing { expected: "at least one port" };
        return Err(InvalidService::Ports { wrong });
    }
    let several = ports.len() > 1;
    let mut read: Vec<Port> = Vec::new();
    for (index, port) in ports.into_iter().enumerate() {
        let port = one(index, port, several)?;
        check_unique(index, &port, &read)?;
        read.push(port);
    }
    Ok(read)
}

fn one(index: usize, port: wire::ServicePort, several: bool) -> Result<Port, InvalidService> {
    let wire::ServicePort { name, node_port, port, protocol: text, target_port, app_protocol: _ } = port;
    let name = name.unwrap_or_default();
    if !name.is_empty() {
        check::label(&name).map_err(|wrong| InvalidService::PortName { port: index, wrong })?;
    } else if several {
        let wrong = Wrong::Missing { expected: "a name, since there are several ports" };
        return Err(InvalidService::PortName { port: index, wrong });
    }
    let number = check::port(port.into()).map_err(|wrong| InvalidService::Port { port: index, wrong })?;
    let node_port = match node_port.unwrap_or(0) {
        0 => 0,
        n => check::port(n.into()).map_err(|wrong| InvalidService::NodePort { port: index, wrong })?,
    };
    match target_port {
        None | Some(IntOrString::Int(0)) => {}
        Some(IntOrString::String(text)) if text.is_empty() => {}
        Some(IntOrString::Int(n)) => {
            check::port(n.into()).map_err(|wrong| InvalidService::TargetPort { port: index, wrong })?;
        }
        Some(IntOrString::String(text)) => {
            check::port_name(&text).map_err(|wrong| InvalidService::TargetPort { port: index, wrong })?;
        }
    }
    Ok(Port { name, transport: protocol(text.as_deref(), index)?, port: number, node_port })
}

fn check_unique(index: usize, port: &Port, before: &[Port]) -> Result<(), InvalidService> {
    let same = |test: &dyn Fn(&Port) -> bool| before.iter().position(test);
    if let Some(first) = same(&|other| other.name == port.name) {
        let wrong = Wrong::Duplicate { first: format!("spec.ports[{first}].name") };
        return Err(InvalidService::PortName { port: index, wrong });
    }
    if let Some(first) = same(&|other| other.transport == port.transport && other.port == port.port) {
        let wrong = Wrong::Duplicate { first: format!("spec.ports[{first}].port") };
        return Err(InvalidService::Port { port: index, wrong });
    }
    let node_port = |other: &Port| other.transport == port.transport && other.node_port == port.node_port;
    if let Some(first) = same(&|other| port.node_port != 0 && node_port(other)) {
        let wrong = Wrong::Duplicate { first: format!("spec.ports[{first}].nodePort") };
        return Err(InvalidService::NodePort { port: index, wrong });
    }
    Ok(())
}
