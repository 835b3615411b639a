//! What can be wrong in the fields of each kind, with what the user reads.

use crate::messages::{check, check_in, policy, said};

#[test]
fn network_policies() {
    check_in(
        policy,
        "NetworkPolicy n/p",
        &[
            ("policyTypes: [Ingres]", "spec.policyTypes[0]: \"Ingres\" is unknown; use Ingress or Egress"),
            ("ingres: []", "spec.ingres: unknown field; did you mean ingress?"),
            ("zzzzzzzz: []", "spec.zzzzzzzz: unknown field; remove it"),
            (
                "ingress: [{from: [{}]}]",
                "spec.ingress[0].from[0]: is missing; give podSelector, namespaceSelector or ipBlock; podSelector: {} for every pod",
            ),
            (
                "ingress: [{from: [{podSelectr: {}}]}]",
                "spec.ingress[0].from[0].podSelectr: unknown field; did you mean podSelector?",
            ),
            (
                "ingress: [{from: [{podSelector: {}, ipBlock: {cidr: 10.0.0.0/8}}]}]",
                "spec.ingress[0].from[0].ipBlock: an address block cannot be combined with selectors; give the selectors in a peer of their own",
            ),
            (
                "ingress: [{from: [{ipBlock: {cidr: '010.244.001.000/24'}}]}]",
                "spec.ingress[0].from[0].ipBlock.cidr: \"010.244.001.000/24\" has leading zeros; write its numbers without leading zeros, as 10.0.0.0/8",
            ),
            (
                "ingress: [{from: [{ipBlock: {cidr: '10.244.0.0/016'}}]}]",
                "spec.ingress[0].from[0].ipBlock.cidr: \"10.244.0.0/016\" has leading zeros; write its numbers without leading zeros, as 10.0.0.0/8",
            ),
            (
                "ingress: [{from: [{ipBlock: {cidr: '::ffff:10.0.00.1/128'}}]}]",
                "spec.ingress[0].from[0].ipBlock.cidr: \"::ffff:10.0.00.1/128\" has leading zeros; write its numbers without leading zeros, as 10.0.0.0/8",
            ),
            (
                "ingress: [{from: [{ipBlock: {cidr: 10.0.0/8}}]}]",
                "spec.ingress[0].from[0].ipBlock.cidr: \"10.0.0/8\" is no CIDR; write it as 10.0.0.0/8 or fd00::/64",
            ),
            (
                "ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/33}}]}]",
                "spec.ingress[0].from[0].ipBlock.cidr: \"10.0.0.0/33\" is no CIDR; write it as 10.0.0.0/8 or fd00::/64",
            ),
            (
                "egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/16]}}]}]",
                "spec.egress[0].to[0].ipBlock.except[0]: 11.0.0.0/16 is not strictly inside 10.0.0.0/8; give a longer prefix that lies in 10.0.0.0/8",
            ),
            (
                "egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/8]}}]}]",
                "spec.egress[0].to[0].ipBlock.except[0]: 10.0.0.0/8 is not strictly inside 10.0.0.0/8; give a longer prefix that lies in 10.0.0.0/8",
            ),
            (
                "ingress: [{ports: [{port: 0}]}]",
                "spec.ingress[0].ports[0].port: 0 is no port number; use 1 to 65535",
            ),
            (
                "ingress: [{ports: [{port: 65536}]}]",
                "spec.ingress[0].ports[0].port: 65536 is no port number; use 1 to 65535",
            ),
            (
                "ingress: [{ports: [{port: Web_1}]}]",
                "spec.ingress[0].ports[0].port: \"Web_1\" is no port name; use at most 15 lower-case letters, digits and single '-', with at least one letter",
            ),
            (
                "ingress: [{ports: [{protocol: tcp}]}]",
                "spec.ingress[0].ports[0].protocol: \"tcp\" is unknown; use TCP, UDP or SCTP",
            ),
            (
                "ingress: [{ports: [{endPort: 80}]}]",
                "spec.ingress[0].ports[0].endPort: there is no port that the range starts at; give port too, or remove endPort",
            ),
            (
                "ingress: [{ports: [{port: web, endPort: 80}]}]",
                "spec.ingress[0].ports[0].endPort: a range cannot start at a named port; give port as a number, or remove endPort",
            ),
            (
                "ingress: [{ports: [{port: 80, endPort: 79}]}]",
                "spec.ingress[0].ports[0].endPort: 79 is below port 80; set it to 80 or more",
            ),
            (
                "ingress: [{ports: [{port: 80, endPort: 70000}]}]",
                "spec.ingress[0].ports[0].endPort: 70000 is no port number; use 1 to 65535",
            ),
            (
                "ingress: [{ports: [{port: [1]}]}]",
                "spec.ingress[0].ports[0].port: found a list, expected a number or text; write a number or text",
            ),
            (
                "ingress: [{from: [{podSelector: web}]}]",
                "spec.ingress[0].from[0].podSelector: found text \"web\", expected fields, each as name: value; write fields, each as name: value",
            ),
            (
                "ingress: {}",
                "spec.ingress: found fields, expected a list; write a list, each item after '- '",
            ),
        ],
    );
}

