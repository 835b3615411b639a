//! What a change costs, counted: evaluations of selectors, lists made, Services joined, intents said.

use crate::support::build::*;
use tortie_calc::{Calc, Work};
use tortie_intent::Intent;
use tortie_model::Object;

const PODS: usize = 10_000;
const NAMESPACES: usize = 100;
const POLICIES: usize = 1_000;
const LOCAL: usize = 100;

struct Big {
    calc: Calc,
}

/// What one batch did.
#[derive(Debug)]
struct Cost {
    evaluations: u64,
    lists: u64,
    services: u64,
    intents: usize,
}

fn address(i: usize) -> String {
    format!("10.{}.{}.{}", 1 + i / 65_536, i / 256 % 256, i % 256)
}

fn a_pod(i: usize, app: &str) -> PodBuilder {
    let node = if i < LOCAL { "n1" } else { "n2" };
    let text = format!("app={app},zone=z{},id=i{i}", i % 3);
    pod(&format!("ns{}/p{i}", i % NAMESPACES), &address(i)).labels(&text).on(node)
}

fn app(i: usize) -> String {
    format!("a{}", i / NAMESPACES % 50)
}

impl Big {
    /// Every namespace has ten policies; each selects one app and lets in another one of the namespace and one of
    /// a team's namespaces.
    fn new() -> Self {
        let mut calc = Calc::new("n1".into());
        for n in 0..NAMESPACES {
            calc.apply(&namespace(&format!("ns{n}"), &format!("team=t{}", n % 10)));
        }
        for i in 0..PODS {
            if i < LOCAL {
                calc.apply(&a_pod(i, &app(i)).attachment());
            }
            calc.apply(&a_pod(i, &app(i)).object());
        }
        for p in 0..POLICIES {
            calc.apply(&Self::policy(p, 80));
        }
        for s in 0..1_000 {
            let id = format!("ns{}/s{s}", s % NAMESPACES);
            calc.apply(&service(&id, &format!("172.16.{}.{}", s / 256, s % 256), &[("", TCP, 80)]));
            calc.apply(&Self::slice(s, 3));
        }
        calc.in_sync();
        calc.flush(&mut |_| {});
        Self { calc }
    }

    fn policy(p: usize, number: u16) -> Object {
        let peers = vec![
            pods(&format!("app=a{}", p / NAMESPACES + 10)),
            pods_of(&format!("team=t{}", p % 10), &format!("app=a{}", p / NAMESPACES + 20)),
        ];
        let id = format!("ns{}/p{p}", p % NAMESPACES);
        ingress(&id, &format!("app=a{}", p / NAMESPACES), vec![rule(peers, vec![port(TCP, number)])])
    }

    fn slice(s: usize, endpoints: usize) -> Object {
        let endpoints = (0..endpoints).map(|e| endpoint(&address(s * 3 + e), "rs")).collect();
        let namespace = s % NAMESPACES;
        slice(&format!("ns{namespace}/s{s}-1"), &format!("ns{namespace}/s{s}"), &[("", TCP, 8080)], endpoints)
    }

    fn change(&mut self, objects: &[Object]) -> (Cost, Vec<Intent>) {
        let before = self.calc.work();
        let mut said = Vec::new();
        objects.iter().for_each(|object| self.calc.apply(object));
        self.calc.flush(&mut |intent| said.push(intent));
        let Work { evaluations, lists, services } = self.calc.work();
        let cost = Cost {
            evaluations: evaluations - before.evaluations,
            lists: lists - before.lists,
            services: services - before.services,
            intents: said.len(),
        };
        (cost, said)
    }
}

#[test]
fn a_change_costs_what_it_touches_among_ten_thousand_pods_and_a_thousand_policies() {
    let mut big = Big::new();
    let start = big.calc.work();
    assert!(start.evaluations < 2 * PODS as u64, "the start: {start:?}");

    // Pod 1010 (namespace ns10, app a10): ns10's policies on a0 let it in; it becomes an a11.
    let (cost, said) = big.change(&[a_pod(1010, "a11").object()]);
    assert!(cost.evaluations <= 1, "a pod's label: {cost:?}");
    assert_eq!((cost.lists, cost.services), (0, 0), "{cost:?}");
    assert!(cost.intents <= 1, "{said:?}");

    let (cost, said) = big.change(&[a_pod(1010, "nothing").object()]);
    assert!(cost.evaluations <= 2 && cost.intents <= 1, "a label nobody asks for: {cost:?} {said:?}");

    let (cost, said) = big.change(&[a_pod(PODS, "a20").object()]);
    assert!(cost.evaluations <= 10 && cost.intents <= 2, "a new pod: {cost:?} {said:?}");

    let (cost, _) = big.change(&[Big::policy(5, 81)]);
    assert!(cost.evaluations <= 4, "a policy: {cost:?}");
    assert!(cost.lists == 1 && cost.intents == 3, "{cost:?}");

    let (cost, _) = big.change(&[Big::slice(77, 2)]);
    assert_eq!((cost.evaluations, cost.lists, cost.services, cost.intents), (0, 0, 1, 1), "a slice");

    let (cost, _) = big.change(&[namespace("ns10", "team=t0,colour=blue")]);
    assert_eq!((cost.evaluations, cost.intents), (0, 0), "a namespace's label that nobody asks for");

    let (cost, said) = big.change(&[namespace("ns11", "team=t2")]);
    let pods_times_selectors = (PODS / NAMESPACES) * 2;
    assert!(cost.evaluations <= pods_times_selectors as u64, "a namespace's label: {cost:?}");
    assert!(cost.lists == 0 && said.iter().all(|i| matches!(i, Intent::Set(..))), "{said:?}");
}
