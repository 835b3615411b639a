//! The parts of the agent, and whether each moves and is as desired.
//!
//! Owns: the judgement. Does not: look; facts are given. Pure.
//! Invariant: alive is about the agent, whom a restart helps; ready is about what it was told to do.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use tortie_calc::Census;

/// Everything that the main loop knows about itself, as of its last word.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Release of the kernel, and how programs are attached; once they are.
    pub kernel: Option<(String, &'static str)>,
    /// The store has said everything it held at the start.
    pub in_sync: bool,
    /// The store's last batch.
    pub revision: u64,
    /// The last policy generation.
    pub generation: u32,
    /// What is known of the cluster.
    pub census: Census,
    /// Things that are not in force, by area.
    pub dirty: BTreeMap<&'static str, usize>,
    /// The first thing that the kernel refused, with its answer; none: nothing was refused.
    pub refused: Option<String>,
    /// Data interfaces without programs, with the reason.
    pub bare_interfaces: Vec<String>,
    /// Programs on interfaces, by kind and direction.
    pub links: BTreeMap<(&'static str, &'static str), usize>,
    /// What somebody wrote that is not in force.
    pub rejected: BTreeMap<Rejected, usize>,
    /// Claims that cannot all hold.
    pub conflicts: usize,
    /// Endpoints wanted, and ready.
    pub endpoints: (usize, usize),
    /// Policies that select a pod of this node.
    pub local_policies: usize,
    /// Policy programs.
    pub policy_programs: usize,
    /// Packet programs and their memory.
    pub packet_programs: (usize, u64),
}

/// Kind of an object, and what holds instead of it.
pub type Rejected = (String, &'static str);

/// A part of the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Component {
    /// Name.
    pub name: &'static str,
    /// It moves.
    pub live: bool,
    /// It is as desired.
    pub ready: bool,
    /// For a person.
    pub detail: String,
}

/// What is seen from outside the main loop.
#[derive(Clone, Debug)]
pub struct Outside {
    /// Since the loop last turned, and how long it may stand still.
    pub idle: Duration,
    /// See above.
    pub watchdog: Duration,
    /// Whether somebody accepts connections on the agent's socket; why not.
    pub socket: Result<(), String>,
    /// Sweeps so far, and the age of the last one or of the agent; none: the sweeper has not started.
    pub sweeps: Option<(u64, Duration)>,
    /// Why the store does not answer.
    pub store_trouble: Option<String>,
    /// Kinds that the store has not listed since the start.
    pub never_listed: Vec<String>,
    /// How often it should sweep.
    pub sweep_every: Duration,
}

/// How each part is.
pub fn components(facts: &Facts, outside: &Outside) -> Vec<Component> {
    vec![
        main_loop(outside),
        store(facts, outside),
        calc(facts),
        tables(facts),
        links(facts),
        socket(outside),
        sweeper(outside),
    ]
}

fn main_loop(outside: &Outside) -> Component {
    let live = outside.idle <= outside.watchdog;
    let (idle, limit) = (outside.idle.as_secs_f64(), outside.watchdog.as_secs());
    let detail = match live {
        true => format!("turned {idle:.1} s ago"),
        false => format!("has not turned for {idle:.0} s, of {limit} s allowed (dataplaneWatchdogTimeout)"),
    };
    Component { name: "main-loop", live, ready: live, detail }
}

/// A component that only the main loop's own hanging can stop.
fn told(name: &'static str, ready: bool, detail: String) -> Component {
    Component { name, live: true, ready, detail }
}

/// A store that is away changes nothing about what is in force, so the agent stays ready. One that is there and does not let a
/// kind be read leaves it with what an agent before it knew.
fn store(facts: &Facts, outside: &Outside) -> Component {
    let known = match (facts.in_sync, facts.revision) {
        (true, revision) if outside.store_trouble.is_none() && !outside.never_listed.is_empty() => {
            let kinds = outside.never_listed.join(", ");
            return told(
                "store",
                false,
                format!("revision {revision}; not listed yet: {kinds}; see tortie status"),
            );
        }
        (true, revision) => format!("in sync, revision {revision}"),
        (false, 0) => "has said nothing yet; is it reachable?".to_owned(),
        (false, revision) => format!("reading what it holds, revision {revision}"),
    };
    let detail = match &outside.store_trouble {
        Some(trouble) => format!("{known}; not connected: {trouble}"),
        None => known,
    };
    told("store", facts.in_sync, detail)
}

fn calc(facts: &Facts) -> Component {
    let Census { nodes, workloads, policies, services } = facts.census;
    let known = format!("{nodes} nodes, {workloads} pods, {policies} policies, {services} services");
    match facts.in_sync {
        true => told("calc", true, known),
        false => told("calc", false, "waits for the store".to_owned()),
    }
}

