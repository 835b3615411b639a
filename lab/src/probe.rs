//! Probes: who can reach whom.
//!
//! Owns: turning names into addresses, and handing many attempts to the servers of the machines at once.
//! Does not: open sockets; the servers do.
//! Invariant: a thousand probes take as long as the slowest few, not as their sum.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::cluster::{Attachment, PodName, container_ports};
use crate::endpoint::Endpoint;
use crate::error::{Error, Result, bad, no};
use crate::lab::{Lab, OUTSIDE};
use crate::netns;
use crate::object::Key;
use crate::plan::{Family, of_family};
use crate::proto::{Attempt, Flood, ProbeResult, Protocol, Request, StreamReport, StreamSpec, Verdict};
use crate::world::World;

/// One probe, as a person asks for it.
#[derive(Debug, Clone)]
pub struct Probe {
    /// A pod, a node or a client.
    pub from: Endpoint,
    /// Anything.
    pub to: Endpoint,
    /// Protocol.
    pub protocol: Protocol,
    /// The destination's first port of that protocol when absent.
    pub port: Option<u16>,
    /// IPv4 where there is IPv4, when absent.
    pub family: Option<Family>,
    /// Any when absent.
    pub source_port: Option<u16>,
    /// For everything.
    pub timeout: Duration,
    /// How much to send each way.
    pub bytes: u64,
    /// UDP: every message has its address, and the socket has none.
    pub unconnected: bool,
}

impl Probe {
    /// A TCP probe with the usual time-out.
    pub fn new(from: Endpoint, to: Endpoint) -> Self {
        Self {
            from,
            to,
            protocol: Protocol::Tcp,
            port: None,
            family: None,
            source_port: None,
            timeout: Duration::from_secs(1),
            bytes: 0,
            unconnected: false,
        }
    }
}

/// What names mean at this moment.
struct Directory<'a> {
    lab: &'a Lab,
    /// Read when it is first needed: addresses and records need no API server.
    world: OnceCell<World>,
    attached: BTreeMap<PodName, Attachment>,
}

impl Lab {
    /// Makes one attempt.
    pub fn probe(&self, probe: &Probe) -> Result<ProbeResult> {
        let directory = self.directory()?;
        let (machine, attempt) = directory.resolve(probe)?;
        let mut results = self.attempt(&machine, vec![attempt.clone()])?;
        let mut result = results.pop().ok_or_else(|| no!("the pod server of {machine} gave no result"))?;
        directory.name_the_server(&attempt, &mut result);
        Ok(result)
    }

    /// The same probe with address and port in place of names: what is made of it needs no API server.
    pub fn resolve(&self, probe: &Probe) -> Result<Probe> {
        let (_, attempt) = self.directory()?.resolve(probe)?;
        Ok(Probe {
            to: Endpoint::Address(attempt.to),
            port: Some(attempt.port),
            family: None,
            ..probe.clone()
        })
    }

    /// Makes many attempts at once. A probe whose names mean nothing has `error` as its result.
    pub fn matrix(&self, probes: &[Probe]) -> Result<Vec<ProbeResult>> {
        let directory = self.directory()?;
        let mut results: Vec<Option<ProbeResult>> = vec![None; probes.len()];
        let mut by_machine: BTreeMap<String, Vec<(usize, Attempt)>> = BTreeMap::new();
        for ((index, probe), result) in probes.iter().enumerate().zip(&mut results) {
            match directory.resolve(probe) {
                Ok((machine, attempt)) => by_machine.entry(machine).or_default().push((index, attempt)),
                Err(error) => *result = Some(ProbeResult::failed(Verdict::Error, error.to_string())),
            }
        }
        let answers: Vec<Result<Vec<ProbeResult>>> = thread::scope(|scope| {
            let running: Vec<_> = by_machine
                .iter()
                .map(|(machine, attempts)| {
                    scope.spawn(|| {
                        self.attempt(machine, attempts.iter().map(|(_, attempt)| attempt.clone()).collect())
                    })
                })
                .collect();
            running
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        });
        for (attempts, answer) in by_machine.values().zip(answers) {
            for ((index, attempt), mut result) in attempts.iter().zip(answer?) {
                directory.name_the_server(attempt, &mut result);
                if let Some(place) = results.get_mut(*index) {
                    *place = Some(result);
                }
            }
        }
        let missing = || ProbeResult::failed(Verdict::Error, "the pod server gave no result");
        Ok(results.into_iter().map(|result| result.unwrap_or_else(missing)).collect())
    }

