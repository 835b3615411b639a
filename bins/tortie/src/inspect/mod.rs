//! The verbs that answer questions from kernel state: endpoints, routes, services, policy, conntrack, counters.
//!
//! Owns: their flags and tables. Does not: interpret bytes (inspect/observe does) or need an agent: maps
//! are pinned, names are in the run directory. Invariant: what is shown is what is in the kernel now.

mod conntrack;
pub(crate) mod fill;
pub(crate) mod filters;
pub(crate) mod names;
pub(crate) mod read;

use crate::args::Global;
use crate::ask;
use crate::exit::{Answer, Failure, Outcome};
use crate::output::{self, Items};
use clap::{Args, Subcommand};
use comfy_table::{Table, presets};
pub use conntrack::{ConntrackFilter, LED, conntrack};
use filters::{AtNode, Meant};
use serde::Serialize;
use tortie_observe::names::Matches;
use tortie_observe::{Names, Snapshot, counters, endpoints, policy, routes, services};

/// `list` and `show`.
#[derive(Debug, Subcommand)]
pub enum Query<F: Args> {
    /// Everything, or what the filters leave.
    List(F),
    /// What concerns one object, with every column.
    Show {
        /// NAMESPACE/NAME of a pod, Service or policy, an address, ADDRESS:PORT or a pod's interface; a prefix of routes, a
        /// reason of counters.
        name: String,
    },
}

/// Filters by namespace.
#[derive(Debug, Args)]
pub struct EndpointFilter {
    /// Only those of this namespace.
    #[arg(short = 'n', long)]
    namespace: Option<String>,
}

/// Filters of `policy list`.
#[derive(Debug, Args)]
#[command(after_help = HITS)]
pub struct PolicyFilter {
    /// Only this pod.
    #[arg(long, value_name = "NS/NAME", value_parser = filters::namespaced)]
    endpoint: Option<String>,
    /// Only this direction.
    #[arg(long, value_parser = ["ingress", "egress"])]
    direction: Option<String>,
}

/// What the numbers of `policy list` are.
pub const HITS: &str = "HITS and BYTES of a rule are the new flows that it decided, for every pod of this node that the rule is about: \
pods with the same rule share its numbers. At the end of an egress list they are the packets that the pod was denied since its \
interface came, also by policies that are no more, and \"-\" where a rule of the list may have denied them as well. \"-\" at the end \
of an ingress list: what it denies is counted by the interface where it came in (see `tortie drops`).";

/// Filters of `counters list`.
#[derive(Debug, Args)]
pub struct CounterFilter {
    /// Only this interface.
    #[arg(long)]
    interface: Option<String>,
    /// Only this reason.
    #[arg(long, value_parser = filters::reason(), hide_possible_values = true)]
    reason: Option<String>,
}

/// Filters of `routes list`.
#[derive(Debug, Args)]
pub struct RouteFilter {
    /// Only this kind.
    #[arg(long, value_parser = filters::kind())]
    kind: Option<String>,
}

/// Reads what a verb needs. Flow tables are large: only conntrack asks for them.
fn load(global: &Global, flows: bool) -> Result<(Snapshot, Names), Failure> {
    let snapshot = read::snapshot(&global.bpffs, flows)?;
    let names = names::load(&global.run_dir, &snapshot);
    Ok((snapshot, names))
}

fn finish<R: Serialize>(global: &Global, rows: Vec<R>, table: impl FnOnce(&[R], bool) -> Table) -> Outcome {
    let list = Items { items: rows };
    output::print(global.output, &list, |wide| text(&table(&list.items, wide)))
        .map_err(|e| Failure::no(anyhow::Error::from(e)))?;
    Ok(Answer::Yes)
}

/// `show` prints like `list -o wide`; nothing found is "no".
fn finish_show<R: Serialize>(
    global: &Global,
    what: &str,
    name: &str,
    rows: Vec<R>,
    table: impl FnOnce(&[R], bool) -> Table,
) -> Outcome {
    if rows.is_empty() {
        return Err(absent(what, name));
    }
    finish(global, rows, |rows, _| table(rows, true))
}

/// What was named is not there.
fn absent(what: &str, name: &str) -> Failure {
    Failure::no(anyhow::anyhow!("{what} {name}: not in the kernel of this node; see `tortie {what} list`"))
}

