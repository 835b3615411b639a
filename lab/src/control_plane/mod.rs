//! A real control plane: etcd, kube-apiserver and kube-controller-manager on a machine of their own.
//!
//! Owns: that machine `api`, their command lines, who may use the API server, and faults in them.
//! Does not: schedule or run pods; `kubelet` does.
//! Invariant: everything runs in the network namespace and the cgroup of the machine `api`, where `down` finds it.
//! That machine may be another laboratory's, which lends it.

mod components;
mod database;
mod pki;
mod reuse;

use std::ffi::OsString;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use ipnet::IpNet;
use rustix::process::Signal;

use self::pki::{Identity, Pki, certificate_of, key_of, kubeconfig_of};
use crate::error::{Result, bad, no};
use crate::files;
use crate::lab::Lab;
use crate::names::LabName;
use crate::netns;
use crate::process::{Place, Record};
use crate::state::Paths;

pub(crate) use components::find as find_components;
pub use database::Database;
pub use reuse::ControlPlane;

/// The machine that the control plane runs on.
pub(crate) const API: &str = "api";

/// The port of the API server.
const PORT: u16 = 6443;
/// Where etcd listens.
const CLIENTS_OF_ETCD: &str = "http://127.0.0.1:2379";
/// An API server on a busy machine needs seconds to start.
const START: Duration = Duration::from_secs(60);
/// An API server that ends gracefully drains its connections.
const PATIENCE: Duration = Duration::from_secs(20);

/// Agents alone are written down: whether they need the rights they have, and miss none.
const AUDIT_POLICY: &str = "apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: Metadata, users: ['system:serviceaccount:kube-system:tortie-node']}
- {level: None}
";

/// Who the agents are to the API server: deploy/ binds rights to this ServiceAccount.
const AGENT: &str = "system:serviceaccount:kube-system:tortie-node";
const AGENT_GROUPS: &[&str] =
    &["system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"];

/// A part of the control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Component {
    /// The database.
    Etcd,
    /// The API server.
    ApiServer,
    /// The controllers, those of EndpointSlices and Deployments among them.
    ControllerManager,
}

impl Component {
    /// All, in the order of starting.
    pub const ALL: [Self; 3] = [Self::Etcd, Self::ApiServer, Self::ControllerManager];

    /// The program's name.
    pub fn program(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
        }
    }
}

impl Lab {
    /// Whether the cluster's objects are in an API server.
    pub fn has_api_server(&self) -> bool {
        !self.state.components.is_empty()
    }

    /// The laboratory that the control plane belongs to: this one, or the one that lends it.
    fn owner(&self) -> &LabName {
        self.state.lender.as_ref().unwrap_or(&self.name)
    }

    /// What the control plane keeps.
    fn control_plane_directory(&self) -> PathBuf {
        Paths::of(self.owner()).root.join("control-plane")
    }

    fn pki_directory(&self) -> PathBuf {
        self.control_plane_directory().join("pki")
    }

    /// The kubeconfig of somebody who may do everything.
    pub fn admin_kubeconfig(&self) -> PathBuf {
        kubeconfig_of(&self.pki_directory(), "admin")
    }

    /// What agents have asked the API server for, one JSON object a line.
    pub fn audit_log(&self) -> PathBuf {
        self.control_plane_directory().join("audit.log")
    }

    fn audit_policy(&self) -> PathBuf {
        self.control_plane_directory().join("audit.yaml")
    }

    /// The kubeconfig that a node's agent uses.
    pub fn agent_kubeconfig(&self, node: &str) -> PathBuf {
        kubeconfig_of(&self.pki_directory(), node)
    }

    /// Where the API server listens.
    pub fn api_server_url(&self) -> String {
        format!("https://{}", self.api_server_address())
    }

