//! `conntrack`: the flow tables.
//!
//! Owns: its filters, its table, and what is said of connections that a list cannot name. Does not: pair directions
//! (inspect/observe does).
//! Invariant: who asks for the flows of a Service is told when the list has not all of them.

use std::net::{IpAddr, SocketAddr};

use clap::Args;
use comfy_table::Table;
use tortie_observe::{AddressPort, Snapshot, conntrack, endpoints, services};

use super::filters::{self, Meant};
use super::{Query, columns, finish, finish_show, load, told};
use crate::args::Global;
use crate::exit::{Failure, Outcome};
use crate::output;

/// What `conntrack` cannot tell.
pub const LED: &str = "A connection that was led to an endpoint as it was made (connect-time load balancing: TCP of pods and of the \
node's own processes, as a rule) is a flow between its client and the endpoint, which no Service is known of: --service leaves it \
out. --address with that of an endpoint lists it.";

/// Filters of `conntrack list`.
#[derive(Debug, Args)]
#[command(after_help = LED)]
pub struct ConntrackFilter {
    /// Only this protocol: tcp, udp, icmp …
    #[arg(long, value_parser = filters::protocol)]
    protocol: Option<String>,
    /// Only flows that are translated for this Service; those that were led to an endpoint as they were made are left out.
    #[arg(long, value_name = "NS/NAME", value_parser = filters::namespaced)]
    service: Option<String>,
    /// Only flows with this address at either end, or as back end.
    #[arg(long)]
    address: Option<IpAddr>,
    /// Only flows in this state.
    #[arg(long, value_parser = filters::state())]
    state: Option<String>,
}

/// `conntrack`.
pub fn conntrack(query: Query<ConntrackFilter>, global: &Global) -> Outcome {
    let (snapshot, names) = load(global, true)?;
    let mut rows = conntrack::rows(&snapshot, &names);
    match query {
        Query::List(filter) => {
            if let Some(service) = &filter.service {
                let services = services::rows(&snapshot, &names);
                find(service, &services, global)?;
                tell_of_led(service, &services, &snapshot);
            }
            rows.retain(|r| filter.matches(r));
            finish(global, rows, conntrack_table)
        }
        Query::Show { name } => {
            let meant = Meant::by(&name, &endpoints::rows(&snapshot, &names));
            rows.retain(|r| {
                r.service.as_ref().is_some_and(|service| meant.is_called(service))
                    || ends_of(r).any(|end| meant.is_at(end.address, end.port))
            });
            tell_of_led(&name, &services::rows(&snapshot, &names), &snapshot);
            finish_show(global, "conntrack", &name, rows, conntrack_table)
        }
    }
}

/// A Service without flows is an empty list; one that is not there is a "no".
fn find(service: &str, services: &[services::Row], global: &Global) -> Result<(), Failure> {
    if services.iter().any(|row| row.is_called(service)) {
        return Ok(());
    }
    let why = told(global).why_absent(service);
    let why = why.unwrap_or("not in the kernel of this node; see `tortie services list`");
    Err(Failure::no(anyhow::anyhow!("Service {service}: {why}")))
}

/// Says that some of a Service's connections are not known to be its own.
fn tell_of_led(service: &str, services: &[services::Row], snapshot: &Snapshot) {
    let Some(settings) = &snapshot.settings else { return };
    let led = |row: &&services::Row| row.is_called(service) && row.is_chosen_at_connect(settings);
    let used = services.iter().find(led).and_then(|row| row.endpoints.iter().find(|it| it.used));
    if let Some(endpoint) = used {
        output::tell(format_args!(
            "note: connections to {service} that were led to an endpoint as they were made are flows between client and \
             endpoint, and not listed as the Service's; see `tortie conntrack list --address {}`, and so for each endpoint",
            endpoint.address
        ));
    }
}

impl ConntrackFilter {
    fn matches(&self, row: &conntrack::Row) -> bool {
        self.protocol.as_ref().is_none_or(|p| *p == row.protocol)
            && self.service.as_ref().is_none_or(|s| row.service.as_ref() == Some(s))
            && self.state.as_ref().is_none_or(|s| s == row.state)
            && self.address.is_none_or(|a| ends_of(row).any(|end| end.address == a))
    }
}

fn ends_of(row: &conntrack::Row) -> impl Iterator<Item = &AddressPort> {
    [Some(&row.client), Some(&row.server), row.backend.as_ref()].into_iter().flatten()
}

fn socket(end: &AddressPort) -> String {
    SocketAddr::new(end.address, end.port).to_string()
}

fn conntrack_table(rows: &[conntrack::Row], wide: bool) -> Table {
    let mut headers = vec!["PROTOCOL", "CLIENT", "SERVER", "BACKEND", "STATE", "IDLE", "SENT", "RECEIVED"];
    if wide {
        headers.extend(["AGE", "EXPIRES", "GENERATION", "SERVICE", "FLAGS"]);
    }
    let mut table = columns(&headers);
    for r in rows {
        let mut cells = vec![
            r.protocol.clone(),
            socket(&r.client),
            socket(&r.server),
            r.backend.as_ref().map(socket).unwrap_or_default(),
            r.state.to_owned(),
            format!("{:.0}s", r.idle_seconds),
            format!("{}/{}B", r.forward.packets, r.forward.bytes),
            format!("{}/{}B", r.reverse.packets, r.reverse.bytes),
        ];
        if wide {
            cells.extend([
                format!("{:.0}s", r.age_seconds),
                format!("{:.0}s", r.expires_seconds),
                r.policy_generation.to_string(),
                r.service.clone().unwrap_or_default(),
                r.flags.join(","),
            ]);
        }
        table.add_row(cells);
    }
    table
}
