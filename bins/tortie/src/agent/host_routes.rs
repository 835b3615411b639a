//! Routes of the host's own stack to other nodes' pods.
//!
//! Invariant: only routes with our protocol number are touched; nothing is removed before the datastore is
//! in sync.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use tortie_host::netlink::Netlink;

const RETRY: Duration = Duration::from_secs(1);

/// Of the prefixes, and of the ways to their nodes.
pub type Version = (u64, u64);

/// Desired and actual routes.
pub struct HostRoutes {
    actual: Option<BTreeMap<IpNet, IpAddr>>,
    /// What they were made from; `None`: some could not be made.
    version: Option<Version>,
    errors: BTreeMap<IpNet, String>,
    retry_at: Option<Instant>,
}

impl HostRoutes {
    /// Nothing known.
    pub fn new() -> Self {
        Self { actual: None, version: None, errors: BTreeMap::new(), retry_at: None }
    }

    /// The kernel's side is read again next time.
    pub fn invalidate(&mut self) {
        self.actual = None;
    }

    /// What the kernel says of one of our routes: with another gateway, or without one, somebody else has changed it.
    pub fn noticed(&mut self, net: IpNet, gateway: Option<IpAddr>) {
        if self.actual.as_ref().is_some_and(|actual| actual.get(&net) != gateway.as_ref()) {
            self.invalidate();
        }
    }

    /// Makes the routes what they should be: prefix and gateway. They are asked for where their version is another one.
    pub async fn apply(
        &mut self,
        version: Version,
        desired: impl FnOnce() -> BTreeMap<IpNet, IpAddr>,
        netlink: &Netlink,
    ) -> usize {
        if self.actual.is_some() && self.version == Some(version) {
            return 0;
        }
        if self.actual.is_none() {
            match netlink.routes().await {
                Ok(routes) => self.actual = Some(routes),
                Err(error) => {
                    tracing::warn!(%error, "our routes cannot be listed");
                    self.retry_at = Some(Instant::now() + RETRY);
                    return 0;
                }
            }
        }
        let Some(actual) = &mut self.actual else { return 0 };
        if self.retry_at.is_some_and(|at| at > Instant::now()) {
            return 0;
        }
        let desired = desired();
        let (mut written, mut errors) = (0, BTreeMap::new());
        let nets: BTreeSet<IpNet> = actual.keys().chain(desired.keys()).copied().collect();
        for net in nets {
            let result = match (desired.get(&net), actual.get(&net)) {
                (Some(wanted), found) if found != Some(wanted) => netlink.set_route(net, *wanted).await,
                (None, Some(found)) => netlink.remove_route(net, *found).await,
                _ => continue,
            };
            match result {
                Ok(()) => {
                    written += 1;
                    match desired.get(&net) {
                        Some(wanted) => actual.insert(net, *wanted),
                        None => actual.remove(&net),
                    };
                }
                Err(error) => drop(errors.insert(net, error.to_string())),
            }
        }
        self.retry_at = (!errors.is_empty()).then(|| Instant::now() + RETRY);
        self.version = errors.is_empty().then_some(version);
        self.errors = errors;
        written
    }

    /// Routes that could not be written, with the reason.
    pub fn errors(&self) -> &BTreeMap<IpNet, String> {
        &self.errors
    }

    /// When what failed is tried again.
    pub fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }
}
