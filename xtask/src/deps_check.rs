//! `xtask deps-check`: the rules of ARCHITECTURE.md about who may use whom, from cargo's metadata.
//!
//! Owns: the two tables of rules. Does not: judge licences, sources or versions (`deny.toml`).
//! Invariant: a crate of the workspace that the tables do not know is a violation.

use std::{fmt, fs};

use anyhow::{Context, Result, bail};
use cargo_metadata::{DependencyKind, MetadataCommand};

use crate::run;

/// What a crate of the workspace may use of the workspace. Tests and benches may use anything.
const ROOMS: [(&str, Uses); 24] = [
    ("tortie-abi", Uses::Only(&["tortie-wire"])),
    ("tortie-wire", Uses::Only(&[])),
    ("tortie-datapath", Uses::Only(&["tortie-abi", "tortie-wire"])),
    ("tortie-bpf", Uses::Only(&["tortie-abi", "tortie-wire", "tortie-datapath"])),
    ("tortie-sim", Uses::Only(&["tortie-abi", "tortie-wire", "tortie-datapath", "tortie-policy"])),
    ("tortie-policy", Uses::Only(&["tortie-model", "tortie-abi"])),
    ("tortie-model", Uses::Only(&[])),
    ("tortie-store", Uses::Only(&["tortie-model"])),
    ("tortie-intent", Uses::Only(&["tortie-model", "tortie-policy"])),
    ("tortie-calc", Uses::Only(&["tortie-model", "tortie-policy", "tortie-intent"])),
    (
        "tortie-reconcile",
        Uses::Only(&["tortie-intent", "tortie-policy", "tortie-abi", "tortie-model", "tortie-wire"]),
    ),
    ("tortie-host", Uses::Only(&["tortie-reconcile", "tortie-policy", "tortie-abi", "tortie-wire"])),
    ("tortie-observe", Uses::Only(&["tortie-abi", "tortie-wire", "tortie-datapath"])),
    ("tortie-testkit", Uses::Only(&["tortie-wire", "tortie-abi", "tortie-model", "tortie-reconcile"])),
    (
        "tortie-lab",
        Uses::Only(&[
            "tortie-abi",
            "tortie-wire",
            "tortie-model",
            "tortie-store",
            "tortie-calc",
            "tortie-intent",
            "tortie-reconcile",
            "tortie-host",
            "tortie-observe",
        ]),
    ),
    ("tortie", Uses::Anything),
    ("tortie-tests-verifier", Uses::Anything),
    ("tortie-tests-kernels", Uses::Only(&[])),
    ("tortie-tests-progrun", Uses::Anything),
    ("tortie-tests-e2e", Uses::Anything),
    ("tortie-tests-kubernetes", Uses::Anything),
    ("tortie-tests-traffic", Uses::Only(&[])),
    ("tortie-fuzz", Uses::Anything),
    ("xtask", Uses::Only(&[])),
];

enum Uses {
    Only(&'static [&'static str]),
    Anything,
}

/// Crates from outside that belong to certain folders. A prefix covers a family: `aya` is also `aya-obj`.
const PLACES: [Place; 8] = [
    Place { family: "aya-ebpf", folders: &["packet/bpf"] },
    Place { family: "aya", folders: &["control/host", "tests"] },
    Place { family: "kube", folders: &["control/store"] },
    Place { family: "k8s-openapi", folders: &["control/store"] },
    Place { family: "tokio", folders: &["control/store", "control/host", "lab", "bins", "tests"] },
    Place { family: "anyhow", folders: &["bins", "lab", "xtask", "tests"] },
    // In bins for the CNI plugin, which is a process of its own beside the agent.
    Place { family: "rtnetlink", folders: &["control/host", "lab", "bins", "testkit", "tests"] },
    // System calls are effects: the pure crates have none.
    Place { family: "nix", folders: &["control/host", "control/store", "lab", "bins", "testkit", "tests"] },
];

