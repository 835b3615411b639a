//! Running a command in a pod, as `kubectl exec` does.
//!
//! Owns: the request, the WebSocket's channels, and how the command ended. Does not: know what the command says.
//! Invariant: needs no port of the pod and no right but the caller's own, on `pods/exec`; what a command says
//! beyond [`MOST`] is cut off.

use super::access::chain;
use super::error::{ClusterError, Refusal};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::api::{Api, AttachParams};
use kube::{Client, Error};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Bytes of each stream that are kept.
const MOST: u64 = 16 << 20;

/// What to run, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod.
    pub pod: String,
    /// One of its containers.
    pub container: String,
    /// Program and arguments; there is no shell.
    pub words: Vec<String>,
    /// The longest that all of it may take.
    pub within: Duration,
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// Its exit code.
    pub code: i32,
    /// What it said.
    pub stdout: Vec<u8>,
    /// What it complained about.
    pub stderr: Vec<u8>,
}

/// Runs it to its end.
pub(super) async fn run(client: Client, command: Command) -> Result<Ran, ClusterError> {
    let pods: Api<Pod> = Api::namespaced(client, &command.namespace);
    let streams = AttachParams::default().stdin(false).stdout(true).stderr(true);
    let streams = streams.container(command.container);
    let mut process = pods.exec(&command.pod, command.words, &streams).await.map_err(refused)?;
    let ended = process.take_status();
    let (stdout, stderr) = (process.stdout(), process.stderr());
    let said = async { tokio::join!(all(stdout), all(stderr)) };
    tokio::pin!(said);
    // The streams of a connection that was cut do not end by themselves; that there is no status tells.
    let (ended, said) = match ended {
        Some(ended) => {
            tokio::pin!(ended);
            tokio::select! {
                said = &mut said => (ended.await, Some(said)),
                ended = &mut ended => match ended {
                    Some(status) => (Some(status), Some(said.await)),
                    None => (None, None),
                },
            }
        }
        None => (None, None),
    };
    let (Some(status), Some((stdout, stderr))) = (ended, said) else {
        let why = process.join().await.err().map(|error| chain(&error));
        return Err(broken(why.as_deref().unwrap_or("it ended before the command did")));
    };
    Ok(Ran { code: code(status)?, stdout: stdout?, stderr: stderr? })
}

async fn all(stream: Option<impl AsyncRead + Unpin>) -> Result<Vec<u8>, ClusterError> {
    let Some(mut stream) = stream else { return Ok(Vec::new()) };
    let mut bytes = Vec::new();
    let read = (&mut stream).take(MOST).read_to_end(&mut bytes).await;
    // What is too much is read all the same, or the command would wait for us.
    let rest = match read {
        Ok(_) => tokio::io::copy(&mut stream, &mut tokio::io::sink()).await,
        Err(error) => Err(error),
    };
    rest.map(|_| bytes).map_err(|error| broken(&error.to_string()))
}

/// The server says how it ended in a `Status`.
fn code(status: Status) -> Result<i32, ClusterError> {
    if status.status.as_deref() == Some("Success") {
        return Ok(0);
    }
    let causes = status.details.iter().flat_map(|details| details.causes.iter().flatten());
    let exit = causes.filter(|cause| cause.reason.as_deref() == Some("ExitCode"));
    let code = exit.filter_map(|cause| cause.message.as_ref()?.parse().ok()).next();
    code.ok_or_else(|| {
        ClusterError::Refused(Refusal {
            code: status.code.and_then(|code| u16::try_from(code).ok()).unwrap_or(500),
            reason: status.reason.unwrap_or_default(),
            message: status.message.unwrap_or_else(|| "the command could not be run".into()),
            retry_after: None,
        })
    })
}

/// No answer in time.
pub(super) fn late(within: Duration) -> ClusterError {
    broken(&format!("no answer within {} s", within.as_secs_f64()))
}

fn broken(cause: &str) -> ClusterError {
    ClusterError::Malformed { what: "the connection to a command in a pod".into(), cause: cause.into() }
}

fn refused(error: Error) -> ClusterError {
    match error {
        Error::Api(status) => ClusterError::Refused(Refusal {
            code: status.code,
            reason: status.reason.clone(),
            message: status.message.clone(),
            retry_after: None,
        }),
        Error::Service(cause) => {
            ClusterError::Unreachable { server: "of this cluster".into(), cause: chain(&*cause) }
        }
        other => broken(&chain(&other)),
    }
}
