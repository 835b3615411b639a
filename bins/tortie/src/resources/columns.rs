//! Tables of resources.
//!
//! Owns: the columns of each kind, as kubectl and calicoctl have them. Does not: choose objects.
//! Invariant: a field that is absent is `<none>`, one that is not known here `<unknown>`.

use std::collections::BTreeSet;

use comfy_table::{Table, presets};
use serde_json::Value;
use tortie_store::kind::Role;
use tortie_store::resource::Resource;

/// What the table shows beside a kind's own columns.
pub struct Look {
    /// More columns.
    pub wide: bool,
    /// A column of namespaces.
    pub namespaces: bool,
    /// A column of labels.
    pub labels: bool,
    /// Seconds since 1970.
    pub now: i64,
}

/// A column: its heading, whether only wide tables have it, and a cell.
type Column = (&'static str, bool, fn(&Value) -> String);

const NAMESPACE: &[Column] = &[("STATUS", false, |v| or(text(v, "/status/phase"), "Active"))];
const NODE: &[Column] = &[
    ("STATUS", false, node_status),
    ("ROLES", false, roles),
    ("VERSION", false, |v| or(text(v, "/status/nodeInfo/kubeletVersion"), "<unknown>")),
    ("INTERNAL-IP", true, internal_addresses),
    ("POD-CIDRS", true, |v| or(strings(v, "/spec/podCIDRs"), "<none>")),
];
const POD: &[Column] = &[
    ("READY", false, ready),
    ("STATUS", false, pod_status),
    ("IP", true, addresses),
    ("NODE", true, |v| or(text(v, "/spec/nodeName"), "<none>")),
];
const SERVICE: &[Column] = &[
    ("TYPE", false, |v| or(text(v, "/spec/type"), "ClusterIP")),
    ("CLUSTER-IP", false, |v| or(text(v, "/spec/clusterIP"), "<none>")),
    ("EXTERNAL-IP", false, external_addresses),
    ("PORT(S)", false, service_ports),
    ("SELECTOR", true, |v| pairs(v, "/spec/selector")),
];
const SLICE: &[Column] = &[
    ("ADDRESSTYPE", false, |v| text(v, "/addressType")),
    ("PORTS", false, slice_ports),
    ("ENDPOINTS", false, endpoints),
];
const POLICY: &[Column] = &[("POD-SELECTOR", false, |v| pairs(v, "/spec/podSelector/matchLabels"))];
const POOL: &[Column] = &[
    ("CIDR", false, |v| text(v, "/spec/cidr")),
    ("NAT", false, |v| flag(v, "/spec/natOutgoing")),
    ("IPIPMODE", false, |v| or(text(v, "/spec/ipipMode"), "Never")),
    ("VXLANMODE", false, |v| or(text(v, "/spec/vxlanMode"), "Never")),
    ("DISABLED", false, |v| flag(v, "/spec/disabled")),
    ("SELECTOR", true, |v| or(text(v, "/spec/nodeSelector"), "all()")),
];

const SERVICE_CIDR: &[Column] = &[("CIDRS", false, |v| strings(v, "/spec/cidrs"))];

fn columns_of(role: Role) -> &'static [Column] {
    match role {
        Role::Namespace => NAMESPACE,
        Role::Node => NODE,
        Role::Pod => POD,
        Role::Service => SERVICE,
        Role::EndpointSlice => SLICE,
        Role::NetworkPolicy => POLICY,
        Role::IpPool => POOL,
        Role::ServiceCidr => SERVICE_CIDR,
        Role::FelixConfiguration | Role::BgpConfiguration | Role::Kept => &[],
    }
}

