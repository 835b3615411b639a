//! Dashboards and alerts ask for what the agent exports: every name in every query, and every label.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use promql_parser::parser::token::T_LOR;
use promql_parser::parser::{self, AggregateExpr, BinaryExpr, Expr, LabelModifier, VectorSelector};
use serde_json::Value;
use tortie_observe::metrics::{self, Metric};

/// Labels that Prometheus itself adds to every series, and the bucket's.
const ADDED: [&str; 3] = ["instance", "job", "le"];

fn file(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../deploy/observe").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every string under a key of this name, with where it is.
fn strings(value: &Value, key: &str, place: &str, found: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) => {
            let title = fields.get("title").or(fields.get("alert")).and_then(Value::as_str).unwrap_or(place);
            for (name, value) in fields {
                match value {
                    Value::String(text) if name == key => found.push((title.to_owned(), text.clone())),
                    _ => strings(value, key, title, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| strings(item, key, place, found)),
        _ => {}
    }
}

fn dashboard() -> Vec<(String, String)> {
    let json: Value = serde_json::from_str(&file("dashboard.json")).expect("JSON");
    let mut found = Vec::new();
    strings(&json, "expr", "dashboard", &mut found);
    // What Grafana puts in before it asks.
    found.iter_mut().for_each(|(_, query)| *query = query.replace("$__rate_interval", "5m"));
    found
}

fn alerts() -> Value {
    serde_saphyr::from_str(&file("alerts.yaml")).expect("YAML")
}

fn alert_queries() -> Vec<(String, String)> {
    let mut found = Vec::new();
    strings(&alerts(), "expr", "alerts", &mut found);
    found
}

fn selectors<'a>(expr: &'a Expr, found: &mut Vec<&'a VectorSelector>) {
    match expr {
        Expr::Aggregate(aggregate) => {
            selectors(&aggregate.expr, found);
            aggregate.param.iter().for_each(|param| selectors(param, found));
        }
        Expr::Unary(unary) => selectors(&unary.expr, found),
        Expr::Binary(binary) => {
            selectors(&binary.lhs, found);
            selectors(&binary.rhs, found);
        }
        Expr::Paren(paren) => selectors(&paren.expr, found),
        Expr::Subquery(subquery) => selectors(&subquery.expr, found),
        Expr::VectorSelector(selector) => found.push(selector),
        Expr::MatrixSelector(matrix) => found.push(&matrix.vs),
        Expr::Call(call) => call.args.args.iter().for_each(|argument| selectors(argument, found)),
        Expr::NumberLiteral(_) | Expr::StringLiteral(_) | Expr::Extension(_) => {}
    }
}

/// The metric that a name in a query means.
fn metric(series: &str) -> Option<&'static Metric> {
    metrics::ALL.iter().copied().find(|metric| metric.series().iter().any(|name| name == series))
}

type Labels = BTreeSet<String>;

/// The labels of what an expression gives; `None`: a number. Operations on two sides that never match are told.
fn labels(expr: &Expr, faults: &mut Vec<String>) -> Option<Labels> {
    match expr {
        Expr::Aggregate(AggregateExpr { expr, modifier, .. }) => {
            let of = labels(expr, faults)?;
            Some(match modifier {
                Some(LabelModifier::Include(kept)) => kept.labels.iter().cloned().collect(),
                Some(LabelModifier::Exclude(gone)) => {
                    of.into_iter().filter(|label| !gone.labels.contains(label)).collect()
                }
                None => Labels::new(),
            })
        }
        Expr::Binary(binary) => both(binary, faults),
        Expr::Unary(unary) => labels(&unary.expr, faults),
        Expr::Paren(paren) => labels(&paren.expr, faults),
        Expr::Subquery(subquery) => labels(&subquery.expr, faults),
        Expr::VectorSelector(selector) => Some(of_series(selector)),
        Expr::MatrixSelector(matrix) => Some(of_series(&matrix.vs)),
        Expr::Call(call) if call.func.name == "vector" => Some(Labels::new()),
        Expr::Call(call) => {
            let of = call.args.args.iter().filter_map(|argument| labels(argument, faults)).next();
            of.map(|of| if call.func.name == "histogram_quantile" { without_bucket(of) } else { of })
        }
        Expr::NumberLiteral(_) | Expr::StringLiteral(_) | Expr::Extension(_) => None,
    }
}

