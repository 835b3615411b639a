//! `lab wait`, `lab route`, and the verbs that stop, kill and start agents.
//!
//! Owns: their order of steps.
//! Does not: signal processes.
//! Invariant: a verb that starts an agent returns when the agent has everything in force.

use std::time::Duration;

use ipnet::IpNet;
use tortie_lab::Lab;

use crate::exit::{Answer, Outcome};
use crate::output;

const PATIENCE: Duration = Duration::from_secs(60);

/// Returns when everything applied so far is enforced.
pub fn wait(lab: &Lab, timeout: Duration) -> Outcome {
    lab.wait(timeout)?;
    Ok(Answer::Yes)
}

/// Points the router at a node.
pub fn route(mut lab: Lab, prefix: IpNet, node: &str) -> Outcome {
    lab.route(prefix, node)?;
    output::tell(format_args!("the router sends {} to {node}", prefix.trunc()));
    Ok(Answer::Yes)
}

/// Stops, starts, waits.
pub fn restart(lab: &Lab, node: &str) -> Outcome {
    lab.stop_agent(node)?;
    start(lab, node)
}

/// Kills.
pub fn kill(lab: &Lab, node: &str) -> Outcome {
    lab.kill_agent(node)?;
    Ok(Answer::Yes)
}

/// Stops.
pub fn stop(lab: &Lab, node: &str) -> Outcome {
    lab.stop_agent(node)?;
    Ok(Answer::Yes)
}

/// Starts and waits.
pub fn start(lab: &Lab, node: &str) -> Outcome {
    lab.start_agent(node)?;
    lab.wait_node(node, PATIENCE)?;
    Ok(Answer::Yes)
}
