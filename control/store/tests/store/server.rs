//! A small API server that does what a test tells it to: lists, watches, and every way of failing at them.
//!
//! HTTP/1.1 without TLS, a thread for each connection. Objects are kept as they are put; there is no validation.

#[path = "server_writes.rs"]
mod writes;

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;
use tortie_store::kind::{KINDS, Kind};

/// What the server does wrong.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Connections are closed at once, open ones too.
    pub down: bool,
    /// Nothing is answered and nothing more is said on a watch, but connections stay open.
    pub silent: bool,
    /// Requests whose path and query contain the text are not answered.
    pub held: Option<String>,
    /// Requests whose path and query contain the text get this status and body.
    pub refuse: Vec<(String, u16, String)>,
    /// Watches from below this version are told that it has expired.
    pub expired_below: u64,
    /// Each watch is cut off in the middle of its next event.
    pub truncate: bool,
    /// Instead of the next event of a watch, this line.
    pub garbage: Option<String>,
    /// Items that lists have besides the objects.
    pub foreign_items: Vec<Value>,
    /// Kinds that are not served, as `GlobalNetworkPolicy`.
    pub absent: Vec<String>,
    /// Requests need this token.
    pub token: Option<String>,
    /// Whoever has another one is known, and may do nothing.
    pub knows_all: bool,
    /// Watches end as they do in the ordinary way.
    pub over: bool,
    /// Not ready: `/readyz` fails.
    pub unready: bool,
}

#[derive(Default)]
struct World {
    version: u64,
    /// By group version, plural, namespace, name.
    objects: BTreeMap<(String, String, String, String), Value>,
    log: Vec<(u64, String, String, &'static str, Value)>,
    faults: Faults,
    requests: Vec<String>,
    streams: Vec<TcpStream>,
    group: &'static str,
    page: usize,
}

/// The server; stops when dropped.
pub struct Server {
    world: Arc<(Mutex<World>, Condvar)>,
    pub port: u16,
    stop: Arc<std::sync::atomic::AtomicBool>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, std::sync::atomic::Ordering::SeqCst);
        self.with_faults(|faults| faults.down = true);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Server {
    /// Calico's kinds are served in `projectcalico.org/v3`.
    pub fn start() -> Self {
        Self::with_group("projectcalico.org/v3")
    }

    /// Calico's kinds are served in this group and version.
    pub fn with_group(group: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let world = World { version: 100, group, page: usize::MAX, ..World::default() };
        let world = Arc::new((Mutex::new(world), Condvar::new()));
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (shared, stopped) = (Arc::clone(&world), Arc::clone(&stop));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(std::sync::atomic::Ordering::SeqCst) {
                    return;
                }
                let stream = stream.unwrap();
                let mut guard = shared.0.lock().unwrap();
                if guard.faults.down {
                    continue;
                }
                guard.streams.push(stream.try_clone().unwrap());
                let world = Arc::clone(&shared);
                std::thread::spawn(move || serve(&world, stream));
            }
        });
        Self { world, port, stop }
    }

    /// With the namespace by which a cluster is known.
    pub fn of_a_cluster() -> Self {
        let server = Self::start();
        server.put(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system", "uid": "u"}}));
        server
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.0.lock().unwrap()
    }

    /// Changes what goes wrong.
    pub fn with_faults(&self, change: impl FnOnce(&mut Faults)) {
        let mut world = self.world();
        change(&mut world.faults);
        if world.faults.down {
            for stream in std::mem::take(&mut world.streams) {
                let _ = stream.shutdown(std::net::Shutdown::Both);
            }
        }
        self.world.1.notify_all();
    }

    /// Calico's kinds are served in this group and version from now on, whatever watches of the other one are open.
    pub fn set_group(&self, group: &'static str) {
        let mut world = self.world();
        let before = std::mem::replace(&mut world.group, group);
        let moved: Vec<_> = world.objects.keys().filter(|key| key.0 == before).cloned().collect();
        for key in moved {
            let mut object = world.objects.remove(&key).unwrap();
            object["apiVersion"] = group.into();
            world.objects.insert((group.to_owned(), key.1, key.2, key.3), object);
        }
    }

    /// Lists have pages of so many objects, whatever is asked for.
    pub fn set_page(&self, page: usize) {
        self.world().page = page;
    }

    /// Writes an object.
    pub fn put(&self, object: &Value) {
        let mut world = self.world();
        world.version += 1;
        let version = world.version;
        let place = place(world.group, object);
        let mut object = object.clone();
        let metadata = object["metadata"].as_object_mut().unwrap();
        metadata.insert("resourceVersion".into(), version.to_string().into());
        metadata.entry("uid").or_insert_with(|| format!("uid-{version}").into());
        let (group, plural, ..) = place.clone();
        if group != "v1" && group == world.group {
            object["apiVersion"] = group.clone().into();
        }
        let event = if world.objects.contains_key(&place) { "MODIFIED" } else { "ADDED" };
        world.objects.insert(place, object.clone());
        world.log.push((version, group, plural, event, object));
        self.world.1.notify_all();
    }

    /// Deletes an object.
    pub fn delete(&self, object: &Value) {
        let mut world = self.world();
        let place = place(world.group, object);
        let mut object = world.objects.remove(&place).expect("an object");
        world.version += 1;
        let version = world.version;
        object["metadata"]["resourceVersion"] = version.to_string().into();
        world.log.push((version, place.0, place.1, "DELETED", object));
        self.world.1.notify_all();
    }

    /// Forgets everything, as an etcd that has lost its data: nobody is told.
    pub fn lose_everything(&self) {
        let mut world = self.world();
        world.objects.clear();
        world.log.clear();
        world.faults.expired_below = u64::MAX;
    }

    /// Nobody is told of what is done in here, as if a watch had missed it; what was logged has expired.
    pub fn unseen(&self, change: impl FnOnce(&Self)) {
        let before = self.world().log.len();
        self.with_faults(|faults| faults.down = true);
        change(self);
        let mut world = self.world();
        world.log.truncate(before);
        world.faults.expired_below = world.version;
        world.faults.down = false;
    }

    /// Tells every watch that nothing has happened so far.
    pub fn bookmark(&self) {
        let mut world = self.world();
        world.version += 1;
        let version = world.version;
        world.log.push((
            version,
            String::new(),
            String::new(),
            "BOOKMARK",
            json!({"kind": "Any", "metadata": {}}),
        ));
        self.world.1.notify_all();
    }

    /// Paths and queries of all requests so far.
    pub fn requests(&self) -> Vec<String> {
        self.world().requests.clone()
    }

    /// Objects that were written by clients.
    pub fn objects(&self, plural: &str) -> Vec<Value> {
        let world = self.world();
        world.objects.iter().filter(|(key, _)| key.1 == plural).map(|(_, object)| object.clone()).collect()
    }

    /// A configuration for clients.
    pub fn kubeconfig(&self, directory: &std::path::Path, user: &Value) -> std::path::PathBuf {
        let path = directory.join("kubeconfig");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "x",
            "clusters": [{"name": "c", "cluster": {"server": format!("http://127.0.0.1:{}", self.port)}}],
            "users": [{"name": "u", "user": user}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        });
        std::fs::write(&path, config.to_string()).unwrap();
        path
    }
}

