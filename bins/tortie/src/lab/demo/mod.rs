//! `lab demo`: what `make demo` runs.
//!
//! Owns: the order of the story.
//! Does not: soften anything; every sentence with a tick was measured.
//! Invariant: the laboratory is gone at the end, also after a failure and after Ctrl-C; the exit status says
//! whether everything held.

mod drops;
mod kubectl;
mod shop;
mod tell;

use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tortie_lab::{
    Dataplane, Endpoint, Key, Lab, LabName, Probe, StoreKind, StreamReport, UpOptions, parse_objects,
};

use self::tell::{Story, say};
use crate::exit::{Answer, Failure, Outcome};
use crate::output;

const PATIENCE: Duration = Duration::from_secs(30);
/// How long a revoked connection may live on. A tenth of it is usual; the tests are stricter, a demo may run on
/// a machine that is busy with something else.
const CUT: Duration = Duration::from_millis(250);
const STREAM: &str = "conversation";

/// Plays the demo in a laboratory of that name.
pub fn demo(name: &LabName, keep: bool, store: StoreKind) -> Outcome {
    // What an earlier demo may have left, if it was killed.
    tortie_lab::down(name)?;
    clean_up_on_interrupt(name);
    let mut story = Story::begin();
    say("A Kubernetes cluster on this machine: every node and every pod is a network namespace,\n\
         every node runs a real agent, every pod is attached by a real CNI call.");
    if store == StoreKind::Kube {
        say("Its objects are in a real API server, and everything is done to it with kubectl.");
    }
    story.part(|story| play(name, store, story));
    if keep {
        say(&format!(
            "\nThe laboratory stays: tortie lab status --name {name}; tortie lab down --name {name}"
        ));
    } else {
        clean_up(name, &mut story);
    }
    Ok(if story.end() { Answer::Yes } else { Answer::No })
}

/// Ctrl-C ends the demo, not only its process.
fn clean_up_on_interrupt(name: &LabName) {
    let name = name.clone();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        if runtime.is_ok_and(|runtime| runtime.block_on(tokio::signal::ctrl_c()).is_ok()) {
            output::tell(format_args!("\ninterrupted: taking laboratory {name} away"));
            let code = if tortie_lab::down(&name).is_ok() { 130 } else { 1 };
            std::process::exit(code);
        }
    });
}

fn play(name: &LabName, store: StoreKind, story: &mut Story) -> tortie_lab::Result<()> {
    story.chapter("A cluster: three nodes, a router, two customers outside");
    let started = Instant::now();
    let options = UpOptions { dataplanes: vec![Dataplane::Bpf; 3], store, ..UpOptions::default() };
    let mut lab = Lab::up(name, &options)?;
    let took = started.elapsed().as_secs_f64();
    let alive = lab.agents().filter(|node| lab.agent_is_alive(&node.name)).count();
    story.expect(alive == 3, format!("it is up after {took:.1} s, with three agents"));
    if lab.has_api_server() {
        kubectl::show(&lab, &["get", "nodes", "-o", "wide"])?;
    }

    story.chapter("A small shop: front, back and database, each behind a Service");
    story.part(|story| {
        apply(&mut lab, shop::SHOP)?;
        if lab.has_api_server() {
            kubectl::show(&lab, &["get", "pods,endpointslices", "-A"])?;
        }
        story.grid(
            &shop::everybody(&lab, false)?,
            "without a policy everybody reaches everybody, IPv4 and IPv6",
        );
        Ok(())
    });

    story.chapter("Policies: customers → front → back → database, and nothing else");
    story.part(|story| {
        let started = Instant::now();
        apply(&mut lab, shop::POLICIES)?;
        let took = started.elapsed().as_millis();
        say(&format!("   five NetworkPolicies, in force on every node {took} ms after they were given\n"));
        story.grid(&shop::everybody(&lab, true)?, "open where it should be, closed everywhere else");
        Ok(())
    });

    story.chapter("A policy reaches connections that are already open");
    story.part(|story| revoke(&mut lab, story));

    story.chapter("An agent is killed under traffic");
    story.part(|story| kill(&lab, story));

    if lab.has_api_server() {
        story.chapter("The API server and its database are killed under traffic");
        story.part(|story| kubectl::outage(&lab, story));
        story.chapter("A Deployment is restarted, pod by pod");
        story.part(|story| kubectl::roll(&lab, story));
    }

    story.chapter("Every drop has a reason");
    story.part(|story| drops::show(&lab, story));
    Ok(())
}

