//! The client of `bench services`: a process of its own, in the pod's network namespace and in its node's cgroup.
//!
//! Owns: what is asked of it and what it says. Does not: know who serves.
//! Invariant: a time is that of `connect` alone; a connection is closed by a reset, so that its port can be used again at
//! once.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use socket2::{Domain, Socket, Type};
use tortie_lab::Place;

use crate::exit::{Answer, Failure, Outcome};

/// What the client is asked.
#[derive(Debug, Serialize, Deserialize)]
pub struct Asked {
    /// Kinds of destinations, one of each in turn.
    pub kinds: Vec<Vec<SocketAddr>>,
    /// How many connections of each kind.
    pub count: usize,
}

/// Connections of each kind before those that are counted.
const WARM: usize = 50;

/// The process: asked on its standard input, answers on its standard output, in nanoseconds.
pub fn run() -> Outcome {
    let asked: Asked = serde_json::from_reader(io::stdin()).context("what to connect to")?;
    stay_on(FIRST)?;
    let mut nanos: Vec<Vec<u64>> = asked.kinds.iter().map(|_| Vec::with_capacity(asked.count)).collect();
    for number in 0..WARM + asked.count {
        for (kind, nanos) in asked.kinds.iter().zip(&mut nanos) {
            let Some(to) = kind.get(number % kind.len().max(1)) else { continue };
            let took = connect(*to).with_context(|| format!("connecting to {to}"))?;
            if number >= WARM {
                nanos.push(took.as_nanos() as u64);
            }
        }
    }
    writeln!(io::stdout(), "{}", serde_json::json!(nanos)).context("answering")?;
    Ok(Answer::Yes)
}

/// Where clients run, and who accepts: neither moves, so that one does not wait where the other was before.
const FIRST: usize = 0;
const SECOND: usize = 1;

/// This thread on one processor, as long as there is such a one.
fn stay_on(processor: usize) -> anyhow::Result<()> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let mut set = CpuSet::new();
    set.set(processor % processors)?;
    sched_setaffinity(Pid::from_raw(0), &set).context("staying on one processor")
}

/// Takes connections and closes them, for as long as this process runs.
pub fn accept(listener: TcpListener) {
    std::thread::spawn(move || {
        if let Err(error) = stay_on(SECOND) {
            tracing::warn!(%error, "the server moves between processors");
        }
        listener.incoming().for_each(drop);
    });
}

fn connect(to: SocketAddr) -> io::Result<Duration> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.set_linger(Some(Duration::ZERO))?;
    let since = Instant::now();
    socket.connect(&to.into())?;
    Ok(since.elapsed())
}

/// Runs one in a pod; the median of its times of each kind, in microseconds.
pub fn ask(place: &Place, binary: &std::path::Path, asked: &Asked) -> Result<Vec<f64>, Failure> {
    use std::process::Stdio;
    let argv: [OsString; 3] = [binary.into(), "bench".into(), "client".into()];
    let mut child = place.spawn(&argv, [Stdio::piped(), Stdio::piped(), Stdio::piped()])?;
    if let Some(mut stdin) = child.stdin.take() {
        serde_json::to_writer(&mut stdin, asked).context("asking the client")?;
    }
    let output = child.wait_with_output().context("the client")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Failure::no(anyhow!("the measuring client: {}", said.trim())));
    }
    let kinds: Vec<Vec<u64>> = serde_json::from_slice(&output.stdout).context("what the client says")?;
    let middle = |mut nanos: Vec<u64>| {
        nanos.sort_unstable();
        let middle = nanos.get(nanos.len() / 2).context("the client has measured nothing")?;
        Ok(*middle as f64 / 1e3)
    };
    kinds.into_iter().map(middle).collect()
}

/// Whether this connects at all.
pub fn reaches(place: &Place, to: SocketAddr) -> bool {
    place.run(|| Ok(TcpStream::connect_timeout(&to, Duration::from_millis(200)).is_ok())).unwrap_or(false)
}