fn api_version(group: &str, kind: &Kind) -> String {
    if kind.group == "projectcalico.org" { group.to_owned() } else { kind.api_version() }
}

fn plural(kind: &Kind) -> String {
    let singular = kind.kind.to_lowercase();
    match singular.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None if singular.ends_with('s') => format!("{singular}es"),
        None => format!("{singular}s"),
    }
}

fn place(group: &str, object: &Value) -> (String, String, String, String) {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (given, name) = (text("/apiVersion"), text("/kind"));
    let (kind_group, _) = tortie_store::kind::group_version(&given);
    let known = tortie_store::kind::of(kind_group, &name);
    let (version, plural) = match known {
        Some(kind) => (api_version(group, kind), plural(kind)),
        None => (given, format!("{}s", name.to_lowercase())),
    };
    let namespace = match known {
        Some(kind) if kind.namespaced && text("/metadata/namespace").is_empty() => "default".to_owned(),
        _ => text("/metadata/namespace"),
    };
    (version, plural, namespace, text("/metadata/name"))
}

struct Request {
    method: String,
    target: String,
    token: String,
    body: Vec<u8>,
}

fn read_request(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    if reader.read_line(&mut line).ok()? == 0 {
        return None;
    }
    let mut parts = line.split_whitespace().map(str::to_owned);
    let (method, target) = (parts.next()?, parts.next()?);
    let (mut length, mut token) = (0, String::new());
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let (name, value) = header.trim().split_once(": ").unwrap_or_default();
        match name.to_lowercase().as_str() {
            "content-length" => length = value.parse().ok()?,
            "authorization" => value.trim_start_matches("Bearer ").clone_into(&mut token),
            _ if header.trim().is_empty() => break,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { method, target, token, body })
}

