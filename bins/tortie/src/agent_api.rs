//! What the CNI plugin and the agent of a node say to each other.
//!
//! Owns: the agent's socket and the requests and responses on it, and the records of attached endpoints in
//! `<run-dir>/endpoints`. Does not: decide when an endpoint is ready; the agent does.
//! Invariant: a record is complete whenever its file exists; unknown fields are ignored, so that either side
//! can be the newer one.
//!
//! On the socket each connection carries one request and one response, each a line of JSON.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Where the agent listens.
pub fn socket_path(run_dir: &Path) -> PathBuf {
    run_dir.join("agent.sock")
}

/// Where the records are.
pub fn endpoints_dir(run_dir: &Path) -> PathBuf {
    run_dir.join("endpoints")
}

/// One attached pod, as the plugin wired it. Written by the plugin before it asks the agent, removed by DEL.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointRecord {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// The pod's uid, where the runtime has told it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// The runtime's id of the sandbox: a pod that is set up anew has another one.
    pub container_id: String,
    /// Path of the pod's network namespace.
    pub netns: String,
    /// The kernel's number of it (its cookie), by which programs know whose a socket is; records of old have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns_cookie: Option<u64>,
    /// The veth's side on the host, where programs are attached.
    pub interface: String,
    /// The Ethernet address of that side.
    pub host_mac: String,
    /// The Ethernet address of the pod's side.
    pub pod_mac: String,
    /// The pod's addresses, each alone (/32, /128).
    pub addresses: Vec<IpAddr>,
    /// MTU of both sides in bytes.
    pub mtu: u32,
    /// The name of the pod's side, from the runtime.
    pub pod_interface: String,
    /// The name of the network in the plugin's configuration.
    pub network: String,
    /// What the address plugin answered, in the form of CNI 1.1.0; what ADD answers when it is repeated.
    pub ipam: Value,
}

/// What the agent is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Request {
    /// Answer when programs and policy of this endpoint are in force, or when the time is over.
    EndpointReady {
        /// The pod's namespace.
        namespace: String,
        /// The pod's name.
        name: String,
        /// The sandbox; its record is there already.
        container_id: String,
        /// The veth's side on the host.
        interface: String,
        /// The pod's addresses. Known here before the Pod's status has them.
        addresses: Vec<IpAddr>,
        /// How long the plugin waits.
        timeout_millis: u64,
    },
    /// The endpoint is about to go. Nobody waits for what follows from it.
    EndpointGone {
        /// The pod's namespace.
        namespace: String,
        /// The pod's name.
        name: String,
        /// The sandbox: when the pod has another one by now, the message is out of date.
        container_id: String,
        /// The veth's side on the host.
        interface: String,
    },
    /// Are you there and able to serve endpoints?
    Ping,
}

/// What the agent answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Response {
    /// Done, or the answer is yes.
    pub ok: bool,
    /// The generation of what is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<ErrorCode>,
    /// The same for a person: the object and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Why the agent says no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ErrorCode {
    /// Not in force within the time given.
    Timeout,
    /// The store has no such pod on this node.
    UnknownPod,
    /// The kernel refused a program, a map or a link.
    Kernel,
    /// The request cannot be understood.
    BadRequest,
    /// The agent starts or stops.
    NotReady,
    /// A reason that this version does not know.
    #[serde(other)]
    Other,
}

impl Response {
    /// Yes, as of `generation`.
    pub fn ready(generation: u64) -> Self {
        Self { ok: true, generation: Some(generation), ..Self::default() }
    }

    /// No, because.
    pub fn refused(code: ErrorCode, error: impl Into<String>) -> Self {
        Self { code: Some(code), error: Some(error.into()), ..Self::default() }
    }
}

impl EndpointRecord {
    /// The name of the record's file. Neither part of a Kubernetes name holds an underscore, so that no two
    /// pods share a file.
    pub fn file_name(namespace: &str, name: &str) -> String {
        format!("{namespace}_{name}.json")
    }

