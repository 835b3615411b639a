//! Where the API servers are, and who we are to them.
//!
//! Owns: the rules by which a configuration is found, and the list of addresses. Does not: connect.
//! Invariant: reading it again gives what is true now: rotated certificates, tokens and addresses.

use super::error::ClusterError;
use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use std::ffi::OsStr;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Names several API servers, separated by commas: `10.0.0.1:6443,[fd00::1]:6443,https://api.example:443`.
/// They take the place of the address in the kubeconfig or of `KUBERNETES_SERVICE_HOST`.
pub const SERVERS_VARIABLE: &str = "TORTIE_API_SERVERS";

/// The port of an API server when none is given.
const DEFAULT_PORT: u16 = 6443;

/// How long to wait for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// No answer to a request comes later.
    pub answer: Duration,
    /// A watch without even a bookmark for so long may have nobody at its other end any more; most servers send one a minute.
    pub quiet: Duration,
    /// The first pause after a failure.
    pub first_pause: Duration,
    /// The longest.
    pub longest_pause: Duration,
    /// A server that says nothing new for so long at the start is away.
    pub patience: Duration,
    /// A kind that could be read has to be refused for so long to be reported; an API server that has just begun does not know
    /// roles yet.
    pub refusal: Duration,
    /// Until other agents say an Event that those before them should have said.
    pub turn: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(30),
            quiet: Duration::from_secs(70),
            first_pause: Duration::from_millis(200),
            longest_pause: Duration::from_secs(30),
            patience: Duration::from_secs(5),
            refusal: Duration::from_secs(5),
            turn: Duration::from_secs(60),
        }
    }
}

/// How to reach a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// This file, else the usual rules: `KUBECONFIG` (files that are missing are passed over), `~/.kube/config`, then a pod's service account with
    /// `KUBERNETES_SERVICE_HOST` and `KUBERNETES_SERVICE_PORT`.
    pub kubeconfig: Option<PathBuf>,
    /// The context of it; `None`: its current one.
    pub context: Option<String>,
    /// Addresses of API servers, tried in turn; none: the one of the configuration.
    pub servers: Vec<String>,
    /// How long to wait for what.
    pub timing: Timing,
}

impl Access {
    /// As the environment says.
    pub fn new(kubeconfig: Option<PathBuf>) -> Self {
        let servers = std::env::var(SERVERS_VARIABLE).unwrap_or_default();
        let servers = servers.split(',').map(str::trim).filter(|it| !it.is_empty()).map(str::to_owned);
        Self { kubeconfig, context: None, servers: servers.collect(), timing: Timing::default() }
    }

    /// A configuration for each server, read from the files as they are now; those the cluster has `told` come
    /// last.
    pub(super) async fn configs(&self, told: &[String]) -> Result<Vec<Config>, ClusterError> {
        let base = self.base().await?;
        let mut all = if self.servers.is_empty() { vec![base.clone()] } else { Vec::new() };
        let of = |server: &String| {
            let wrong = |cause: String| ClusterError::Configuration {
                source_of: format!("{SERVERS_VARIABLE}, {server:?}"),
                cause,
            };
            let mut config = base.clone();
            config.cluster_url = url(server).parse().map_err(|error| wrong(format!("{error}")))?;
            Ok(config)
        };
        for server in self.servers.iter().chain(told) {
            let config = of(server)?;
            if !all.iter().any(|other: &Config| other.cluster_url == config.cluster_url) {
                all.push(config);
            }
        }
        Ok(all)
    }

    pub(super) async fn base(&self) -> Result<Config, ClusterError> {
        self.read().await.map(with_whole_token)
    }

    async fn read(&self) -> Result<Config, ClusterError> {
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        if let Some(path) = &self.kubeconfig {
            let wrong = |error: KubeconfigError| ClusterError::Configuration {
                source_of: format!("kubeconfig {}", path.display()),
                cause: cause(&error),
            };
            let kubeconfig = Kubeconfig::read_from(path).map_err(wrong)?;
            let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
            return config.map_err(wrong);
        }
        let in_cluster = || match self.servers.is_empty() {
            true => Config::incluster_env(),
            false => Config::incluster_dns(),
        };
        let config = match present(&std::env::var_os("KUBECONFIG").unwrap_or_default()) {
            Ok(Some(kubeconfig)) => Config::from_custom_kubeconfig(kubeconfig, &options).await,
            Ok(None) => Config::from_kubeconfig(&options).await,
            Err(error) => Err(error),
        };
        let kubeconfig = match config {
            Ok(config) => return Ok(config),
            Err(error) => error,
        };
        in_cluster().map_err(|pod| ClusterError::Configuration {
            source_of: "no configuration for the API server".into(),
            cause: format!("{}; in a pod: {}", of_kubeconfig(&kubeconfig), chain(&pod)),
        })
    }
}