/// The table of some objects of one kind; among several tables, names say their kind.
pub fn table(resources: &[&Resource], look: &Look, several: bool) -> String {
    let Some(first) = resources.first() else { return String::new() };
    let columns: Vec<&Column> =
        columns_of(first.role()).iter().filter(|(_, wide, _)| look.wide || !wide).collect();
    let namespaces = look.namespaces && !first.key.namespace.is_empty();
    let mut header = vec!["NAME"];
    if namespaces {
        header.insert(0, "NAMESPACE");
    }
    header.extend(columns.iter().map(|(heading, _, _)| *heading));
    header.push("AGE");
    if look.labels {
        header.push("LABELS");
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header);
    for resource in resources {
        let name =
            if several { super::called(resource.kind, &resource.key) } else { resource.key.name.clone() };
        let mut row = vec![name];
        if namespaces {
            row.insert(0, resource.key.namespace.clone());
        }
        row.extend(columns.iter().map(|(_, _, cell)| cell(&resource.value)));
        row.push(resource.created().map_or_else(|| "<unknown>".into(), |at| age(look.now - at)));
        if look.labels {
            row.push(pairs(&resource.value, "/metadata/labels"));
        }
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// As kubectl says it: 5s, 3m, 4h, 2d.
fn age(seconds: i64) -> String {
    match seconds.max(0) {
        s @ 0..120 => format!("{s}s"),
        s @ 120..7_200 => format!("{}m", s / 60),
        s @ 7_200..172_800 => format!("{}h", s / 3_600),
        s => format!("{}d", s / 86_400),
    }
}

fn or(text: String, absent: &str) -> String {
    if text.is_empty() { absent.to_owned() } else { text }
}

fn text(value: &Value, path: &str) -> String {
    value.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn flag(value: &Value, path: &str) -> String {
    value.pointer(path).and_then(Value::as_bool).unwrap_or(false).to_string()
}

fn items<'v>(value: &'v Value, path: &str) -> impl Iterator<Item = &'v Value> + use<'v> {
    value.pointer(path).and_then(Value::as_array).into_iter().flatten()
}

fn strings(value: &Value, path: &str) -> String {
    items(value, path).filter_map(Value::as_str).collect::<Vec<_>>().join(",")
}

fn pairs(value: &Value, path: &str) -> String {
    let map = value.pointer(path).and_then(Value::as_object).into_iter().flatten();
    let pairs = map.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
    or(pairs.collect::<Vec<_>>().join(","), "<none>")
}

/// `None`: nobody has said.
fn condition(value: &Value, name: &str) -> Option<bool> {
    let told = items(value, "/status/conditions").find(|it| text(it, "/type") == name)?;
    Some(text(told, "/status") == "True")
}

fn node_status(value: &Value) -> String {
    let ready = match condition(value, "Ready") {
        Some(true) => "Ready",
        Some(false) => "NotReady",
        None => "Unknown",
    };
    let cordoned = value.pointer("/spec/unschedulable") == Some(&Value::Bool(true));
    format!("{ready}{}", if cordoned { ",SchedulingDisabled" } else { "" })
}

fn pod_status(value: &Value) -> String {
    let phase = text(value, "/status/phase");
    let has_ended = matches!(phase.as_str(), "Succeeded" | "Failed");
    if value.pointer("/metadata/deletionTimestamp").is_some() && !has_ended {
        return "Terminating".into();
    }
    or(or(text(value, "/status/reason"), &phase), "Unknown")
}

/// Those of the specification, after those that a load balancer has given; what waits for one says so.
fn external_addresses(value: &Value) -> String {
    let fixed = strings(value, "/spec/externalIPs");
    match text(value, "/spec/type").as_str() {
        "ExternalName" => or(text(value, "/spec/externalName"), "<none>"),
        "LoadBalancer" => {
            let given = items(value, "/status/loadBalancer/ingress");
            let given = given.map(|it| or(text(it, "/ip"), &text(it, "/hostname")));
            let given: BTreeSet<String> = given.collect();
            let all = given.into_iter().chain([fixed]).filter(|it| !it.is_empty());
            or(all.collect::<Vec<_>>().join(","), "<pending>")
        }
        _ => or(fixed, "<none>"),
    }
}

fn roles(value: &Value) -> String {
    let labels = value.pointer("/metadata/labels").and_then(Value::as_object).into_iter().flatten();
    let role = |(key, value): (&'_ String, &'_ Value)| match key.strip_prefix("node-role.kubernetes.io/") {
        None if key == "kubernetes.io/role" => value.as_str().map(str::to_owned),
        role => role.map(str::to_owned),
    };
    let roles: BTreeSet<String> = labels.filter_map(role).filter(|it| !it.is_empty()).collect();
    or(roles.into_iter().collect::<Vec<_>>().join(","), "<none>")
}

fn internal_addresses(value: &Value) -> String {
    let internal = items(value, "/status/addresses").filter(|it| text(it, "/type") == "InternalIP");
    or(internal.map(|it| text(it, "/address")).collect::<Vec<_>>().join(","), "<none>")
}

fn ready(value: &Value) -> String {
    let total = items(value, "/spec/containers").count();
    let statuses: Vec<&Value> = items(value, "/status/containerStatuses").collect();
    let ready = match statuses.as_slice() {
        [] if condition(value, "Ready") == Some(true) => total,
        statuses => statuses.iter().filter(|it| it.pointer("/ready") == Some(&Value::Bool(true))).count(),
    };
    format!("{ready}/{total}")
}

fn addresses(value: &Value) -> String {
    let all: Vec<String> = items(value, "/status/podIPs").map(|it| text(it, "/ip")).collect();
    or(if all.is_empty() { text(value, "/status/podIP") } else { all.join(",") }, "<none>")
}

fn service_ports(value: &Value) -> String {
    let number = |it: &Value, path: &str| it.pointer(path).and_then(Value::as_i64);
    let port = |it: &Value| {
        let protocol = or(text(it, "/protocol"), "TCP");
        let port = number(it, "/port").unwrap_or_default();
        match number(it, "/nodePort") {
            Some(node) => format!("{port}:{node}/{protocol}"),
            None => format!("{port}/{protocol}"),
        }
    };
    or(items(value, "/spec/ports").map(port).collect::<Vec<_>>().join(","), "<none>")
}

fn slice_ports(value: &Value) -> String {
    let ports = items(value, "/ports").filter_map(|it| it.pointer("/port").map(Value::to_string));
    or(ports.collect::<Vec<_>>().join(","), "<unset>")
}

fn endpoints(value: &Value) -> String {
    let all = items(value, "/endpoints").flat_map(|it| items(it, "/addresses")).filter_map(Value::as_str);
    let all: Vec<&str> = all.collect();
    let more = all.len().saturating_sub(3);
    let shown = all.iter().take(3).copied().collect::<Vec<_>>().join(",");
    match more {
        0 => or(shown, "<unset>"),
        more => format!("{shown} + {more} more..."),
    }
}
