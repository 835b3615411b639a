//! From a change in the API server to the node: an EndpointSlice to the map, a pod to its first packet.
//!
//! Owns: what counts as the beginning and the end.
//! Does not: ask the agent; maps and sockets tell.
//! Invariant: the clock starts before the request is sent.

use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use serde_json::json;
use tortie_lab::Where;
use tortie_store::kube::Method;

use super::{Bench, NAMESPACE, PATIENCE, pod, service, slice};
use crate::bench::Item;
use crate::bench::laboratory::percentile_99;
use crate::exit::Failure;
use crate::inspect::read::backends;

const SLICE_MILLIS: f64 = 20.0;
const POD_MILLIS: f64 = 250.0;
/// What has not happened by then never will.
const GIVE_UP: Duration = Duration::from_secs(20);
const JSON: &str = "application/json";

impl Bench {
    /// From sending the PATCH until the back ends in the node's map are others.
    pub(super) fn endpointslice_map(&mut self, changes: u32) -> Result<Item, Failure> {
        let addresses = |last: u32| vec![format!("10.244.200.{last}")];
        self.apply(vec![service("moving", false), slice("moving", &addresses(1))])?;
        let bpffs = self.lab.paths.node_bpffs("node1");
        let path = format!("/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices/moving-made");
        let cluster = self.lab.cluster()?;
        let mut measured = Vec::new();
        for change in 0..changes {
            // Agents do several things at regular intervals; changes must not keep step with them.
            thread::sleep(Duration::from_millis(5) * (change * 7 % 11));
            let before = backends(&bpffs)?;
            let endpoint = json!({"addresses": addresses(2 + change % 200), "conditions": {"ready": true}});
            let body = json!({"endpoints": [endpoint]});
            let since = Instant::now();
            let (patched, seen) = thread::scope(|scope| {
                let patch = ("application/merge-patch+json", &body);
                let path = &path;
                let patching = scope.spawn(move || cluster.raw(&Method::PATCH, path, Some(patch)));
                let seen = until(since, "endpointslice-map", || Ok(backends(&bpffs)? != before));
                (patching.join(), seen)
            });
            patched.map_err(|_| anyhow!("the PATCH panicked"))?.context("changing the EndpointSlice")?;
            measured.push(seen?.as_secs_f64() * 1e3);
        }
        percentile_99("endpointslice-map", measured, SLICE_MILLIS)
    }

    /// From sending the POST until a connection from another pod is established: scheduling, CNI, programs, policy
    /// and the server's start are in it.
    pub(super) fn pod_first_packet(&mut self, pods: u32) -> Result<Item, Failure> {
        let place = self.lab.place(&Where::Pod(NAMESPACE.to_owned(), "client".to_owned()))?;
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods");
        let mut measured = Vec::new();
        for index in 0..pods {
            let name = format!("first-{index}");
            let object = pod(&name, None);
            let since = Instant::now();
            let created = self.lab.cluster()?.raw(&Method::POST, &path, Some((JSON, object.value())));
            created.with_context(|| format!("making pod {name}"))?;
            let mut address = None;
            until(since, "pod-first-packet", || {
                address =
                    self.lab.attachment(NAMESPACE, &name).ok().and_then(|it| it.addresses.first().copied());
                Ok(address.is_some())
            })?;
            let address = SocketAddr::new(address.context("no address")?, 80);
            place.run(|| {
                while TcpStream::connect_timeout(&address, Duration::from_millis(50)).is_err() {
                    anyhow::ensure!(since.elapsed() < GIVE_UP, "pod {name} does not answer");
                    thread::sleep(Duration::from_micros(500));
                }
                Ok(())
            })?;
            measured.push(since.elapsed().as_secs_f64() * 1e3);
        }
        self.lab.wait(PATIENCE)?;
        percentile_99("pod-first-packet", measured, POD_MILLIS)
    }
}

/// How long it took until it was so.
fn until(
    since: Instant,
    what: &str,
    mut is_so: impl FnMut() -> Result<bool, Failure>,
) -> Result<Duration, Failure> {
    while !is_so()? {
        if since.elapsed() > GIVE_UP {
            return Err(Failure::no(anyhow!("{what}: nothing has happened after {} s", GIVE_UP.as_secs())));
        }
        thread::sleep(Duration::from_micros(300));
    }
    Ok(since.elapsed())
}
