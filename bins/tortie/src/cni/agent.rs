//! Owns: asking the agent. Does not: retry what the agent refused; only what it could not be asked.
//! Invariant: every wait ends at its deadline.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr, socket};

use super::config::Config;
use super::error::CniError;
use crate::agent_api::{self, EndpointRecord, ErrorCode, Request, Response};

/// An agent that restarts is back within this many tries' time.
const RETRY_EVERY: Duration = Duration::from_millis(25);
/// What the agent gets beyond its own time-out to say that it is over.
const GRACE: Duration = Duration::from_millis(500);
/// Its time says when the agent was last found willing.
const SERVED: &str = "served";
/// An agent that is replaced is back by then.
const AWAY: Duration = Duration::from_secs(30);
/// For questions that nobody waits for.
const SHORT: Duration = Duration::from_secs(1);

/// Returns when the agent says that the endpoint is protected.
pub fn wait_until_protected(config: &Config, record: &EndpointRecord) -> Result<(), CniError> {
    let pod = format!("{}/{}", record.namespace, record.name);
    let give_up = Instant::now() + config.ready_timeout;
    let not_protected = |reason: String| CniError::NotProtected {
        pod: pod.clone(),
        seconds: config.ready_timeout.as_secs_f64(),
        reason,
    };
    loop {
        let left = give_up.saturating_duration_since(Instant::now());
        let answer = ask(&config.run_dir, &ready_request(record, left), left + GRACE);
        let reason = match answer {
            Ok(Response { ok: true, .. }) => return Ok(()),
            Ok(Response { code: Some(ErrorCode::NotReady), error, .. }) => error.unwrap_or_default(),
            Ok(Response { code: Some(ErrorCode::Timeout), error, .. }) => {
                return Err(not_protected(error.unwrap_or_default()));
            }
            Ok(Response { code, error, .. }) => {
                let (code, reason) = (code.unwrap_or(ErrorCode::Other), error.unwrap_or_default());
                return Err(CniError::AgentRefused { pod, code, reason });
            }
            Err(error) => format!("the agent cannot be asked at {}: {error}", at(&config.run_dir)),
        };
        if Instant::now() + RETRY_EVERY >= give_up {
            return Err(not_protected(reason));
        }
        thread::sleep(RETRY_EVERY);
    }
}

fn ready_request(record: &EndpointRecord, left: Duration) -> Request {
    Request::EndpointReady {
        namespace: record.namespace.clone(),
        name: record.name.clone(),
        container_id: record.container_id.clone(),
        interface: record.interface.clone(),
        addresses: record.addresses.clone(),
        timeout_millis: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
    }
}

/// Tells the agent that an endpoint goes. It finds out by itself, too, only later.
pub fn tell_gone(run_dir: &Path, record: &EndpointRecord) {
    let gone = Request::EndpointGone {
        namespace: record.namespace.clone(),
        name: record.name.clone(),
        container_id: record.container_id.clone(),
        interface: record.interface.clone(),
    };
    if let Err(error) = ask(run_dir, &gone, SHORT) {
        tracing::debug!("telling the agent at {}: {error}", at(run_dir));
    }
}

/// Would the agent serve an ADD, now or when it is back? A runtime that hears "no" makes its node unready and the
/// pods there with it, so an agent that is being replaced is not missed at once.
pub fn serves(run_dir: &Path) -> Result<(), CniError> {
    let reason = match ask(run_dir, &Request::Ping, SHORT) {
        Ok(Response { ok: true, .. }) => {
            if let Err(error) =
                File::create(run_dir.join(SERVED)).and_then(|it| it.set_modified(SystemTime::now()))
            {
                tracing::debug!(%error, "remembering that the agent has answered");
            }
            return Ok(());
        }
        Ok(Response { error, .. }) => error.unwrap_or_else(|| "it is not ready".to_owned()),
        Err(error) => error.to_string(),
    };
    if has_served_lately(run_dir) {
        return Ok(());
    }
    let reason =
        format!("the agent at {} does not serve pods: {reason}; is `tortie agent` running?", at(run_dir));
    Err(CniError::NotAvailable { reason })
}

fn has_served_lately(run_dir: &Path) -> bool {
    let at = std::fs::metadata(run_dir.join(SERVED)).and_then(|metadata| metadata.modified());
    at.is_ok_and(|at| at.elapsed().is_ok_and(|ago| ago < AWAY))
}

fn at(run_dir: &Path) -> String {
    agent_api::socket_path(run_dir).display().to_string()
}

/// A blocking connect would wait without end for an agent that listens and does not accept.
fn connect(path: &Path) -> io::Result<UnixStream> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    socket::connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

fn ask(run_dir: &Path, request: &Request, patience: Duration) -> io::Result<Response> {
    let mut stream = connect(&agent_api::socket_path(run_dir))?;
    stream.set_write_timeout(Some(patience))?;
    stream.set_read_timeout(Some(patience))?;
    let mut line = serde_json::to_string(request)?;
    line.push('\n');
    stream.write_all(line.as_bytes())?;
    let mut answer = String::new();
    if BufReader::new(stream).read_line(&mut answer)? == 0 {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the agent closed the connection"));
    }
    Ok(serde_json::from_str(&answer)?)
}
