//! The servers that settings are about, listening where the settings say, also when those change.
//!
//! Owns: sockets, and who may be connected at once. Does not: serve; `http` does.
//! Invariant: a change of one server's settings does not touch the other; a host without a name or address
//! means both families; where it cannot listen as it should, it goes on as it did.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, lookup_host};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tortie_model::settings::Listen;

use super::Wanted;
use super::http::{self, Service};
use super::scrape::Scrape;
use super::vitals::Vitals;

/// When a server that could not listen tries again.
pub(super) const RETRY: Duration = Duration::from_secs(5);
/// Connections of one server at once.
const CONNECTIONS: usize = 64;

/// One server.
struct Server {
    name: &'static str,
    service: Service,
    pick: fn(&Wanted) -> &Listen,
    setting: &'static str,
    vitals: Arc<Vitals>,
}

/// Runs them until the agent ends.
pub async fn run(vitals: Arc<Vitals>, scrape: Arc<Scrape>, mut wanted: watch::Receiver<Wanted>) {
    let health = Server {
        name: "health",
        service: Service::Health(vitals.clone()),
        pick: |wanted| &wanted.health,
        setting: "healthPort",
        vitals: vitals.clone(),
    };
    let metrics = Server {
        name: "metrics",
        service: Service::Metrics(scrape.clone()),
        pick: |wanted| &wanted.metrics,
        setting: "prometheusMetricsPort",
        vitals: vitals.clone(),
    };
    let proxy = Server {
        name: "service proxy's health",
        service: Service::Proxy(vitals.clone()),
        pick: |wanted| &wanted.proxy,
        setting: "bpfKubeProxyHealthzPort",
        vitals,
    };
    tokio::spawn(health.run(wanted.clone()));
    tokio::spawn(metrics.run(wanted.clone()));
    tokio::spawn(proxy.run(wanted.clone()));
    loop {
        scrape.set_process(wanted.borrow_and_update().process);
        if wanted.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

impl Server {
    async fn run(self, mut wanted: watch::Receiver<Wanted>) {
        let mut serving = Serving::default();
        loop {
            let now = (self.pick)(&wanted.borrow_and_update()).clone();
            let retry = !self.open(&now, &mut serving).await;
            self.stay(&now, retry, &mut wanted).await;
        }
    }

    /// Until something else is wanted, or it is time to try again.
    async fn stay(&self, now: &Listen, retry: bool, wanted: &mut watch::Receiver<Wanted>) {
        let changed = async {
            while wanted.changed().await.is_ok() {
                if (self.pick)(&wanted.borrow_and_update()) != now {
                    return;
                }
            }
            std::future::pending().await
        };
        tokio::select! {
            () = changed => {}
            () = tokio::time::sleep(RETRY), if retry => {}
        }
    }

    /// `false`: it should listen and cannot.
    async fn open(&self, wanted: &Listen, serving: &mut Serving) -> bool {
        if !wanted.enabled {
            self.vitals.set_deaf(self.name, None);
            serving.close().await;
            return true;
        }
        if serving.at.as_ref() == Some(wanted) {
            self.vitals.set_deaf(self.name, None);
            return true;
        }
        let mut bound = bind(wanted).await;
        let in_use = bound.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse);
        if let Some(before) = serving.at.clone().filter(|before| in_use && before.port == wanted.port) {
            // It may be itself that has some of the addresses.
            serving.close().await;
            bound = bind(wanted).await;
            if bound.is_err()
                && let Ok(listeners) = bind(&before).await
            {
                self.serve(&before, listeners, serving).await;
            }
        }
        match bound {
            Ok(listeners) => {
                self.vitals.set_deaf(self.name, None);
                self.serve(wanted, listeners, serving).await;
                true
            }
            Err(error) => {
                let (host, port) = (&wanted.host, wanted.port);
                let problem = format!(
                    "the {} server cannot listen on port {port} of {host:?}: {error}; free the port or set {}{}",
                    self.name,
                    self.setting,
                    if serving.at.is_some() { "; it listens where it did" } else { "" }
                );
                tracing::error!(problem, "tried again every {} s", RETRY.as_secs());
                self.vitals.set_deaf(self.name, Some(problem));
                false
            }
        }
    }

    /// In place of what it did before.
    async fn serve(&self, at: &Listen, listeners: Vec<TcpListener>, serving: &mut Serving) {
        serving.close().await;
        serving.at = Some(at.clone());
        for listener in listeners {
            if let Ok(address) = listener.local_addr() {
                tracing::info!(server = self.name, %address, "listening");
            }
            serving.tasks.spawn(accept(listener, self.service.clone()));
        }
    }
}

/// Where a server listens.
#[derive(Default)]
struct Serving {
    at: Option<Listen>,
    /// Without them listeners and connections are closed.
    tasks: JoinSet<()>,
}

impl Serving {
    async fn close(&mut self) {
        self.at = None;
        self.tasks.shutdown().await;
    }
}

pub(super) async fn accept(listener: TcpListener, service: Service) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let Ok(seat) = room.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let service = service.clone();
                connections.spawn(async move {
                    http::serve(stream, service).await;
                    drop(seat);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

/// The addresses that a host setting means.
async fn addresses(wanted: &Listen) -> io::Result<Vec<SocketAddr>> {
    let both = |v4: Ipv4Addr, v6: Ipv6Addr| vec![IpAddr::V4(v4), IpAddr::V6(v6)];
    let found = match wanted.host.trim_matches(['[', ']']) {
        "" | "::" => both(Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED),
        "localhost" => both(Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST),
        host => match host.parse() {
            Ok(address) => vec![address],
            Err(_) => lookup_host((host, wanted.port)).await?.map(|address| address.ip()).collect(),
        },
    };
    Ok(found.into_iter().map(|address| SocketAddr::new(address, wanted.port)).collect())
}

/// Listens on all of them. A family that this node has not got is left out; every other failure counts.
async fn bind(wanted: &Listen) -> io::Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    let mut missing = None;
    for address in addresses(wanted).await? {
        match bind_one(address) {
            Ok(listener) => listeners.push(listener),
            Err(error) if no_such_family(&error) => missing = Some(error),
            Err(error) => return Err(error),
        }
    }
    match (listeners.is_empty(), missing) {
        (true, Some(error)) => Err(error),
        (true, None) => Err(io::Error::new(io::ErrorKind::AddrNotAvailable, "it has no address")),
        (false, _) => Ok(listeners),
    }
}

pub(super) fn no_such_family(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(nix::libc::EAFNOSUPPORT | nix::libc::EADDRNOTAVAIL))
}

pub(super) fn bind_one(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(128)?;
    TcpListener::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn of(host: &str) -> Vec<String> {
        let wanted = Listen { enabled: true, host: host.into(), port: 9099 };
        let found = addresses(&wanted).await.unwrap();
        found.iter().map(ToString::to_string).collect()
    }

    #[tokio::test]
    async fn no_host_and_localhost_mean_both_families_and_an_address_means_itself() {
        assert_eq!(of("").await, ["0.0.0.0:9099", "[::]:9099"]);
        assert_eq!(of("::").await, ["0.0.0.0:9099", "[::]:9099"]);
        assert_eq!(of("localhost").await, ["127.0.0.1:9099", "[::1]:9099"]);
        assert_eq!(of("0.0.0.0").await, ["0.0.0.0:9099"]);
        assert_eq!(of("[::1]").await, ["[::1]:9099"]);
    }

    #[tokio::test]
    async fn a_taken_port_is_an_error_that_says_so() {
        let first = bind(&Listen { enabled: true, host: "127.0.0.1".into(), port: 0 }).await.unwrap();
        let port = first[0].local_addr().unwrap().port();
        let error = bind(&Listen { enabled: true, host: "127.0.0.1".into(), port }).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