    /// All pods to all pods on all their ports.
    pub fn every_pod_to_every_pod(&self, family: Option<Family>, timeout: Duration) -> Result<Vec<Probe>> {
        let directory = self.directory()?;
        let pods: Vec<(&PodName, Vec<(Protocol, u16)>)> = directory
            .attached
            .keys()
            .map(|name| Ok((name, directory.ports(name)?)))
            .collect::<Result<_>>()?;
        let mut probes = Vec::new();
        for (from, _) in &pods {
            for (to, ports) in &pods {
                for (protocol, port) in ports {
                    probes.push(Probe {
                        protocol: *protocol,
                        port: Some(*port),
                        family,
                        timeout,
                        ..Probe::new(
                            Endpoint::Pod(from.0.clone(), from.1.clone()),
                            Endpoint::Pod(to.0.clone(), to.1.clone()),
                        )
                    });
                }
            }
        }
        Ok(probes)
    }

    fn attempt(&self, machine: &str, attempts: Vec<Attempt>) -> Result<Vec<ProbeResult>> {
        let slowest = attempts.iter().map(|attempt| attempt.timeout_millis).max().unwrap_or_default();
        // Attempts beyond what a server makes at once wait for others.
        let rounds = 1 + attempts.len() as u64 / 256;
        let patience = Duration::from_millis(slowest.saturating_mul(rounds)) + Duration::from_secs(10);
        Ok(self.ask_server(machine, &Request::Probe { attempts }, patience)?.results)
    }

    /// Opens a TCP conversation that goes on by itself until it is stopped.
    pub fn stream_start(&self, id: &str, probe: &Probe, interval: Duration) -> Result<StreamReport> {
        let (machine, attempt) = self.directory()?.resolve(probe)?;
        let interval_micros = u64::try_from(interval.as_micros()).unwrap_or(u64::MAX);
        let spec = StreamSpec { id: id.to_owned(), attempt, interval_micros };
        self.stream(&machine, &Request::StreamStart { spec })
    }

    /// How a conversation is going.
    pub fn stream_report(&self, id: &str) -> Result<StreamReport> {
        self.find_stream(id, |id| Request::StreamReport { id })
    }

    /// Ends a conversation and says how it went.
    pub fn stream_stop(&self, id: &str) -> Result<StreamReport> {
        self.find_stream(id, |id| Request::StreamStop { id })
    }

    /// Sends the first packet of that many TCP connections; nobody completes them. Returns how many were sent.
    pub fn flood(&self, probe: &Probe, count: u64) -> Result<u64> {
        let (machine, Attempt { netns, to, port, .. }) = self.directory()?.resolve(probe)?;
        let request = Request::Flood { flood: Flood { netns, to, port, count } };
        Ok(self.ask_server(&machine, &request, Duration::from_secs(120))?.sent)
    }

    fn find_stream(&self, id: &str, request: impl Fn(String) -> Request) -> Result<StreamReport> {
        let mut last = no!("there is no stream {id:?}");
        for machine in self.machines() {
            match self.stream(&machine, &request(id.to_owned())) {
                Ok(report) => return Ok(report),
                Err(error) => last = error,
            }
        }
        Err(Error::No(anyhow::anyhow!("{last}")))
    }

    fn stream(&self, machine: &str, request: &Request) -> Result<StreamReport> {
        let answer = self.ask_server(machine, request, Duration::from_secs(30))?;
        answer.stream.ok_or_else(|| no!("the pod server of {machine} gave no report"))
    }

    fn directory(&self) -> Result<Directory<'_>> {
        Ok(Directory { lab: self, world: OnceCell::new(), attached: self.attachments()? })
    }
}

