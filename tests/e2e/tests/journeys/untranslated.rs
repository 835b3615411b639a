//! Services' addresses that are not translated: whoever has them on the node answers.

use std::process::Command;

use tortie_lab::{Family, Protocol};
use tortie_tests_e2e::TestLab;

const BOTH: [(Family, &str); 2] = [(Family::Ipv4, "203.0.113.9"), (Family::Ipv6, "2001:db8:e::9")];

/// A cache on the client's node, on the node's network; the Service's own back end is elsewhere.
const WORLD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: client}
spec: {nodeName: node1, containers: [{name: c, image: any, ports: [{name: web, containerPort: 8080}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: cache}
spec: {nodeName: node1, hostNetwork: true, containers: [{name: c, image: any, ports: [{name: web, containerPort: 7070}, {name: dns, containerPort: 7053, protocol: UDP}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: far, labels: {app: server}}
spec: {nodeName: node2, containers: [{name: c, image: any, ports: [{name: web, containerPort: 8080}, {name: dns, containerPort: 5353, protocol: UDP}]}]}
";

fn service(annotations: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: server, annotations: {{{annotations}}}}}\n\
         spec: {{ipFamilyPolicy: PreferDualStack, selector: {{app: server}}, \
         externalIPs: [203.0.113.9, '2001:db8:e::9'], ports: [{{name: web, port: 7070, targetPort: web}}, \
         {{name: dns, port: 7053, targetPort: dns, protocol: UDP}}]}}\n"
    )
}

fn configure(test: &mut TestLab, mode: &str, excluded: &str) {
    test.configure(&format!(
        "defaultEndpointToHostAction: Accept, bpfConnectTimeLoadBalancing: {mode}, bpfExcludeCIDRsFromNAT: [{excluded}]"
    ));
}

/// Who answers the pod at the Service's address, over TCP and UDP, in both families.
#[track_caller]
fn assert_answers(test: &TestLab, server: &str) {
    for (family, address) in BOTH {
        for (protocol, port) in [(Protocol::Tcp, 7070), (Protocol::Udp, 7053)] {
            let result = test.probe("pod:default/client", address, |probe| {
                (probe.family, probe.protocol, probe.port) = (Some(family), protocol, Some(port));
            });
            assert_eq!(result.server.as_deref(), Some(server), "{family:?} {protocol:?}: {result:?}");
        }
    }
}

#[test]
fn an_address_that_is_excluded_leads_to_whoever_has_it_on_the_node() {
    let mut test = crate::cluster(2);
    let node = test.lab.name.machine("node1");
    for (_, address) in BOTH {
        let status = Command::new("ip").args(["-n", &node, "address", "add", address, "dev", "lo"]).status();
        assert!(status.expect("running ip").success());
    }
    test.apply(WORLD);
    test.apply(&service(""));
    for mode in ["Enabled", "Disabled"] {
        configure(&mut test, mode, "");
        assert_answers(&test, "default/far");
        for annotation in ["tortie.dev/nat-exclude-service", "projectcalico.org/natExcludeService"] {
            test.apply(&service(&format!("{annotation}: 'true'")));
            assert_answers(&test, "default/cache");
            test.apply(&service(""));
            assert_answers(&test, "default/far");
        }
        configure(&mut test, mode, "203.0.113.0/24, '2001:db8:e::/64'");
        assert_answers(&test, "default/cache");
    }
}
