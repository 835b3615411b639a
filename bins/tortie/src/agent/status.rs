//! The answer to `status`: one look at everything.
//!
//! Invariant: numbers come with names; what could not be asked is absent, not zero.

use std::collections::BTreeSet;
use std::time::Instant;

use serde_json::{Map, Value, json};
use tortie_calc::{Conflict, Contested, KnownEndpoint};
use tortie_host::bpf::Program;
use tortie_host::links::{Direction, Mechanism};
use tortie_model::service::ServiceType;
use tortie_observe::metrics::Fill;
use tortie_observe::services::{Known, KnownService};
use tortie_store::{Effect, Handle, Origin, Rejection, Standing};

use super::Options;
use super::goals::dirty_rows;
use super::intake::Beginning;
use super::node::Node;
use crate::inspect::fill;

/// Everything, as JSON.
pub fn status(node: &Node) -> Value {
    // First: counting the elements of maps takes memory.
    let rss_bytes = rss_bytes();
    let dirty = node.dirty();
    let warnings = node.warnings.iter().cloned();
    let warnings: Vec<String> = warnings
        .chain(node.files.warnings())
        .chain(node.routes.taken().cloned())
        .chain(node.deaf())
        .chain(node.sockets.error().map(str::to_owned))
        .chain(node.cut_off())
        .chain(node.left_out())
        .chain(node.ahead())
        .collect();
    let degraded = !dirty.is_empty() || !warnings.is_empty();
    let health = match (node.reconciler.in_sync(), degraded) {
        (false, _) => "starting",
        (true, true) => "degraded",
        (true, false) => "healthy",
    };
    json!({
        "ok": true,
        "node": node.options.node.as_str(),
        "health": health,
        "inSync": node.reconciler.in_sync(),
        "revision": node.revision.0,
        "generation": node.reconciler.generation(),
        "uptimeSeconds": node.started.elapsed().as_secs(),
        "version": env!("CARGO_PKG_VERSION"),
        "kernel": tortie_host::sysctl::get("kernel/osrelease").ok(),
        "attach": match node.parts.links.mechanism() {
            Mechanism::Tcx => "tcx",
            Mechanism::Clsact => "clsact",
        },
        "bpffs": node.options.bpffs,
        "interfaces": interfaces(node),
        "connectTime": connect_time(node),
        "programs": programs(node),
        "maps": maps(node),
        "endpoints": node.reconciler.endpoint_counts().0,
        "dirty": dirty_rows(&dirty),
        "warnings": warnings,
        "rejected": node.rejections.iter().map(|rejection| rejected(rejection)).collect::<Vec<_>>(),
        "conflicts": conflicts(node),
        "badRecords": node.attachments.bad().collect::<Vec<_>>(),
        "sweep": sweep(node),
        "rssBytes": rss_bytes,
        "store": store(&node.store),
    })
}

/// While the store has not said everything yet.
pub fn starting(options: &Options, begun: Instant, beginning: &Beginning) -> Value {
    json!({
        "ok": true,
        "node": options.node.as_str(),
        "health": "starting",
        "inSync": false,
        "uptimeSeconds": begun.elapsed().as_secs(),
        "version": env!("CARGO_PKG_VERSION"),
        "kernel": tortie_host::sysctl::get("kernel/osrelease").ok(),
        "bpffs": options.bpffs,
        "store": store(&beginning.store),
        "rejected": beginning.rejections.iter().map(|rejection| rejected(rejection)).collect::<Vec<_>>(),
        "rssBytes": rss_bytes(),
    })
}

/// How the store can be reached, where it is somewhere else.
fn store(handle: &Handle) -> Option<Value> {
    let standing = handle.standing()?;
    let Standing { server, trouble, since, from_cache, waiting_for, behind, memory, unwritten, fallback } =
        standing;
    Some(json!({
        "server": server,
        "connected": trouble.is_none(),
        "trouble": trouble,
        "sinceSeconds": since.elapsed().map(|since| since.as_secs()).ok(),
        "fromCache": from_cache,
        "waitingFor": waiting_for,
        "behind": behind,
        "memory": memory,
        "unwritten": unwritten,
        "fallback": fallback,
    }))
}

/// What somebody wrote that is not in force: where, what, why, and what to do.
fn rejected(rejection: &Rejection) -> Value {
    let Rejection { origin, object, field, problem, fix, effect } = rejection;
    let mut row = json!({
        "origin": origin.to_string(),
        "problem": problem,
        "fix": fix,
        "effect": match effect {
            Effect::KeepsLast => "keepsLast",
            Effect::Absent => "absent",
            Effect::Isolates => "isolates",
            Effect::NotEnforced => "notEnforced",
        },
        "meaning": effect.as_str(),
    });
    if let Some(row) = row.as_object_mut() {
        if let Origin::File { path, line } = origin {
            row.insert("file".into(), json!(path));
            row.extend((*line > 0).then(|| ("line".to_owned(), json!(line))));
        }
        row.extend(object.as_ref().map(|object| ("object".to_owned(), json!(object.to_string()))));
        row.extend(field.as_ref().map(|field| ("field".to_owned(), json!(field))));
    }
    row
}

