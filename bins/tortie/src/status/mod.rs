//! `status`: one screen that says whether this node, or every node, is as desired, and what is not.
//!
//! Owns: what counts as healthy, and the exit code. Does not: know anything by itself: the agent is asked, and
//! the kernel where the agent cannot be.
//! Invariant: 0 only when everything that was said is in force; without the agent always 3, with what the pins
//! tell.

mod answer;
mod cluster;
mod nodes;
mod offline;
mod text;

use std::io;
use std::path::Path;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use crate::args::Global;
use crate::ask;
use crate::exit::{Answer, Failure, Outcome};
use crate::inspect::names;
use crate::output;
pub use answer::Status;

/// From here on a map's fill is a warning, in per cent.
const NEARLY_FULL: u64 = 80;
/// What is said of one thing, and of several, that are listed elsewhere on a node's own screen.
const NOT_IN_FORCE: [&str; 2] = ["thing is not in force yet", "things are not in force yet"];
/// What `health` says when only the kernel was asked.
const NO_AGENT: &str = "agent-unreachable";
/// A busy agent answers within this.
const PATIENCE: Duration = Duration::from_secs(10);

/// Flags of `status`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Ask the agent of every node: over the API server, by running this verb in the agents' pods.
    #[arg(long)]
    cluster: bool,
    /// With --cluster: ask the agents of this laboratory on this machine, not those of the API server.
    #[arg(long, value_name = "NAME", requires = "cluster")]
    lab: Option<tortie_lab::LabName>,
    /// Where the agents' pods are.
    #[arg(short = 'n', long, value_name = "NS", default_value = "kube-system")]
    namespace: String,
    /// The longest that a node may take to answer.
    #[arg(long, default_value = "20s", value_parser = crate::lab::input::duration)]
    timeout: Duration,
}

/// Runs the verb.
pub fn run(arguments: &Arguments, global: &Global) -> Outcome {
    if arguments.cluster {
        return cluster::run(arguments, global);
    }
    match of_this_node(global) {
        Ok(status) => {
            show(&status, global)?;
            Ok(if status.is_healthy() { Answer::Yes } else { Answer::No })
        }
        Err(error) => without_agent(global, &error),
    }
}

/// How this node is, by what its agent says.
pub fn of_this_node(global: &Global) -> io::Result<Status> {
    of_agent(&global.run_dir, PATIENCE)
}

/// What the agent with that run directory says, and what it means.
fn of_agent(run_dir: &Path, patience: Duration) -> io::Result<Status> {
    let answer = ask::agent_within(run_dir, &json!({"verb": "status"}), patience)?;
    let mut status: Status = serde_json::from_value(answer)?;
    name_pods(&mut status, run_dir);
    name_programs(&mut status);
    judge(&mut status);
    Ok(status)
}

fn show(status: &Status, global: &Global) -> io::Result<()> {
    let drops = crate::drops::total(&global.bpffs);
    output::print(global.output, status, |wide| text::screen(status, drops.as_ref(), wide))
}

/// Shows what the pins tell; the exit code is that the agent cannot be reached, whatever they tell.
fn without_agent(global: &Global, error: &io::Error) -> Outcome {
    let why = ask::unreachable(&global.run_dir, error);
    if error.kind() == io::ErrorKind::PermissionDenied {
        return Err(ask::failure(&global.run_dir, error));
    }
    let pinned = offline::status(global).map_err(|error| {
        let place = global.bpffs.display();
        Failure::not_allowed(anyhow::anyhow!(
            "{why} And what is pinned at {place} is not to be seen: {error}; run as root"
        ))
    })?;
    match pinned {
        Some(mut status) => {
            name_pods(&mut status, &global.run_dir);
            let more: Vec<String> = full_maps(&status).chain(loose_ends(&status)).collect();
            status.reasons = [why.clone()].into_iter().chain(more).collect();
            show(&status, global)?;
            Err(Failure::unreachable(anyhow::anyhow!(
                "{why} What was in force stays in force; changes wait until it is back."
            )))
        }
        None => Err(Failure::unreachable(anyhow::anyhow!(
            "{why} And nothing is pinned at {}: no data plane is in force there.",
            global.bpffs.display()
        ))),
    }
}

