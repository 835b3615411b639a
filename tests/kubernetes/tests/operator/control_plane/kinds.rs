//! A kind goes, with everything of it, and comes back while agents run.

use tortie_lab::Protocol;
use tortie_tests_e2e::{TestLab, briefly};
use tortie_tests_kubernetes::{kubectl, while_asking};

use super::world::{PATIENCE, asking, until};

const DEFINITION: &str = include_str!("../../../../../deploy/crds/felixconfigurations.yaml");
const NAME: &str = "felixconfigurations.crd.projectcalico.org";
const SETTINGS: &str = "
apiVersion: crd.projectcalico.org/v1
kind: FelixConfiguration
metadata: {name: default}
spec: {defaultEndpointToHostAction: Accept}
";

/// Agents that follow a kind notice both; other kinds go on.
pub fn come_and_go(test: &mut TestLab) {
    let still = asking(&test.lab, "still");
    let reaches_its_node = || {
        let asked = test.probe("pod:default/client", "node:node1", |probe| {
            briefly(probe);
            probe.protocol = Protocol::Icmp;
            probe.port = None;
        });
        asked.is_connected()
    };
    let lab = &test.lab;
    assert!(reaches_its_node());
    let ((), attempts) = while_asking(lab, &still, || {
        kubectl(lab, &["delete", "crd", NAME], "").expect("delete");
        until(|| !reaches_its_node(), "settings that are gone do not count");
        kubectl(lab, &["create", "-f", "-"], DEFINITION).expect("create");
        until(|| kubectl(lab, &["create", "-f", "-"], SETTINGS).is_ok(), "the kind is served");
        until(reaches_its_node, "settings of a kind that is new count, without a question");
        lab.wait(PATIENCE).expect("wait");
    });
    assert!(attempts.made > 20 && attempts.failed.is_empty(), "{attempts:?}");
}