/// `no_std` crates on the packet's way: what they use, the verifier sees.
const PACKET_ROOMS: [&str; 3] = ["tortie-abi", "tortie-wire", "tortie-datapath"];
const PACKET_ROOMS_USE: [&str; 1] = ["zerocopy"];

struct Place {
    family: &'static str,
    folders: &'static [&'static str],
}

/// One dependency that a crate of the workspace declares.
#[derive(Clone, Debug)]
struct Edge {
    from: String,
    /// Where the crate lies, from the root of the workspace.
    folder: String,
    to: String,
    to_is_ours: bool,
    /// Only its tests, examples and benches have it.
    dev: bool,
}

/// A dependency against the rules.
#[derive(Debug, PartialEq, Eq)]
struct Violation {
    from: String,
    to: String,
    rule: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} uses {}: {}", self.from, self.to, self.rule)
    }
}

/// Checks this workspace.
pub fn main() -> Result<()> {
    let edges = workspace_edges()?;
    let reasons = reasons()?;
    let violations: Vec<_> =
        edges.iter().filter_map(|edge| judge(edge).or_else(|| unexplained(edge, &reasons))).collect();
    for violation in &violations {
        eprintln!("{violation}");
    }
    if !violations.is_empty() {
        bail!("{} dependencies against the rules of ARCHITECTURE.md (who may use whom)", violations.len());
    }
    println!("{} dependencies of the workspace's crates are where they belong", edges.len());
    Ok(())
}

fn workspace_edges() -> Result<Vec<Edge>> {
    let root = run::workspace()?;
    let metadata = MetadataCommand::new().current_dir(root).no_deps().exec()?;
    let mut edges = Vec::new();
    for package in metadata.workspace_packages() {
        let folder = package.manifest_path.parent().map(|dir| dir.as_std_path().strip_prefix(root));
        let folder =
            folder.and_then(Result::ok).map(|dir| dir.to_string_lossy().into_owned()).unwrap_or_default();
        edges.extend(package.dependencies.iter().map(|dependency| Edge {
            from: package.name.to_string(),
            folder: folder.clone(),
            to: dependency.name.clone(),
            to_is_ours: dependency.path.is_some(),
            dev: dependency.kind == DependencyKind::Development,
        }));
    }
    Ok(edges)
}

fn judge(edge: &Edge) -> Option<Violation> {
    let rule = if edge.to_is_ours { judge_room(edge) } else { judge_place(edge) };
    rule.map(|rule| Violation { from: edge.from.clone(), to: edge.to.clone(), rule })
}

