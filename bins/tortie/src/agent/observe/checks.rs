//! The servers of `healthCheckNodePort`: one for each Service and family that has one.
//!
//! Owns: which are open. Does not: know the answers.
//! Invariant: a Service that goes, or whose port changes, is closed at once; one that cannot listen is tried again
//! and told, and keeps no other from listening.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tortie_model::ServiceId;

use super::http::Service;
use super::listen::{RETRY, accept, bind_one, no_such_family};
use super::proxy::Checks;
use super::vitals::Vitals;

/// Which server: Service, port, family.
type Key = (ServiceId, u16, bool);

/// Runs all of them until the agent ends.
pub async fn run(vitals: Arc<Vitals>, mut checks: watch::Receiver<Arc<Checks>>) {
    let mut open: BTreeMap<Key, JoinSet<()>> = BTreeMap::new();
    loop {
        let wanted = keys(&checks.borrow_and_update());
        // Closed before others open: a port may have moved from one to another.
        let before = open.len();
        open.retain(|key, _| wanted.contains(key));
        if open.len() != before {
            // What was dropped ends when the tasks have seen it.
            tokio::task::yield_now().await;
        }
        let mut problems = BTreeMap::new();
        for key in wanted.into_iter().filter(|key| !open.contains_key(key)).collect::<Vec<_>>() {
            match listen(&vitals, &checks, &key) {
                Ok(tasks) => _ = open.insert(key, tasks),
                Err(problem) => _ = problems.insert(key.0, problem),
            }
        }
        let retry = !problems.is_empty();
        vitals.set_deaf_checks(problems);
        tokio::select! {
            changed = checks.changed() => if changed.is_err() {
                return std::future::pending().await;
            },
            () = tokio::time::sleep(RETRY), if retry => {}
        }
    }
}

fn keys(checks: &Checks) -> Vec<Key> {
    let of = |(id, check): (&ServiceId, &tortie_calc::HealthCheck)| {
        let families = [(check.v4, false), (check.v6, true)].into_iter();
        let port = check.port;
        families.filter_map(|(there, v6)| there.map(|_| (id.clone(), port, v6))).collect::<Vec<_>>()
    };
    checks.iter().flat_map(of).collect()
}

fn listen(
    vitals: &Arc<Vitals>,
    checks: &watch::Receiver<Arc<Checks>>,
    (id, port, v6): &Key,
) -> Result<JoinSet<()>, String> {
    let any = if *v6 { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) };
    let mut tasks = JoinSet::new();
    match bind_one(SocketAddr::new(any, *port)) {
        Ok(listener) => {
            let service = Service::Check {
                vitals: vitals.clone(),
                checks: checks.clone(),
                service: id.clone(),
                v6: *v6,
            };
            tasks.spawn(accept(listener, service));
            Ok(tasks)
        }
        // Nobody can ask in a family that this node has not got.
        Err(error) if no_such_family(&error) => Ok(tasks),
        Err(error) => Err(format!(
            "the health check of Service {id} cannot listen on port {port}: {error}; free the port or change \
             spec.healthCheckNodePort"
        )),
    }
}
