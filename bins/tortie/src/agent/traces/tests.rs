//! Traces over loopback, to a collector that keeps what it is sent.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tortie_model::{Change, NodeName, Object};
use tortie_reconcile::{KernelError, Table, TableError, Written};
use tortie_store::{Batch, Event, Revision};

use super::{Round, Traces};

/// A collector, and the requests that it has had: path, type and body.
fn collector() -> (String, Receiver<(String, ExportTraceServiceRequest)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1/traces", listener.local_addr().unwrap());
    let (say, said) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut head, mut length) = (String::new(), 0);
            while reader.read_line(&mut head).unwrap() > 2 {
                let line = head.lines().last().unwrap().to_lowercase();
                length = line.strip_prefix("content-length: ").map_or(length, |it| it.parse().unwrap());
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let request = ExportTraceServiceRequest::decode(body.as_slice()).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").unwrap();
            if say.send((head, request)).is_err() {
                return;
            }
        }
    });
    (url, said)
}

/// A runtime on a thread of its own, as the observing thread is.
fn runtime() -> tokio::runtime::Handle {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let handle = runtime.handle().clone();
    thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
    handle
}

/// A table that refuses the second element.
struct Picky;

impl Table<u32, u32> for Picky {
    fn list(&mut self) -> Result<Vec<(u32, u32)>, TableError> {
        Ok(Vec::new())
    }

    fn upsert(&mut self, entries: &[(u32, u32)]) -> Vec<(usize, TableError)> {
        let no = KernelError { operation: "update", errno: 1, text: "no".into() };
        entries.iter().skip(1).map(|_| (1, TableError::Kernel(no.clone()))).collect()
    }

    fn delete(&mut self, _: &[u32]) -> Vec<(usize, TableError)> {
        Vec::new()
    }
}

fn node(name: &str, heard: SystemTime) -> Batch {
    let change = Change { key: NodeName::new(name), value: None };
    Batch { revision: Revision(7), heard: Some(heard), events: vec![Event::Changed(Object::Node(change))] }
}

fn attribute(span: &Span, name: &str) -> String {
    let found = span.attributes.iter().find(|attribute| attribute.key == name);
    match found.and_then(|found| found.value.as_ref()?.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        Some(any_value::Value::ArrayValue(array)) => format!("{:?}", array.values),
        other => panic!("{}: {name} is {other:?}", span.name),
    }
}

