//! A laboratory, opened.
//!
//! Owns: building one, finding the binary that its processes run from, and where commands run in it.
//! Does not: apply objects or probe; modules beside this one do.
//! Invariant: `lab.json` is written before anything is made, so that `down` knows where to look.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use ipnet::IpNet;
use nix::mount::{MsFlags, mount};

use crate::control_plane::{self, API};
use crate::error::{Error, Result, bad, no};
use crate::files;
use crate::names::LabName;
use crate::netns;
use crate::plan::{Dataplane, Families, Node, Plan};
use crate::process::Place;
use crate::state::{self, Lock, Paths, State};
use crate::underlay;

/// A laboratory that exists.
#[derive(Debug, Clone)]
pub struct Lab {
    /// Its name.
    pub name: LabName,
    /// Its files.
    pub paths: Paths,
    /// What it remembers.
    pub state: State,
    /// The `tortie` that agents, plugins and servers run from.
    pub binary: PathBuf,
    /// To the API server, where there is one.
    pub(crate) connection: crate::api::Connection,
}

/// Where a laboratory's objects are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    /// In a directory of YAML.
    Dir,
    /// In a real API server.
    Kube,
}

/// What `lab up` is asked for.
#[derive(Debug, Clone)]
pub struct UpOptions {
    /// Which families.
    pub families: Families,
    /// MTU of underlay and pods.
    pub mtu_bytes: u32,
    /// One for each node.
    pub dataplanes: Vec<Dataplane>,
    /// Where the cluster's objects are.
    pub store: StoreKind,
    /// With [`StoreKind::Kube`]: the laboratory whose control plane to use, instead of one of its own.
    pub lender: Option<LabName>,
    /// How long agents may take to become ready.
    pub patience: Duration,
}

impl Default for UpOptions {
    /// Three nodes, dual stack, BPF, a directory.
    fn default() -> Self {
        Self {
            families: Families::Dual,
            mtu_bytes: 1500,
            dataplanes: vec![Dataplane::Bpf; 3],
            store: StoreKind::Dir,
            lender: None,
            patience: Duration::from_secs(30),
        }
    }
}

/// Where a command of a person runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Where {
    /// In a pod: namespace and name.
    Pod(String, String),
    /// On a node.
    Node(String),
    /// On a machine outside.
    Client(String),
}

/// The machine that the outside machines' server runs as.
pub(crate) const OUTSIDE: &str = "outside";

impl Lab {
    /// Builds a laboratory and returns when its agents are ready.
    pub fn up(name: &LabName, options: &UpOptions) -> Result<Self> {
        let plan = Plan::new(options.families, options.mtu_bytes, &options.dataplanes)?;
        let components = match options.store {
            StoreKind::Dir => BTreeMap::new(),
            StoreKind::Kube => control_plane::find_components()?,
        };
        let lock = Lock::take(name)?;
        let paths = Paths::of(name);
        if paths.state().exists() {
            drop(lock);
            return Err(bad!("laboratory {name} exists: `tortie lab down --name {name}` removes it"));
        }
        let mut lab = Self::new(name, plan, components)?;
        lab.state.lender.clone_from(&options.lender);
        let built = lab.build(options.patience);
        drop(lock);
        built.map_err(|error| lab.unmade(error))?;
        Ok(lab)
    }

    /// One of which nothing has been made yet.
    pub(crate) fn new(name: &LabName, plan: Plan, components: BTreeMap<String, PathBuf>) -> Result<Self> {
        let state = State {
            name: name.to_string(),
            complete: false,
            plan,
            cgroup_root: cgroup_root()?,
            components,
            lender: None,
            scheduled: 0,
            routes: BTreeMap::new(),
        };
        let (paths, connection) = (Paths::of(name), Default::default());
        Ok(Self { name: name.clone(), paths, state, binary: binary()?, connection })
    }

    /// When it could not be built, what was made so far goes; the first error is the one that matters.
    pub(crate) fn unmade(&self, error: Error) -> Error {
        let name = &self.name;
        let hint = crate::sweep::down(name).err().map(|error| format!(" (and then: {error})"));
        error.context(format!("laboratory {name} did not come up{}", hint.unwrap_or_default()))
    }

    /// Its directories, and where `down` will look.
    pub(crate) fn begin(&self) -> Result<()> {
        fs::create_dir_all(self.paths.store()).context("creating the store")?;
        files::write_json(&self.paths.state(), &self.state)?;
        for directory in ["logs", "processes", "sockets", "pods", "bpf"] {
            let path = self.paths.root.join(directory);
            fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        }
        if netns::prepare_directory()? {
            files::write_atomically(&state::base().join(".made-netns-directory"), b"")?;
        }
        Ok(())
    }

