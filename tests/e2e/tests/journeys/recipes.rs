//! The classic NetworkPolicy recipes, each against its truth table.
//!
//! Three namespaces of three pods, on three nodes, and two machines outside. What each recipe must do is written
//! as a sentence over names, not derived from the policy.

use std::fmt::Write as _;
use std::time::Duration;

use tortie_lab::{Endpoint, Family, Probe, Protocol};
use tortie_tests_e2e::{TestLab, endpoint};

/// Who asks or is asked: `x/a` … `z/c`, `c1`, `c2`.
type Name = &'static str;

struct Recipe {
    name: &'static str,
    yaml: &'static str,
    /// From, to, protocol and port: open?
    open: fn(Name, Name, Protocol, u16) -> bool,
}

const PODS: [Name; 9] = ["x/a", "x/b", "x/c", "y/a", "y/b", "y/c", "z/a", "z/b", "z/c"];
const OUTSIDE: [Name; 2] = ["c1", "c2"];
const PORTS: [(Protocol, u16); 4] =
    [(Protocol::Tcp, 80), (Protocol::Tcp, 8080), (Protocol::Udp, 80), (Protocol::Sctp, 80)];

fn in_namespace(name: Name, namespace: &str) -> bool {
    name.split_once('/').is_some_and(|(of, _)| of == namespace)
}

fn is_pod(name: Name) -> bool {
    name.contains('/')
}

macro_rules! policy {
    ($namespace:literal, $spec:literal) => {
        concat!(
            "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: recipe, namespace: ",
            $namespace,
            "}\nspec:\n",
            $spec
        )
    };
}