#[test]
fn a_change_is_a_trace_from_the_watch_event_to_each_write_in_their_order() {
    let (url, said) = collector();
    let mut traces = Traces::start(&url, "n1", runtime()).unwrap();
    let heard = SystemTime::now() - Duration::from_millis(5);
    traces.heard(&node("n2", heard));
    let mut round = Round::begin();
    round.calculated(3);
    let mut table = traces.writes.table("route4", Box::new(Picky));
    assert_eq!(table.upsert(&[(1, 1)]), []);
    assert_eq!(table.upsert(&[(1, 1), (2, 2)]).len(), 1, "the answer is the table's own");
    assert_eq!(table.delete(&[]), [], "nothing is no write");
    assert_eq!(table.delete(&[1]), []);
    traces.tell(round, Written { done: 3, failed: 1, withdrawn: 0 });
    drop(traces);

    let (head, request) = said.recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(head.starts_with("POST /v1/traces HTTP/1.1"), "{head}");
    assert!(head.to_lowercase().contains("content-type: application/x-protobuf"), "{head}");
    let resource = format!("{:?}", request.resource_spans[0].resource);
    assert!(resource.contains("tortie") && resource.contains("k8s.node.name"), "{resource}");
    let mut spans = request.resource_spans[0].scope_spans[0].spans.clone();
    spans.sort_by_key(|span| (span.start_time_unix_nano, std::cmp::Reverse(span.end_time_unix_nano)));
    let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    // The change begins with its event, and lasts longer.
    assert_eq!(names, ["change", "watch event", "calc", "reconcile", "map write", "map write", "map write"]);
    let [change, event, calc, reconcile, first, second, third] = &spans[..] else { panic!("{names:?}") };
    assert!(spans.iter().all(|span| span.trace_id == change.trace_id));
    assert!(change.parent_span_id.is_empty());
    for child in [event, calc, reconcile] {
        assert_eq!(child.parent_span_id, change.span_id, "{}", child.name);
        assert!(child.end_time_unix_nano <= change.end_time_unix_nano, "{}", child.name);
    }
    let nanos = heard.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos();
    assert_eq!(u128::from(event.start_time_unix_nano), nanos, "the datastore's time counts");
    assert_eq!(
        (attribute(event, "tortie.revision"), attribute(event, "tortie.changes")),
        ("7".into(), "1".into())
    );
    assert!(attribute(event, "tortie.objects").contains("node n2 gone"));
    assert_eq!(attribute(calc, "tortie.intents"), "3");
    assert_eq!(attribute(reconcile, "tortie.failed"), "1");
    let writes = [first, second, third].map(|write| {
        assert_eq!(write.parent_span_id, reconcile.span_id);
        let told = ["tortie.map", "tortie.operation", "tortie.elements", "tortie.failed"];
        let failed = write.status.as_ref().is_some_and(|status| status.code == 2);
        (told.map(|name| attribute(write, name)).join(" "), failed)
    });
    let expected = [("route4 upsert 1 0", false), ("route4 upsert 2 1", true), ("route4 delete 1 0", false)];
    assert_eq!(writes, expected.map(|(text, failed)| (text.to_owned(), failed)));
}

#[test]
fn a_round_in_which_nothing_happened_is_no_trace() {
    let (url, said) = collector();
    let mut traces = Traces::start(&url, "n1", runtime()).unwrap();
    traces.tell(Round::begin(), Written::default());
    drop(traces);
    assert!(said.recv_timeout(Duration::from_millis(100)).is_err());
}

#[test]
fn many_writes_are_counted_and_not_kept() {
    let (url, said) = collector();
    let mut traces = Traces::start(&url, "n1", runtime()).unwrap();
    let mut table = traces.writes.table("route4", Box::new(Picky));
    (0..300).for_each(|n| assert_eq!(table.upsert(&[(n, n)]), []));
    traces.tell(Round::begin(), Written::default());
    drop(traces);
    let (_, request) = said.recv_timeout(Duration::from_secs(10)).unwrap();
    let spans = &request.resource_spans[0].scope_spans[0].spans;
    assert_eq!(spans.iter().filter(|span| span.name == "map write").count(), 256);
    let reconcile = spans.iter().find(|span| span.name == "reconcile").unwrap();
    assert_eq!(attribute(reconcile, "tortie.writes_left_out"), "44");
}

#[test]
fn a_collector_that_is_away_or_silent_costs_the_main_loop_nothing_and_the_end_a_second() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let away = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for address in [silent.local_addr().unwrap(), away] {
        let mut traces = Traces::start(&format!("http://{address}/v1/traces"), "n1", runtime()).unwrap();
        let start = Instant::now();
        for _ in 0..5000 {
            traces.heard(&node("n2", SystemTime::now()));
            traces.tell(Round::begin(), Written::default());
        }
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
        let start = Instant::now();
        drop(traces);
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    }
}

#[test]
fn an_endpoint_that_cannot_be_used_is_refused_with_an_example() {
    for wrong in
        ["127.0.0.1:4318", "https://127.0.0.1:4318/v1/traces", "grpc://x", "http://", "/v1/traces", "x y"]
    {
        let Err(error) = Traces::start(wrong, "n1", runtime()) else { panic!("{wrong} is taken") };
        let text = format!("{error:#}");
        assert!(
            text.contains("--traces-endpoint") && text.contains("http://127.0.0.1:4318/v1/traces"),
            "{text}"
        );
    }
}