/// The page with a line for each dependency.
fn reasons() -> Result<String> {
    let path = run::workspace()?.join("design/dependencies.md");
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

fn unexplained(edge: &Edge, reasons: &str) -> Option<Violation> {
    let explained = edge.to_is_ours || reasons.contains(&format!("**{}**", edge.to));
    let rule = "design/dependencies.md has no line that says why".to_owned();
    (!explained).then(|| Violation { from: edge.from.clone(), to: edge.to.clone(), rule })
}

fn judge_room(edge: &Edge) -> Option<String> {
    let Some((_, uses)) = ROOMS.iter().find(|(name, _)| *name == edge.from) else {
        return Some(
            "no rule for this crate; add one to xtask/src/deps_check.rs and ARCHITECTURE.md".to_owned(),
        );
    };
    match uses {
        Uses::Anything => None,
        Uses::Only(_) if edge.dev => None,
        Uses::Only(allowed) if allowed.contains(&edge.to.as_str()) => None,
        Uses::Only([]) => Some("it may use no other crate of the workspace".to_owned()),
        Uses::Only(allowed) => Some(format!("it may use only {}", allowed.join(", "))),
    }
}

fn judge_place(edge: &Edge) -> Option<String> {
    let packet_room = PACKET_ROOMS.contains(&edge.from.as_str());
    if packet_room && !edge.dev && !PACKET_ROOMS_USE.contains(&edge.to.as_str()) {
        return Some(format!("packet code may use only {}", PACKET_ROOMS_USE.join(", ")));
    }
    let place = PLACES.iter().find(|place| in_family(&edge.to, place.family))?;
    let allowed = place.folders.iter().any(|folder| is_below(&edge.folder, folder));
    (!allowed).then(|| format!("it belongs only to {}", place.folders.join(", ")))
}

fn in_family(name: &str, family: &str) -> bool {
    name.strip_prefix(family).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

fn is_below(folder: &str, ancestor: &str) -> bool {
    folder.strip_prefix(ancestor).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(from: &str, to: &str) -> Edge {
        Edge { from: from.to_owned(), folder: String::new(), to: to.to_owned(), to_is_ours: true, dev: false }
    }

    fn outside(from: &str, folder: &str, to: &str) -> Edge {
        Edge { folder: folder.to_owned(), to_is_ours: false, ..ours(from, to) }
    }

    #[test]
    fn this_workspace_keeps_the_rules() {
        let edges = workspace_edges().unwrap();
        assert!(edges.len() > 20, "cargo metadata gave only {} edges", edges.len());
        assert_eq!(edges.iter().filter_map(judge).collect::<Vec<_>>(), []);
    }

    #[test]
    fn every_crate_of_this_workspace_has_a_rule() {
        let metadata =
            MetadataCommand::new().current_dir(run::workspace().unwrap()).no_deps().exec().unwrap();
        for package in metadata.workspace_packages() {
            assert!(ROOMS.iter().any(|(name, _)| *name == package.name.as_str()), "{}", package.name);
        }
    }

    #[test]
    fn pure_calculation_may_not_reach_for_effects() {
        let rule = judge(&ours("tortie-calc", "tortie-host")).unwrap().rule;
        assert_eq!(rule, "it may use only tortie-model, tortie-policy, tortie-intent");
        assert!(judge(&outside("tortie-calc", "control/calc", "tokio")).is_some());
        assert!(judge(&outside("tortie-reconcile", "control/reconcile", "nix")).is_some());
    }

    #[test]
    fn an_unknown_crate_is_a_violation() {
        assert!(judge(&ours("tortie-newcomer", "tortie-abi")).is_some());
    }

    #[test]
    fn tests_may_use_what_the_crate_may_not() {
        assert!(judge(&ours("tortie-calc", "tortie-testkit")).is_some());
        assert!(judge(&Edge { dev: true, ..ours("tortie-calc", "tortie-testkit") }).is_none());
        assert!(judge(&ours("tortie-tests-e2e", "tortie-host")).is_none());
    }

    #[test]
    fn families_have_their_places() {
        assert!(judge(&outside("tortie-bpf", "packet/bpf", "aya-ebpf")).is_none());
        assert!(judge(&outside("tortie-host", "control/host", "aya-ebpf")).is_some());
        assert!(judge(&outside("tortie-host", "control/host", "aya-obj")).is_none());
        assert!(judge(&outside("tortie-lab", "lab", "aya")).is_some());
        assert!(judge(&outside("tortie-store", "control/store", "anyhow")).is_some());
        assert!(judge(&outside("tortie-labels", "labels", "anyhow")).is_some(), "labels is not below lab");
        assert!(
            judge(&outside("tortie-calc", "control/calc", "kubernetes")).is_none(),
            "only the family kube"
        );
    }

    #[test]
    fn a_dependency_without_a_reason_is_a_violation() {
        let edge = outside("tortie-store", "control/store", "serde");
        assert!(unexplained(&edge, "- **serde**, **serde_json**: resources.").is_none());
        assert!(unexplained(&edge, "- **serde_json**: serde without its line.").is_some());
        assert!(unexplained(&ours("tortie-store", "tortie-model"), "").is_none());
    }

    #[test]
    fn packet_code_uses_zerocopy_and_nothing_else() {
        assert!(judge(&outside("tortie-wire", "shared/wire", "zerocopy")).is_none());
        assert!(judge(&outside("tortie-wire", "shared/wire", "bitflags")).is_some());
        assert!(judge(&Edge { dev: true, ..outside("tortie-wire", "shared/wire", "proptest") }).is_none());
    }
}
