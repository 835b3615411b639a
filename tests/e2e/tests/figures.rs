//! How long the laboratory takes, in a process of its own so that no other test is measured. Needs root.

use std::time::{Duration, Instant};

use tortie_lab::{Probe, UpOptions};
use tortie_tests_e2e::{TestLab, endpoint};

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: NAME}
spec: {containers: [{name: c, image: any, ports: [{containerPort: 80}]}]}
---
";

/// One test, so that nothing runs beside it.
#[test]
fn three_nodes_are_up_in_five_seconds_and_a_thousand_probes_take_less_than_ten() {
    let started = Instant::now();
    let mut test = TestLab::with(UpOptions::default());
    let up = started.elapsed();
    assert!(up < Duration::from_secs(5), "lab up took {up:?}");

    test.apply(&["a", "b", "c"].map(|name| POD.replace("NAME", name)).concat());
    let pairs = [("a", "b"), ("b", "c"), ("c", "a")];
    let probes: Vec<Probe> = (0..1000)
        .map(|number| {
            let (from, to) = pairs[number % pairs.len()];
            Probe::new(endpoint(&format!("pod:{from}")), endpoint(&format!("pod:{to}")))
        })
        .map(|probe| Probe { timeout: Duration::from_secs(5), ..probe })
        .collect();
    let started = Instant::now();
    let results = test.lab.matrix(&probes).expect("matrix");
    let took = started.elapsed();
    assert_eq!(results.iter().filter(|result| result.is_connected()).count(), 1000);
    assert!(took < Duration::from_secs(10), "1,000 probes took {took:?}");
    println!("lab up {up:?}, 1,000 probes {took:?}");
}