fn serve(world: &(Mutex<World>, Condvar), stream: TcpStream) {
    let mut out = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_request(&mut reader) {
        let mut guard = world.0.lock().unwrap();
        guard.requests.push(format!("{} {}", request.method, request.target));
        let held = |faults: &Faults| faults.held.as_ref().is_some_and(|text| request.target.contains(text));
        while (guard.faults.silent || held(&guard.faults)) && !guard.faults.down {
            guard = world.1.wait_timeout(guard, Duration::from_millis(50)).unwrap().0;
        }
        if guard.faults.down {
            return;
        }
        let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
        let query: BTreeMap<&str, &str> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
        let refused = guard.faults.refuse.iter().find(|(text, ..)| request.target.contains(text)).cloned();
        let (code, body) = match refused {
            _ if guard.faults.token.as_ref().is_some_and(|token| *token != request.token) => {
                match guard.faults.knows_all {
                    true => (403, status(403, "Forbidden", "you may not")),
                    false => (401, status(401, "Unauthorized", "who are you")),
                }
            }
            Some((_, code, body)) => (code, body),
            None if query.contains_key("watch") => {
                drop(guard);
                if watch(world, &mut out, path, &query).is_none() {
                    return;
                }
                continue;
            }
            None if request.method != "GET" && query.contains_key("dryRun") => {
                let before = (guard.objects.clone(), guard.version);
                let answer = writes::write(&mut guard, &request, path, &query);
                (guard.objects, guard.version) = before;
                answer
            }
            None if request.method == "POST" => create(&mut guard, &request.body),
            None if request.method != "GET" && !path.contains("/nodes/") => {
                writes::write(&mut guard, &request, path, &query)
            }
            None if request.method == "PATCH" => patch(&mut guard, path, &request.body),
            None if path == "/readyz" && guard.faults.unready => (500, "not ready".into()),
            None if path == "/readyz" => (200, "ok".into()),
            None => get(&guard, path, &query),
        };
        drop(guard);
        let head = format!(
            "HTTP/1.1 {code} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        if out.write_all(head.as_bytes()).and_then(|()| out.write_all(body.as_bytes())).is_err() {
            return;
        }
    }
}

pub fn status(code: u16, reason: &str, message: &str) -> String {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message})
        .to_string()
}

fn create(world: &mut World, body: &[u8]) -> (u16, String) {
    let mut object: Value = serde_json::from_slice(body).unwrap();
    let place = place(world.group, &object);
    if world.objects.contains_key(&place) {
        return (409, status(409, "AlreadyExists", "there is one"));
    }
    let said = |name: &str| object["metadata"].get(name).is_some();
    if said("resourceVersion") {
        let why = "resourceVersion should not be set on objects to be created";
        return (400, status(400, "BadRequest", why));
    }
    if said("uid") {
        return (409, status(409, "Conflict", "uid mismatch: no existing object was found"));
    }
    world.version += 1;
    object["metadata"]["resourceVersion"] = world.version.to_string().into();
    world.objects.insert(place, object.clone());
    (201, object.to_string())
}

/// Server-side apply of a Node's annotations or conditions, as far as tests need it.
fn patch(world: &mut World, path: &str, body: &[u8]) -> (u16, String) {
    let body: Value = serde_json::from_slice(body).unwrap();
    let place = place(world.group, &body);
    world.version += 1;
    let version = world.version;
    let Some(object) = world.objects.get_mut(&place) else {
        return (404, status(404, "NotFound", "there is none"));
    };
    if path.ends_with("/status") {
        object["status"]["conditions"] = body["status"]["conditions"].clone();
    } else {
        assert_eq!(
            body["metadata"]["uid"], object["metadata"]["uid"],
            "an apply without uid may make a Node"
        );
        object["metadata"]["annotations"] = body["metadata"]["annotations"].clone();
    }
    object["metadata"]["resourceVersion"] = version.to_string().into();
    let object = object.clone();
    world.log.push((version, place.0, place.1, "MODIFIED", object.clone()));
    (200, object.to_string())
}

/// Group version, plural, namespace and what follows, of a path.
fn parse(path: &str) -> (String, Vec<&str>) {
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match parts.split_first() {
        Some((&"api", rest)) => (rest[..1].join("/"), rest[1..].to_vec()),
        Some((&"apis", rest)) => (rest[..2].join("/"), rest[2..].to_vec()),
        _ => (String::new(), parts),
    }
}

fn split(rest: Vec<&str>) -> (String, String, Option<String>) {
    match rest[..] {
        ["namespaces", namespace, plural] => (plural.to_owned(), namespace.to_owned(), None),
        ["namespaces", namespace, plural, name] => {
            (plural.to_owned(), namespace.to_owned(), Some(name.to_owned()))
        }
        [plural] => (plural.to_owned(), String::new(), None),
        [plural, name] => (plural.to_owned(), String::new(), Some(name.to_owned())),
        _ => panic!("{rest:?}"),
    }
}