#[test]
fn selectors() {
    let with =
        |expression: &str| policy(&format!("ingress: [{{from: [{{podSelector: {{{expression}}}}}]}}]"));
    const AT: &str = "spec.ingress[0].from[0].podSelector";
    let cases = [
        (
            "matchLabels: {a/b/c: d}",
            "matchLabels[a/b/c]: \"a/b/c\" is no label key; use [prefix/]name, the name at most 63 letters, digits, '-', '_', '.', starting and ending with a letter or digit",
        ),
        (
            "matchLabels: {a: '-'}",
            "matchLabels[a]: \"-\" is no label value; use at most 63 letters, digits, '-', '_', '.', starting and ending with a letter or digit",
        ),
        (
            "matchExpressions: [{key: a, operator: in, values: [b]}]",
            "matchExpressions[0].operator: \"in\" is unknown; use In, NotIn, Exists or DoesNotExist",
        ),
        (
            "matchExpressions: [{key: a, operator: In}]",
            "matchExpressions[0].values: is missing; give at least one value",
        ),
        (
            "matchExpressions: [{key: a, operator: NotIn, values: []}]",
            "matchExpressions[0].values: is missing; give at least one value",
        ),
        (
            "matchExpressions: [{key: a, operator: Exists, values: [b]}]",
            "matchExpressions[0].values: this operator takes no values; remove the values, or use In or NotIn",
        ),
        (
            "matchExpressions: [{key: '', operator: Exists}]",
            "matchExpressions[0].key: \"\" is no label key; use [prefix/]name, the name at most 63 letters, digits, '-', '_', '.', starting and ending with a letter or digit",
        ),
        (
            "matchExpressions: [{key: a, operator: In, values: [b, c d]}]",
            "matchExpressions[0].values[1]: \"c d\" is no label value; use at most 63 letters, digits, '-', '_', '.', starting and ending with a letter or digit",
        ),
    ];
    for (expression, expected) in cases {
        assert_eq!(said(&with(expression)), [format!("f.yaml:1: NetworkPolicy n/p: {AT}.{expected}")]);
    }
}