/// Which pod an interface belongs to is in the agent's file.
fn name_pods(status: &mut Status, run_dir: &Path) {
    let saved = names::saved(run_dir);
    for interface in &mut status.interfaces {
        let pod = saved.endpoints.iter().find(|endpoint| endpoint.interface == interface.interface);
        interface.endpoint = pod.map(|pod| format!("{}/{}", pod.namespace, pod.name));
        if interface.kind.is_empty() {
            interface.kind = if pod.is_some() { "workload" } else { "data" }.to_owned();
        }
    }
}

/// The kernel keeps 15 bytes of a program's name; the agent knows all of it.
fn name_programs(status: &mut Status) {
    for interface in &mut status.interfaces {
        let program = status.programs.iter().find(|program| program.id == interface.program_id);
        interface.program = program.map(|program| program.name.clone()).or(interface.program.take());
    }
}

/// Says why a node is not healthy.
fn judge(status: &mut Status) {
    let mut reasons = Vec::new();
    let starting = status.health == "starting";
    if starting {
        reasons.push("the agent has not heard everything from the store yet".to_owned());
    }
    let (kept, refused): (Vec<_>, Vec<_>) = status.rejected.iter().partition(|rejected| rejected.is_kept());
    let relied_on = kept.iter().filter(|kept| !kept.is_a_note()).count();
    let many = |count: usize, one: &str, more: &str| match count {
        0 => None,
        1 => Some(format!("1 {one}")),
        n => Some(format!("{n} {more}")),
    };
    reasons.extend(status.store.as_ref().and_then(away));
    reasons.extend(status.store.as_ref().and_then(forgotten));
    reasons.extend(status.store.as_ref().and_then(unwritten));
    reasons.extend(status.store.as_ref().and_then(fallen_back));
    reasons.extend(many(status.dirty.len(), NOT_IN_FORCE[0], NOT_IN_FORCE[1]));
    let (kinds, refused): (Vec<_>, Vec<_>) =
        refused.into_iter().partition(|rejected| rejected.is_of_a_kind());
    reasons.extend(many(kinds.len(), "kind cannot be read", "kinds cannot be read"));
    reasons.extend(many(refused.len(), "object is rejected", "objects are rejected"));
    reasons.extend(many(
        relied_on,
        "object is not enforced by this version",
        "objects are not enforced by this version",
    ));
    reasons.extend(many(
        status.conflicts.len(),
        "contradiction between objects",
        "contradictions between objects",
    ));
    reasons
        .extend(status.bad_records.iter().map(|it| format!("an attached pod's record is unreadable: {it}")));
    reasons.extend(status.warnings.iter().cloned());
    reasons.extend(full_maps(status).chain(loose_ends(status)));
    status.health = match (starting, reasons.is_empty()) {
        (true, _) => "starting",
        (false, true) => "healthy",
        (false, false) => "degraded",
    }
    .to_owned();
    status.reasons = reasons;
}

/// Why the store's newest state is not known.
fn away(store: &answer::Store) -> Option<String> {
    let known = if store.from_cache { ", what was known before the agent began is in force" } else { "" };
    let since = store.since_seconds.map(|s| format!(" for {}", text::duration(s))).unwrap_or_default();
    match &store.trouble {
        Some(trouble) => Some(format!("API server {} is away{since}: {trouble}{known}", store.server)),
        None if !store.waiting_for.is_empty() => {
            Some(format!("the API server has not listed yet: {}{known}", store.waiting_for.join(", ")))
        }
        None if !store.behind.is_empty() => {
            Some(format!("what is in force may be old; not followed again yet: {}", store.behind.join(", ")))
        }
        None => None,
    }
}

/// Why a start without an API server does not put in force what was known.
fn forgotten(store: &answer::Store) -> Option<String> {
    let memory = store.memory.as_ref()?;
    Some(format!(
        "what the agent remembers is damaged: {memory}; what is in the kernel stays in force until the API server has said \
         everything"
    ))
}