impl Directory<'_> {
    /// The machine whose server makes the attempt, and the attempt.
    fn resolve(&self, probe: &Probe) -> Result<(String, Attempt)> {
        let (machine, netns) = self.origin(&probe.from)?;
        let addresses = self.addresses(&probe.to)?;
        let to = choose(&addresses, probe.family).ok_or_else(|| match probe.family {
            Some(family) => bad!("{} has no {} address", probe.to, family.kubernetes()),
            None => no!("{} has no address", probe.to),
        })?;
        let port = match probe.port {
            Some(port) => port,
            None if probe.protocol == Protocol::Icmp => 0,
            None => self.first_port(&probe.to, probe.protocol)?,
        };
        let timeout_millis = u64::try_from(probe.timeout.as_millis()).unwrap_or(u64::MAX);
        let attempt = Attempt {
            netns,
            protocol: probe.protocol,
            to,
            port,
            source_port: probe.source_port,
            unconnected: probe.unconnected,
            timeout_millis,
            bytes: probe.bytes,
        };
        Ok((machine, attempt))
    }

    fn origin(&self, from: &Endpoint) -> Result<(String, PathBuf)> {
        let lab = self.lab;
        match from {
            Endpoint::Pod(namespace, name) => {
                let pod = self.pod(namespace, name)?;
                Ok((pod.node.clone(), netns::path(&pod.netns)))
            }
            Endpoint::Node(name) => {
                lab.state.plan.node(name)?;
                Ok((name.clone(), netns::path(&lab.name.machine(name))))
            }
            Endpoint::Client(name) => {
                lab.state.plan.client(name)?;
                Ok((OUTSIDE.to_owned(), netns::path(&lab.name.machine(name))))
            }
            Endpoint::Service(..) | Endpoint::Address(_) => {
                Err(bad!("--from {from}: a probe starts at a pod, a node or a client"))
            }
        }
    }

    fn pod(&self, namespace: &str, name: &str) -> Result<&Attachment> {
        self.attached
            .get(&(namespace.to_owned(), name.to_owned()))
            .ok_or_else(|| no!("there is no pod {namespace}/{name}"))
    }

    fn addresses(&self, to: &Endpoint) -> Result<Vec<IpAddr>> {
        let plan = &self.lab.state.plan;
        let both = |nets: &[ipnet::IpNet]| {
            [Family::Ipv4, Family::Ipv6].into_iter().filter_map(|family| of_family(nets, family)).collect()
        };
        match to {
            Endpoint::Address(address) => Ok(vec![*address]),
            Endpoint::Pod(namespace, name) => Ok(self.pod(namespace, name)?.addresses.clone()),
            Endpoint::Node(name) => Ok(both(&plan.node(name)?.addresses)),
            Endpoint::Client(name) => Ok(both(&plan.client(name)?.addresses)),
            Endpoint::Service(namespace, name) => {
                let service = self.service(namespace, name)?;
                let found = service.texts("/spec/clusterIPs");
                let addresses: Vec<IpAddr> = found.into_iter().filter_map(|text| text.parse().ok()).collect();
                if addresses.is_empty() {
                    return Err(no!("svc:{namespace}/{name} has no ClusterIP (headless, or ExternalName)"));
                }
                Ok(addresses)
            }
        }
    }

    fn service(&self, namespace: &str, name: &str) -> Result<&crate::object::Object> {
        self.world()?
            .get(&Key::core("Service", Some(namespace), name))
            .ok_or_else(|| no!("there is no Service {namespace}/{name}"))
    }

    fn world(&self) -> Result<&World> {
        if let Some(world) = self.world.get() {
            return Ok(world);
        }
        let world = self.lab.world()?;
        Ok(self.world.get_or_init(|| world))
    }

    fn ports(&self, name: &PodName) -> Result<Vec<(Protocol, u16)>> {
        let pod = self.world()?.get(&Key::core("Pod", Some(&name.0), &name.1));
        let ports = pod.map(|pod| container_ports(pod, false)).unwrap_or_default();
        Ok(ports.into_iter().map(|(_, protocol, port)| (protocol, port)).collect())
    }

    fn first_port(&self, to: &Endpoint, protocol: Protocol) -> Result<u16> {
        let found = match to {
            Endpoint::Pod(namespace, name) => self
                .ports(&(namespace.clone(), name.clone()))?
                .into_iter()
                .find_map(|(of, port)| (of == protocol).then_some(port)),
            Endpoint::Service(namespace, name) => {
                let ports = self.service(namespace, name)?.list("/spec/ports").iter();
                let mut of_protocol = ports.filter(|port| {
                    let spelled = port.get("protocol").and_then(Value::as_str).unwrap_or("TCP");
                    spelled.parse::<Protocol>().is_ok_and(|of| of == protocol)
                });
                of_protocol.find_map(|port| u16::try_from(port.get("port")?.as_u64()?).ok())
            }
            Endpoint::Client(_) => Some(80),
            Endpoint::Node(_) | Endpoint::Address(_) => None,
        };
        found.ok_or_else(|| bad!("{to} has no {} port to choose: say which with --port", protocol.as_str()))
    }

    /// The kernel answers an echo; whose it is follows from the address.
    fn name_the_server(&self, attempt: &Attempt, result: &mut ProbeResult) {
        if attempt.protocol != Protocol::Icmp || !result.is_connected() {
            return;
        }
        let pod = self.attached.values().find(|pod| !pod.host_network && pod.addresses.contains(&attempt.to));
        if let Some(pod) = pod {
            result.server = Some(format!("{}/{}", pod.namespace, pod.name));
            result.node = Some(pod.node.clone());
        }
    }
}

fn choose(addresses: &[IpAddr], family: Option<Family>) -> Option<IpAddr> {
    let of = |family: Family| addresses.iter().copied().find(|address| Family::of(address) == family);
    match family {
        Some(family) => of(family),
        None => of(Family::Ipv4).or_else(|| of(Family::Ipv6)),
    }
}
