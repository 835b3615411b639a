//! `conntrack list`: one row for each flow, both directions together.

use crate::{AddressPort, Names, Snapshot, protocol_name};
use serde::Serialize;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use tortie_abi::Tick;
use tortie_abi::flow::{Counters, FlowCore, State, flags};
use tortie_abi::settings::Settings;
use tortie_datapath::hook::sweep::timeout;
use tortie_datapath::stage::direct::is_keyed_plainly;
use tortie_datapath::{Family, FlowEntry, Tuple, V4, V6};
use zerocopy::IntoBytes;

/// Packets and bytes of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// Packets.
    pub packets: u64,
    /// Bytes from the IP header on.
    pub bytes: u64,
}

/// One flow.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// `TCP`, `UDP` …
    pub protocol: String,
    /// Who opened it.
    pub client: AddressPort,
    /// Whom the client talks to, as the client sees it.
    pub server: AddressPort,
    /// Who answers, when a Service is in between.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<AddressPort>,
    /// The Service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// `established`, `syn-sent` …
    pub state: &'static str,
    /// Since its first packet.
    pub age_seconds: f64,
    /// Since its last packet in either direction.
    pub idle_seconds: f64,
    /// Until it expires when nothing more comes.
    pub expires_seconds: f64,
    /// Client to server.
    pub forward: Traffic,
    /// Server to client.
    pub reverse: Traffic,
    /// The policy generation that admitted it.
    pub policy_generation: u32,
    /// `service`, `hairpin`, `half-open` …
    pub flags: Vec<&'static str>,
}

/// Service names by front end.
type Services = HashMap<(IpAddr, u16, u8), String>;

/// What a row is made from besides its entries.
struct Sources<'a> {
    snapshot: &'a Snapshot,
    services: Services,
}

/// All flows of both families, sorted by client and server.
pub fn rows(snapshot: &Snapshot, names: &Names) -> Vec<Row> {
    let sources = &Sources { snapshot, services: services(snapshot, names) };
    let mut rows = family::<V4>(&snapshot.flow4, false, sources, |a| IpAddr::V4((*a).into()));
    rows.extend(family::<V4>(&snapshot.half_open4, true, sources, |a| IpAddr::V4((*a).into())));
    rows.extend(family::<V6>(&snapshot.flow6, false, sources, |a| IpAddr::V6((*a).into())));
    rows.extend(family::<V6>(&snapshot.half_open6, true, sources, |a| IpAddr::V6((*a).into())));
    rows.sort_by(|a, b| (&a.client, &a.server, &a.protocol).cmp(&(&b.client, &b.server, &b.protocol)));
    rows
}

fn family<F: Family>(
    entries: &[(F::FlowKey, F::Flow)],
    half_open: bool,
    sources: &Sources<'_>,
    show: impl Fn(&F::Addr) -> IpAddr,
) -> Vec<Row> {
    // The other direction's key follows from the reply entry alone.
    let replies: HashMap<Vec<u8>, F::Flow> = entries
        .iter()
        .filter(|(_, f)| f.core().flags & flags::REPLY != 0)
        .map(|(k, f)| (F::flow_key(&forward_tuple::<F>(&F::tuple(k), f)).as_bytes().to_vec(), *f))
        .collect();
    let forward = entries.iter().filter(|(_, f)| f.core().flags & flags::REPLY == 0);
    forward
        .map(|(key, flow)| {
            let reply = replies.get(key.as_bytes());
            row::<F>(&F::tuple(key), flow, reply, half_open, sources, &show)
        })
        .collect()
}

/// The client's own view of a flow, from its reply entry.
fn forward_tuple<F: Family>(reply: &Tuple<F::Addr>, flow: &F::Flow) -> Tuple<F::Addr> {
    let core = flow.core();
    let mut forward = reply.reversed();
    if is_keyed_plainly(core.flags) {
        return forward;
    }
    if core.flags & flags::NAT_SOURCE != 0 {
        forward.destination = flow.nat_address();
        forward.destination_port = core.nat_port;
    }
    if core.flags & flags::HAIRPIN != 0 {
        forward.source = reply.source;
    }
    if core.flags & (flags::HAIRPIN | flags::PORT_MOVED) != 0 {
        forward.source_port = core.other_port;
    }
    forward
}

