//! Attaching pods: the kubelet's part.
//!
//! Owns: a pod's network namespace, the CNI calls, and the record of what was attached.
//! Does not: make links on a node with an agent; the plugin does.
//! Invariant: the record is written before the plugin is called, so that a killed command leaves nothing that
//! the next one does not know of; a pod whose network failed has nothing left of it, as with a kubelet.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Instant;

use anyhow::Context as _;
use ipnet::IpNet;
use serde_json::{Value, json};

use crate::cluster::{Attachment, PodName, is_host_network};
use crate::error::{Result, no};
use crate::files;
use crate::lab::{Lab, Where};
use crate::names::hash;
use crate::netns;
use crate::object::Object;
use crate::plain;
use crate::plan::{Dataplane, Node};

/// Where CNI plugins are looked for: CNI_PATH, else where distributions put them.
const PLUGIN_DIRECTORIES: &str = "/opt/cni/bin:/usr/lib/cni:/usr/libexec/cni";
const CNI_VERSION: &str = "1.1.0";
/// How long the plugin waits for the agent.
const READY_TIMEOUT_SECONDS: u64 = 20;

impl Lab {
    /// What is attached, or was being attached when a command was killed.
    pub(crate) fn attachments(&self) -> Result<BTreeMap<PodName, Attachment>> {
        let directory = self.paths.attachments();
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(&directory).with_context(|| directory.display().to_string())? {
            let path = entry?.path();
            if path.extension().is_some_and(|kind| kind == "json")
                // A pod may go while its neighbours are looked at.
                && let Some(attachment) = files::read_json::<Attachment>(&path)?
            {
                found.insert((attachment.namespace.clone(), attachment.name.clone()), attachment);
            }
        }
        Ok(found)
    }

    /// One pod that is attached.
    pub fn attachment(&self, namespace: &str, name: &str) -> Result<Attachment> {
        let found = files::read_json(&self.attachment_file(namespace, name))?;
        found.ok_or_else(|| {
            no!("there is no pod {namespace}/{name}: `tortie lab status --name {}`", self.name)
        })
    }

    fn attachment_file(&self, namespace: &str, name: &str) -> PathBuf {
        self.paths.attachments().join(format!("{namespace}_{name}.json"))
    }