/// Without blanks at the ends of lines.
pub fn text(table: &Table) -> String {
    table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

fn columns(headers: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(headers.to_vec());
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    table
}

/// `services`.
pub fn services(query: Query<EndpointFilter>, global: &Global) -> Outcome {
    let (snapshot, names) = load(global, false)?;
    let mut rows = services::rows(&snapshot, &names);
    let told = told(global);
    services::join(&mut rows, &told.items);
    services::tell_types(&mut rows, &told.services);
    match query {
        Query::List(filter) => {
            rows.retain(|r| filter.namespace.as_ref().is_none_or(|n| *n == r.namespace));
            finish(global, rows, services_table)
        }
        Query::Show { name } => {
            let meant = Meant::by(&name, &endpoints::rows(&snapshot, &names));
            let at_node = AtNode::by(&name, &routes::rows(&snapshot, &names));
            rows.retain(|r| {
                r.is_called(&name)
                    || r.frontends.iter().any(|f| meant.is_at(f.address, f.port))
                    || at_node.as_ref().is_some_and(|at| r.frontends.iter().any(|f| at.is_served_by(f)))
                    || r.endpoints.iter().any(|b| meant.is_at(b.address, b.port))
            });
            if let (true, Some(why)) = (rows.is_empty(), told.why_absent(&name)) {
                return Err(Failure::no(anyhow::anyhow!("Service {name}: {why}")));
            }
            finish_show(global, "services", &name, rows, services_table)
        }
    }
}

/// What is in no map: endpoints that are not in use, and Services without front ends.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct Told {
    items: Vec<services::Known>,
    services: Vec<services::KnownService>,
}

impl Told {
    /// Why the Service NAMESPACE/NAME is in no map, if it is known for one that is in none.
    fn why_absent(&self, name: &str) -> Option<&'static str> {
        self.services.iter().find(|it| it.is_called(name)).map(services::KnownService::why_absent)
    }
}

/// The agent knows it. Without it there is what is in use.
fn told(global: &Global) -> Told {
    let answer = ask::agent(&global.run_dir, &serde_json::json!({"verb": "services"}));
    answer.ok().and_then(|answer| serde_json::from_value(answer).ok()).unwrap_or_default()
}

fn services_table(rows: &[services::Row], wide: bool) -> Table {
    let mut table = columns(&["NAMESPACE", "NAME", "PORT", "PROTOCOL", "TYPE", "FRONTENDS", "ENDPOINTS"]);
    for r in rows {
        let end = |address, port| std::net::SocketAddr::new(address, port).to_string();
        let frontends: Vec<String> = r
            .frontends
            .iter()
            .map(|f| end(f.address, f.port) + if f.untranslated { " not translated" } else { "" })
            .collect();
        let endpoints: Vec<String> = r
            .endpoints
            .iter()
            .map(|b| {
                let node = b.node.as_ref().filter(|_| wide).map(|node| format!(" ({node})"));
                let remark = match b.reason {
                    Some(reason) => format!(" not used: {reason}"),
                    None if b.conditions.is_some_and(|it| it.terminating) => " terminating".to_owned(),
                    None => String::new(),
                };
                let place = if b.port == 0 { b.address.to_string() } else { end(b.address, b.port) };
                place + &node.unwrap_or_default() + &remark
            })
            .collect();
        let strategy =
            if r.external_traffic_strategy == services::MAGLEV { "\nby hash (maglev)" } else { "" };
        let none = (!r.endpoints.iter().any(|b| b.used)).then(|| nobody(r));
        let endpoints: Vec<String> = none.into_iter().chain(endpoints).collect();
        table.add_row([
            r.namespace.clone(),
            r.name.clone(),
            r.port.clone(),
            r.protocol.clone(),
            [r.service_type, strategy].concat(),
            frontends.join("\n"),
            endpoints.join("\n"),
        ]);
    }
    table
}

/// What is said of a Service port without an endpoint in use, before those that are not.
fn nobody(row: &services::Row) -> String {
    let none = match row.internal_traffic_policy {
        "Local" => "none on this node",
        _ => "none: clients are refused",
    };
    let of = |addresses: &str| {
        format!("{none}; {addresses} no port of this name: does a container have the targetPort?")
    };
    match row.misnamed() {
        0 => none.to_owned(),
        1 => of("1 ready address has"),
        n => of(&format!("{n} ready addresses have")),
    }
}