fn get(world: &World, path: &str, query: &BTreeMap<&str, &str>) -> (u16, String) {
    let (group, rest) = parse(path);
    if rest.is_empty() {
        return discover(world, &group);
    }
    let (plural, namespace, name) = split(rest);
    if let Some(name) = name {
        return match world.objects.get(&(group, plural, namespace, name)) {
            Some(object) => (200, object.to_string()),
            None => (404, status(404, "NotFound", "there is none")),
        };
    }
    if discover_kinds(world, &group).all(|kind| self::plural(kind) != plural)
        && plural != "customresourcedefinitions"
    {
        return (404, status(404, "NotFound", "no such kind"));
    }
    let from: usize = query.get("continue").map_or(0, |token| token.parse().unwrap());
    let all: Vec<&Value> = matching(world, &group, &plural, &namespace).collect();
    let limit = query.get("limit").map_or(usize::MAX, |limit| limit.parse().unwrap()).min(world.page);
    let mut items: Vec<Value> = all.iter().skip(from).take(limit).map(|item| (*item).clone()).collect();
    for item in &mut items {
        item.as_object_mut().unwrap().remove("kind");
    }
    let next = if from + limit < all.len() { (from + limit).to_string() } else { String::new() };
    let foreign = world.faults.foreign_items.iter().filter(|item| item["of"] == plural.as_str());
    items.extend(foreign.map(|item| item["item"].clone()));
    let list = json!({
        "kind": "List", "apiVersion": group, "items": items,
        "metadata": {"resourceVersion": world.version.to_string(), "continue": next},
    });
    (200, list.to_string())
}

fn matching<'w>(
    world: &'w World,
    group: &'w str,
    plural: &'w str,
    namespace: &'w str,
) -> impl Iterator<Item = &'w Value> {
    let is = move |key: &(String, String, String, String)| {
        key.0 == group && key.1 == plural && (namespace.is_empty() || key.2 == namespace)
    };
    world.objects.iter().filter(move |(key, _)| is(key)).map(|(_, object)| object)
}

fn discover_kinds(world: &World, group: &str) -> impl Iterator<Item = &'static Kind> {
    KINDS.iter().filter(move |kind| {
        api_version(world.group, kind) == group
            && !world.faults.absent.iter().any(|absent| absent == kind.kind)
    })
}

fn discover(world: &World, group: &str) -> (u16, String) {
    let mut resources: Vec<Value> = discover_kinds(world, group)
        .map(|kind| json!({"name": plural(kind), "kind": kind.kind, "namespaced": kind.namespaced}))
        .collect();
    if group == "apiextensions.k8s.io/v1" {
        resources.push(json!({"name": "customresourcedefinitions", "kind": "CustomResourceDefinition", "namespaced": false}));
    }
    match resources.is_empty() {
        true => (404, status(404, "NotFound", "no such group")),
        false => (
            200,
            json!({"kind": "APIResourceList", "groupVersion": group, "resources": resources}).to_string(),
        ),
    }
}

/// Streams events; `None`: the connection is over.
fn watch(
    world: &(Mutex<World>, Condvar),
    out: &mut TcpStream,
    path: &str,
    query: &BTreeMap<&str, &str>,
) -> Option<()> {
    let (group, rest) = parse(path);
    let (plural, namespace, _) = split(rest);
    let mut reached: u64 = query["resourceVersion"].parse().unwrap();
    out.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
        .ok()?;
    let mut guard = world.0.lock().unwrap();
    if reached < guard.faults.expired_below {
        let expired: Value = serde_json::from_str(&status(410, "Expired", "too old")).unwrap();
        chunk(out, &json!({"type": "ERROR", "object": expired}).to_string()).ok()?;
        return out.write_all(b"0\r\n\r\n").ok();
    }
    loop {
        if guard.faults.down {
            return None;
        }
        if guard.faults.over {
            return out.write_all(b"0\r\n\r\n").ok();
        }
        let next = guard.log.iter().find(|(version, of, kind, _, object)| {
            let here = namespace.is_empty() || object["metadata"]["namespace"] == namespace.as_str();
            *version > reached && (of.is_empty() || (*of == group && *kind == plural && here))
        });
        match next.cloned() {
            Some((version, _, _, event, mut object)) if !guard.faults.silent => {
                object["metadata"]["resourceVersion"] = version.to_string().into();
                let line = json!({"type": event, "object": object}).to_string();
                if let Some(garbage) = guard.faults.garbage.take() {
                    chunk(out, &garbage).ok()?;
                } else if guard.faults.truncate && event != "BOOKMARK" {
                    guard.faults.truncate = false;
                    let half = &line[..line.len() / 2];
                    write!(out, "{:x}\r\n{half}\r\n", half.len()).ok()?;
                    return None;
                } else {
                    chunk(out, &line).ok()?;
                }
                reached = version;
            }
            _ => guard = world.1.wait_timeout(guard, Duration::from_millis(200)).unwrap().0,
        }
    }
}

fn chunk(out: &mut TcpStream, line: &str) -> std::io::Result<()> {
    write!(out, "{:x}\r\n{line}\n\r\n", line.len() + 1)
}
