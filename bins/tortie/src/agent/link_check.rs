//! Programs that somebody took off an interface are put back at once; those that run before ours are told.
//!
//! Owns: when to look, what is missing, and what is ahead. Does not: attach, or change an order; reconciler and [`Devices`]
//! attach, at the head.
//! Invariant: looking costs a few system calls for each interface and changes nothing.
//!
//! The kernel tells about filters (clsact), but not about TCX links: those are looked at once a second.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use tortie_host::bpf::Program;
use tortie_host::links::{Direction, Found, Links, Mechanism, ahead_of};

/// How often links are looked at.
pub const EVERY: Duration = Duration::from_secs(1);

/// Where programs should be, by interface: index, directions.
pub type Expected<'a> = BTreeMap<&'a str, (u32, &'static [Direction])>;

/// What was found.
#[derive(Debug, Default)]
pub struct Checked {
    /// Interfaces that should carry programs and do not.
    pub lost: Vec<String>,
    /// Programs that run before ours.
    pub ahead: Vec<Ahead>,
    /// Time that it took.
    pub took: Duration,
}

/// A program of somebody else that decides about packets before ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ahead {
    /// Where.
    pub interface: String,
    /// In which direction.
    pub direction: Direction,
    /// Its id.
    pub program: u32,
    /// Its name, as far as the kernel keeps it.
    pub name: String,
}

/// Looks at all links, or at the filters of the interfaces that changed (`None`: all of them); and at what is before ours.
pub fn check(links: &Links, expected: &Expected<'_>, changed: Option<&BTreeSet<u32>>) -> Checked {
    let start = Instant::now();
    let (lost, found) = match links.mechanism() {
        Mechanism::Tcx => match links.list() {
            Ok(found) => (missing(expected, &found), found),
            Err(error) => {
                tracing::warn!(%error, "links cannot be looked at");
                return Checked { took: start.elapsed(), ..Checked::default() };
            }
        },
        Mechanism::Clsact => (without_filters(links, expected, changed), Vec::new()),
    };
    Checked { ahead: ahead(expected, &lost, &found), lost, took: start.elapsed() }
}

/// On interfaces that have lost ours every other one would be.
fn ahead(expected: &Expected<'_>, lost: &[String], found: &[Found]) -> Vec<Ahead> {
    let ours: BTreeMap<(Direction, u32), u32> =
        found.iter().map(|link| ((link.direction, link.ifindex), link.program_id)).collect();
    let mut ahead = Vec::new();
    for (interface, (ifindex, directions)) in expected {
        if lost.iter().any(|name| name == interface) {
            continue;
        }
        for direction in *directions {
            for program in ahead_of(ours.get(&(*direction, *ifindex)).copied(), *ifindex, *direction) {
                let name = Program::name_of(program);
                ahead.push(Ahead {
                    interface: (*interface).to_owned(),
                    direction: *direction,
                    program,
                    name,
                });
            }
        }
    }
    ahead
}

fn missing(expected: &Expected<'_>, found: &[Found]) -> Vec<String> {
    let there: BTreeSet<(Direction, u32)> = found.iter().map(|link| (link.direction, link.ifindex)).collect();
    let lost = |(name, (ifindex, directions)): (&&str, &(u32, &[Direction]))| {
        let complete = directions.iter().all(|direction| there.contains(&(*direction, *ifindex)));
        (!complete).then(|| (*name).to_owned())
    };
    expected.iter().filter_map(lost).collect()
}

fn without_filters(links: &Links, expected: &Expected<'_>, changed: Option<&BTreeSet<u32>>) -> Vec<String> {
    let mut lost = Vec::new();
    for (name, (ifindex, directions)) in expected {
        if changed.is_some_and(|changed| !changed.contains(ifindex)) {
            continue;
        }
        // An interface that goes away takes its filters with it: nothing to put back, and an error here.
        let gone = |direction: &Direction| matches!(links.current(name, *ifindex, *direction), Ok(None));
        if directions.iter().any(gone) {
            lost.push((*name).to_owned());
        }
    }
    lost
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(interface: &str, direction: Direction, ifindex: u32) -> Found {
        Found { interface: interface.into(), direction, ifindex, program_id: 1 }
    }

    #[test]
    fn a_link_that_is_detached_or_whose_pin_is_gone_is_missed_and_others_are_not() {
        let mut expected = Expected::new();
        expected.insert("cali1", (5, &Direction::ALL));
        expected.insert("cali2", (6, &Direction::ALL));
        expected.insert("eth0", (2, &[Direction::Ingress]));
        let mut found = vec![
            link("cali1", Direction::Ingress, 5),
            link("cali1", Direction::Egress, 5),
            link("cali2", Direction::Ingress, 6),
            link("cali2", Direction::Egress, 6),
            link("eth0", Direction::Ingress, 2),
            link("gone", Direction::Ingress, 0),
        ];
        assert!(missing(&expected, &found).is_empty());
        found[1].ifindex = 0;
        found.remove(4);
        assert_eq!(missing(&expected, &found), ["cali1", "eth0"]);
    }

    #[test]
    fn a_link_is_its_interfaces_also_after_that_got_another_name() {
        let mut expected = Expected::new();
        expected.insert("eth7", (2, &[Direction::Ingress]));
        assert!(missing(&expected, &[link("eth0", Direction::Ingress, 2)]).is_empty());
    }

    #[test]
    fn a_link_of_an_interface_that_had_the_name_before_does_not_count() {
        let mut expected = Expected::new();
        expected.insert("eth0", (9, &[Direction::Ingress]));
        assert_eq!(missing(&expected, &[link("eth0", Direction::Ingress, 2)]), ["eth0"]);
    }
}