const RECIPES: &[Recipe] = &[
    Recipe { name: "no policy", yaml: "", open: |_, _, _, _| true },
    Recipe {
        name: "deny all traffic to an application",
        yaml: policy!("x", "  podSelector: {matchLabels: {pod: a}}\n  ingress: []\n"),
        open: |_, to, _, _| to != "x/a",
    },
    Recipe {
        name: "limit traffic to an application",
        yaml: policy!(
            "x",
            "  podSelector: {matchLabels: {pod: a}}\n  ingress: [{from: [{podSelector: {matchLabels: {pod: b}}}]}]\n"
        ),
        open: |from, to, _, _| to != "x/a" || from == "x/b",
    },
    Recipe {
        name: "deny all in a namespace, and allow all to one application",
        yaml: concat!(
            policy!("x", "  podSelector: {}\n  policyTypes: [Ingress]\n"),
            "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: all, namespace: x}\n",
            "spec: {podSelector: {matchLabels: {pod: a}}, ingress: [{}]}\n"
        ),
        open: |_, to, _, _| !in_namespace(to, "x") || to == "x/a",
    },
    Recipe {
        name: "deny all that nobody allowed in a namespace",
        yaml: policy!("x", "  podSelector: {}\n  policyTypes: [Ingress]\n"),
        open: |_, to, _, _| !in_namespace(to, "x"),
    },
    Recipe {
        name: "deny traffic from other namespaces",
        yaml: policy!("x", "  podSelector: {}\n  ingress: [{from: [{podSelector: {}}]}]\n"),
        open: |from, to, _, _| !in_namespace(to, "x") || in_namespace(from, "x"),
    },
    Recipe {
        name: "allow all namespaces to an application",
        yaml: policy!(
            "x",
            "  podSelector: {matchLabels: {pod: a}}\n  ingress: [{from: [{namespaceSelector: {}}]}]\n"
        ),
        open: |from, to, _, _| to != "x/a" || is_pod(from),
    },
    Recipe {
        name: "allow one namespace",
        yaml: policy!(
            "x",
            "  podSelector: {matchLabels: {pod: a}}\n  ingress: [{from: [{namespaceSelector: {matchLabels: {team: y}}}]}]\n"
        ),
        open: |from, to, _, _| to != "x/a" || in_namespace(from, "y"),
    },
    Recipe {
        name: "allow some pods of another namespace",
        yaml: policy!(
            "x",
            "  podSelector: {matchLabels: {pod: a}}\n  ingress: [{from: [{namespaceSelector: {matchLabels: {team: y}}, podSelector: {matchLabels: {pod: b}}}]}]\n"
        ),
        open: |from, to, _, _| to != "x/a" || from == "y/b",
    },
    Recipe {
        name: "allow by match expressions",
        yaml: policy!(
            "x",
            "  podSelector: {matchExpressions: [{key: pod, operator: In, values: [a, b]}]}\n  ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: team, operator: NotIn, values: [x]}, {key: team, operator: Exists}]}, podSelector: {matchExpressions: [{key: nothing, operator: DoesNotExist}]}}]}]\n"
        ),
        open: |from, to, _, _| {
            !["x/a", "x/b"].contains(&to) || in_namespace(from, "y") || in_namespace(from, "z")
        },
    },
    Recipe {
        name: "allow the world to an application of a closed namespace",
        yaml: concat!(
            policy!("x", "  podSelector: {}\n  policyTypes: [Ingress]\n"),
            "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: world, namespace: x}\n",
            "spec: {podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{ipBlock: {cidr: 192.0.2.0/24}}, {ipBlock: {cidr: '2001:db8:1::/64'}}]}]}\n"
        ),
        open: |from, to, _, _| !in_namespace(to, "x") || (to == "x/a" && from == "c1"),
    },
    Recipe {
        name: "an address block with an exception",
        yaml: policy!(
            "x",
            "  podSelector: {matchLabels: {pod: a}}\n  ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0, except: [192.0.2.0/24]}}, {ipBlock: {cidr: '::/0', except: ['2001:db8:1::/64']}}]}]\n"
        ),
        open: |from, to, _, _| to != "x/a" || from != "c1",
    },
    Recipe {
        name: "allow one port only",
        yaml: policy!("x", "  podSelector: {matchLabels: {pod: a}}\n  ingress: [{ports: [{port: 80}]}]\n"),
        open: |_, to, protocol, port| to != "x/a" || (protocol, port) == (Protocol::Tcp, 80),
    },
    Recipe {
        name: "allow a named port",
        yaml: policy!("x", "  podSelector: {matchLabels: {pod: a}}\n  ingress: [{ports: [{port: admin}]}]\n"),
        open: |_, to, protocol, port| to != "x/a" || (protocol, port) == (Protocol::Tcp, 8080),
    },
    Recipe {
        name: "allow a range of ports",
        yaml: policy!(
            "x",
            "  podSelector: {matchLabels: {pod: a}}\n  ingress: [{ports: [{port: 8000, endPort: 8100}, {port: 80, protocol: UDP}]}]\n"
        ),
        open: |_, to, protocol, port| {
            to != "x/a" || [(Protocol::Tcp, 8080), (Protocol::Udp, 80)].contains(&(protocol, port))
        },
    },
    Recipe {
        name: "allow one port of SCTP",
        yaml: policy!(
            "x",
            "  podSelector: {matchLabels: {pod: a}}\n  ingress: [{ports: [{port: 80, protocol: SCTP}]}]\n"
        ),
        open: |_, to, protocol, _| to != "x/a" || protocol == Protocol::Sctp,
    },
    Recipe {
        name: "several peers and ports",
        yaml: policy!(
            "x",
            "  podSelector: {matchLabels: {pod: a}}\n  ingress:\n  - {from: [{podSelector: {matchLabels: {pod: b}}}, {namespaceSelector: {matchLabels: {team: z}}}], ports: [{port: 80}]}\n  - {from: [{podSelector: {matchLabels: {pod: c}}}], ports: [{port: 80, protocol: UDP}]}\n"
        ),
        open: |from, to, protocol, port| {
            to != "x/a"
                || ((from == "x/b" || in_namespace(from, "z")) && (protocol, port) == (Protocol::Tcp, 80))
                || (from == "x/c" && (protocol, port) == (Protocol::Udp, 80))
        },
    },
    Recipe {
        name: "deny egress from an application",
        yaml: policy!("x", "  podSelector: {matchLabels: {pod: a}}\n  policyTypes: [Egress]\n  egress: []\n"),
        open: |from, _, _, _| from != "x/a",
    },
    Recipe {
        name: "deny all egress from a namespace",
        yaml: policy!("x", "  podSelector: {}\n  policyTypes: [Egress]\n"),
        open: |from, _, _, _| !in_namespace(from, "x"),
    },
    Recipe {
        name: "limit egress to the namespace",
        yaml: policy!(
            "x",
            "  podSelector: {}\n  policyTypes: [Egress]\n  egress: [{to: [{podSelector: {}}]}]\n"
        ),
        open: |from, to, _, _| !in_namespace(from, "x") || in_namespace(to, "x"),
    },
    Recipe {
        name: "limit egress to the cluster",
        yaml: policy!(
            "x",
            "  podSelector: {matchLabels: {pod: a}}\n  policyTypes: [Egress]\n  egress: [{to: [{namespaceSelector: {}}]}]\n"
        ),
        open: |from, to, _, _| from != "x/a" || is_pod(to),
    },
    Recipe {
        name: "egress to one port of one application, ingress there from anybody else denied",
        yaml: concat!(
            policy!(
                "x",
                "  podSelector: {matchLabels: {pod: a}}\n  policyTypes: [Egress]\n  egress: [{to: [{namespaceSelector: {matchLabels: {team: y}}, podSelector: {matchLabels: {pod: a}}}], ports: [{port: admin}]}]\n"
            ),
            policy!(
                "y",
                "  podSelector: {matchLabels: {pod: a}}\n  ingress: [{from: [{namespaceSelector: {matchLabels: {team: x}}}]}]\n"
            )
        ),
        open: |from, to, protocol, port| {
            let out = from != "x/a" || (to == "y/a" && (protocol, port) == (Protocol::Tcp, 8080));
            let into = to != "y/a" || in_namespace(from, "x");
            out && into
        },
    },
];

