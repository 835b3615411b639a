//! `status --cluster` against an API server that plays nodes whose agents answer, refuse, or say nothing.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::Role;
use tungstenite::{Message, WebSocket};

/// What the agent's pod on a node does when a command is run in it.
#[derive(Clone)]
enum Pod {
    /// There is none.
    None,
    /// The command says this and ends with that code.
    Says(Value, i32),
    /// The same, on stderr.
    Complains(&'static str, i32),
    /// The API server refuses to run anything.
    Forbidden,
    /// Nothing is ever answered.
    Mute,
    /// The connection is cut in the middle of an answer.
    Cut,
}

struct Cluster {
    dir: TempDir,
    kubeconfig: PathBuf,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Cluster {
    /// Nodes n0, n1, … with these pods.
    fn of(pods: Vec<Pod>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = Arc::clone(&requests);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (pods, seen) = (pods.clone(), Arc::clone(&seen));
                thread::spawn(move || serve(stream.unwrap(), &pods, &seen));
            }
        });
        let dir = tempfile::tempdir().unwrap();
        let kubeconfig = dir.path().join("kubeconfig");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "x",
            "clusters": [{"name": "c", "cluster": {"server": url}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        });
        std::fs::write(&kubeconfig, config.to_string()).unwrap();
        Self { dir, kubeconfig, requests }
    }

    fn status(&self, arguments: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tortie"));
        command.current_dir(self.dir.path()).env_remove("TORTIE_STORE");
        command.args(["status", "--cluster"]).env("KUBECONFIG", &self.kubeconfig);
        let Output { status, stdout, stderr } = command.args(arguments).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (status.code().unwrap(), text(stdout), text(stderr))
    }

    fn json(&self, arguments: &[&str]) -> (i32, Vec<Value>) {
        let (code, out, err) = self.status(&[arguments, &["-o", "json"]].concat());
        let answer: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"));
        (code, answer["items"].as_array().unwrap().clone())
    }
}

struct Request {
    target: String,
    key: String,
    protocols: String,
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let target = line.split(' ').nth(1)?.to_owned();
    let mut request = Request { target, key: String::new(), protocols: String::new() };
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let (name, value) = header.trim().split_once(": ").unwrap_or_default();
        match name.to_lowercase().as_str() {
            "" => return Some(request),
            "sec-websocket-key" => value.clone_into(&mut request.key),
            "sec-websocket-protocol" => value.clone_into(&mut request.protocols),
            _ => {}
        }
    }
}

fn serve(mut stream: TcpStream, pods: &[Pod], seen: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while let Some(request) = read(&mut reader) {
        seen.lock().unwrap().push(request.target.clone());
        let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
        let body = match path {
            "/api/v1" => json!({"kind": "APIResourceList", "groupVersion": "v1", "resources": [
                {"name": "nodes", "kind": "Node", "namespaced": false, "singularName": "node", "verbs": ["list"]},
                {"name": "pods", "kind": "Pod", "namespaced": true, "singularName": "pod", "verbs": ["list"]},
            ]}),
            "/api/v1/nodes" => list((0..pods.len()).map(node).collect()),
            "/api/v1/namespaces/kube-system/pods" => {
                assert!(query.contains("labelSelector=k8s-app"), "{query}");
                let there = pods.iter().enumerate().filter(|(_, pod)| !matches!(pod, Pod::None));
                list(there.map(|(at, _)| pod(at)).collect())
            }
            exec => {
                let at = exec
                    .strip_prefix("/api/v1/namespaces/kube-system/pods/p")
                    .unwrap_or_else(|| panic!("{exec}"));
                let at: usize = at.strip_suffix("/exec").unwrap().parse().unwrap();
                return execute(stream, &request, &pods[at]);
            }
        };
        answer(&mut stream, 200, &body);
    }
}

fn answer(stream: &mut TcpStream, code: u16, body: &Value) {
    let body = body.to_string();
    let length = body.len();
    let head =
        format!("HTTP/1.1 {code} x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all((head + &body).as_bytes()).unwrap();
}

fn list(items: Vec<Value>) -> Value {
    json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items})
}

fn node(at: usize) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": format!("n{at}")}})
}

fn pod(at: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("p{at}"), "namespace": "kube-system"},
        "spec": {"nodeName": format!("n{at}")},
        "status": {"phase": "Running", "containerStatuses": [{"name": "tortie-node", "state": {"running": {}}}]},
    })
}

/// The server's side of a command: channel 1 is stdout, 2 is stderr, 3 says how it ended.
fn execute(mut stream: TcpStream, request: &Request, pod: &Pod) {
    match pod {
        Pod::Mute => return thread::sleep(Duration::from_secs(60)),
        Pod::Forbidden => {
            let message = "pods \"p\" is forbidden: User \"u\" cannot create resource \"pods/exec\"";
            let status = json!({"kind": "Status", "status": "Failure", "code": 403, "reason": "Forbidden", "message": message});
            return answer(&mut stream, 403, &status);
        }
        Pod::None | Pod::Says(..) | Pod::Complains(..) | Pod::Cut => {}
    }
    let accept = derive_accept_key(request.key.as_bytes());
    assert!(request.protocols.contains("v5.channel.k8s.io"), "{}", request.protocols);
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut socket = WebSocket::from_raw_socket(stream, Role::Server, None);
    let mut say = |channel: u8, text: &str| {
        // As a kubelet does, in pieces.
        for piece in text.as_bytes().chunks(700) {
            let message = [&[channel], piece].concat();
            socket.send(Message::Binary(message.into())).unwrap();
        }
    };
    let code = match pod {
        Pod::Says(value, code) => {
            say(1, &value.to_string());
            *code
        }
        Pod::Complains(text, code) => {
            say(2, text);
            *code
        }
        _ => return say(1, "{\"node\": "),
    };
    let end = match code {
        0 => json!({"status": "Success"}),
        code => json!({
            "status": "Failure", "reason": "NonZeroExitCode", "message": "command terminated with non-zero exit code",
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        }),
    };
    say(3, &end.to_string());
    let _ = socket.close(None);
    while socket.read().is_ok() {}
}