    /// As a socket has it. Every plan has an address of every family that it has.
    pub(crate) fn api_server_address(&self) -> SocketAddr {
        let first = self.state.plan.api.first().map(IpNet::addr);
        SocketAddr::new(first.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), PORT)
    }

    /// Makes keys and starts database and server; returns before the API server answers.
    pub(crate) fn start_control_plane(&self) -> Result<()> {
        self.make_identities()?;
        files::write_atomically(&self.audit_policy(), AUDIT_POLICY.as_bytes())?;
        self.start_component(Component::Etcd)?;
        self.start_component(Component::ApiServer)
    }

    /// Waits for the API server, starts the controllers and installs what agents need.
    pub(crate) fn finish_control_plane(&self, patience: Duration) -> Result<()> {
        self.wait_for_api_server(patience)?;
        self.start_component(Component::ControllerManager)?;
        self.install()
    }

    fn make_identities(&self) -> Result<()> {
        let pki = Pki::make(&self.pki_directory())?;
        let plan = &self.state.plan;
        let services = plan.service_cidrs.iter().filter_map(|cidr| cidr.hosts().next());
        let loopback = ["127.0.0.1", "::1"].iter().filter_map(|text| text.parse().ok());
        let addresses: Vec<_> = plan.api.iter().map(IpNet::addr).chain(services).chain(loopback).collect();
        let names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"];
        let server = Identity { file: "apiserver", user: "kube-apiserver", groups: &[] };
        pki.issue(&server, &names, &addresses)?;
        let url = self.api_server_url();
        let controllers =
            Identity { file: "controllers", user: "system:kube-controller-manager", groups: &[] };
        pki.client(&controllers, &url)?;
        pki.client(&Identity { file: "admin", user: "admin", groups: &["system:masters"] }, &url)?;
        self.make_agents_identities(&pki)
    }

    fn make_agents_identities(&self, pki: &Pki) -> Result<()> {
        let url = self.api_server_url();
        let agents = self.state.plan.nodes.iter();
        agents
            .map(|node| Identity { file: &node.name, user: AGENT, groups: AGENT_GROUPS })
            .try_for_each(|identity| pki.client(&identity, &url))
    }

    /// Gives a node's agent a new certificate, in the place of the one it has, that is good until then. It is for the
    /// agent to notice.
    pub fn renew_agent_certificate(&self, node: &str, until: SystemTime) -> Result<()> {
        let until = until.duration_since(UNIX_EPOCH).context("the clock")?;
        let identity = Identity { file: node, user: AGENT, groups: AGENT_GROUPS };
        Pki::open(&self.pki_directory())?.issue_until(Some(until), &identity, &[], &[])
    }

    fn component_record(&self, component: Component) -> PathBuf {
        Paths::of(self.owner()).process(component.program())
    }

    /// Whether a part of the control plane runs.
    pub fn component_is_alive(&self, component: Component) -> bool {
        Record::read(&self.component_record(component)).is_some_and(|record| record.is_alive())
    }

    /// Starts a part of the control plane; one that runs already is left alone. The controllers wait for the API
    /// server: without its answer they end at once.
    pub fn start_component(&self, component: Component) -> Result<()> {
        if self.component_is_alive(component) {
            return Ok(());
        }
        let program = component.program();
        let path = self.state.components.get(program).ok_or_else(|| {
            bad!("laboratory {} has no {program}: it was started with --store dir", self.name)
        })?;
        let flags = match component {
            Component::Etcd => self.etcd_flags(),
            Component::ApiServer => self.api_server_flags(),
            Component::ControllerManager => self.controller_manager_flags(),
        };
        let mut argv = vec![path.clone().into_os_string()];
        argv.extend(flags.into_iter().map(|(name, value)| {
            let mut flag = OsString::from(format!("--{name}="));
            flag.push(value);
            flag
        }));
        if component == Component::ControllerManager {
            self.wait_for_api_server(START)?;
        }
        let record = self.component_record(component);
        let place =
            Place { cgroup: self.state.cgroup_root.join(self.owner().machine(API)), ..self.api_place() };
        Record::start(&place, &argv, &Paths::of(self.owner()).log(program), &record)?;
        Ok(())
    }

    /// Kills a part of the control plane; what it knew is in etcd's files.
    pub fn kill_component(&self, component: Component) -> Result<()> {
        match Record::read(&self.component_record(component)) {
            Some(record) => record.end(Signal::KILL, PATIENCE),
            None => Ok(()),
        }
    }

    /// Runs kubectl as somebody who may do everything; gives what it printed.
    pub fn kubectl(&self, arguments: &[&str], input: &str) -> Result<String> {
        let command: Vec<OsString> = ["kubectl"].iter().chain(arguments).map(OsString::from).collect();
        let stdio = [Stdio::piped(), Stdio::piped(), Stdio::piped()];
        let mut child = self.control_plane_place()?.spawn(&command, stdio)?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes()).context("writing to kubectl")?;
        }
        let output = child.wait_with_output().context("waiting for kubectl")?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(no!("kubectl {}: {said}", arguments.join(" ")));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Where people run kubectl: the machine of the control plane.
    pub fn control_plane_place(&self) -> Result<Place> {
        if !self.has_api_server() {
            return Err(bad!("laboratory {} has no API server: `tortie lab up --store kube`", self.name));
        }
        let mut place = self.api_place();
        place.env.insert("PATH".to_owned(), self.path_with_kubectl());
        Ok(place)
    }

    /// The router, where cables end; for tests that pull one.
    pub fn router_place(&self) -> Place {
        Place { netns: netns::path(&self.name.machine("router")), ..self.api_place() }
    }

    /// The machine of the control plane, for what belongs to this laboratory and goes with it.
    pub(crate) fn api_place(&self) -> Place {
        Place {
            netns: netns::path(&self.owner().machine(API)),
            cgroup: self.cgroup(API),
            env: [("KUBECONFIG".to_owned(), self.admin_kubeconfig().into_os_string())].into(),
        }
    }

    fn etcd_flags(&self) -> Vec<(&'static str, OsString)> {
        let data = self.control_plane_directory().join("etcd");
        vec![
            ("data-dir", data.into_os_string()),
            // A laboratory does not outlive its machine's power.
            ("unsafe-no-fsync", "true".into()),
            ("listen-client-urls", CLIENTS_OF_ETCD.into()),
            ("advertise-client-urls", CLIENTS_OF_ETCD.into()),
            ("listen-peer-urls", "http://127.0.0.1:2380".into()),
            ("log-level", "warn".into()),
        ]
    }

    fn api_server_flags(&self) -> Vec<(&'static str, OsString)> {
        let pki = self.pki_directory();
        let plan = &self.state.plan;
        let advertised = plan.api.first().map(|address| address.addr().to_string()).unwrap_or_default();
        vec![
            ("etcd-servers", CLIENTS_OF_ETCD.into()),
            ("advertise-address", advertised.into()),
            ("secure-port", PORT.to_string().into()),
            ("client-ca-file", pki.join("ca.crt").into_os_string()),
            ("tls-cert-file", certificate_of(&pki, "apiserver").into_os_string()),
            ("tls-private-key-file", key_of(&pki, "apiserver").into_os_string()),
            ("service-account-key-file", pki.join("tokens.pub").into_os_string()),
            ("service-account-signing-key-file", pki.join("tokens.key").into_os_string()),
            ("service-account-issuer", "https://kubernetes.default.svc.cluster.local".into()),
            ("service-cluster-ip-range", join(&plan.service_cidrs).into()),
            ("authorization-mode", "Node,RBAC".into()),
            // Pods need not wait until a controller has made their namespace's ServiceAccount.
            ("disable-admission-plugins", "ServiceAccount".into()),
            ("allow-privileged", "true".into()),
            ("audit-policy-file", self.audit_policy().into_os_string()),
            ("audit-log-path", self.audit_log().into_os_string()),
            ("profiling", "false".into()),
        ]
    }

    fn controller_manager_flags(&self) -> Vec<(&'static str, OsString)> {
        let pki = self.pki_directory();
        let config = kubeconfig_of(&pki, "controllers").into_os_string();
        vec![
            ("kubeconfig", config.clone()),
            ("authentication-kubeconfig", config.clone()),
            ("authorization-kubeconfig", config),
            ("service-account-private-key-file", pki.join("tokens.key").into_os_string()),
            ("root-ca-file", pki.join("ca.crt").into_os_string()),
            // The laboratory's plan says which node has which addresses.
            ("allocate-node-cidrs", "false".into()),
            ("leader-elect", "false".into()),
            ("use-service-account-credentials", "true".into()),
            ("bind-address", "127.0.0.1".into()),
            ("profiling", "false".into()),
        ]
    }
}

fn join(nets: &[IpNet]) -> String {
    nets.iter().map(IpNet::to_string).collect::<Vec<_>>().join(",")
}