/// Why a start without an API server would not know what is in force.
fn unwritten(store: &answer::Store) -> Option<String> {
    let why = store.unwritten.as_ref()?;
    Some(format!(
        "what is in force is not remembered for a start without the API server: {why}; make room or put that \
         right, or give another directory with --cache"
    ))
}

/// Why Calico's kinds are not read where their users write them.
fn fallen_back(store: &answer::Store) -> Option<String> {
    let why = store.fallback.as_ref()?;
    Some(format!(
        "Calico's API server is down, and its kinds are read as crd.projectcalico.org/v1 (they are in force): {why}; look at \
         `kubectl get apiservice v3.projectcalico.org`"
    ))
}

fn full_maps(status: &Status) -> impl Iterator<Item = String> {
    status.maps.iter().filter(|map| !map.fills_up()).filter_map(|map| {
        let percent = map.percent().filter(|percent| *percent >= NEARLY_FULL)?;
        Some(format!("map {} is {percent} % full", map.name))
    })
}

fn loose_ends(status: &Status) -> impl Iterator<Item = String> {
    let loose = status.interfaces.iter().filter(|interface| !interface.attached);
    let loose = loose.map(|i| format!("the program of {} ({}) is detached", i.interface, i.direction));
    let sockets = status.connect_time.iter().flat_map(|connect_time| &connect_time.programs);
    let gone = sockets.filter(|socket| !socket.attached);
    loose.chain(gone.map(|socket| format!("the cgroup of program {} is gone", socket.program)))
}

#[cfg(test)]
mod tests {
    use super::answer::{Conflict, ConnectTime, Dirty, Interface, MapFill, Rejected, SocketProgram};
    use super::*;

    fn judged(mut status: Status) -> Status {
        judge(&mut status);
        status
    }

    fn healthy() -> Status {
        let flow4 =
            MapFill { name: "flow4".into(), entries: Some(79), max_entries: 100, ..MapFill::default() };
        let eth0 = Interface { interface: "eth0".into(), attached: true, ..Interface::default() };
        Status { health: "healthy".into(), maps: vec![flow4], interfaces: vec![eth0], ..Status::default() }
    }

    fn rejected(object: &str, effect: &str) -> Rejected {
        Rejected { object: Some(object.into()), effect: effect.into(), ..Rejected::default() }
    }

    #[test]
    fn everything_in_force_is_healthy() {
        let status = judged(healthy());
        assert_eq!((status.health.as_str(), status.reasons.len()), ("healthy", 0));
    }

    #[test]
    fn kinds_that_cannot_be_read_are_no_objects() {
        let kind =
            || Rejected { origin: "API server".into(), effect: "keepsLast".into(), ..Rejected::default() };
        let of_server = Rejected { origin: "API server".into(), ..rejected("Service a/b", "keepsLast") };
        let status = judged(Status { rejected: vec![kind(), of_server, kind()], ..healthy() });
        assert_eq!(status.reasons, ["2 kinds cannot be read", "1 object is rejected"]);
    }

    #[test]
    fn a_table_that_forgets_by_itself_may_be_full() {
        let mut status = healthy();
        status.maps[0].entries = Some(100);
        for (name, health) in [("flow4", "degraded"), ("half_open4", "degraded"), ("message4", "healthy")] {
            status.maps[0].name = name.into();
            assert_eq!(judged(status.clone()).health, health, "{name}");
        }
    }