/// Applies as a person would, and says when the cluster had it at the latest.
fn apply(lab: &mut Lab, yaml: &str) -> tortie_lab::Result<SystemTime> {
    if lab.has_api_server() {
        kubectl::apply(lab, yaml)?;
    } else {
        lab.apply(parse_objects(yaml, "the demo")?)?;
    }
    let applied = SystemTime::now();
    lab.wait(PATIENCE)?;
    Ok(applied)
}

fn probe(from: &str, to: &str) -> tortie_lab::Result<Probe> {
    Ok(Probe::new(from.parse::<Endpoint>()?, to.parse()?))
}

/// The back keeps a connection to the database; the database is closed, and opened again.
fn revoke(lab: &mut Lab, story: &mut Story) -> tortie_lab::Result<()> {
    let asking = probe("pod:shop/back-1", "svc:data/database")?;
    lab.stream_start(STREAM, &asking, Duration::from_millis(1))?;
    thread::sleep(Duration::from_millis(300));
    let before = lab.stream_report(STREAM)?;
    story.expect(
        is_alive(&before),
        format!("shop/back-1 talks to {}: {} records so far", before.server, before.received),
    );

    let applied = apply(lab, shop::MAINTENANCE)?;
    let policy =
        Key { group: "networking.k8s.io".into(), ..Key::core("NetworkPolicy", Some("data"), "database") };
    // Of kubectl's moment is known only that it was before its end.
    let changed = if lab.has_api_server() { applied } else { lab.stored_at(&policy)? };
    let changed = changed.duration_since(UNIX_EPOCH).unwrap_or_default();
    thread::sleep(Duration::from_millis(500));
    let cut = lab.stream_stop(STREAM)?;
    let late = Duration::from_micros(cut.last_record_unix_micros).saturating_sub(changed);
    let late_text = if late.is_zero() {
        "the last record came before kubectl had ended".to_owned()
    } else {
        format!("the last record came {:.1} ms later", late.as_secs_f64() * 1e3)
    };
    story.expect(
        cut.silent_micros > 300_000 && late <= CUT,
        format!("the policy changes: {late_text} (at most {} ms)", CUT.as_millis()),
    );
    story.expect(!lab.probe(&asking)?.is_connected(), "a new connection is refused as well");
    apply(lab, shop::POLICIES)?;
    story
        .expect(lab.probe(&asking)?.is_connected(), "the policy is taken back: new connections come through");
    Ok(())
}

/// The front keeps a connection to the back while the agents of both ends' nodes are killed and come back.
fn kill(lab: &Lab, story: &mut Story) -> tortie_lab::Result<()> {
    let asking = probe("pod:shop/front-1", "svc:shop/back")?;
    let open = lab.stream_start(STREAM, &asking, Duration::from_millis(1))?;
    thread::sleep(Duration::from_millis(200));
    let mut nodes = vec!["node1".to_owned()];
    nodes.extend(Some(open.node).filter(|node| node != "node1"));
    for node in &nodes {
        lab.kill_agent(node)?;
    }
    let title = nodes.join(" and ");
    story.expect(
        nodes.iter().all(|node| !lab.agent_is_alive(node)),
        format!("the agent of {title} is killed"),
    );
    thread::sleep(Duration::from_millis(300));
    let during = lab.stream_report(STREAM)?;
    story.expect(is_alive(&during), "the connection goes on without it");
    story.expect(lab.probe(&asking)?.is_connected(), "new connections through the Service come through");
    let denied = probe("pod:shop/front-1", "svc:data/database")?;
    story.expect(!lab.probe(&denied)?.is_connected(), "what policy denies stays closed");
    for node in &nodes {
        lab.start_agent(node)?;
    }
    lab.wait(PATIENCE)?;
    thread::sleep(Duration::from_millis(200));
    let after = lab.stream_stop(STREAM)?;
    let whole = after.lost == 0 && after.disordered == 0 && after.ended.as_deref() == Some("stopped");
    story.expect(
        whole && after.received > during.received && after.longest_pause_micros < 500_000,
        format!(
            "it is back: {} records each way, {} lost, longest pause {:.1} ms",
            after.received,
            after.lost + after.disordered,
            after.longest_pause_micros as f64 / 1e3
        ),
    );
    Ok(())
}

fn is_alive(report: &StreamReport) -> bool {
    report.open && report.received > 0 && report.silent_micros < 200_000
}

fn clean_up(name: &LabName, story: &mut Story) {
    story.chapter("Everything goes");
    let gone = tortie_lab::down(name).map_err(Failure::from);
    let left = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let left = left.filter(|entry| entry.file_name().to_string_lossy().starts_with(&name.prefix())).count();
    match gone {
        Ok(()) => {
            story.expect(left == 0, format!("no namespace, pin, cgroup, process or file is left ({left})"))
        }
        Err(failure) => story.expect(false, format!("the laboratory could be taken away: {failure}")),
    }
}
