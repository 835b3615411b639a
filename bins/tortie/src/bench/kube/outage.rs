//! What is lost while the API server is away.
//!
//! Owns: the outage, and pods whose sandboxes are made anew during it.
//! Does not: soften; an attempt that fails for any reason counts.
//! Invariant: the control plane is back at the end.

use std::thread;
use std::time::{Duration, Instant};

use tortie_lab::{Component, Endpoint, Probe};

use super::{Bench, NAMESPACE, PATIENCE, pod};
use crate::bench::Item;
use crate::exit::Failure;

/// A pod's sandbox is made anew this often.
const EVERY: Duration = Duration::from_secs(1);

impl Bench {
    /// Connections through a Service, open and new, and CNI calls, while etcd and the API server are dead.
    pub(super) fn outage(&mut self, time: Duration) -> Result<Vec<Item>, Failure> {
        let names: Vec<String> = (1..=3).map(|node| format!("restarted-{node}")).collect();
        let pods = names.iter().zip(1..).map(|(name, node)| pod(name, Some(&format!("node{node}"))));
        self.apply(pods.collect())?;
        let of = |name: &str| Endpoint::Pod(NAMESPACE.to_owned(), name.to_owned());
        let to = Endpoint::Service(NAMESPACE.to_owned(), "server".to_owned());
        let asking = Probe { timeout: Duration::from_secs(3), ..Probe::new(of("client"), to) };
        let asking = self.lab.resolve(&asking)?;
        self.lab.stream_start("outage", &asking, Duration::from_millis(1))?;
        for component in [Component::ApiServer, Component::Etcd] {
            self.lab.kill_component(component)?;
        }
        let (mut lost, mut failed, mut calls) = (0_u32, 0_u32, 0_u32);
        let until = Instant::now() + time;
        while Instant::now() < until {
            for name in &names {
                calls += 1;
                // DEL and ADD, and then the pod must reach the Service.
                let reaches = self.lab.restart_sandbox(NAMESPACE, name, PATIENCE).is_ok()
                    && self.lab.probe(&Probe { from: of(name), ..asking.clone() })?.is_connected();
                failed += u32::from(!reaches);
            }
            for result in self.lab.matrix(&vec![asking.clone(); 20])? {
                lost += u32::from(!result.is_connected());
            }
            thread::sleep(EVERY);
        }
        let report = self.lab.stream_stop("outage")?;
        lost += u32::from(report.lost > 0 || report.ended.as_deref() != Some("stopped"));
        for component in [Component::Etcd, Component::ApiServer] {
            self.lab.start_component(component)?;
        }
        self.lab.wait(PATIENCE)?;
        super::super::progress(&format!("{calls} sandboxes were made anew"));
        let exact = |name, value: u32| Item::of(name, "", Some([f64::from(value); 3]), 0.0);
        Ok(vec![exact("api-down-lost-connections", lost)?, exact("api-down-cni-failures", failed)?])
    }
}