/// `endpoints`.
pub fn endpoints(query: Query<EndpointFilter>, global: &Global) -> Outcome {
    let (snapshot, names) = load(global, false)?;
    let mut rows = endpoints::rows(&snapshot, &names);
    match query {
        Query::List(filter) => {
            rows.retain(|r| filter.namespace.is_none() || filter.namespace == r.namespace);
            finish(global, rows, endpoints_table)
        }
        Query::Show { name } => {
            let meant = Meant::by(&name, &rows);
            rows.retain(|r| meant.is_called(&r.interface));
            finish_show(global, "endpoints", &name, rows, endpoints_table)
        }
    }
}

fn endpoints_table(rows: &[endpoints::Row], _wide: bool) -> Table {
    let mut table =
        columns(&["NAMESPACE", "NAME", "NODE", "INTERFACE", "ADDRESSES", "READY", "EGRESS", "INGRESS"]);
    let policy = |p: &endpoints::Program| match p {
        endpoints::Program { generation: 0, .. } => "not in force".to_owned(),
        endpoints::Program { id: None, generation } => format!("open (gen {generation})"),
        endpoints::Program { id: Some(id), generation } => format!("program {id} (gen {generation})"),
    };
    for r in rows {
        let addresses: Vec<String> = r.addresses.iter().map(ToString::to_string).collect();
        table.add_row([
            r.namespace.clone().unwrap_or_default(),
            r.name.clone(),
            r.node.clone(),
            r.interface.clone(),
            addresses.join("\n"),
            if r.ready { "yes" } else { "no" }.to_owned(),
            policy(&r.programs.from_workload),
            policy(&r.programs.to_workload),
        ]);
    }
    table
}

/// `policy`.
pub fn policy(query: Query<PolicyFilter>, global: &Global) -> Outcome {
    let (snapshot, names) = load(global, false)?;
    let mut rows = policy::rows(&snapshot, &names);
    match query {
        Query::List(filter) => {
            // Each endpoint has rows, whatever its policies are.
            if let Some(endpoint) = &filter.endpoint {
                rows.retain(|r| r.endpoint == *endpoint);
                if rows.is_empty() {
                    return Err(absent("policy", endpoint));
                }
            }
            rows.retain(|r| filter.direction.as_ref().is_none_or(|d| d == r.direction));
            finish(global, rows, policy_table)
        }
        Query::Show { name } => {
            let meant = Meant::by(&name, &endpoints::rows(&snapshot, &names));
            let is_named = |policy: &String| *policy == name || policy.ends_with(&format!(" {name}"));
            rows.retain(|r| {
                meant.is_called(&r.endpoint) || is_named(&r.policy) || r.policies.iter().any(is_named)
            });
            finish_show(global, "policy", &name, rows, policy_table)
        }
    }
}

/// Which policy; at the end of a list all that it is of.
fn whose(row: &policy::Row) -> String {
    let mut text = row.policy.clone();
    if !row.policies.is_empty() {
        text = format!("{text}: {}", row.policies.join(", "));
    }
    if row.rule.is_none() && row.packets.is_some() {
        text.push_str(" (hits: by every policy so far)");
    }
    text
}

fn policy_table(rows: &[policy::Row], _wide: bool) -> Table {
    let headers = [
        "ENDPOINT",
        "DIRECTION",
        "TIER",
        "POLICY",
        "RULE",
        "ACTION",
        "MATCHES",
        "HITS",
        "BYTES",
        "GENERATION",
    ];
    let mut table = columns(&headers);
    for r in rows {
        table.add_row([
            r.endpoint.clone(),
            r.direction.to_owned(),
            r.tier.clone(),
            whose(r),
            r.rule.map(|n| n.to_string()).unwrap_or_default(),
            r.action.clone(),
            r.matches.as_ref().map(|it| asked(it, r.direction)).unwrap_or_default(),
            counted(r.packets),
            counted(r.bytes),
            r.generation.to_string(),
        ]);
    }
    table
}

/// What nobody counts is not nothing.
fn counted(number: Option<u64>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}

/// What a rule asks for, in one cell.
fn asked(matches: &Matches, direction: &str) -> String {
    let way = if direction == "ingress" { "from" } else { "to" };
    let peers = match matches.peers.as_slice() {
        [] => format!("{way} anywhere"),
        some => format!("{way} {}", some.join(" or ")),
    };
    match matches.ports.as_slice() {
        [] => peers,
        some => format!("{peers}; {}", some.join(", ")),
    }
}