    /// Every record under `run_dir`, in the order of file names. A file that is no record does not hide the
    /// others: its error comes in its place, with its path.
    pub fn read_all(run_dir: &Path) -> io::Result<Vec<Result<Self, BadRecord>>> {
        let entries = match fs::read_dir(endpoints_dir(run_dir)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut paths: Vec<PathBuf> =
            entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<_>>()?;
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
        paths.sort();
        Ok(paths.iter().filter_map(|path| Self::read(path).transpose()).collect())
    }

    /// The record in that file; `None` where there is no file.
    pub fn read(path: &Path) -> Result<Option<Self>, BadRecord> {
        let bad = |source: io::Error| BadRecord { path: path.to_owned(), source };
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(bad(error)),
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| bad(error.into()))
    }
}

/// A file in the directory of records that is none.
#[derive(Debug, thiserror::Error)]
#[error("{}: not a record of an endpoint: {source}; remove it if its pod is gone", path.display())]
pub struct BadRecord {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub source: io::Error,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str) -> EndpointRecord {
        EndpointRecord {
            namespace: "shop".into(),
            name: name.into(),
            uid: None,
            container_id: "c1".into(),
            netns: "/run/netns/x".into(),
            netns_cookie: Some(4711),
            interface: "cali0123456789a".into(),
            host_mac: "ee:ee:ee:ee:ee:ee".into(),
            pod_mac: "02:00:00:00:00:01".into(),
            addresses: vec!["10.65.0.2".parse().unwrap(), "fd00:65::2".parse().unwrap()],
            mtu: 1450,
            pod_interface: "eth0".into(),
            network: "tortie".into(),
            ipam: Value::Null,
        }
    }

    #[test]
    fn requests_and_responses_are_the_agreed_json() {
        let request = Request::EndpointReady {
            namespace: "shop".into(),
            name: "front".into(),
            container_id: "c1".into(),
            interface: "cali1".into(),
            addresses: vec!["10.65.0.2".parse().unwrap()],
            timeout_millis: 10_000,
        };
        let expected = r#"{"verb":"endpointReady","namespace":"shop","name":"front","containerId":"c1","interface":"cali1","addresses":["10.65.0.2"],"timeoutMillis":10000}"#;
        assert_eq!(serde_json::to_string(&request).unwrap(), expected);
        assert_eq!(serde_json::from_str::<Request>(expected).unwrap(), request);
        assert_eq!(serde_json::to_string(&Request::Ping).unwrap(), r#"{"verb":"ping"}"#);
        let refused = Response::refused(ErrorCode::UnknownPod, "no pod");
        assert_eq!(
            serde_json::to_string(&refused).unwrap(),
            r#"{"ok":false,"code":"unknownPod","error":"no pod"}"#
        );
    }

    #[test]
    fn a_newer_side_may_say_more() {
        let response: Response = serde_json::from_str(r#"{"ok":false,"code":"brandNew","more":1}"#).unwrap();
        assert_eq!(response.code, Some(ErrorCode::Other));
    }

    #[test]
    fn a_broken_record_does_not_hide_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let endpoints = endpoints_dir(dir.path());
        assert!(EndpointRecord::read_all(dir.path()).unwrap().is_empty());
        fs::create_dir(&endpoints).unwrap();
        for name in ["a", "c"] {
            let path = endpoints.join(EndpointRecord::file_name("shop", name));
            fs::write(path, serde_json::to_vec(&record(name)).unwrap()).unwrap();
        }
        fs::write(endpoints.join("shop_b.json"), "{").unwrap();
        fs::write(endpoints.join(".shop_d.json.tmp"), "{").unwrap();
        let read = EndpointRecord::read_all(dir.path()).unwrap();
        assert_eq!(read.len(), 3);
        assert_eq!(read[0].as_ref().unwrap(), &record("a"));
        assert!(read[1].as_ref().is_err_and(|e| e.to_string().contains("shop_b.json")));
        assert_eq!(read[2].as_ref().unwrap(), &record("c"));
    }
}