#[test]
fn services() {
    let service = |spec: &str| {
        format!("{{apiVersion: v1, kind: Service, metadata: {{name: s, namespace: n}}, spec: {{{spec}}}}}")
    };
    const PORTS: &str = "ports: [{port: 80}]";
    let with = |spec: &str| service(&format!("{PORTS}, {spec}"));
    check_in(
        with,
        "Service n/s",
        &[
            (
                "type: Cluster",
                "spec.type: \"Cluster\" is unknown; use ClusterIP, NodePort, LoadBalancer or ExternalName",
            ),
            (
                "clusterIP: 10.0.0",
                "spec.clusterIP: \"10.0.0\" is no IP address; write it as 10.0.0.1 or fd00::1",
            ),
            (
                "clusterIP: 127.0.0.1",
                "spec.clusterIP: 127.0.0.1 is a loopback address; give an address that other hosts can send to",
            ),
            (
                "clusterIP: 10.0.0.1, clusterIPs: [10.0.0.2]",
                "spec.clusterIP: differs from clusterIPs[0]; give both the same address",
            ),
            (
                "clusterIPs: [10.0.0.1, 10.0.0.2]",
                "spec.clusterIPs[1]: more than one address of a family; give at most one of each family",
            ),
            (
                "clusterIPs: [10.0.0.1, 'x']",
                "spec.clusterIPs[1]: \"x\" is no IP address; write it as 10.0.0.1 or fd00::1",
            ),
            ("ipFamilies: [IPv5]", "spec.ipFamilies[0]: \"IPv5\" is unknown; use IPv4 or IPv6"),
            (
                "ipFamilies: [IPv4, IPv4]",
                "spec.ipFamilies[1]: is the same as spec.ipFamilies[0]; give each a value of its own",
            ),
            (
                "clusterIPs: [10.0.0.1], ipFamilies: [IPv6]",
                "spec.ipFamilies[0]: the cluster address of this place is of the other family; give ipFamilies in the order of clusterIPs",
            ),
            (
                "ipFamilyPolicy: Dual",
                "spec.ipFamilyPolicy: \"Dual\" is unknown; use SingleStack, PreferDualStack or RequireDualStack",
            ),
            (
                "externalIPs: [224.0.0.1]",
                "spec.externalIPs[0]: 224.0.0.1 is a multicast address; give an address that other hosts can send to",
            ),
            ("sessionAffinity: Client", "spec.sessionAffinity: \"Client\" is unknown; use None or ClientIP"),
            (
                "sessionAffinityConfig: {clientIP: {timeoutSeconds: 0}}",
                "spec.sessionAffinityConfig.clientIP.timeoutSeconds: 0 is not between 1 and 86400; use 1 to 86400",
            ),
            (
                "internalTrafficPolicy: local",
                "spec.internalTrafficPolicy: \"local\" is unknown; use Cluster or Local",
            ),
            (
                "externalTrafficPolicy: x",
                "spec.externalTrafficPolicy: \"x\" is unknown; use Cluster or Local",
            ),
        ],
    );
    check_in(
        service,
        "Service n/s",
        &[
            ("ports: []", "spec.ports: is missing; give at least one port"),
            ("ports: [{port: 0}]", "spec.ports[0].port: 0 is no port number; use 1 to 65535"),
            (
                "ports: [{port: '80'}]",
                "spec.ports[0].port: found text \"80\", expected a whole number; write a whole number without quotes",
            ),
            (
                "ports: [{port: 80}, {port: 81}]",
                "spec.ports[0].name: is missing; give a name, since there are several ports",
            ),
            (
                "ports: [{port: 80, name: a}, {port: 81, name: a}]",
                "spec.ports[1].name: is the same as spec.ports[0].name; give each a value of its own",
            ),
            (
                "ports: [{port: 80, name: a}, {port: 80, name: b}]",
                "spec.ports[1].port: is the same as spec.ports[0].port; give each a value of its own",
            ),
            (
                "ports: [{port: 80, name: a, nodePort: 30000}, {port: 81, name: b, nodePort: 30000}]",
                "spec.ports[1].nodePort: is the same as spec.ports[0].nodePort; give each a value of its own",
            ),
            (
                "ports: [{port: 80, nodePort: 70000}]",
                "spec.ports[0].nodePort: 70000 is no port number; use 1 to 65535",
            ),
            (
                "ports: [{port: 80, targetPort: 70000}]",
                "spec.ports[0].targetPort: 70000 is no port number; use 1 to 65535",
            ),
            (
                "ports: [{port: 80, targetPort: a--b}]",
                "spec.ports[0].targetPort: \"a--b\" is no port name; use at most 15 lower-case letters, digits and single '-', with at least one letter",
            ),
            (
                "ports: [{port: 80, name: A}]",
                "spec.ports[0].name: \"A\" is no DNS label; use at most 63 lower-case letters, digits and '-', starting and ending with a letter or digit",
            ),
            (
                "ports: [{port: 80, protocol: HTTP}]",
                "spec.ports[0].protocol: \"HTTP\" is unknown; use TCP, UDP or SCTP",
            ),
        ],
    );
    check(&[
        (
            "{apiVersion: v1, kind: Service, metadata: {name: s, namespace: n}}",
            "f.yaml:1: Service n/s: spec: is missing; give ports",
        ),
        (
            "{apiVersion: v1, kind: Service, metadata: {name: s., namespace: n}, spec: {ports: [{port: 1}]}}",
            "f.yaml:1: Service n/s.: metadata.name: \"s.\" is no DNS label; use at most 63 lower-case letters, digits and '-', starting and ending with a letter or digit",
        ),
    ]);
}

