//! The classic NetworkPolicy recipes with their truth tables.
//!
//! A small cluster on two nodes, both families, and a client outside. A cell says which of the ports TCP 80
//! (`8`), TCP 5000 (`5`) and UDP 53 (`d`) a row's pod reaches at a column's: `*` all three, `-` none. From and
//! to the outside the same. A pod's traffic to itself is no business of lists.

use crate::support::build::*;
use crate::support::connectivity::{Nodes, Party};
use crate::support::expand::expand_on;
use tortie_model::policy::PortMatch;
use tortie_model::{NodeName, Object};

const PORTS: [(char, u8, u16); 3] = [('8', 6, 80), ('5', 6, 5000), ('d', 17, 53)];

/// web (default), api and db (default), mon (ops, team=ops), dev (dev, team=dev), and `out`.
fn cluster() -> (Vec<Object>, Vec<(&'static str, PodSpec)>) {
    let pods = vec![
        ("web", PodSpec("default/web", "app=web", "n1", "10.0.1.1 fd00::1:1", 80)),
        ("api", PodSpec("default/api", "app=api,role=api", "n2", "10.0.2.1 fd00::2:1", 80)),
        ("db", PodSpec("default/db", "app=db", "n1", "10.0.1.2 fd00::1:2", 5000)),
        ("mon", PodSpec("ops/mon", "app=mon,type=monitoring", "n2", "10.0.2.2 fd00::2:2", 80)),
        ("dev", PodSpec("dev/dev", "app=dev", "n1", "10.0.1.3 fd00::1:3", 80)),
    ];
    let objects = vec![
        namespace("default", "kubernetes.io/metadata.name=default"),
        namespace("ops", "team=ops"),
        namespace("dev", "team=dev"),
        node("n1", "192.0.2.1", "10.0.1.0/24 fd00::1:0/112"),
        node("n2", "192.0.2.2", "10.0.2.0/24 fd00::2:0/112"),
    ];
    (objects, pods)
}

#[derive(Clone, Copy)]
struct PodSpec(&'static str, &'static str, &'static str, &'static str, u16);

impl PodSpec {
    fn build(self) -> PodBuilder {
        pod(self.0, self.3).labels(self.1).on(self.2).port("main", TCP, self.4)
    }
}

const OUT: [&str; 2] = ["203.0.113.5", "2001:db8::5"];

/// Checks a recipe: the table, in both families, and every expansion on both nodes.
fn check(policies: &[Object], table: &str) {
    let (base, specs) = cluster();
    let objects_of = |node: &str| {
        let mut objects = base.clone();
        objects.extend_from_slice(policies);
        for (_, spec) in &specs {
            let built = spec.build();
            if built.1.node == Some(NodeName::from(node)) {
                objects.push(built.attachment());
            }
            objects.push(built.object());
        }
        objects
    };
    let nodes = Nodes::new(&["n1", "n2"], objects_of);
    for (family, out) in OUT.iter().enumerate() {
        let mut parties: Vec<Party> = specs
            .iter()
            .map(|(name, spec)| Party {
                name: (*name).into(),
                address: spec.build().1.addresses[family],
                pod: Some((pod_id(spec.0), spec.2.into())),
            })
            .collect();
        parties.push(Party::outside("out", out));
        let made = render(&parties, |from, to, protocol, port| nodes.connects(from, to, protocol, port));
        let wanted = tidy(table);
        assert_eq!(made, wanted, "\nmade:\n{made}\nwanted:\n{wanted}");
        let asked =
            render(&parties, |from, to, protocol, port| nodes.should_connect(from, to, protocol, port));
        assert_eq!(asked, wanted, "the oracle disagrees with the table:\n{asked}");
    }
    expand_on("n1", &objects_of("n1"), 2);
    expand_on("n2", &objects_of("n2"), 2);
}

fn render(parties: &[Party], connects: impl Fn(&Party, &Party, u8, u16) -> bool) -> String {
    let mut lines = vec![parties.iter().map(|p| p.name.clone()).collect::<Vec<_>>().join(" ")];
    for from in parties {
        let cells = parties.iter().map(|to| {
            if from.name == to.name {
                return "=".to_owned();
            }
            let open = PORTS.iter().filter(|(_, protocol, port)| connects(from, to, *protocol, *port));
            match open.map(|(letter, _, _)| *letter).collect::<String>().as_str() {
                "" => "-".into(),
                "85d" => "*".into(),
                some => some.into(),
            }
        });
        lines.push(format!("{} {}", from.name, cells.collect::<Vec<_>>().join(" ")));
    }
    lines.join("\n")
}

fn tidy(table: &str) -> String {
    let lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}

fn dns() -> Vec<PortMatch> {
    vec![port(UDP, 53), port(TCP, 53)]
}

#[test]
fn recipe_00_without_policies_everything_is_open() {
    check(
        &[],
        "      web api db mon dev out
         web  =   *   *  *   *   *
         api  *   =   *  *   *   *
         db   *   *   =  *   *   *
         mon  *   *   *  =   *   *
         dev  *   *   *  *   =   *
         out  *   *   *  *   *   =",
    );
}

#[test]
fn recipe_01_deny_all_traffic_to_an_application() {
    check(
        &[ingress("default/web-deny-all", "app=web", vec![])],
        "      web api db mon dev out
         web  =   *   *  *   *   *
         api  -   =   *  *   *   *
         db   -   *   =  *   *   *
         mon  -   *   *  =   *   *
         dev  -   *   *  *   =   *
         out  -   *   *  *   *   =",
    );
}

#[test]
fn recipe_02_limit_traffic_to_an_application() {
    check(
        &[ingress("default/db-allow-api", "app=db", vec![rule(vec![pods("role=api")], vec![])])],
        "      web api db mon dev out
         web  =   *   -  *   *   *
         api  *   =   *  *   *   *
         db   *   *   =  *   *   *
         mon  *   *   -  =   *   *
         dev  *   *   -  *   =   *
         out  *   *   -  *   *   =",
    );
}

#[test]
fn recipe_02a_allow_all_traffic_to_an_application_beside_a_denial() {
    check(
        &[
            ingress("default/default-deny", "", vec![]),
            ingress("default/web-allow-all", "app=web", vec![rule(vec![], vec![])]),
        ],
        "      web api db mon dev out
         web  =   -   -  *   *   *
         api  *   =   -  *   *   *
         db   *   -   =  *   *   *
         mon  *   -   -  =   *   *
         dev  *   -   -  *   =   *
         out  *   -   -  *   *   =",
    );
}

#[test]
fn recipe_03_deny_all_traffic_to_a_namespace() {
    check(
        &[ingress("default/default-deny-all", "", vec![])],
        "      web api db mon dev out
         web  =   -   -  *   *   *
         api  -   =   -  *   *   *
         db   -   -   =  *   *   *
         mon  -   -   -  =   *   *
         dev  -   -   -  *   =   *
         out  -   -   -  *   *   =",
    );
}

#[test]
fn recipe_04_deny_traffic_from_other_namespaces() {
    check(
        &[ingress("default/deny-from-others", "", vec![rule(vec![pods("")], vec![])])],
        "      web api db mon dev out
         web  =   *   *  *   *   *
         api  *   =   *  *   *   *
         db   *   *   =  *   *   *
         mon  -   -   -  =   *   *
         dev  -   -   -  *   =   *
         out  -   -   -  *   *   =",
    );
}

#[test]
fn recipe_05_allow_traffic_from_all_namespaces() {
    check(
        &[ingress("default/web-allow-all-namespaces", "app=web", vec![rule(vec![pods_of("", "")], vec![])])],
        "      web api db mon dev out
         web  =   *   *  *   *   *
         api  *   =   *  *   *   *
         db   *   *   =  *   *   *
         mon  *   *   *  =   *   *
         dev  *   *   *  *   =   *
         out  -   *   *  *   *   =",
    );
}

#[test]
fn recipe_06_allow_traffic_from_a_namespace() {
    check(
        &[ingress("default/web-allow-ops", "app=web", vec![rule(vec![pods_of("team=ops", "")], vec![])])],
        "      web api db mon dev out
         web  =   *   *  *   *   *
         api  -   =   *  *   *   *
         db   -   *   =  *   *   *
         mon  *   *   *  =   *   *
         dev  -   *   *  *   =   *
         out  -   *   *  *   *   =",
    );
}

#[test]
fn recipe_07_allow_traffic_from_some_pods_of_another_namespace() {
    let peer = pods_of("team=ops", "type=monitoring");
    check(
        &[ingress("default/web-allow-monitoring", "", vec![rule(vec![peer], vec![])])],
        "      web api db mon dev out
         web  =   -   -  *   *   *
         api  -   =   -  *   *   *
         db   -   -   =  *   *   *
         mon  *   *   *  =   *   *
         dev  -   -   -  *   =   *
         out  -   -   -  *   *   =",
    );
}

#[test]
fn recipe_08_allow_traffic_from_outside_to_one_application() {
    let outside = vec![block("0.0.0.0/0", "10.0.0.0/8"), block("::/0", "fd00::/8")];
    check(
        &[
            ingress("default/default-deny", "", vec![]),
            ingress("default/web-allow-external", "app=web", vec![rule(outside, vec![])]),
        ],
        "      web api db mon dev out
         web  =   -   -  *   *   *
         api  -   =   -  *   *   *
         db   -   -   =  *   *   *
         mon  -   -   -  =   *   *
         dev  -   -   -  *   =   *
         out  *   -   -  *   *   =",
    );
}

#[test]
fn recipe_09_allow_traffic_to_one_port() {
    check(
        &[ingress(
            "default/api-allow-5000",
            "app=api",
            vec![rule(vec![pods("app=web")], vec![port(TCP, 5000)])],
        )],
        "      web api db mon dev out
         web  =   5   *  *   *   *
         api  *   =   *  *   *   *
         db   *   -   =  *   *   *
         mon  *   -   *  =   *   *
         dev  *   -   *  *   =   *
         out  *   -   *  *   *   =",
    );
}

#[test]
fn recipe_10_allow_traffic_from_several_selectors() {
    let peers = vec![pods("app=web"), pods("app=api"), pods_of("team=dev", "app=dev")];
    check(
        &[ingress("default/db-allow-services", "app=db", vec![rule(peers, vec![])])],
        "      web api db mon dev out
         web  =   *   *  *   *   *
         api  *   =   *  *   *   *
         db   *   *   =  *   *   *
         mon  *   *   -  =   *   *
         dev  *   *   *  *   =   *
         out  *   *   -  *   *   =",
    );
}

#[test]
fn recipe_11_deny_egress_from_an_application_but_for_name_lookups() {
    check(
        &[egress("default/web-deny-egress", "app=web", vec![rule(vec![], dns())])],
        "      web api db mon dev out
         web  =   d   d  d   d   d
         api  *   =   *  *   *   *
         db   *   *   =  *   *   *
         mon  *   *   *  =   *   *
         dev  *   *   *  *   =   *
         out  *   *   *  *   *   =",
    );
}

#[test]
fn recipe_12_deny_all_egress_from_a_namespace() {
    check(
        &[egress("default/default-deny-egress", "", vec![])],
        "      web api db mon dev out
         web  =   -   -  -   -   -
         api  -   =   -  -   -   -
         db   -   -   =  -   -   -
         mon  *   *   *  =   *   *
         dev  *   *   *  *   =   *
         out  *   *   *  *   *   =",
    );
}

#[test]
fn recipe_13_deny_egress_to_the_outside() {
    check(
        &[egress("default/no-external", "app=web", vec![rule(vec![pods_of("", "")], vec![])])],
        "      web api db mon dev out
         web  =   *   *  *   *   -
         api  *   =   *  *   *   *
         db   *   *   =  *   *   *
         mon  *   *   *  =   *   *
         dev  *   *   *  *   =   *
         out  *   *   *  *   *   =",
    );
}

#[test]
fn recipe_14_a_named_port_is_each_pods_own() {
    check(
        &[
            ingress("default/main-only", "", vec![rule(vec![], vec![named(TCP, "main")])]),
            egress("dev/main-only", "", vec![rule(vec![pods_of("", "")], vec![named(TCP, "main")])]),
        ],
        "      web api db mon dev out
         web  =   8   5  *   *   *
         api  8   =   5  *   *   *
         db   8   8   =  *   *   *
         mon  8   8   5  =   *   *
         dev  8   8   5  8   =   -
         out  8   8   5  *   *   =",
    );
}

#[test]
fn recipe_15_a_block_with_an_exception() {
    let peers = || vec![block("10.0.0.0/16", "10.0.2.0/24"), block("fd00::/64", "fd00::2:0/112")];
    check(
        &[
            ingress("default/from-first-node", "app=db", vec![rule(peers(), vec![])]),
            egress("dev/to-first-node", "", vec![rule(peers(), vec![])]),
        ],
        "      web api db mon dev out
         web  =   *   *  *   *   *
         api  *   =   -  *   *   *
         db   *   *   =  *   *   *
         mon  *   *   -  =   *   *
         dev  *   -   *  -   =   -
         out  *   *   -  *   *   =",
    );
}

#[test]
fn recipe_16_a_range_of_ports() {
    check(
        &[ingress(
            "default/web-range",
            "app=web",
            vec![rule(vec![], vec![ports(TCP, 4000, 6000), ports(UDP, 1, 60)])],
        )],
        "      web api db mon dev out
         web  =   *   *  *   *   *
         api  5d  =   *  *   *   *
         db   5d  *   =  *   *   *
         mon  5d  *   *  =   *   *
         dev  5d  *   *  *   =   *
         out  5d  *   *  *   *   =",
    );
}
