//! Every endpoint of every Service port, used or not, for people.
//!
//! Owns: listing them. Does not: choose. Invariant: what the slices say is passed on as it is.

use super::backends::unfit;
use super::{Record, Services};
use std::net::IpAddr;
use tortie_intent::{Backend, ServicePortId};
use tortie_model::service::{Endpoint, Service, ServicePort, SlicePort};
use tortie_model::{NodeName, ServiceId};

/// One endpoint of one Service port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownEndpoint {
    /// Of which Service port.
    pub id: ServicePortId,
    /// Address.
    pub address: IpAddr,
    /// Port.
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
                let fits = |it: &&SlicePort| it.name == port.name && it.transport == port.transport;
                for number in slice.ports.iter().filter(fits) {
                    let of = |endpoint| self.endpoint(id, service, port, number.port, endpoint);
                    known.extend(slice.endpoints.iter().map(of));
                }
            }
        }
        known
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
        }
    }
}