/// `routes`.
pub fn routes(query: Query<RouteFilter>, global: &Global) -> Outcome {
    let (snapshot, names) = load(global, false)?;
    let mut rows = routes::rows(&snapshot, &names);
    match query {
        Query::List(filter) => {
            rows.retain(|r| filter.kind.as_ref().is_none_or(|k| k == r.kind));
            finish(global, rows, routes_table)
        }
        Query::Show { name } => {
            let meant = Meant::by(&name, &endpoints::rows(&snapshot, &names));
            rows.retain(|r| {
                r.prefix == name
                    || covers(&r.prefix, &name)
                    || r.endpoint.as_ref().is_some_and(|endpoint| meant.is_called(endpoint))
            });
            finish_show(global, "routes", &name, rows, routes_table)
        }
    }
}

/// All routes, for verbs that tell of other nodes.
pub fn route_rows(global: &Global) -> Result<Vec<routes::Row>, Failure> {
    let (snapshot, names) = load(global, false)?;
    Ok(routes::rows(&snapshot, &names))
}

fn covers(prefix: &str, address: &str) -> bool {
    match (prefix.parse::<ipnet::IpNet>(), address.parse::<std::net::IpAddr>()) {
        (Ok(prefix), Ok(address)) => prefix.contains(&address),
        _ => false,
    }
}

fn routes_table(rows: &[routes::Row], _wide: bool) -> Table {
    let mut table = columns(&["PREFIX", "KIND", "NODE", "NEXT HOP", "INTERFACE", "POD", "FLAGS"]);
    for r in rows {
        table.add_row([
            r.prefix.clone(),
            r.kind.to_owned(),
            r.node.clone().unwrap_or_default(),
            r.next_hop.map(|a| a.to_string()).unwrap_or_default(),
            r.interface.clone().unwrap_or_default(),
            r.endpoint.clone().unwrap_or_default(),
            r.flags.join(","),
        ]);
    }
    table
}

/// `counters`.
pub fn counters(query: Query<CounterFilter>, global: &Global) -> Outcome {
    let (snapshot, names) = load(global, false)?;
    let mut rows = counters::rows(&snapshot, &names);
    match query {
        Query::List(filter) => {
            if let Some(interface) = &filter.interface {
                find_interface(interface, rows.iter().map(|r| r.interface.as_str()))?;
                rows.retain(|r| r.interface == *interface);
            }
            rows.retain(|r| filter.reason.as_ref().is_none_or(|x| *x == r.reason));
            finish(global, rows, counters_table)
        }
        Query::Show { name } => {
            let meant = Meant::by(&name, &endpoints::rows(&snapshot, &names));
            rows.retain(|r| meant.is_called(&r.interface) || r.reason == name);
            finish_show(global, "counters", &name, rows, counters_table)
        }
    }
}

/// An interface that is asked for is there, or was when something was dropped; else nothing dropped would mean nothing.
pub fn find_interface<'n>(name: &str, mut told: impl Iterator<Item = &'n str>) -> Result<(), Failure> {
    if names::is_interface(name) || told.any(|known| known == name) {
        return Ok(());
    }
    Err(Failure::no(anyhow::anyhow!(
        "interface {name}: not on this node; see `tortie status -o wide`, and `tortie endpoints list` for those of pods"
    )))
}

/// Drop counters as a table; `drops` shows them too.
pub fn counters_table(rows: &[counters::Row], wide: bool) -> Table {
    let mut headers = vec!["INTERFACE", "HOOK", "REASON", "PACKETS", "BYTES"];
    if wide {
        headers.push("MEANING");
    }
    let mut table = columns(&headers);
    for r in rows {
        let mut cells = vec![
            r.interface.clone(),
            r.hook.clone(),
            r.reason.clone(),
            r.packets.to_string(),
            r.bytes.to_string(),
        ];
        if wide {
            cells.push(r.explanation.to_owned());
        }
        table.add_row(cells);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hits_at_the_end_of_a_list_are_told_apart_from_those_of_its_rules() {
        let row = |policy: &str, rule, packets| policy::Row {
            endpoint: "shop/a".into(),
            direction: "egress",
            tier: "default".into(),
            policy: policy.into(),
            policies: Vec::new(),
            rule,
            action: "deny".into(),
            matches: None,
            packets,
            bytes: packets,
            generation: 1,
        };
        let rows = [row("p", Some(0), Some(7)), row("end", None, Some(8)), row("end", None, None)];
        let shown = text(&policy_table(&rows, false));
        let told: Vec<bool> =
            shown.lines().skip(1).map(|line| line.contains("by every policy so far")).collect();
        assert_eq!(told, [false, true, false], "{shown}");
    }
}
