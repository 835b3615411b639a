//! What the schemas and their rules refuse, and what they let through.

use tortie_lab::Lab;
use tortie_tests_kubernetes::kubectl;

/// Kind, spec, and what the API server says; `None`: it takes it.
#[rustfmt::skip]
const CASES: &[(&str, &str, Option<&str>)] = &[
    ("IPPool", "{cidr: 10.244.0.0/16, vxlanMode: Never, ipipMode: Never, natOutgoing: true, blockSize: 26, nodeSelector: all()}", None),
    ("IPPool", "{cidr: 'fd00::/64', ipipMode: Always}", Some("ipipMode is for IPv4 only")),
    ("IPPool", "{cidr: 10.0.0.0/8, ipipMode: Always, vxlanMode: CrossSubnet}", Some("one overlay at most")),
    ("IPPool", "{natOutgoing: true}", Some("spec.cidr: Required value")),
    ("FelixConfiguration", "{bpfEnabled: true, bpfConntrackTimeouts: {tcpEstablished: 1h30m, udpTimeout: Auto}, bpfPSNATPorts: '20000:29999', iptablesMarkMask: 4294901760}", None),
    ("FelixConfiguration", "{bpfEnabld: true}", Some("unknown field \"spec.bpfEnabld\"")),
    ("FelixConfiguration", "{bpfAttachType: XDP}", Some("Unsupported value: \"XDP\"")),
    ("FelixConfiguration", "{reportingInterval: 5}", Some("must be of type string")),
    ("GlobalNetworkPolicy", "{selector: all(), order: 10.5, applyOnForward: true, doNotTrack: true, ingress: [{action: Deny, protocol: 1, icmp: {type: 8, code: 0}, source: {nets: [10.0.0.0/8]}}]}", None),
    ("GlobalNetworkPolicy", "{doNotTrack: true, preDNAT: true, applyOnForward: true}", Some("doNotTrack and preDNAT exclude each other")),
    ("GlobalNetworkPolicy", "{doNotTrack: true}", Some("doNotTrack needs applyOnForward")),
    ("GlobalNetworkPolicy", "{preDNAT: true}", Some("preDNAT needs applyOnForward")),
    ("GlobalNetworkPolicy", "{preDNAT: true, applyOnForward: true, egress: [{action: Allow}]}", Some("preDNAT has no egress rules")),
    ("NetworkPolicy", "{tier: default, ingress: [{action: Allow, protocol: TCP, destination: {ports: [80, '443:444', http]}}]}", None),
    ("NetworkPolicy", "{ingress: [{action: allow}]}", Some("Unsupported value: \"allow\"")),
    ("NetworkPolicy", "{ingress: [{protocol: TCP}]}", Some("action: Required value")),
    ("NetworkPolicy", "{egress: [{action: Allow, icmp: {type: 3}}]}", Some("icmp needs protocol")),
    ("NetworkPolicy", "{egress: [{action: Allow, protocol: ICMP, icmp: {code: 3}}]}", Some("code needs type")),
    ("NetworkPolicy", "{egress: [{action: Allow, destination: {services: {name: x}, nets: [192.0.2.1/32]}}]}", Some("services stands alone")),
    ("NetworkPolicy", "{egress: [{action: Allow, destination: {services: {name: x}, selector: all()}}]}", Some("services stands alone")),
    ("StagedNetworkPolicy", "{stagedAction: Maybe}", Some("Unsupported value: \"Maybe\"")),
    ("HostEndpoint", "{node: n1, interfaceName: eth0, ports: [{name: http, protocol: TCP, port: 80}]}", None),
    ("HostEndpoint", "{node: n1}", Some("interfaceName or expectedIPs")),
    ("HostEndpoint", "{interfaceName: eth0}", Some("node is required")),
    ("Tier", "{order: 100, defaultAction: Pass}", None),
    ("Tier", "{defaultAction: Allow}", Some("Unsupported value: \"Allow\"")),
    ("BGPPeer", "{node: n1, nodeSelector: all()}", Some("node and nodeSelector exclude each other")),
    ("GlobalNetworkSet", "{nets: [10.0.0.0/8]}", None),
];

fn object(kind: &str, name: &str, spec: &str) -> String {
    format!("apiVersion: crd.projectcalico.org/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n")
}

pub fn are_refused_with_words(lab: &Lab) {
    let apply =
        |object: &str, dry: &str| kubectl(lab, &["apply", "--validate=strict", dry, "-f", "-"], object);
    for (at, (kind, spec, refusal)) in CASES.iter().enumerate() {
        let answer = apply(&object(kind, &format!("case-{at}"), spec), "--dry-run=server");
        match (refusal, answer) {
            (None, Ok(_)) => {}
            (Some(words), Err(said)) if said.contains(words) => {}
            (expected, got) => panic!("{kind} {spec}: expected {expected:?}, got {got:?}"),
        }
    }
    // Only a change shows that a field cannot be changed.
    apply(&object("IPPool", "fixed", "{cidr: 10.250.0.0/16}"), "--dry-run=none").unwrap();
    let said = apply(&object("IPPool", "fixed", "{cidr: 10.251.0.0/16}"), "--dry-run=server").unwrap_err();
    assert!(said.contains("cidr cannot be changed"), "{said}");
    kubectl(lab, &["delete", "ippools.crd.projectcalico.org", "fixed"], "").unwrap();
}
