//! A node for the plugin: a network namespace, a run directory, an address plugin and an agent, all its own.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};
use tempfile::TempDir;
use tortie::agent_api::{self, EndpointRecord, Request, Response};
use tortie_testkit::netns::Netns;

/// What the runtime gets.
pub type Answer = Result<Option<Value>, Value>;

pub struct World {
    pub host: Netns,
    pub dir: TempDir,
    /// Where address plugins are looked for, before those of the machine.
    pub plugins: PathBuf,
    /// Changes to the configuration.
    pub changes: HashMap<String, Value>,
}

pub struct Pod {
    pub netns: Netns,
    pub name: String,
    pub container: String,
}

/// An agent that does what it is told, and remembers what it was asked.
pub struct Agent {
    asked: Arc<Mutex<Vec<Request>>>,
}

impl World {
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("tortie-cni-").tempdir().unwrap();
        let plugins = dir.path().join("bin");
        fs::create_dir(&plugins).unwrap();
        Self { host: Netns::new(), dir, plugins, changes: HashMap::new() }
    }

    pub fn run_dir(&self) -> &Path {
        self.dir.path()
    }

    /// From now on an agent answers every request with what `answer` makes of it; `None` is silence.
    pub fn agent(&self, answer: impl Fn(&Request) -> Option<Response> + Send + Sync + 'static) -> Agent {
        let path = agent_api::socket_path(self.run_dir());
        let _ = fs::remove_file(&path);
        let listener = UnixListener::bind(path).unwrap();
        let (asked, answer) = (Arc::new(Mutex::new(Vec::new())), Arc::new(answer));
        let agent = Agent { asked: asked.clone() };
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (asked, answer) = (asked.clone(), answer.clone());
                thread::spawn(move || serve(stream.unwrap(), &asked, &*answer));
            }
        });
        agent
    }

    /// An agent that protects everything at once.
    pub fn willing_agent(&self) -> Agent {
        self.agent(|_| Some(Response::ready(1)))
    }

    pub fn config(&self, version: &str) -> Value {
        let mut config = json!({
            "cniVersion": version,
            "name": "lab",
            "type": "tortie",
            "mtu": 1450,
            "runDir": self.run_dir(),
            "readyTimeoutSeconds": 3,
            "ipam": {
                "type": "host-local",
                "dataDir": self.addresses_dir(),
                "ranges": [[{"subnet": "10.65.0.0/24"}], [{"subnet": "fd00:65::/112"}]],
            },
        });
        for (key, value) in &self.changes {
            config[key] = value.clone();
        }
        config
    }

    /// One call of the plugin, in the node's namespace.
    pub fn call(&self, command: &str, config: &Value, pod: Option<&Pod>) -> Answer {
        let vars = self.vars(command, pod);
        let input = config.to_string();
        self.host.run(|| tortie::cni::run(|name| vars.get(name).cloned(), input.as_bytes()))
    }

    pub fn vars(&self, command: &str, pod: Option<&Pod>) -> HashMap<String, String> {
        let path = format!("{}:{}", self.plugins.display(), machines_plugins().display());
        let mut vars = HashMap::from([("CNI_COMMAND", command.to_owned()), ("CNI_PATH", path)]);
        if let Some(pod) = pod {
            let args = format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME={}", pod.name);
            vars.insert("CNI_CONTAINERID", pod.container.clone());
            vars.insert("CNI_NETNS", pod.netns.path().display().to_string());
            vars.insert("CNI_IFNAME", "eth0".to_owned());
            vars.insert("CNI_ARGS", args);
        }
        vars.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    pub fn add(&self, pod: &Pod) -> Answer {
        self.call("ADD", &self.config("1.1.0"), Some(pod))
    }

    pub fn del(&self, pod: &Pod) -> Answer {
        self.call("DEL", &self.config("1.1.0"), Some(pod))
    }

    /// CHECK against what ADD answered.
    pub fn check(&self, pod: &Pod, added: &Value) -> Answer {
        let mut config = self.config("1.1.0");
        config["prevResult"] = added.clone();
        self.call("CHECK", &config, Some(pod))
    }

    pub fn addresses_dir(&self) -> PathBuf {
        self.dir.path().join("addresses")
    }

    /// Addresses that host-local has given out and not got back.
    pub fn addresses_in_use(&self) -> usize {
        let Ok(entries) = fs::read_dir(self.addresses_dir().join("lab")) else { return 0 };
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name != "lock" && !name.starts_with("last_reserved_ip")).count()
    }

    pub fn records(&self) -> Vec<EndpointRecord> {
        EndpointRecord::read_all(self.run_dir()).unwrap().into_iter().map(Result::unwrap).collect()
    }

    /// The node's veths.
    pub fn interfaces(&self) -> Vec<String> {
        names(&self.ip_json("link show type veth"), "ifname")
    }

    /// Destinations of the node's routes to pods.
    pub fn routes(&self) -> Vec<String> {
        let mut routes = names(&self.ip_json("route show"), "dst");
        routes.extend(names(&self.ip_json("-6 route show"), "dst"));
        routes.retain(|route| !route.starts_with("fe80"));
        routes
    }

    pub fn ip_json(&self, arguments: &str) -> Value {
        json_of(&self.host, arguments)
    }

    /// Nothing of any pod is left on the node.
    pub fn assert_nothing_left(&self) {
        assert_eq!(self.interfaces(), [""; 0], "interfaces");
        assert_eq!(self.routes(), [""; 0], "routes");
        assert_eq!(self.records(), [], "records");
        assert_eq!(self.addresses_in_use(), 0, "addresses");
        let plugin = fs::read_dir(self.run_dir().join("cni")).unwrap();
        let locks =
            plugin.filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|e| e == "lock"));
        assert_eq!(locks.count(), 0, "locks");
    }

    /// Makes an address plugin out of a shell script; what it is asked goes to `<name>.log`.
    pub fn plugin(&self, name: &str, script: &str) {
        let log = self.plugins.join(format!("{name}.log"));
        let path = self.plugins.join(name);
        let whole =
            format!("#!/bin/sh\ninput=$(cat)\necho \"$CNI_COMMAND\" >> {}\n{script}\n", log.display());
        fs::write(&path, whole).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub fn plugin_log(&self, name: &str) -> Vec<String> {
        let log = fs::read_to_string(self.plugins.join(format!("{name}.log"))).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }
}

