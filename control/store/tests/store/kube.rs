//! An API server passes the suite that every store passes.

use crate::server::Server;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;
use tortie_store::kube::{self, Access, Timing};
use tortie_store::{Store, input};

/// A test does not wait for minutes.
pub const QUICK: Timing = Timing {
    answer: Duration::from_secs(1),
    quiet: Duration::from_secs(1),
    first_pause: Duration::from_millis(10),
    longest_pause: Duration::from_millis(80),
    patience: Duration::from_millis(400),
    refusal: Duration::from_millis(200),
    turn: Duration::from_millis(300),
};

/// The object of a text.
pub fn object(yaml: &str) -> Value {
    input::read(yaml.as_bytes(), "default").remove(0).resource.unwrap().value
}

/// How to follow that server.
pub fn options(server: &Server, directory: &TempDir) -> kube::Options {
    let kubeconfig = server.kubeconfig(directory.path(), &json!({}));
    let access = Access { kubeconfig: Some(kubeconfig), timing: QUICK, ..Access::default() };
    kube::Options { access, node: "node1".into(), ..kube::Options::default() }
}

struct Cluster {
    server: Server,
    directory: TempDir,
    written: BTreeMap<String, Value>,
}

impl Cluster {
    fn with(server: Server) -> Self {
        Self { server, directory: tempfile::tempdir().unwrap(), written: BTreeMap::new() }
    }
}

impl crate::suite::Backend for Cluster {
    fn new() -> Self {
        Self::with(Server::start())
    }

    fn put(&mut self, name: &str, yaml: &str) {
        let object = object(yaml);
        self.server.put(&object);
        self.written.insert(name.into(), object);
    }

    fn delete(&mut self, name: &str) {
        self.server.delete(&self.written.remove(name).unwrap());
    }

    fn open_with(&self, config_file: Option<&Path>) -> Store {
        let options = options(&self.server, &self.directory);
        kube::open(kube::Options { config_file: config_file.map(Path::to_owned), ..options }).unwrap()
    }
}

/// The same with Calico's kinds in their storage form.
struct StorageForm(Cluster);

impl crate::suite::Backend for StorageForm {
    fn new() -> Self {
        Self(Cluster::with(Server::with_group("crd.projectcalico.org/v1")))
    }

    fn put(&mut self, name: &str, yaml: &str) {
        self.0.put(name, yaml);
    }

    fn delete(&mut self, name: &str) {
        self.0.delete(name);
    }

    fn open_with(&self, config_file: Option<&Path>) -> Store {
        self.0.open_with(config_file)
    }
}

crate::conformance! { Cluster }

mod storage_form {
    use super::StorageForm;

    crate::conformance! { StorageForm:
        what_was_there_is_said_in_order_before_in_sync
        changes_and_deletions_are_said
        settings_are_merged
        a_kind_that_is_not_enforced_is_reported
    }
}