    fn build(&mut self, patience: Duration) -> Result<()> {
        self.begin()?;
        underlay::build(&self.name, &self.state.plan)?;
        for machine in self.machines() {
            self.make_cgroup(&machine)?;
        }
        if self.has_api_server() {
            self.make_cgroup(API)?;
        }
        if self.state.lender.is_some() {
            self.borrow_control_plane()?;
        } else if self.has_api_server() {
            underlay::build_machine(&self.name, &self.state.plan, API, &self.state.plan.api)?;
            self.start_control_plane()?;
        }
        self.mount_bpffs()?;
        for node in &self.state.plan.nodes {
            self.prepare_node(node)?;
        }
        if self.has_api_server() {
            if self.state.lender.is_none() {
                self.finish_control_plane(patience)?;
            }
            self.register_nodes()?;
            self.ensure_kubelet()?;
        } else {
            self.reconcile_world()?;
        }
        for node in self.agents() {
            self.start_agent(&node.name)?;
        }
        for machine in self.machines() {
            self.start_server(&machine)?;
        }
        self.wait(patience)?;
        self.state.complete = true;
        self.save()
    }

    pub(crate) fn make_cgroup(&self, machine: &str) -> Result<()> {
        let cgroup = self.cgroup(machine);
        Ok(fs::create_dir(&cgroup).with_context(|| cgroup.display().to_string())?)
    }

    fn prepare_node(&self, node: &Node) -> Result<()> {
        for directory in [self.paths.run_dir(&node.name), self.paths.node(&node.name).join("cni")] {
            fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
        }
        crate::attach::write_conflist(self, node)
    }

    /// A BPF file system for this laboratory alone: nothing of it can outlive the mount.
    fn mount_bpffs(&self) -> Result<()> {
        if self.agents().next().is_none() {
            return Ok(());
        }
        let (source, target) = (format!("{}bpf", self.name.prefix()), self.paths.bpffs());
        mount(Some(source.as_str()), &target, Some("bpf"), MsFlags::empty(), Some("mode=0700"))
            .context("mounting a BPF file system: the kernel needs CONFIG_BPF_SYSCALL")?;
        for node in self.agents() {
            let path = self.paths.node_bpffs(&node.name);
            fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        }
        Ok(())
    }

    /// Opens a laboratory that is up.
    pub fn open(name: &LabName) -> Result<Self> {
        let state = state::load(name)?;
        if !state.complete {
            let why = format!("laboratory {name} is being built, or building it was interrupted");
            return Err(Error::Unreachable(anyhow::anyhow!("{why}: `tortie lab down --name {name}`")));
        }
        let connection = Default::default();
        Ok(Self { name: name.clone(), paths: Paths::of(name), state, binary: binary()?, connection })
    }

    /// Opens a laboratory that may still be being built, for its own processes.
    pub(crate) fn open_unfinished(name: &LabName) -> Result<Self> {
        let (state, connection) = (state::load(name)?, Default::default());
        Ok(Self { name: name.clone(), paths: Paths::of(name), state, binary: binary()?, connection })
    }

    /// Opens a laboratory to change it; other commands that would change it wait.
    pub(crate) fn lock(&mut self) -> Result<Lock> {
        let lock = Lock::take(&self.name)?;
        self.state = state::load(&self.name)?;
        Ok(lock)
    }

    pub(crate) fn save(&self) -> Result<()> {
        files::write_json(&self.paths.state(), &self.state)
    }

    /// The nodes that have an agent.
    pub fn agents(&self) -> impl Iterator<Item = &Node> {
        self.state.plan.nodes.iter().filter(|node| node.dataplane == Dataplane::Bpf)
    }

    /// What has a pod server of its own: every node, and the outside machines together.
    pub(crate) fn machines(&self) -> Vec<String> {
        let nodes = self.state.plan.nodes.iter().map(|node| node.name.clone());
        nodes.chain([OUTSIDE.to_owned()]).collect()
    }

    pub(crate) fn cgroup(&self, machine: &str) -> PathBuf {
        self.state.cgroup_root.join(self.name.machine(machine))
    }

    /// Where a command runs, with the environment that makes `tortie` verbs talk to that node.
    pub fn place(&self, place: &Where) -> Result<Place> {
        let (netns, node) = match place {
            Where::Node(name) => (self.name.machine(&self.state.plan.node(name)?.name), Some(name.clone())),
            Where::Client(name) => (self.name.machine(&self.state.plan.client(name)?.name), None),
            Where::Pod(namespace, name) => {
                let attached = self.attachment(namespace, name)?;
                (attached.netns, Some(attached.node))
            }
        };
        Ok(self.place_in(&netns, node.as_deref()))
    }