/// Every endpoint of every Service port, used or not.
pub fn services(node: &Node) -> Value {
    let row = |it: KnownEndpoint| Known {
        namespace: it.id.service.namespace.to_string(),
        name: it.id.service.name.to_string(),
        service_port: it.id.port,
        protocol: it.id.transport.name().to_owned(),
        address: it.address,
        port: it.port,
        node: it.node.map(|node| node.to_string()),
        ready: it.ready,
        serving: it.serving,
        terminating: it.terminating,
        local: it.local,
        refused: it.refused,
        elsewhere: it.elsewhere,
        misnamed: it.misnamed,
    };
    let items: Vec<Known> = node.calc.known_endpoints().into_iter().map(row).collect();
    json!({"ok": true, "items": items, "services": known_services(node)})
}

/// Those that are known, and those of which no version was ever good.
fn known_services(node: &Node) -> Vec<KnownService> {
    let refused = node.rejections.iter().filter(|it| it.effect != Effect::NotEnforced);
    let refused = refused.filter_map(|it| it.object.as_ref()).filter(|it| it.kind == "Service");
    let mut refused: BTreeSet<(&str, &str)> = refused.map(|it| (&*it.namespace, &*it.name)).collect();
    let known = node.calc.known_services();
    let mut all = Vec::with_capacity(known.len());
    for it in &known {
        let rejected = refused.remove(&(it.id.namespace.as_str(), &*it.id.name));
        let service_type = it.service_type.map(|service_type| match service_type {
            ServiceType::ClusterIp => "ClusterIP",
            ServiceType::NodePort => "NodePort",
            ServiceType::LoadBalancer => "LoadBalancer",
        });
        all.push(KnownService {
            namespace: it.id.namespace.to_string(),
            name: it.id.name.to_string(),
            service_type: service_type.map(str::to_owned),
            rejected,
        });
    }
    all.extend(refused.into_iter().map(|(namespace, name)| KnownService {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        service_type: None,
        rejected: true,
    }));
    all
}

fn conflicts(node: &Node) -> Value {
    let row = |(contested, conflict): (&Contested, &Conflict)| json!({"contested": contested.to_string(), "detail": contested.explain(conflict)});
    Value::Array(node.calc.conflicts().iter().map(row).collect())
}

fn interfaces(node: &Node) -> Value {
    let links = node.parts.links.list().unwrap_or_default();
    let row = |link: &tortie_host::links::Found| {
        let program = Program::by_id(link.program_id).and_then(|program| program.info());
        let device = node.devices.by_name(&link.interface).filter(|_| link.direction == Direction::Ingress);
        let xdp = device.and_then(|device| device.xdp);
        json!({
            "interface": link.interface,
            "direction": link.direction.name(),
            "kind": node.devices.kind(&link.interface),
            "attached": link.ifindex != 0,
            "programId": link.program_id,
            "program": program.ok().map(|info| info.name),
            "xdp": xdp.map(|id| json!({"program": Program::name_of(id), "programId": id})),
        })
    };
    Value::Array(links.iter().map(row).collect())
}

fn connect_time(node: &Node) -> Value {
    let row = |link: &tortie_host::sockets::Found| json!({"program": link.program, "programId": link.program_id, "attached": link.cgroup_id != 0});
    json!({
        "mode": node.sockets.mode(),
        "cgroup": node.sockets.cgroup(),
        "programs": node.parts.sockets.list().iter().map(row).collect::<Vec<_>>(),
    })
}

fn programs(node: &Node) -> Value {
    let row = |(name, program): (&String, &Program)| {
        let info = program.info().ok()?;
        Some(json!({
            "name": name,
            "id": info.id,
            "tag": info.tag.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
            "verifiedInstructions": info.verified_insns,
            "instructions": info.xlated_insns,
            "memoryBytes": program.memlock_bytes().ok()?,
            "loadedSecondsAfterBoot": info.loaded_at.as_secs_f64(),
        }))
    };
    Value::Array(node.parts.datapath.programs().iter().filter_map(row).collect())
}

fn maps(node: &Node) -> Value {
    let row = |fill: Fill| {
        let mut row = Map::new();
        row.insert("name".into(), json!(fill.map));
        let version =
            tortie_abi::maps::ALL.iter().find(|spec| spec.name == fill.map).map(|spec| spec.version);
        row.insert("version".into(), json!(version));
        row.insert("maxEntries".into(), json!(fill.max_entries));
        row.extend(fill.entries.map(|entries| ("entries".to_owned(), json!(entries))));
        row.extend(fill.memory_bytes.map(|bytes| ("memoryBytes".to_owned(), json!(bytes))));
        Value::Object(row)
    };
    Value::Array(fill::all(&node.options.bpffs).into_iter().map(row).collect())
}

fn sweep(node: &Node) -> Value {
    let report = node.parts.sweeper.report();
    let [v4, v6] = report.families;
    let family = |f: tortie_abi::sweep::Sweep| json!({"seen": f.seen, "expired": f.expired, "stale": f.stale, "orphaned": f.orphaned});
    json!({
        "sweeps": report.sweeps,
        "everySeconds": node.options.sweep.as_secs(),
        "busyMicros": u64::try_from(report.busy.as_micros()).unwrap_or(u64::MAX),
        "ipv4": family(v4),
        "ipv6": family(v6),
    })
}

fn rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    super::observe::status_bytes(&status, "VmRSS")
}