fn of_series(selector: &VectorSelector) -> Labels {
    let name = selector.name.as_deref().unwrap_or_default();
    let own = metric(name).into_iter().flat_map(|metric| metric.labels);
    let bucket = name.ends_with("_bucket").then_some("le");
    own.copied().chain(["instance", "job"]).chain(bucket).map(str::to_owned).collect()
}

fn without_bucket(mut labels: Labels) -> Labels {
    labels.remove("le");
    labels
}

/// Without `on` or `ignoring`, Prometheus matches series whose labels are all the same; `or` needs no match.
fn both(binary: &BinaryExpr, faults: &mut Vec<String>) -> Option<Labels> {
    let (left, right) = match (labels(&binary.lhs, faults), labels(&binary.rhs, faults)) {
        (Some(left), Some(right)) => (left, right),
        (left, right) => return left.or(right),
    };
    let says_which = binary.modifier.as_ref().is_some_and(|modifier| modifier.matching.is_some());
    if !says_which && binary.op.id() != T_LOR && left != right {
        faults.push(format!("{left:?} never matches {right:?}"));
    }
    Some(left)
}

/// What a query asks for that the agent does not export, and what it adds up that never meets.
fn faults(query: &str) -> Vec<String> {
    let expr = match parser::parse(query) {
        Ok(expr) => expr,
        Err(error) => return vec![error],
    };
    let mut found = Vec::new();
    selectors(&expr, &mut found);
    let mut faults = Vec::new();
    labels(&expr, &mut faults);
    if found.is_empty() {
        faults.push("it asks for no metric".to_owned());
    }
    for selector in found {
        let name = selector.name.as_deref().unwrap_or_default();
        let Some(metric) = metric(name) else {
            faults.push(format!("{name:?} is not exported"));
            continue;
        };
        for matcher in &selector.matchers.matchers {
            let label = matcher.name.as_str();
            if !metric.labels.contains(&label) && !ADDED.contains(&label) {
                faults.push(format!("{name} has no label {label}"));
            }
        }
    }
    faults
}

#[test]
fn every_query_parses_and_asks_for_metrics_and_labels_that_are_exported() {
    let (dashboard, alerts) = (dashboard(), alert_queries());
    assert!(dashboard.len() >= 20 && alerts.len() >= 10, "{} {}", dashboard.len(), alerts.len());
    let wrong: BTreeMap<_, _> = dashboard
        .iter()
        .chain(&alerts)
        .map(|(place, query)| (format!("{place}: {query}"), faults(query)))
        .filter(|(_, faults)| !faults.is_empty())
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_query_for_something_that_is_not_exported_is_found() {
    assert!(faults("sum(rate(tortie_dropped_packets_total[5m]))").is_empty());
    assert_eq!(faults("tortie_dropped_packets"), ["\"tortie_dropped_packets\" is not exported"]);
    assert_eq!(faults("tortie_flows{pod=\"x\"}"), ["tortie_flows has no label pod"]);
    assert_eq!(faults("rate(felix_int_dataplane_apply_time_seconds[5m])").len(), 1, "a histogram has series");
    assert_eq!(faults("vector(1)"), ["it asks for no metric"]);
    assert!(!faults("sum(").is_empty());
}

#[test]
fn two_sides_whose_labels_never_match_are_found() {
    let (map, program) = ("tortie_map_memory_bytes", "tortie_packet_program_memory_bytes");
    assert!(faults(&format!("sum by (instance) ({map}) + sum by (instance) ({program})")).is_empty());
    for wrong in [
        format!("sum by (instance) ({map}) + {program}"),
        format!("{map} / {program}"),
        format!("sum({map}) > {program}"),
    ] {
        assert_eq!(faults(&wrong).len(), 1, "{wrong}");
    }
    assert!(faults(&format!("{map} and on (instance) {program}")).is_empty());
    assert!(faults(&format!("sum by (instance) ({map}) or vector(0)")).is_empty());
    assert!(faults(&format!("{map} * 2 > 1e6")).is_empty());
}

#[test]
fn every_alert_says_how_bad_what_and_what_to_do() {
    let alerts = alerts();
    let rules = alerts["groups"][0]["rules"].as_array().expect("rules");
    for rule in rules {
        let name = rule["alert"].as_str().expect("a name");
        assert!(name.starts_with("Tortie"), "{name}");
        assert!(["warning", "critical"].contains(&rule["labels"]["severity"].as_str().expect("severity")));
        for annotation in ["summary", "action"] {
            assert!(rule["annotations"][annotation].as_str().is_some_and(|text| text.len() > 10), "{name}");
        }
    }
}