    pub(crate) fn place_in(&self, netns: &str, node: Option<&str>) -> Place {
        let mut env = BTreeMap::new();
        if let Some(node) = node {
            env.insert("TORTIE_STORE".to_owned(), self.store_address());
            env.insert("TORTIE_RUN_DIR".to_owned(), self.paths.run_dir(node).into_os_string());
            env.insert("TORTIE_BPFFS".to_owned(), self.paths.node_bpffs(node).into_os_string());
            env.insert("TORTIE_CGROUP".to_owned(), self.cgroup(node).into_os_string());
        }
        if self.has_api_server() {
            env.insert("KUBECONFIG".to_owned(), self.admin_kubeconfig().into_os_string());
            env.insert("PATH".to_owned(), self.path_with_kubectl());
        }
        Place { netns: netns::path(netns), cgroup: self.cgroup(node.unwrap_or(OUTSIDE)), env }
    }

    /// The store as the verbs of people name it; they may do everything.
    pub(crate) fn store_address(&self) -> OsString {
        let (kind, path) = if self.has_api_server() {
            ("kube:", self.admin_kubeconfig())
        } else {
            ("dir:", self.paths.store())
        };
        [OsString::from(kind), path.into_os_string()].into_iter().collect()
    }

    pub(crate) fn path_with_kubectl(&self) -> OsString {
        let usual = env::var_os("PATH").unwrap_or_default();
        let ours = self.state.components.get("kubectl").and_then(|path| path.parent()).map(Path::to_owned);
        // A directory whose name has a colon cannot be on a path; then kubectl has to be named in full.
        env::join_paths(ours.into_iter().chain(env::split_paths(&usual))).unwrap_or(usual)
    }

    /// Sets the router's next hop for a prefix, or moves it.
    pub fn route(&mut self, prefix: IpNet, node: &str) -> Result<()> {
        let _lock = self.lock()?;
        let node = self.state.plan.node(node)?.clone();
        if !self.state.plan.families.has(crate::plan::Family::of(&prefix.addr())) {
            return Err(bad!("{prefix}: this laboratory has no such family"));
        }
        underlay::announce(&self.name, &prefix.trunc(), &node)?;
        self.state.routes.insert(prefix.trunc(), node.name);
        self.save()
    }
}

/// The `tortie` to run: TORTIE_BIN, else this very program, else the one built beside this test.
fn binary() -> Result<PathBuf> {
    if let Some(path) = env::var_os("TORTIE_BIN") {
        let path = PathBuf::from(path);
        return fs::canonicalize(&path).map_err(|error| bad!("TORTIE_BIN {}: {error}", path.display()));
    }
    let current = env::current_exe().context("the path of this program")?;
    let is_tortie = |path: &Path| {
        path.file_name()
            .is_some_and(|name| name == "tortie" || name == "kubectl-tortie" || name == "tortie-cni")
    };
    if is_tortie(&current) {
        return Ok(current);
    }
    let beside = current.ancestors().skip(1).take(3).map(|directory| directory.join("tortie"));
    beside
        .into_iter()
        .find(|path| path.is_file())
        .ok_or_else(|| no!("no tortie beside {}: build it, or set TORTIE_BIN", current.display()))
}

/// The cgroup v2 mount, or the directory that TORTIE_CGROUP names.
fn cgroup_root() -> Result<PathBuf> {
    if let Some(path) = env::var_os("TORTIE_CGROUP") {
        return Ok(PathBuf::from(path));
    }
    let table = fs::read_to_string("/proc/self/mountinfo").context("/proc/self/mountinfo")?;
    let found = table.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        kind.starts_with("cgroup2 ").then(|| mount.split(' ').nth(4).map(PathBuf::from)).flatten()
    });
    found.ok_or_else(|| {
        Error::NotAllowed(anyhow::anyhow!("cgroup v2 is not mounted: mount -t cgroup2 none /sys/fs/cgroup"))
    })
}

/// Every cgroup v2 directory that could hold this laboratory's; `lab.json` may be lost.
pub(crate) fn cgroup_roots() -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mounts = table.lines().filter_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        kind.starts_with("cgroup2 ").then(|| mount.split(' ').nth(4).map(PathBuf::from)).flatten()
    });
    mounts.chain(env::var_os("TORTIE_CGROUP").map(PathBuf::from)).collect()
}
