//! What the demo does on a real API server alone.
//!
//! Owns: calls of kubectl, the outage of the control plane, the rolling restart.
//! Does not: go around kubectl where a person would use it.
//! Invariant: an attempt that failed is counted, whatever the reason.

use std::thread;
use std::time::{Duration, Instant};

use tortie_lab::{Component, Lab, Probe};

use super::tell::{Story, say};
use super::{PATIENCE, STREAM, is_alive, probe};

const TILL: &str = include_str!("till.yaml");

/// Runs kubectl and shows command and answer.
pub fn show(lab: &Lab, arguments: &[&str]) -> tortie_lab::Result<()> {
    say(&format!("   $ kubectl {}", arguments.join(" ")));
    for line in lab.kubectl(arguments, "")?.lines() {
        say(&format!("   {line}"));
    }
    say("");
    Ok(())
}

/// Applies YAML.
pub fn apply(lab: &Lab, yaml: &str) -> tortie_lab::Result<()> {
    lab.kubectl(&["apply", "-f", "-"], yaml).map(drop)
}

/// etcd and the API server die and come back; meanwhile a pod's sandbox dies as well.
pub fn outage(lab: &Lab, story: &mut Story) -> tortie_lab::Result<()> {
    let asking = probe("pod:shop/front-1", "svc:shop/back")?;
    let resolved = lab.resolve(&asking)?;
    lab.stream_start(STREAM, &resolved, Duration::from_millis(1))?;
    for component in [Component::ApiServer, Component::Etcd] {
        lab.kill_component(component)?;
    }
    thread::sleep(Duration::from_millis(500));
    let during = lab.stream_report(STREAM)?;
    story.expect(is_alive(&during), "both are dead; an open connection goes on");
    story.expect(lab.probe(&resolved)?.is_connected(), "new connections through the Service come through");
    let restarted = lab.restart_sandbox("shop", "front-2", PATIENCE)?;
    let addresses: Vec<String> = restarted.addresses.iter().map(ToString::to_string).collect();
    story.expect(
        !addresses.is_empty(),
        format!("a pod whose sandbox died is attached anew ({})", addresses.join(", ")),
    );
    let to_front = |from: &str| -> tortie_lab::Result<Probe> {
        let to = addresses.first().map(String::as_str).unwrap_or_default();
        Ok(Probe { port: Some(8080), timeout: Duration::from_secs(2), ..probe(from, to)? })
    };
    let open = lab.probe(&to_front("client:c1")?)?.is_connected();
    let closed = !lab.probe(&to_front("pod:shop/back-1")?)?.is_connected();
    story.expect(open && closed, "it has the policies it had: customers reach it, others do not");
    for component in [Component::Etcd, Component::ApiServer] {
        lab.start_component(component)?;
    }
    let started = Instant::now();
    lab.wait(Duration::from_secs(60))?;
    let took = started.elapsed().as_secs_f64();
    story.expect(true, format!("they are back, and everything agrees again {took:.1} s later"));
    let again = Probe { from: "pod:shop/front-2".parse()?, ..resolved };
    story.expect(
        lab.probe(&again)?.is_connected(),
        "the pod with the new address reaches the Service as before",
    );
    let after = lab.stream_stop(STREAM)?;
    let lost = after.lost + after.disordered;
    story.expect(
        lost == 0 && after.ended.as_deref() == Some("stopped"),
        format!("the connection: {} records each way, {lost} lost", after.received),
    );
    Ok(())
}

/// Somebody asks through the Service all the time while every pod behind it is replaced.
pub fn roll(lab: &Lab, story: &mut Story) -> tortie_lab::Result<()> {
    apply(lab, TILL)?;
    lab.wait(PATIENCE)?;
    let asking = Probe { timeout: Duration::from_secs(3), ..probe("pod:shop/back-1", "svc:shop/till")? };
    let resolved = lab.resolve(&asking)?;
    let (mut asked, mut failed, mut servers) = (0, 0, std::collections::BTreeSet::new());
    let rolled = thread::scope(|scope| {
        let rolling = scope.spawn(|| {
            lab.kubectl(&["-n", "shop", "rollout", "restart", "deployment/till"], "")?;
            lab.kubectl(&["-n", "shop", "rollout", "status", "deployment/till", "--timeout=60s"], "")
        });
        while !rolling.is_finished() {
            for result in lab.matrix(&vec![resolved.clone(); 20])? {
                asked += 1;
                failed += usize::from(!result.is_connected());
                servers.extend(result.server);
            }
        }
        rolling.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    say(&format!("   {}", rolled.lines().last().unwrap_or_default()));
    story.expect(
        failed == 0 && asked > 0,
        format!(
            "{asked} connections while the pods were replaced, to {} of them: {failed} failed",
            servers.len()
        ),
    );
    Ok(())
}