    /// Gives a scheduled pod its network.
    pub(crate) fn attach(&self, pod: &Object) -> Result<Attachment> {
        let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name());
        let node = self.state.plan.node(pod.text("/spec/nodeName").unwrap_or_default())?;
        let uid = pod.text("/metadata/uid").unwrap_or_default().to_owned();
        let host_network = is_host_network(pod);
        let mut attachment = Attachment {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            node: node.name.clone(),
            netns: if host_network { self.name.machine(&node.name) } else { self.name.pod(namespace, name) },
            container_id: format!("{:016x}{:016x}", hash(uid.as_bytes()), hash(name.as_bytes())),
            uid,
            addresses: Vec::new(),
            host_network,
            add_micros: None,
        };
        match self.wire(node, &mut attachment) {
            Ok(()) => Ok(attachment),
            Err(error) => {
                if let Err(other) = self.detach(&attachment) {
                    tracing::warn!("pod {namespace}/{name}, which could not be attached: {other}");
                }
                Err(error)
            }
        }
    }

    /// Records what is to be attached, attaches it, and records what came of it.
    fn wire(&self, node: &Node, attachment: &mut Attachment) -> Result<()> {
        let file = self.attachment_file(&attachment.namespace, &attachment.name);
        files::write_json(&file, attachment)?;
        attachment.addresses = if attachment.host_network {
            node.addresses.iter().map(IpNet::addr).collect()
        } else {
            netns::create(&attachment.netns)?;
            plain::sandbox(&attachment.netns)?;
            match node.dataplane {
                Dataplane::Plain => plain::attach(self, node, attachment)?,
                Dataplane::Bpf => {
                    let started = Instant::now();
                    let result = self.cni("ADD", node, attachment)?;
                    attachment.add_micros = u64::try_from(started.elapsed().as_micros()).ok();
                    addresses(&result)?
                }
            }
        };
        files::write_json(&file, attachment)
    }

    /// Takes a pod's network away. Absent is fine; an error of the plugin does not keep the namespace.
    pub(crate) fn detach(&self, attachment: &Attachment) -> Result<()> {
        let node = self.state.plan.node(&attachment.node)?;
        self.end_host_programs(attachment)?;
        let mut result = Ok(());
        if !attachment.host_network {
            result = match node.dataplane {
                Dataplane::Plain => plain::detach(self, node, attachment),
                Dataplane::Bpf => self.cni("DEL", node, attachment).map(drop),
            };
            netns::delete(&attachment.netns)?;
        }
        let file = self.attachment_file(&attachment.namespace, &attachment.name);
        fs::remove_file(&file).with_context(|| file.display().to_string())?;
        result
    }

    /// Calls the plugin as a container runtime does.
    fn cni(&self, command: &str, node: &Node, pod: &Attachment) -> Result<Value> {
        let mut place = self.place(&Where::Node(node.name.clone()))?;
        let arguments = [
            ("IgnoreUnknown", "1"),
            ("K8S_POD_NAMESPACE", &pod.namespace),
            ("K8S_POD_NAME", &pod.name),
            ("K8S_POD_INFRA_CONTAINER_ID", &pod.container_id),
            ("K8S_POD_UID", &pod.uid),
        ];
        let arguments: Vec<String> = arguments.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let plugins = std::env::var_os("CNI_PATH").unwrap_or_else(|| PLUGIN_DIRECTORIES.into());
        for (key, value) in [
            ("CNI_COMMAND", OsString::from(command)),
            ("CNI_CONTAINERID", pod.container_id.clone().into()),
            ("CNI_NETNS", netns::path(&pod.netns).into_os_string()),
            ("CNI_IFNAME", "eth0".into()),
            ("CNI_ARGS", arguments.join(";").into()),
            ("CNI_PATH", plugins),
        ] {
            place.env.insert(key.to_owned(), value);
        }
        let argv = [self.binary.clone().into_os_string(), "cni".into()];
        let mut child = place.spawn(&argv, [Stdio::piped(), Stdio::piped(), Stdio::piped()])?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin
                .write_all(plugin_config(self, node).to_string().as_bytes())
                .context("writing to the plugin")?;
        }
        let output = child.wait_with_output().context("the CNI plugin")?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            let error: Value = serde_json::from_str(&said).unwrap_or_default();
            let text = |field: &str| error.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
            let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            let words = [text("msg"), text("details"), stderr].into_iter().filter(|word| !word.is_empty());
            let words: Vec<String> = words.collect();
            return Err(no!(
                "pod {}/{}: CNI {command} on {}: {}",
                pod.namespace,
                pod.name,
                node.name,
                if words.is_empty() { output.status.to_string() } else { words.join(": ") }
            ));
        }
        if said.trim().is_empty() {
            return Ok(Value::Null);
        }
        Ok(serde_json::from_str(&said).with_context(|| format!("CNI {command} answered {said:?}"))?)
    }
}

/// The addresses in a CNI result.
fn addresses(result: &Value) -> Result<Vec<IpAddr>> {
    let ips = result.get("ips").and_then(Value::as_array).into_iter().flatten();
    let found: Vec<IpAddr> =
        ips.filter_map(|ip| ip.get("address")?.as_str()?.split('/').next()?.parse().ok()).collect();
    if found.is_empty() {
        return Err(no!("the CNI plugin answered without an address: {result}"));
    }
    Ok(found)
}

fn plugin_config(lab: &Lab, node: &Node) -> Value {
    let ranges: Vec<Value> =
        node.pod_cidrs.iter().map(|cidr| json!([{"subnet": cidr.to_string()}])).collect();
    json!({
        "cniVersion": CNI_VERSION,
        "name": "tortie",
        "type": "tortie",
        "mtu": lab.state.plan.mtu_bytes,
        "runDir": lab.paths.run_dir(&node.name),
        "readyTimeoutSeconds": READY_TIMEOUT_SECONDS,
        "ipam": {
            "type": "host-local",
            "ranges": ranges,
            "dataDir": lab.paths.node(&node.name).join("ipam"),
        },
    })
}

/// The configuration as an operator would install it, for people to look at.
pub(crate) fn write_conflist(lab: &Lab, node: &Node) -> Result<()> {
    let mut plugin = plugin_config(lab, node);
    if let Some(map) = plugin.as_object_mut() {
        map.remove("cniVersion");
        map.remove("name");
    }
    let list = json!({"cniVersion": CNI_VERSION, "name": "tortie", "plugins": [plugin]});
    files::write_json(&lab.paths.node(&node.name).join("cni").join("10-tortie.conflist"), &list)
}