fn well(node: &str) -> Pod {
    // Longer than any buffer on the way.
    let rejected: Vec<Value> = (0..200)
        .map(|n| json!({"object": format!("FelixConfiguration x{n}"), "effect": "notEnforced"}))
        .collect();
    Pod::Says(
        json!({
            "health": "healthy", "node": node, "version": "0.1.0", "endpoints": 7, "uptimeSeconds": 90,
            "kernel": "6.18", "rejected": rejected,
        }),
        0,
    )
}

#[test]
fn a_cluster_whose_nodes_are_all_healthy_is_healthy() {
    let cluster = Cluster::of(vec![well("n0"), well("n1"), well("n2")]);
    let (code, out, err) = cluster.status(&[]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.starts_with("● healthy 3 of 3 nodes: everything is in force\n"), "{out}");
    assert!(
        out.contains("\nn1    healthy  0.1.0    7     1m 30s\n") || out.contains("n1    healthy"),
        "{out}"
    );
    let (code, items) = cluster.json(&[]);
    assert_eq!(code, 0);
    assert_eq!(
        items.iter().map(|item| item["node"].as_str().unwrap()).collect::<Vec<_>>(),
        ["n0", "n1", "n2"]
    );
    assert_eq!(items[1]["rejected"].as_array().unwrap().len(), 200, "nothing of an answer is lost");
    let requests = cluster.requests.lock().unwrap();
    let asked = requests.iter().find(|target| target.contains("/p1/exec")).unwrap();
    assert!(
        asked.contains("container=tortie-node") && asked.contains("command=tortie&command=status"),
        "{asked}"
    );
    assert!(!asked.contains("stdin=true"), "{asked}");
}

#[test]
fn a_node_that_is_not_as_desired_is_a_line_with_the_reason_and_the_answer_is_no() {
    let degraded =
        json!({"health": "degraded", "node": "n1", "reasons": ["1 object is rejected"], "version": "0.1.0"});
    let cluster = Cluster::of(vec![well("n0"), Pod::Says(degraded, 1)]);
    let (code, out, err) = cluster.status(&[]);
    assert_eq!(code, 1, "{out}{err}");
    assert!(out.starts_with("● not healthy 1 of 2 nodes are healthy\n"), "{out}");
    let line = out.lines().find(|line| line.starts_with("n1 ")).unwrap();
    assert!(line.contains("degraded") && line.ends_with("1 object is rejected"), "{line}");
    assert!(out.contains("spec.nodeName=n1"), "the next command is told: {out}");
}

#[test]
fn each_way_of_not_answering_is_a_line_of_its_own_and_keeps_no_other_node_from_being_shown() {
    let pods = vec![
        Pod::Forbidden,
        Pod::None,
        Pod::Mute,
        Pod::Cut,
        Pod::Complains("tortie: the agent cannot be reached at /run/tortie/agent.sock", 3),
        well("n5"),
    ];
    let cluster = Cluster::of(pods);
    let start = Instant::now();
    let (code, items) = cluster.json(&["--timeout", "2s"]);
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    assert_eq!(code, 3);
    let reason = |at: usize| items[at]["reasons"][0].as_str().unwrap_or_default();
    let expected = [
        "cannot create resource",
        "no pod with the label k8s-app=tortie-node",
        "no answer within 2 s",
        "the connection to a command in a pod",
        "the agent cannot be reached at /run/tortie/agent.sock (exit code 3)",
    ];
    for (at, part) in expected.iter().enumerate() {
        assert!(reason(at).contains(part), "n{at}: {} has not {part}", reason(at));
        assert_eq!(
            (&items[at]["node"], &items[at]["health"]),
            (&json!(format!("n{at}")), &json!("agent-unreachable"))
        );
        assert!(items[at].get("endpoints").is_none(), "what is unknown is absent: {}", items[at]);
    }
    assert_eq!(items[5]["health"], "healthy");
    let (code, out, err) = cluster.status(&["--timeout", "2s"]);
    assert_eq!(code, 3, "{out}");
    assert!(out.contains("● not healthy 1 of 6 nodes are healthy"), "{out}");
    assert!(err.contains("5 of 6 agents cannot be reached: n0, n1, n2, n3, n4"), "{err}");
}

#[test]
fn a_directory_is_no_cluster_and_says_what_is_meant() {
    let cluster = Cluster::of(vec![]);
    let (code, _, err) = cluster.status(&["--store", "dir:x"]);
    assert_eq!(code, 2);
    assert!(err.contains("--lab NAME"), "{err}");
    let (code, out, _) = cluster.status(&[]);
    assert_eq!((code, out.as_str()), (1, "there are no nodes\n"));
}
