//! The pod servers of the machines, from the side of the commands.
//!
//! Owns: starting them, telling them whom to serve, and asking them.
//! Does not: serve; the server process does.
//! Invariant: a server that was killed comes back, with everything it served, at the next request to it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::agent::{connect, converse};
use crate::cluster::{Attachment, PodName, container_ports};
use crate::error::{Result, silent};
use crate::lab::{Lab, OUTSIDE};
use crate::names::LabName;
use crate::netns;
use crate::object::Key;
use crate::process::Record;
use crate::proto::{Answer, Request, Served};
use crate::world::World;

/// A server starts in milliseconds; a loaded machine may need more.
const START: Duration = Duration::from_secs(10);

impl Lab {
    /// Starts a machine's server unless it runs. Returns whether it had to.
    pub(crate) fn start_server(&self, machine: &str) -> Result<bool> {
        let path = self.paths.process(&format!("server-{machine}"));
        if self.server_is_alive(machine) {
            return Ok(false);
        }
        let node = (machine != OUTSIDE).then_some(machine);
        let place = self.place_in(&self.name.machine(node.unwrap_or("router")), node);
        let socket = self.paths.server_socket(machine);
        let _ = std::fs::remove_file(&socket);
        let argv =
            [self.binary.clone().into_os_string(), "lab".into(), "server".into(), socket.into_os_string()];
        Record::start(&place, &argv, &self.paths.log(&format!("server-{machine}")), &path)?;
        Ok(true)
    }

    /// Asks a machine's server. One that has died is started and told whom to serve first.
    pub(crate) fn ask_server(&self, machine: &str, request: &Request, patience: Duration) -> Result<Answer> {
        let answer = self.ask_server_once(machine, request, patience);
        // It may have died after it was found alive.
        if answer.is_err() && !self.server_is_alive(machine) {
            return self.ask_server_once(machine, request, patience);
        }
        answer
    }

    fn ask_server_once(&self, machine: &str, request: &Request, patience: Duration) -> Result<Answer> {
        if self.start_server(machine)? {
            let served = self.served(&self.world()?, &self.attachments()?);
            let mine = served.get(machine).cloned().unwrap_or_default();
            self.talk_to_server(machine, &Request::Serve { served: mine }, START)?;
        }
        self.talk_to_server(machine, request, patience)
    }

    fn server_is_alive(&self, machine: &str) -> bool {
        Record::read(&self.paths.process(&format!("server-{machine}")))
            .is_some_and(|record| record.is_alive())
    }

    fn talk_to_server(&self, machine: &str, request: &Request, patience: Duration) -> Result<Answer> {
        let is_alive = || self.server_is_alive(machine);
        let stream = connect(&self.paths.server_socket(machine), Instant::now() + START, is_alive)?;
        let request = serde_json::to_string(request).map_err(anyhow::Error::from)?;
        let text = converse(stream, &request, patience)
            .map_err(|error| silent!("the pod server of {machine}: {error:#}"))?;
        let answer: Answer = serde_json::from_str(&text).map_err(anyhow::Error::from)?;
        match answer.error {
            Some(error) => Err(silent!("{error}")),
            None => Ok(answer),
        }
    }

    /// Tells every server whom to serve from now on. Returns what could not be served.
    pub(crate) fn serve(
        &self,
        world: &World,
        attached: &BTreeMap<PodName, Attachment>,
    ) -> Result<Vec<String>> {
        let mut served = self.served(world, attached);
        let mut complaints = Vec::new();
        for machine in self.machines() {
            self.start_server(&machine)?;
            let request = Request::Serve { served: served.remove(&machine).unwrap_or_default() };
            complaints.extend(self.talk_to_server(&machine, &request, START)?.complaints);
        }
        Ok(complaints)
    }

    /// Who serves what, by machine.
    fn served(
        &self,
        world: &World,
        attached: &BTreeMap<PodName, Attachment>,
    ) -> BTreeMap<String, Vec<Served>> {
        let mut served: BTreeMap<String, Vec<Served>> = BTreeMap::new();
        for ((namespace, name), found) in attached {
            let pod = world.get(&Key::core("Pod", Some(namespace), name));
            let Some(pod) = pod.filter(|_| !found.addresses.is_empty()) else { continue };
            let ports =
                container_ports(pod, true).into_iter().map(|(_, protocol, port)| (protocol, port)).collect();
            served.entry(found.node.clone()).or_default().push(Served {
                name: format!("{namespace}/{name}"),
                node: found.node.clone(),
                netns: netns::path(&found.netns),
                uid: found.uid.clone(),
                addresses: found.addresses.clone(),
                ports,
            });
        }
        served.insert(OUTSIDE.to_owned(), self.outside(&self.name));
        served
    }

    /// The outside machines serve the port of HTTP and the echo port, so that pods have something to reach.
    fn outside(&self, name: &LabName) -> Vec<Served> {
        use crate::proto::Protocol::{Tcp, Udp};
        let clients = self.state.plan.clients.iter();
        clients
            .map(|client| Served {
                name: client.name.clone(),
                node: OUTSIDE.to_owned(),
                netns: netns::path(&name.machine(&client.name)),
                uid: client.name.clone(),
                addresses: client.addresses.iter().map(ipnet::IpNet::addr).collect::<Vec<IpAddr>>(),
                ports: vec![(Tcp, 80), (Tcp, 8080), (Udp, 80), (Udp, 8080)],
            })
            .collect()
    }
}