fn row<F: Family>(
    tuple: &Tuple<F::Addr>,
    flow: &F::Flow,
    reply: Option<&F::Flow>,
    half_open: bool,
    sources: &Sources<'_>,
    show: &impl Fn(&F::Addr) -> IpAddr,
) -> Row {
    let core = *flow.core();
    let now = Tick::from_nanos(sources.snapshot.now_nanos);
    let idle = reply.map_or(u32::MAX, |r| now.since(r.core().last_seen)).min(now.since(core.last_seen));
    let limit = sources
        .snapshot
        .settings
        .as_ref()
        .map_or(0, |s: &Settings| timeout::<F>(s, tuple.protocol, core.state));
    let met = AddressPort { address: show(&tuple.destination), port: tuple.destination_port.get() };
    let written =
        |f: &F::Flow| AddressPort { address: show(&f.nat_address()), port: f.core().nat_port.get() };
    // Where another node was asked, the answer alone knows at which address.
    let (server, backend) = match reply.filter(|reply| is_keyed_plainly(reply.core().flags)) {
        Some(reply) => (written(reply), Some(met)),
        None => (met, (core.flags & flags::NAT_DESTINATION != 0).then(|| written(flow))),
    };
    let direct = reply.is_some_and(|reply| reply.core().flags & flags::DIRECT != 0);
    Row {
        protocol: protocol_name(tuple.protocol),
        client: AddressPort { address: show(&tuple.source), port: tuple.source_port.get() },
        // What is not translated is no Service's, whoever has the address now.
        service: backend.as_ref().and_then(|_| service_at(&sources.services, &server, tuple.protocol)),
        server,
        backend,
        state: state_name(core.state),
        age_seconds: seconds(now.since(core.created)),
        idle_seconds: seconds(idle),
        expires_seconds: seconds(limit.saturating_sub(idle)),
        forward: traffic(flow),
        reverse: reply.map(traffic).unwrap_or_default(),
        policy_generation: core.generation,
        flags: flag_names(&core, direct, half_open),
    }
}

/// The Service of a front end: the address's own, or the one at that port of every node, as `service::frontend_of` of the
/// datapath finds it.
fn service_at(services: &Services, server: &AddressPort, protocol: u8) -> Option<String> {
    let every_node: IpAddr = match server.address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    [server.address, every_node].iter().find_map(|it| services.get(&(*it, server.port, protocol))).cloned()
}

fn services(snapshot: &Snapshot, names: &Names) -> Services {
    let v4 =
        snapshot.frontend4.iter().map(|(k, f)| ((IpAddr::V4(k.address.into()), k.port.get(), k.protocol), f));
    let v6 =
        snapshot.frontend6.iter().map(|(k, f)| ((IpAddr::V6(k.address.into()), k.port.get(), k.protocol), f));
    v4.chain(v6)
        .filter_map(|(key, f)| {
            names.services.get(&f.service).map(|s| (key, format!("{}/{}", s.namespace, s.name)))
        })
        .collect()
}

fn traffic<E: FlowEntry>(entry: &E) -> Traffic {
    let mut copy = *entry;
    let Counters { packets, bytes } = *copy.counters();
    Traffic { packets, bytes }
}

fn seconds(ticks: u32) -> f64 {
    Tick::millis_of_ticks(ticks) as f64 / 1000.0
}

/// The name of a stored state.
pub fn state_name(byte: u8) -> &'static str {
    State::from_byte(byte).map_or("unknown", name_of_state)
}

/// The names of all states.
pub fn states() -> impl Iterator<Item = &'static str> {
    (0..=u8::MAX).filter_map(State::from_byte).map(name_of_state)
}

fn name_of_state(state: State) -> &'static str {
    match state {
        State::SynSent => "syn-sent",
        State::SynReceived => "syn-received",
        State::Established => "established",
        State::Closing => "closing",
        State::Closed => "closed",
        State::Reset => "reset",
        State::Unreplied => "unreplied",
    }
}

fn flag_names(core: &FlowCore, direct: bool, half_open: bool) -> Vec<&'static str> {
    const NAMES: [(u16, &str); 4] = [
        (flags::SERVICE, "service"),
        (flags::HAIRPIN, "hairpin"),
        (flags::PORT_MOVED, "port-moved"),
        (flags::FROM_HOST, "from-host"),
    ];
    let mut names: Vec<&'static str> =
        NAMES.iter().filter(|(bit, _)| core.flags & bit != 0).map(|(_, name)| *name).collect();
    if direct || core.flags & flags::DIRECT != 0 {
        names.push("direct");
    }
    if half_open {
        names.push("half-open");
    }
    names
}