/// What is wrong with a kubeconfig, whose path is known.
fn cause(error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::ReadConfig(error, _) => error.to_string(),
        other => chain(other),
    }
}

/// The same, with its path where it could not be read.
fn of_kubeconfig(error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::ReadConfig(_, path) => format!("kubeconfig {}: {}", path.display(), cause(error)),
        other => format!("kubeconfig: {}", cause(other)),
    }
}

/// A token file may end with a line feed, as kubectl takes it; its token is then read again with the configuration, when the
/// server refuses it.
fn with_whole_token(mut config: Config) -> Config {
    let user = &mut config.auth_info;
    let text = user.token_file.as_ref().and_then(|path| std::fs::read_to_string(path).ok());
    if let Some(text) = text.filter(|text| text.trim() != text) {
        user.token_file = None;
        user.token = Some(text.trim().to_owned().into());
    }
    config
}

/// What the files of a list say together of which some are missing, as kubectl takes it; `None`: none or all are there, and
/// the usual rules hold.
fn present(list: &OsStr) -> Result<Option<Kubeconfig>, KubeconfigError> {
    let named: Vec<PathBuf> =
        std::env::split_paths(list).filter(|path| !path.as_os_str().is_empty()).collect();
    let there: Vec<&PathBuf> = named.iter().filter(|path| path.try_exists().unwrap_or(true)).collect();
    if there.is_empty() || there.len() == named.len() {
        return Ok(None);
    }
    let read = |all: Kubeconfig, path: &&PathBuf| all.merge(Kubeconfig::read_from(path)?);
    there.iter().try_fold(Kubeconfig::default(), read).map(Some)
}

/// `host`, `host:port`, `[v6]:port`, a bare v6 address or a whole URL, as a URL.
fn url(server: &str) -> String {
    if server.contains("://") {
        return server.to_owned();
    }
    match (server.parse::<IpAddr>(), server.rsplit_once(':')) {
        (Ok(address), _) => format!("https://{}", SocketAddr::new(address, DEFAULT_PORT)),
        (Err(_), Some((_, port))) if port.parse::<u16>().is_ok() => format!("https://{server}"),
        _ => format!("https://{server}:{DEFAULT_PORT}"),
    }
}

/// An error with its causes, each said once.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Access, of_kubeconfig, present, url};
    use kube::config::KubeconfigError;
    use std::io;

    #[test]
    fn files_of_a_list_that_are_missing_are_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        let [here, there, missing] = ["a", "b", "c"].map(|name| directory.path().join(name));
        std::fs::write(&here, "{apiVersion: v1, kind: Config, current-context: x}").unwrap();
        std::fs::write(&there, "{apiVersion: v1, kind: Config, current-context: y}").unwrap();
        let of = |paths: &[&std::path::PathBuf]| {
            let list = std::env::join_paths(paths).unwrap();
            present(&list).unwrap().map(|it| it.current_context.unwrap())
        };
        assert_eq!(of(&[&missing, &there, &here]), Some("y".into()));
        assert_eq!(of(&[&here, &missing]), Some("x".into()));
        assert_eq!((of(&[&here, &there]), of(&[&missing]), of(&[])), (None, None, None));
    }

    #[test]
    fn a_kubeconfig_that_is_not_there_is_named_as_it_is_called() {
        let missing = io::Error::from(io::ErrorKind::NotFound);
        let said = of_kubeconfig(&KubeconfigError::ReadConfig(missing, "/root/.kube/config".into()));
        assert_eq!(said, "kubeconfig /root/.kube/config: entity not found");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let error = runtime.block_on(Access::new(Some("/no/such".into())).base()).unwrap_err().to_string();
        assert!(error.starts_with("kubeconfig /no/such: No such file or directory"), "{error}");
    }

    #[test]
    fn a_server_is_a_host_an_address_or_a_url() {
        assert_eq!(url("10.0.0.1"), "https://10.0.0.1:6443");
        assert_eq!(url("10.0.0.1:443"), "https://10.0.0.1:443");
        assert_eq!(url("fd00::1"), "https://[fd00::1]:6443");
        assert_eq!(url("[fd00::1]:443"), "https://[fd00::1]:443");
        assert_eq!(url("api.example"), "https://api.example:6443");
        assert_eq!(url("http://127.0.0.1:1"), "http://127.0.0.1:1");
    }
}
