//! A laboratory's API server, from the side of the commands.
//!
//! Owns: the connection, reading the cluster's objects, and what an error of the server means to a person.
//! Does not: keep objects; each question is asked anew.
//! Invariant: sockets to the API server are made in the network namespace it is in, never in the host's.

mod apply;
mod manifests;
mod settled;

use std::collections::BTreeMap;
use std::fmt;
use std::net::TcpStream;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use tortie_store::kind::{self, Kind};
use tortie_store::kube::{Access, Cluster, ClusterError, Query, Timing};
use tortie_store::resource::Resource;

use crate::error::{Error, Result, bad, no, silent};
use crate::lab::Lab;
use crate::netns;
use crate::object::{Key, Object};
use crate::world::World;

/// Who we are to server-side apply.
const MANAGER: &str = "tortie-lab";

/// The kubelet asks again after an outage, at the latest, after this time.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A connection that is made when it is first needed; clones share it.
#[derive(Clone, Default)]
pub struct Connection(Arc<Shared>);

#[derive(Default)]
struct Shared {
    cluster: OnceLock<Cluster>,
    /// When we last wrote an object.
    written: Mutex<BTreeMap<Key, SystemTime>>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.cluster.get().is_some() { "Connection(made)" } else { "Connection(not made)" })
    }
}

impl Lab {
    /// The cluster behind the API server, with all rights.
    pub fn cluster(&self) -> Result<&Cluster> {
        if !self.has_api_server() {
            return Err(bad!("laboratory {} has no API server: `tortie lab up --store kube`", self.name));
        }
        if let Some(cluster) = self.connection.0.cluster.get() {
            return Ok(cluster);
        }
        // Few ask here, and people wait for them.
        let timing = Timing { longest_pause: LONGEST_PAUSE, ..Timing::default() };
        let access = Access { kubeconfig: Some(self.admin_kubeconfig()), timing, ..Access::default() };
        let made = self.connect(access)?.with_field_manager(MANAGER);
        Ok(self.connection.0.cluster.get_or_init(|| made))
    }

    /// A client whose thread is made on the machine of the control plane, and stays in that namespace with all its sockets.
    pub(crate) fn connect(&self, access: Access) -> Result<Cluster> {
        netns::run_in(&self.api_place().netns, || Ok(Cluster::connect(access)?))
    }

    /// An object is being written now.
    fn note(&self, key: Key) {
        let mut written = self.connection.0.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.insert(key, SystemTime::now());
    }

    /// When this process began to write an object for the last time.
    pub(crate) fn written_at(&self, key: &Key) -> Option<SystemTime> {
        self.connection.0.written.lock().unwrap_or_else(PoisonError::into_inner).get(key).copied()
    }

    /// Returns when the API server says that it is ready.
    pub(crate) fn wait_for_api_server(&self, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        // It listens when it can serve; asking earlier would only be told as an outage.
        while !self.api_server_listens() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(50));
        }
        loop {
            let error = match self.cluster()?.text("/readyz") {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            if Instant::now() > deadline {
                let name = &self.name;
                return Err(silent!("the API server is not ready: {error}; `tortie lab logs --name {name}`"));
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn api_server_listens(&self) -> bool {
        let address = self.api_server_address();
        let attempt = move || Ok(TcpStream::connect_timeout(&address, Duration::from_secs(1))?);
        netns::run_in(&self.api_place().netns, attempt).is_ok()
    }

    /// The objects that the laboratory itself looks at: pods, Services and Nodes; in a directory, all.
    pub(crate) fn world(&self) -> Result<World> {
        if !self.has_api_server() {
            return World::read(&self.paths.store());
        }
        let mut world = World::default();
        for name in ["Pod", "Service", "Node"] {
            self.list_into(&mut world, known("", name)?)?;
        }
        Ok(world)
    }

    /// Everything of every kind that is served.
    pub(crate) fn everything(&self) -> Result<World> {
        if !self.has_api_server() {
            return World::read(&self.paths.store());
        }
        let mut world = World::default();
        for kind in &kind::KINDS {
            match self.list_into(&mut world, kind) {
                Err(Error::No(_)) => {}
                other => other?,
            }
        }
        Ok(world)
    }

    fn list_into(&self, world: &mut World, kind: &'static Kind) -> Result<()> {
        for resource in self.cluster()?.list(kind, &Query::default()).map_err(explain)? {
            world.put(object(resource)?);
        }
        Ok(())
    }
}

/// A kind of the store's table.
pub(crate) fn known(group: &str, name: &str) -> Result<&'static Kind> {
    kind::of(group, name).ok_or_else(|| no!("this version knows no kind {name} {group}"))
}

/// An object as the laboratory has it.
pub(crate) fn object(resource: Resource) -> Result<Object> {
    Object::new(resource.value, "the API server")
}

/// An object as the store has it.
pub(crate) fn resource(object: &Object) -> Result<Resource> {
    Resource::new(object.value().clone(), "").map_err(|error| bad!("{}: {error}", object.key()))
}

/// What the caller can do about an error of the API server.
pub(crate) fn explain(error: ClusterError) -> Error {
    match error.code() {
        Some(400 | 409 | 422) => Error::BadInput(error.into()),
        Some(401 | 403) => Error::NotAllowed(error.into()),
        _ if error.is_unreachable() => Error::Unreachable(error.into()),
        _ => Error::No(error.into()),
    }
}