#[test]
fn endpoint_slices() {
    let slice = |rest: &str| {
        format!(
            "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: e, namespace: n, \
             labels: {{kubernetes.io/service-name: s}}}}, {rest}}}"
        )
    };
    check_in(
        slice,
        "EndpointSlice n/e",
        &[
            ("addressType: v4", "addressType: \"v4\" is unknown; use IPv4, IPv6 or FQDN"),
            (
                "addressType: FQDN",
                "addressType: endpoints that are names are not served; give addresses in slices of addressType IPv4 or IPv6, or remove it",
            ),
            (
                "addressType: IPv4, endpoints: [{addresses: []}]",
                "endpoints[0].addresses: is missing; give an address",
            ),
            (
                "addressType: IPv4, endpoints: [{addresses: ['fd00::1']}]",
                "endpoints[0].addresses[0]: the address is not of the slice's addressType; put it in a slice of its own family",
            ),
            (
                "addressType: IPv4, endpoints: [{addresses: [10.0.0.1], nodeName: a_b}]",
                "endpoints[0].nodeName: \"a_b\" is no DNS name; use at most 253 characters: labels of lower-case letters, digits and '-', starting and ending with a letter or digit, joined by '.'",
            ),
            ("addressType: IPv4, ports: [{name: a}]", "ports[0].port: is missing; give a port number"),
            ("addressType: IPv4, ports: [{port: -1}]", "ports[0].port: -1 is no port number; use 1 to 65535"),
            (
                "addressType: IPv4, ports: [{port: 70000}]",
                "ports[0].port: 70000 is no port number; use 1 to 65535",
            ),
            (
                "addressType: IPv4, ports: [{port: 1}, {port: 2}]",
                "ports[1].name: is the same as ports[0].name; give each a value of its own",
            ),
            (
                "addressType: IPv4, ports: [{port: 1, protocol: ICMP}]",
                "ports[0].protocol: \"ICMP\" is unknown; use TCP, UDP or SCTP",
            ),
        ],
    );
    check(&[(
        "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: e, namespace: n}, addressType: IPv4}",
        "f.yaml:1: EndpointSlice n/e: metadata.labels[kubernetes.io/service-name]: the slice belongs to no Service; label it with the Service's name, or remove it",
    )]);
}

