//! A change in the datastore, as a collector on the node sees it.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tortie_lab::Where;
use tortie_tests_e2e::{TestLab, binary};

use crate::world;

const POLICY: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: traced}
spec: {podSelector: {matchLabels: {app: client}}, egress: [{ports: [{port: 80}]}]}
";

/// A collector on node1, at the usual port; what it is sent comes out.
fn collector(test: &TestLab) -> Receiver<ExportTraceServiceRequest> {
    let netns = test.lab.place(&Where::Node("node1".into())).expect("node1").netns;
    let listen = move || {
        setns(fs::File::open(&netns).expect("a namespace"), CloneFlags::CLONE_NEWNET).expect("setns");
        TcpListener::bind("127.0.0.1:4318").expect("the usual port")
    };
    // A thread of its own: the namespace ends with it, the socket stays there.
    let listener = thread::spawn(listen).join().expect("no panic");
    let (say, said) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut reader = BufReader::new(stream.try_clone().expect("two ends"));
            let (mut line, mut length) = (String::new(), 0);
            while reader.read_line(&mut line).expect("a head") > 2 {
                if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().expect("a length");
                }
                line.clear();
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).expect("a body");
            let answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(answer).expect("answering");
            let request = ExportTraceServiceRequest::decode(body.as_slice()).expect("OTLP");
            if say.send(request).is_err() {
                return;
            }
        }
    });
    said
}

fn text(span: &Span) -> String {
    format!("{:?}", span.attributes)
}

#[test]
fn a_policy_is_followed_from_the_watch_event_to_the_writes_that_put_it_in_force() {
    let mut test = world();
    let said = collector(&test);
    let mut restart = Command::new(binary());
    restart.args(["lab", "restart-agent", "--name", &test.lab.name.to_string(), "node1"]);
    restart.env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:4318/v1/traces");
    let output = restart.output().expect("running tortie");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    test.apply(POLICY);

    let deadline = Instant::now() + Duration::from_secs(15);
    let mut spans: Vec<Span> = Vec::new();
    let event = loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let request = said.recv_timeout(left).expect("the policy in a trace");
        let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
        spans.extend(scopes.flat_map(|scope| scope.spans));
        let is_ours =
            |span: &&Span| span.name == "watch event" && text(span).contains("networkpolicy default/traced");
        if let Some(event) = spans.iter().find(is_ours).cloned() {
            // The spans of one change may come in two requests.
            if spans.iter().any(|span| span.name == "change" && span.trace_id == event.trace_id) {
                break event;
            }
        }
    };
    spans.retain(|span| span.trace_id == event.trace_id);
    spans.sort_by_key(|span| span.start_time_unix_nano);
    let of = |name: &str| spans.iter().filter(|span| span.name == name).cloned().collect::<Vec<_>>();
    let (change, calc, reconcile) = (of("change"), of("calc"), of("reconcile"));
    let ([change], [calc], [reconcile]) = (&change[..], &calc[..], &reconcile[..]) else {
        panic!("{spans:#?}")
    };
    let writes = of("map write");
    assert!(writes.iter().any(|write| text(write).contains("policy program")), "{writes:#?}");
    assert!(writes.iter().any(|write| text(write).contains("\"endpoint\"")), "{writes:#?}");
    assert!(event.start_time_unix_nano <= event.end_time_unix_nano);
    assert!(event.end_time_unix_nano <= calc.start_time_unix_nano, "{spans:#?}");
    assert!(calc.end_time_unix_nano <= reconcile.start_time_unix_nano, "{spans:#?}");
    for write in &writes {
        assert_eq!(write.parent_span_id, reconcile.span_id);
        assert!(reconcile.start_time_unix_nano <= write.start_time_unix_nano, "{spans:#?}");
        assert!(write.end_time_unix_nano <= reconcile.end_time_unix_nano, "{spans:#?}");
    }
    assert_eq!(change.start_time_unix_nano, event.start_time_unix_nano);
    let micros = (change.end_time_unix_nano - change.start_time_unix_nano) / 1000;
    println!("from the event to the last write: {micros} µs, {} writes", writes.len());
    assert!(micros < 5_000_000, "{spans:#?}");
}