    #[test]
    fn each_thing_that_is_not_as_desired_makes_a_node_degraded_and_is_named() {
        let relied_on =
            |object: &str| Status { rejected: vec![rejected(object, "notEnforced")], ..healthy() };
        let cases: [(&str, Status); 10] = [
            ("not in force", Status { dirty: vec![Dirty::default()], ..healthy() }),
            ("rejected", Status { rejected: vec![rejected("Service a/b", "keepsLast")], ..healthy() }),
            ("not enforced", relied_on("GlobalNetworkPolicy x")),
            ("not enforced", relied_on("HostEndpoint node1-eth0")),
            ("not enforced", relied_on("Tier security")),
            ("contradiction", Status { conflicts: vec![Conflict::default()], ..healthy() }),
            ("unreadable", Status { bad_records: vec!["x".into()], ..healthy() }),
            ("80 % full", {
                let mut status = healthy();
                status.maps[0].entries = Some(80);
                status
            }),
            ("detached", {
                let mut status = healthy();
                status.interfaces[0].attached = false;
                status
            }),
            ("cgroup", {
                let program = SocketProgram { program: "connect4".into(), ..SocketProgram::default() };
                let connect_time = ConnectTime { programs: vec![program], ..ConnectTime::default() };
                Status { connect_time: Some(connect_time), ..healthy() }
            }),
        ];
        for (word, status) in cases {
            let status = judged(status);
            assert_eq!(status.health, "degraded", "{word}");
            assert!(
                status.reasons.iter().any(|reason| reason.contains(word)),
                "{word}: {:?}",
                status.reasons
            );
        }
    }

    #[test]
    fn what_nobody_relies_on_is_a_note() {
        for object in [
            "FelixConfiguration default",
            "StagedGlobalNetworkPolicy x",
            "StagedNetworkPolicy shop/x",
            "StagedKubernetesNetworkPolicy shop/x",
            "Tier default",
            "Tier kube-admin",
            "GlobalNetworkSet x",
        ] {
            let status = judged(Status { rejected: vec![rejected(object, "notEnforced")], ..healthy() });
            assert_eq!(status.health, "healthy", "{object}");
        }
    }

    #[test]
    fn an_agent_that_starts_is_not_healthy_yet() {
        assert_eq!(judged(Status { health: "starting".into(), ..healthy() }).health, "starting");
    }

    #[test]
    fn kinds_that_are_not_followed_again_after_an_outage_are_named() {
        let behind = vec!["pods".to_owned(), "networkpolicies".to_owned()];
        let store = answer::Store { connected: true, behind, ..answer::Store::default() };
        let status = judged(Status { store: Some(store), ..healthy() });
        assert_eq!(status.health, "degraded");
        assert_eq!(
            status.reasons,
            ["what is in force may be old; not followed again yet: pods, networkpolicies"]
        );
    }

    #[test]
    fn a_damaged_memory_is_named_with_its_file() {
        let store = answer::Store {
            connected: true,
            memory: Some("/run/kube.journal: line 7 is damaged".into()),
            ..answer::Store::default()
        };
        let status = judged(Status { health: "starting".into(), store: Some(store), ..healthy() });
        assert!(
            status.reasons.iter().any(|it| it.contains("kube.journal: line 7 is damaged")),
            "{:?}",
            status.reasons
        );
    }

    #[test]
    fn what_cannot_be_remembered_makes_a_node_degraded_and_says_what_to_do() {
        let store = answer::Store {
            connected: true,
            unwritten: Some("/run/kube.journal: no space".into()),
            ..answer::Store::default()
        };
        let status = judged(Status { store: Some(store), ..healthy() });
        assert_eq!(status.health, "degraded");
        let told = status.reasons.iter().find(|it| it.contains("kube.journal: no space"));
        assert!(told.is_some_and(|it| it.contains("make room") && it.contains("--cache")), "{told:?}");
    }

    #[test]
    fn calicos_api_server_that_is_down_is_named() {
        let fallback = Some("projectcalico.org/v3: service unavailable".into());
        let store = answer::Store { connected: true, fallback, ..answer::Store::default() };
        let status = judged(Status { store: Some(store), ..healthy() });
        assert_eq!(status.health, "degraded");
        assert!(status.reasons.iter().any(|it| it.contains("apiservice v3.projectcalico.org")));
    }

    #[test]
    fn an_agent_that_says_less_or_more_is_understood() {
        let status: Status =
            serde_json::from_value(json!({"ok": true, "node": "n", "brandNew": {"x": 1}})).unwrap();
        assert_eq!(status.node, "n");
    }
}
