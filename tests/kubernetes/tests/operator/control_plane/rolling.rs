//! Controllers make and end pods; the Service follows.

use std::time::Duration;

use tortie_tests_e2e::TestLab;
use tortie_tests_kubernetes::{kubectl, while_asking};

use super::world::{PATIENCE, asking};

/// New connections all the time while every pod is replaced.
pub fn restart(test: &mut TestLab) {
    let lab = &test.lab;
    let ((), attempts) = while_asking(lab, &asking(lab, "web"), || {
        kubectl(lab, &["rollout", "restart", "deployment/web"], "").expect("restart");
        kubectl(lab, &["rollout", "status", "deployment/web", "--timeout=60s"], "").expect("status");
        lab.wait(PATIENCE).expect("wait");
    });
    assert!(
        attempts.failed.is_empty(),
        "{} of {}: {:?}",
        attempts.failed.len(),
        attempts.made,
        attempts.failed
    );
    // Some of the old pods and all of the new ones.
    assert!(attempts.made > 50 && attempts.servers.len() > 3, "{attempts:?}");
}

/// Every pod that is there answers, and with none the Service refuses.
pub fn scale(test: &mut TestLab) {
    for replicas in [0, 5, 3] {
        let lab = &test.lab;
        kubectl(lab, &["scale", "deployment/web", &format!("--replicas={replicas}")], "").expect("scale");
        if replicas == 0 {
            // Pods that end are asked for as long as they serve and nobody else is there.
            let gone = ["wait", "--for=delete", "pod", "--selector=app=web", "--timeout=30s"];
            kubectl(lab, &gone, "").expect("wait");
        }
        lab.wait(PATIENCE).expect("wait");
        let results = lab.matrix(&vec![asking(lab, "web"); 20 * replicas.max(1)]).expect("matrix");
        let servers: std::collections::BTreeSet<_> =
            results.iter().filter_map(|result| result.server.clone()).collect();
        assert_eq!(servers.len(), replicas, "{results:?}");
        if replicas == 0 {
            let slow = Some(Duration::from_millis(500).as_micros() as u64);
            assert!(results.iter().all(|result| !result.is_connected() && result.connect_micros < slow));
        }
    }
}
