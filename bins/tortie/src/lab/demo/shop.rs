//! The shop of the demo: who is in it, and who may talk to whom.
//!
//! Owns: the truth that the demo compares with.
//! Does not: probe.
//! Invariant: the truth is written down apart from the policies, so that neither is derived from the other.

use std::time::Duration;

use tortie_lab::{Endpoint, Family, Lab, Probe};

use super::tell::Grid;

/// The objects of the shop.
pub const SHOP: &str = include_str!("shop.yaml");
/// Its policies.
pub const POLICIES: &str = include_str!("policies.yaml");
/// The policy that closes the database.
pub const MAINTENANCE: &str = include_str!("maintenance.yaml");

const PODS: &[(&str, &str, Role)] = &[
    ("shop", "front-1", Role::Front),
    ("shop", "front-2", Role::Front),
    ("shop", "back-1", Role::Back),
    ("shop", "back-2", Role::Back),
    ("data", "database-1", Role::Database),
];
const SERVICES: &[(&str, &str, Role)] =
    &[("shop", "front", Role::Front), ("shop", "back", Role::Back), ("data", "database", Role::Database)];
/// For what is expected to be closed, and for what is expected to be open: a busy machine is no closed door.
const SILENCE: Duration = Duration::from_millis(800);
const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Customer,
    Front,
    Back,
    Database,
}

/// Who may talk to whom once the policies are in force.
fn may(from: Role, to: Role) -> bool {
    matches!(
        (from, to),
        (Role::Customer, Role::Front) | (Role::Front, Role::Back) | (Role::Back, Role::Database)
    )
}

struct Attempt {
    from: String,
    to: String,
    probe: Probe,
    open: bool,
}

/// Everybody to everybody, through Services and directly, in both families. `guarded`: policies are in force.
pub fn everybody(lab: &Lab, guarded: bool) -> tortie_lab::Result<Grid> {
    let mut attempts = Vec::new();
    for (namespace, name, role) in PODS {
        let from = Endpoint::Pod((*namespace).to_owned(), (*name).to_owned());
        add_targets(&mut attempts, &format!("{namespace}/{name}"), &from, *role, guarded);
    }
    for client in &lab.state.plan.clients {
        let label = format!("customer {}", client.name);
        add_targets(&mut attempts, &label, &Endpoint::Client(client.name.clone()), Role::Customer, guarded);
    }
    let probes: Vec<Probe> = attempts.iter().map(|attempt| attempt.probe.clone()).collect();
    let services = SERVICES.iter().map(|(_, name, _)| format!("Service {name}"));
    let pods: Vec<String> = PODS.iter().map(|(namespace, name, _)| format!("{namespace}/{name}")).collect();
    let customers = lab.state.plan.clients.iter().map(|client| format!("customer {}", client.name));
    let mut grid = Grid::new(
        customers.chain(pods.iter().cloned()).collect(),
        services.chain(pods.iter().cloned()).collect(),
    );
    for (attempt, result) in attempts.into_iter().zip(lab.matrix(&probes)?) {
        let family = attempt.probe.family.map_or("", Family::kubernetes);
        let how =
            format!("{family} {} {}", result.result.as_str(), result.detail.as_deref().unwrap_or_default());
        grid.add(&attempt.from, &attempt.to, result.is_connected(), attempt.open, how.trim_end());
    }
    Ok(grid)
}

fn add_targets(attempts: &mut Vec<Attempt>, label: &str, from: &Endpoint, role: Role, guarded: bool) {
    let services = SERVICES.iter().map(|(namespace, name, of)| {
        (format!("Service {name}"), Endpoint::Service((*namespace).to_owned(), (*name).to_owned()), *of, true)
    });
    let pods = PODS.iter().map(|(namespace, name, of)| {
        (
            format!("{namespace}/{name}"),
            Endpoint::Pod((*namespace).to_owned(), (*name).to_owned()),
            *of,
            false,
        )
    });
    for (to_label, to, of, is_service) in services.chain(pods) {
        // A ClusterIP has no meaning outside; a pod always reaches itself, directly and through its Service.
        let meaningless =
            (is_service && role == Role::Customer) || &to == from || (is_service && of == role && guarded);
        if meaningless {
            continue;
        }
        let open = !guarded || may(role, of);
        let timeout = if open { PATIENCE } else { SILENCE };
        for family in [Family::Ipv4, Family::Ipv6] {
            let usual = Probe::new(from.clone(), to.clone());
            let probe = Probe { family: Some(family), timeout, ..usual };
            attempts.push(Attempt { from: label.to_owned(), to: to_label.clone(), probe, open });
        }
    }
}
