//! Traffic between two ends, and what it costs: `tests/kubernetes/cluster/traffic.sh` runs both in pods.
//!
//! Owns: the command line, and the processors that its threads run on.
//! Does not: know clusters, or compare anything.
//! Invariant: a client prints one line of JSON, or fails.
#![forbid(unsafe_code)]

mod client;
mod server;

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// Requests, connections and streams between two ends, each for a given time
#[derive(Parser)]
#[command(name = "tortie-traffic", version)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Serve every client mode, in both families, until standard input ends
    Server(Serving),
    /// Single bytes there and back on one TCP connection
    Rr(Asking),
    /// TCP connections with one byte there and back each
    Crr(Asking),
    /// TCP connections that are opened and reset
    Connect(Asking),
    /// One TCP stream
    Stream(Asking),
    /// UDP datagrams, many to a call (`UDP_SEGMENT`)
    Udp {
        #[command(flatten)]
        asking: Asking,
        /// Bytes of payload in a datagram: what fits the path with its headers
        #[arg(long, default_value_t = 1350, value_parser = clap::value_parser!(u16).range(1..=1452))]
        segment: u16,
    },
}

/// What a server does.
#[derive(Args, Clone, Copy)]
struct Serving {
    /// Single bytes come back from this TCP port; streams and datagrams go to the next; the one after says how much arrived
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u16).range(1..=65533))]
    port: u16,
    /// Processor of what answers requests
    #[arg(long)]
    cpu: Option<usize>,
    /// Processor of what takes streams and datagrams
    #[arg(long)]
    sink_cpu: Option<usize>,
    /// Take datagrams one by one, not gathered by the kernel (`UDP_GRO`)
    #[arg(long)]
    no_gro: bool,
}

/// What a client does.
#[derive(Args, Clone, Copy)]
struct Asking {
    /// The server's first port, or where it leads to
    server: SocketAddr,
    /// How long to measure
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// How long to do the same before, unmeasured
    #[arg(long, default_value_t = 0.2)]
    warm_up: f64,
    /// Processor to run on
    #[arg(long)]
    cpu: Option<usize>,
}

/// Ports of a server, counted from its first.
const SINK: u16 = 1;
const COUNT: u16 = 2;

/// Keeps this thread, and those that it starts, on one processor.
fn pin(cpu: Option<usize>) -> Result<()> {
    let Some(cpu) = cpu else { return Ok(()) };
    let mut set = CpuSet::new();
    set.set(cpu)
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &set))
        .with_context(|| format!("--cpu {cpu}"))
}

fn main() -> Result<()> {
    let report = match Arguments::parse().verb {
        Verb::Server(serving) => return server::run(serving),
        Verb::Rr(asking) => client::rr(asking),
        Verb::Crr(asking) => client::crr(asking),
        Verb::Connect(asking) => client::connect(asking),
        Verb::Stream(asking) => client::stream(asking),
        Verb::Udp { asking, segment } => client::udp(asking, segment),
    }?;
    println!("{report}");
    Ok(())
}