#[test]
fn pods_and_nodes() {
    let pod =
        |rest: &str| format!("{{apiVersion: v1, kind: Pod, metadata: {{name: p, namespace: n}}, {rest}}}");
    check_in(
        pod,
        "Pod n/p",
        &[
            ("status: {podIP: x}", "status.podIP: \"x\" is no IP address; write it as 10.0.0.1 or fd00::1"),
            (
                "status: {podIPs: [{ip: 10.0.0.1}, {ip: 0.0.0.0}]}",
                "status.podIPs[1].ip: 0.0.0.0 is the unspecified address; give an address that other hosts can send to",
            ),
            (
                "spec: {nodeName: A}",
                "spec.nodeName: \"A\" is no DNS name; use at most 253 characters: labels of lower-case letters, digits and '-', starting and ending with a letter or digit, joined by '.'",
            ),
            (
                "spec: {containers: [{name: c, ports: [{containerPort: 0}]}]}",
                "spec.containers[0].ports[0].containerPort: 0 is no port number; use 1 to 65535",
            ),
            (
                "spec: {containers: [{name: c, ports: [{containerPort: 1, name: UP}]}]}",
                "spec.containers[0].ports[0].name: \"UP\" is no port name; use at most 15 lower-case letters, digits and single '-', with at least one letter",
            ),
            (
                "spec: {containers: [{name: c, ports: [{containerPort: 1, protocol: X}]}]}",
                "spec.containers[0].ports[0].protocol: \"X\" is unknown; use TCP, UDP or SCTP",
            ),
            ("spec: {containrs: []}", "spec.containrs: unknown field; did you mean containers?"),
            (
                "spec: {hostNetwork: 'yes'}",
                "spec.hostNetwork: found text \"yes\", expected true or false; write true or false without quotes",
            ),
        ],
    );
    let node = |rest: &str| format!("{{apiVersion: v1, kind: Node, metadata: {{name: n}}, {rest}}}");
    check_in(
        node,
        "Node n",
        &[
            ("spec: {podCIDR: x}", "spec.podCIDR: \"x\" is no CIDR; write it as 10.0.0.0/8 or fd00::/64"),
            (
                "spec: {podCIDRs: [10.0.0.0/8, 10/8]}",
                "spec.podCIDRs[1]: \"10/8\" is no CIDR; write it as 10.0.0.0/8 or fd00::/64",
            ),
            (
                "status: {addresses: [{type: InternalIP, address: x}]}",
                "status.addresses[0].address: \"x\" is no IP address; write it as 10.0.0.1 or fd00::1",
            ),
            (
                "status: {addresses: [{type: Inner, address: 10.0.0.1}]}",
                "status.addresses[0].type: \"Inner\" is unknown; use InternalIP, ExternalIP, Hostname, InternalDNS or ExternalDNS",
            ),
        ],
    );
}

#[test]
fn pools() {
    for api in ["projectcalico.org/v3", "crd.projectcalico.org/v1"] {
        let pool = |spec: &str| {
            format!("{{apiVersion: {api}, kind: IPPool, metadata: {{name: p}}, spec: {{{spec}}}}}")
        };
        check_in(
            pool,
            "IPPool p",
            &[
                ("", "spec.cidr: is missing; give a prefix such as 10.244.0.0/16"),
                (
                    "cidr: 10.244.0.1/16",
                    "spec.cidr: 10.244.0.1/16 has bits set outside its mask; write 10.244.0.0/16",
                ),
                ("cidr: x", "spec.cidr: \"x\" is no CIDR; write it as 10.0.0.0/8 or fd00::/64"),
                (
                    "cidr: 10.244.0.0/16, vxlanMode: always",
                    "spec.vxlanMode: \"always\" is unknown; use Never, Always or CrossSubnet",
                ),
                (
                    "cidr: 'fd00::/64', ipipMode: Always",
                    "spec.ipipMode: IPIP carries no IPv6; use vxlanMode or Never",
                ),
                (
                    "cidr: 10.244.0.0/16, ipipMode: Always, vxlanMode: Always",
                    "spec.ipipMode: a pool has one overlay, and vxlanMode is set; set one of them to Never",
                ),
                (
                    "cidr: 10.244.0.0/16, blockSize: 19",
                    "spec.blockSize: 19 is not between 20 and 32; use 20 to 32",
                ),
                (
                    "cidr: 10.244.0.0/28, blockSize: 26",
                    "spec.blockSize: a block is larger than the pool; use at least the prefix length of cidr",
                ),
                (
                    "cidr: 10.244.0.0/16, allowedUses: [All]",
                    "spec.allowedUses[0]: \"All\" is unknown; use Workload, Tunnel or LoadBalancer",
                ),
                (
                    "cidr: 10.244.0.0/16, assignmentMode: Auto",
                    "spec.assignmentMode: \"Auto\" is unknown; use Automatic or Manual",
                ),
                (
                    "cidr: 10.244.0.0/16, natoutgoing: true",
                    "spec.natoutgoing: unknown field; did you mean natOutgoing?",
                ),
                (
                    "cidr: 10.244.0.0/16, vxlanMode: Always",
                    "spec.vxlanMode: this version builds no overlay; do not rely on it",
                ),
            ],
        );
    }
}
