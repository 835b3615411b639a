//! The store that is a Kubernetes API server.
//!
//! Owns: opening it, and [`Cluster`], the blocking front for verbs and the laboratory.
//! Does not: decide what is valid.
//! Invariant: no trouble of the API server ever reads as "deleted".

mod access;
mod backoff;
mod cache;
mod client;
mod cluster;
mod connection;
mod current;
mod driver;
mod error;
mod execute;
mod follow;
mod identity;
mod journal;
mod lines;
mod node;
mod objects;
mod report;
mod served;
mod trim;
mod watching;
mod withheld;
mod writer;

pub use crate::stream::Standing;
pub use access::{Access, SERVERS_VARIABLE, Timing};
pub use cluster::{Cluster, Delete, FIELD_MANAGER, Patch, Query};
pub use error::{ClusterError, Refusal};
pub use execute::{Command, Ran};
pub use follow::Subject;
pub use http::Method;
pub use served::Api;
pub use watching::{Change, Watch};

use crate::settings::NodeSettings;
use crate::stream::{self, Store};
use connection::Connection;
use served::Served;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use tokio::sync::{mpsc, watch};

/// How to follow a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Where it is.
    pub access: Access,
    /// This node: whose `node.<name>` settings count.
    pub node: String,
    /// Further settings, in the form of Calico's `felix.cfg`; they win over the datastore.
    pub config_file: Option<PathBuf>,
    /// Settings that win over everything: variables called `FELIX_…`; others are ignored.
    pub environment: Vec<(String, String)>,
    /// Where what is in force is remembered, for a start without an API server.
    pub cache: Option<PathBuf>,
    /// Events about objects that are not in force are written, and what the agent says of its node.
    pub writes: bool,
}

/// Opens a cluster: starts a thread that reads it and goes on reading what changes. The API server need not be
/// there; its configuration must.
pub fn open(options: Options) -> Result<Store, ClusterError> {
    let wrong = |error: std::io::Error| ClusterError::Configuration {
        source_of: "a thread for the API server".into(),
        cause: error.to_string(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(wrong)?;
    let connection = Connection::new(options.access.clone());
    runtime.block_on(connection.check_configuration())?;
    let (state, local) =
        NodeSettings::start(&options.node, options.config_file.as_deref(), &options.environment);
    let (store, ends) = stream::pair(|| {});
    let shared = Arc::new(Mutex::new(driver::Seen::default()));
    let (asked, seen) = (connection.clone(), Arc::clone(&shared));
    let (told, state_of_node) = watch::channel(None);
    let served = Served::default();
    let forms = served.clone();
    let store = store.with_standing(move || driver::standing(&asked, &forms, &seen));
    let store = store.with_node(move |now| {
        told.send_if_modified(|before| before.replace(now.clone()) != Some(now));
    });
    let (find, findings) = mpsc::unbounded_channel();
    let store = store.with_findings(move |finding| _ = find.send(finding));
    let run = move || {
        runtime.block_on(async move {
            let cache = cache::Cache::new(options.cache.as_deref());
            let (appeared, appearances) = watch::channel(0);
            let reporter = options.writes.then(|| {
                let keep = node::keep(connection.clone(), options.node.clone(), state_of_node, appearances);
                tokio::spawn(keep);
                report::Reporter::start(connection.clone(), served.clone(), &options.node, appeared)
            });
            let beginning = driver::Beginning {
                ends,
                connection,
                state,
                local,
                cache,
                shared,
                served,
                reporter,
                findings,
            };
            driver::Driver::start(beginning).run().await;
        });
        runtime.shutdown_background();
    };
    thread::Builder::new().name("store".into()).spawn(run).map_err(wrong)?;
    Ok(store)
}