fn tables(facts: &Facts) -> Component {
    let waiting: usize = facts.dirty.values().sum();
    match (&facts.kernel, &facts.refused) {
        (None, _) => told("kernel-tables", false, "not opened yet".to_owned()),
        (_, Some(refused)) => told("kernel-tables", false, refused.clone()),
        (_, None) if waiting > 0 => {
            told("kernel-tables", true, format!("{waiting} things are being written"))
        }
        (_, None) => told("kernel-tables", true, format!("as desired, generation {}", facts.generation)),
    }
}

fn links(facts: &Facts) -> Component {
    let programs: usize = facts.links.values().sum();
    match (&facts.kernel, facts.bare_interfaces.first()) {
        (None, _) => told("links", false, "not opened yet".to_owned()),
        (_, Some(bare)) => told("links", false, bare.clone()),
        (_, None) => told("links", true, format!("{programs} programs on interfaces")),
    }
}

fn socket(outside: &Outside) -> Component {
    match &outside.socket {
        Ok(()) => told("socket", true, "listens".to_owned()),
        Err(problem) => told("socket", false, problem.clone()),
    }
}

fn sweeper(outside: &Outside) -> Component {
    let Some((sweeps, age)) = outside.sweeps else {
        return told("sweeper", false, "not started yet".to_owned());
    };
    // A sweep of full tables takes a while; one that is this late does not come any more.
    let limit = outside.watchdog.saturating_add(outside.sweep_every.saturating_mul(10));
    let live = age <= limit;
    let detail = format!("{sweeps} sweeps, the last one {:.0} s ago", age.as_secs_f64());
    Component { name: "sweeper", live, ready: live, detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn well() -> (Facts, Outside) {
        let facts =
            Facts { kernel: Some(("6.18".into(), "tcx")), in_sync: true, revision: 7, ..Facts::default() };
        let second = Duration::from_secs(1);
        let outside = Outside {
            idle: second,
            watchdog: 90 * second,
            socket: Ok(()),
            store_trouble: None,
            never_listed: Vec::new(),
            sweeps: Some((3, second)),
            sweep_every: 5 * second,
        };
        (facts, outside)
    }

    fn judge(facts: &Facts, outside: &Outside) -> (bool, bool, Vec<&'static str>) {
        let all = components(facts, outside);
        let bad = all.iter().filter(|c| !(c.live && c.ready)).map(|c| c.name).collect();
        (all.iter().all(|c| c.live), all.iter().all(|c| c.ready), bad)
    }

    #[test]
    fn an_agent_whose_parts_are_well_is_alive_and_ready() {
        let (facts, outside) = well();
        assert_eq!(judge(&facts, &outside), (true, true, vec![]));
    }

    #[test]
    fn an_agent_without_a_store_is_alive_and_not_ready() {
        let (_, outside) = well();
        let outside = Outside { sweeps: None, ..outside };
        let (live, ready, bad) = judge(&Facts::default(), &outside);
        assert!(live && !ready);
        assert_eq!(bad, ["store", "calc", "kernel-tables", "links", "sweeper"]);
    }

    #[test]
    fn a_loop_that_stands_still_for_longer_than_the_watchdog_allows_is_dead() {
        let (facts, outside) = well();
        let at = |idle| judge(&facts, &Outside { idle, ..outside.clone() });
        assert_eq!(at(Duration::from_secs(90)), (true, true, vec![]));
        assert_eq!(at(Duration::from_millis(90_001)), (false, false, vec!["main-loop"]));
    }

    #[test]
    fn each_part_that_is_not_as_desired_is_named_and_does_not_kill_the_agent() {
        let (facts, outside) = well();
        let refused = Facts { refused: Some("route4: full".into()), ..facts.clone() };
        assert_eq!(judge(&refused, &outside), (true, false, vec!["kernel-tables"]));
        let bare = Facts { bare_interfaces: vec!["eth0: refused".into()], ..facts.clone() };
        assert_eq!(judge(&bare, &outside), (true, false, vec!["links"]));
        let deaf = Outside { socket: Err("gone".into()), ..outside.clone() };
        assert_eq!(judge(&facts, &deaf), (true, false, vec!["socket"]));
        let away = Outside { store_trouble: Some("connection refused".into()), ..outside.clone() };
        assert_eq!(judge(&facts, &away), (true, true, vec![]), "what is in force does not need the store");
        let never_listed = vec!["networkpolicies".to_owned()];
        let forbidden = Outside { never_listed, ..outside.clone() };
        assert_eq!(judge(&facts, &forbidden), (true, false, vec!["store"]));
        let away = Outside { store_trouble: Some("connection refused".into()), ..forbidden };
        assert_eq!(judge(&facts, &away), (true, true, vec![]), "what was remembered is in force");
        let waiting = Facts { dirty: [("route", 3)].into(), ..facts.clone() };
        assert_eq!(judge(&waiting, &outside), (true, true, vec![]), "a change on its way is no fault");
    }

    #[test]
    fn a_sweeper_that_has_died_makes_the_agent_dead() {
        let (facts, outside) = well();
        let late = Outside { sweeps: Some((3, Duration::from_secs(141))), ..outside };
        assert_eq!(judge(&facts, &late), (false, false, vec!["sweeper"]));
    }
}