fn world() -> String {
    let mut yaml = String::new();
    for namespace in ["x", "y", "z"] {
        let _ = write!(
            yaml,
            "---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: {namespace}, labels: {{team: {namespace}}}}}\n"
        );
    }
    for pod in PODS {
        let (namespace, name) = pod.split_once('/').expect("a pod");
        let _ = write!(
            yaml,
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}, labels: {{pod: {name}}}}}\n\
             spec: {{containers: [{{name: c, image: any, ports: [{{containerPort: 80}}, {{containerPort: 8080, name: admin}}, {{containerPort: 80, protocol: UDP}}, {{containerPort: 80, protocol: SCTP}}]}}]}}\n"
        );
    }
    yaml
}

fn at(name: Name) -> Endpoint {
    if is_pod(name) { endpoint(&format!("pod:{name}")) } else { endpoint(&format!("client:{name}")) }
}

/// Who asks whom, how, and whether it must come through.
struct Attempt {
    from: Name,
    to: Name,
    probe: Probe,
    open: bool,
}

/// The whole matrix of a recipe; the machines outside do not ask each other and serve no SCTP.
fn attempts(recipe: &Recipe) -> Vec<Attempt> {
    let mut all = Vec::new();
    for from in PODS.into_iter().chain(OUTSIDE) {
        for to in PODS.into_iter().chain(OUTSIDE).filter(|to| is_pod(from) || is_pod(to)) {
            let served = PORTS.into_iter().filter(|(protocol, _)| is_pod(to) || *protocol != Protocol::Sctp);
            for (protocol, port) in served {
                // Nothing that a pod says to itself leaves it.
                let open = from == to || (recipe.open)(from, to, protocol, port);
                all.extend([Family::Ipv4, Family::Ipv6].map(|family| {
                    let usual = Probe::new(at(from), at(to));
                    // A busy machine must not look like a closed door.
                    let timeout = Duration::from_millis(if open { 5000 } else { 600 });
                    let probe = Probe { family: Some(family), protocol, port: Some(port), timeout, ..usual };
                    Attempt { from, to, probe, open }
                }));
            }
        }
    }
    all
}

/// What did not come out as the recipe says.
fn surprises(test: &TestLab, recipe: &Recipe) -> Vec<String> {
    let attempts = attempts(recipe);
    let probes: Vec<Probe> = attempts.iter().map(|attempt| attempt.probe.clone()).collect();
    let results = test.lab.matrix(&probes).expect("matrix");
    let wrong =
        attempts.iter().zip(results).filter(|(attempt, result)| result.is_connected() != attempt.open);
    let told = wrong.map(|(Attempt { from, to, probe, open }, result)| {
        let should = if *open { "open" } else { "closed" };
        let what = format!("{:?} {:?} {:?}", probe.family, probe.protocol, probe.port);
        format!("{}: {from} → {to} {what} should be {should}: {result:?}", recipe.name)
    });
    told.collect()
}

#[test]
fn every_classic_recipe_gives_its_truth_table_in_both_families() {
    let mut test = crate::cluster(3);
    test.apply(&world());
    let mut wrong = Vec::new();
    for recipe in RECIPES {
        if recipe.yaml.is_empty() {
            wrong.extend(surprises(&test, recipe));
            continue;
        }
        test.apply(recipe.yaml);
        wrong.extend(surprises(&test, recipe));
        test.delete(recipe.yaml);
    }
    let told: Vec<&String> = wrong.iter().take(20).collect();
    assert!(wrong.is_empty(), "{} attempts of {} recipes: {told:#?}", wrong.len(), RECIPES.len());
}
