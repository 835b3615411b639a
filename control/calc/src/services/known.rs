//! Every endpoint of every Service port, used or not, for people.
//!
//! Owns: listing them. Does not: choose. Invariant: what the slices say is passed on as it is.

use super::backends::unfit;
use super::{Record, Services};
use std::net::IpAddr;
use tortie_intent::{self as intent, Backend, ServicePortId};
use tortie_model::service::{Endpoint, EndpointSlice, Service, ServicePort, ServiceType, SlicePort};
use tortie_model::{NodeName, ServiceId};

/// One endpoint of one Service port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownEndpoint {
    /// Of which Service port.
    pub id: ServicePortId,
    /// Address.
    pub address: IpAddr,
    /// Port; 0: its slice has none that could be meant.
    pub port: u16,
    /// Its node, where its slice says so.
    pub node: Option<NodeName>,
    /// Takes new connections; also where the Service publishes addresses that are not ready.
    pub ready: bool,
    /// Can still serve.
    pub serving: bool,
    /// Is being shut down.
    pub terminating: bool,
    /// On this node.
    pub local: bool,
    /// It has an address that no back end may have.
    pub refused: bool,
    /// The hints of the endpoints lead this node's clients to others.
    pub elsewhere: bool,
    /// Neither its slice nor any other of its family has a port of the Service port's name and protocol; `port` is one that no
    /// Service port has. Slices may be split by port.
    pub misnamed: bool,
}

/// What a Service is to this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownService {
    /// Which.
    pub id: ServiceId,
    /// Its type; `None`: it has no front end here (headless, a name of another host, another proxy's, or without an
    /// address yet).
    pub service_type: Option<ServiceType>,
}

impl Services {
    /// The endpoints of all Services.
    pub(crate) fn known(&self) -> Vec<KnownEndpoint> {
        let mut records: Vec<(&ServiceId, &Record)> = self.records.iter().collect();
        records.sort_unstable_by_key(|(id, _)| *id);
        let of_services = records.into_iter().flat_map(|(id, record)| self.known_of(id, record));
        let of_pods = self.hosted.keys().flat_map(|pod| self.known_of_pod(&ServiceId::of_pod(pod)));
        of_services.chain(of_pods).collect()
    }

    /// A pod is the one back end of each of its ports, and nobody asks whether it is ready.
    fn known_of_pod(&self, pod: &ServiceId) -> Vec<KnownEndpoint> {
        let known = |id: &ServicePortId, backend: &Backend| KnownEndpoint {
            id: ServicePortId::clone(id),
            address: backend.address,
            port: backend.port,
            node: backend.node.clone(),
            ready: true,
            serving: true,
            terminating: false,
            local: backend.local,
            refused: false,
            elsewhere: false,
            misnamed: false,
        };
        let ports = self.records.get(pod).into_iter().flat_map(|record| &record.ports);
        let ports = ports.filter_map(|port| Some((&port.id, port.wanted.as_ref()?)));
        ports.flat_map(|(id, port)| port.backends.iter().map(move |backend| known(id, backend))).collect()
    }

    fn known_of(&self, id: &ServiceId, record: &Record) -> Vec<KnownEndpoint> {
        let mut known = Vec::new();
        let Some(service) = &record.service else { return known };
        for slice in record.slices.values() {
            for port in &service.ports {
                let numbers: Vec<u16> =
                    slice.ports.iter().filter(|it| fits(it, port)).map(|it| it.port).collect();
                let misnamed = numbers.is_empty();
                let numbers = if misnamed { unclaimed(slice, service) } else { numbers };
                let wanted =
                    record.ports.iter().find(|it| is_port(&it.id, port)).and_then(|it| it.wanted.as_deref());
                let told = slice.endpoints.iter().filter(|it| !misnamed || !is_served(record, port, it));
                for endpoint in told {
                    known.extend(numbers.iter().map(|number| {
                        let known = self.endpoint(id, service, port, *number, endpoint);
                        let elsewhere = wanted.is_some_and(|wanted| leads_elsewhere(wanted, &known));
                        KnownEndpoint { misnamed, elsewhere, ..known }
                    }));
                }
            }
        }
        known
    }

    /// All Services.
    pub(crate) fn known_services(&self) -> Vec<KnownService> {
        let known = |(id, record): (&ServiceId, &Record)| {
            let service = record.service.as_ref()?;
            let service_type = (!service.ports.is_empty()).then_some(service.service_type);
            Some(KnownService { id: id.clone(), service_type })
        };
        let mut all: Vec<KnownService> = self.records.iter().filter_map(known).collect();
        all.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        all
    }

    fn endpoint(
        &self,
        service: &ServiceId,
        of: &Service,
        port: &ServicePort,
        number: u16,
        endpoint: &Endpoint,
    ) -> KnownEndpoint {
        let (service, name) = (service.clone(), port.name.clone());
        KnownEndpoint {
            id: ServicePortId { service, port: name, transport: port.transport },
            address: endpoint.address,
            port: number,
            node: endpoint.node.clone(),
            ready: endpoint.ready || of.publish_not_ready,
            serving: endpoint.serving,
            terminating: endpoint.terminating,
            local: endpoint.node.as_ref() == Some(&self.here.node),
            refused: unfit(endpoint.address),
            elsewhere: false,
            misnamed: false,
        }
    }
}

fn fits(it: &SlicePort, port: &ServicePort) -> bool {
    it.name == port.name && it.transport == port.transport
}

/// The numbers that somebody may have meant: those of no Service port; 0: there is none.
fn unclaimed(slice: &EndpointSlice, service: &Service) -> Vec<u16> {
    let nobodys = slice.ports.iter().filter(|it| !service.ports.iter().any(|port| fits(it, port)));
    let numbers: Vec<u16> = nobodys.map(|it| it.port).collect();
    if numbers.is_empty() { vec![0] } else { numbers }
}

/// Whether some slice has the port, and an endpoint of the same family.
fn is_served(record: &Record, port: &ServicePort, endpoint: &Endpoint) -> bool {
    let like = |it: &Endpoint| it.address.is_ipv4() == endpoint.address.is_ipv4();
    let serves = |slice: &EndpointSlice| {
        slice.ports.iter().any(|it| fits(it, port)) && slice.endpoints.iter().any(like)
    };
    record.slices.values().any(|slice| serves(slice))
}

fn is_port(id: &ServicePortId, port: &ServicePort) -> bool {
    id.port == port.name && id.transport == port.transport
}

fn leads_elsewhere(wanted: &intent::ServicePort, known: &KnownEndpoint) -> bool {
    wanted.backends.iter().any(|it| (it.address, it.port, it.near) == (known.address, known.port, false))
}