impl Pod {
    pub fn new(name: &str) -> Self {
        Self { netns: Netns::new(), name: name.to_owned(), container: format!("sandbox-of-{name}") }
    }

    /// The pod's next sandbox: the same pod, another container and namespace.
    pub fn next_sandbox(&self) -> Self {
        Self { netns: Netns::new(), name: self.name.clone(), container: format!("{}-next", self.container) }
    }
}

impl Agent {
    pub fn asked(&self) -> Vec<Request> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(mut stream: UnixStream, asked: &Mutex<Vec<Request>>, answer: &dyn Fn(&Request) -> Option<Response>) {
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line).unwrap();
    let request: Request = serde_json::from_str(&line).unwrap();
    asked.lock().unwrap().push(request.clone());
    match answer(&request) {
        // The plugin may have given up by now.
        Some(response) => drop(writeln!(stream, "{}", serde_json::to_string(&response).unwrap())),
        None => thread::sleep(std::time::Duration::from_secs(30)),
    }
}

/// Where this machine has the plugins of containernetworking.
fn machines_plugins() -> PathBuf {
    let places = ["/usr/lib/cni", "/opt/cni/bin"].map(PathBuf::from);
    let found = places.into_iter().find(|place| place.join("host-local").is_file());
    found
        .expect("host-local in /usr/lib/cni or /opt/cni/bin: install the package containernetworking-plugins")
}

pub fn json_of(netns: &Netns, arguments: &str) -> Value {
    let text = netns.ip(&format!("-j -d {arguments}"));
    if text.trim().is_empty() { json!([]) } else { serde_json::from_str(&text).unwrap() }
}

pub fn names(list: &Value, key: &str) -> Vec<String> {
    let items = list.as_array().unwrap().iter();
    items.filter_map(|item| item.get(key)?.as_str().map(str::to_owned)).collect()
}
