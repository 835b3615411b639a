//! What valid resources mean.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use tortie_model::policy::{NetworkPolicy, Peer, Port};
use tortie_model::service::{EndpointSlice, Service, ServiceType, TrafficPolicy};
use tortie_model::workload::{HostPort, HostPorts, NamedPort, Transport, Workload};
use tortie_model::{NodeName, Object, namespace, node, pool};
use tortie_store::dir::content::{self, Content};
use tortie_store::wire::Noun;

fn object(text: &str) -> Object {
    let content = content::read(Path::new("f.yaml"), text.as_bytes(), &Content::default());
    let refused: Vec<_> =
        content.rejections.iter().filter(|it| it.effect != tortie_store::Effect::NotEnforced).collect();
    assert!(refused.is_empty(), "{refused:?}");
    match &*content.entries.values().next().unwrap().noun {
        Noun::Object(object) => object.clone(),
        other => panic!("{other:?}"),
    }
}

macro_rules! reader {
    ($name:ident, $variant:ident, $type:ty) => {
        reader!($name, $variant, $type, std::convert::identity);
    };
    ($name:ident, $variant:ident, $type:ty, $plain:expr) => {
        fn $name(text: &str) -> Option<$type> {
            match object(text) {
                Object::$variant(change) => change.value.map($plain),
                other => panic!("{other:?}"),
            }
        }
    };
}
reader!(read_pod, Workload, Workload, Arc::unwrap_or_clone);
reader!(read_service, Service, Service, Arc::unwrap_or_clone);
reader!(read_slice, Slice, EndpointSlice, Arc::unwrap_or_clone);
reader!(read_policy, NetworkPolicy, NetworkPolicy, Arc::unwrap_or_clone);
reader!(read_node, Node, node::Node, Arc::unwrap_or_clone);
reader!(read_pool, Pool, pool::Pool);
reader!(read_ranges, Ranges, Vec<ipnet::IpNet>);
reader!(read_namespace, Namespace, namespace::Namespace);

fn pod(rest: &str) -> Option<Workload> {
    read_pod(&format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: p, namespace: n}}\n{rest}"))
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn a_pod_that_has_ended_is_no_workload() {
    for phase in ["Succeeded", "Failed"] {
        assert_eq!(pod(&format!("status: {{phase: {phase}}}")), None);
    }
    for phase in ["Pending", "Running", "Unknown"] {
        assert!(pod(&format!("status: {{phase: {phase}}}")).is_some());
    }
}

#[test]
fn a_pod_that_is_being_deleted_still_has_its_policy() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: n, deletionTimestamp: '2026-01-01T00:00:00Z'}";
    assert!(read_pod(text).is_some());
}

#[test]
fn the_annotation_of_the_cni_plugin_wins_over_the_status() {
    let with = |annotation: &str| {
        let text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: p, namespace: n, annotations: \
             {{cni.projectcalico.org/podIPs: '{annotation}'}}}}\nstatus: {{podIP: 10.0.0.9}}"
        );
        read_pod(&text).unwrap().addresses
    };
    assert_eq!(with("10.0.0.1/32,fd00::1/128"), [ip("10.0.0.1"), ip("fd00::1")]);
    assert_eq!(with("10.0.0.1"), [ip("10.0.0.1")]);
    assert_eq!(with(""), [] as [IpAddr; 0], "it has given them back");
}

#[test]
fn only_what_the_status_says_too_is_reported_by_the_kubelet() {
    let with = |annotation: &str, status: &str| {
        let text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: p, namespace: n, annotations: \
             {{cni.projectcalico.org/podIPs: '{annotation}'}}}}\nstatus: {{{status}}}"
        );
        read_pod(&text).unwrap().reported
    };
    assert!(with("10.0.0.1/32", "podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}]"));
    assert!(!with("10.0.0.1/32,fd00::1/128", "podIPs: [{ip: 10.0.0.1}]"), "one of two");
    assert!(!with("192.0.2.10/32", "podIP: 10.0.0.1"));
    assert!(!with("192.0.2.10/32", ""), "it does not run yet");
    assert!(pod("status: {podIP: 10.0.0.7}").unwrap().reported);
}

#[test]
fn addresses_have_the_first_of_each_family_first_and_none_twice() {
    let addresses = pod(
        "status: {podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}, {ip: 10.0.0.2}, {ip: 'fd00::1'}, {ip: 10.0.0.1}]}",
    );
    assert_eq!(addresses.unwrap().addresses, [ip("10.0.0.1"), ip("fd00::1"), ip("10.0.0.2")]);
    assert_eq!(pod("status: {podIP: 10.0.0.7}").unwrap().addresses, [ip("10.0.0.7")]);
}

#[test]
fn named_ports_are_of_containers_and_of_sidecars() {
    let text = "spec:\n  initContainers:\n  - {name: i, ports: [{containerPort: 1, name: init}]}\n  - {name: s, restartPolicy: Always, ports: [{containerPort: 2, name: side, protocol: UDP}]}\n  \
                containers:\n  - {name: c, ports: [{containerPort: 3, name: web}, {containerPort: 4}]}\n";
    let port = |name: &str, transport, port| NamedPort { name: name.into(), transport, port };
    assert_eq!(pod(text).unwrap().ports, [port("web", Transport::Tcp, 3), port("side", Transport::Udp, 2)]);
}

#[test]
fn only_ports_at_the_node_are_kept_with_the_age_that_decides_between_them() {
    let text = |network: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: p, namespace: n, creationTimestamp: '1970-01-01T00:01:00Z'}}\n\
             spec:\n  hostNetwork: {network}\n  containers:\n  - {{name: c, ports: [{{containerPort: 80}}, \
             {{containerPort: 81, hostPort: 8081, hostIP: '::ffff:192.0.2.1'}}, {{containerPort: 82, hostPort: 0}}, \
             {{containerPort: 83, hostPort: 8083, protocol: SCTP, hostIP: ''}}]}}\n"
        )
    };
    let (transport, address) = (Transport::Tcp, Some(ip("192.0.2.1")));
    let ports = vec![
        HostPort { address, host_port: 8081, transport, port: 81 },
        HostPort { address: None, host_port: 8083, transport: Transport::Sctp, port: 83 },
    ];
    let read = read_pod(&text("false")).unwrap();
    assert_eq!(read.host_ports, Some(Box::new(HostPorts { created: 60, ports })));
    assert_eq!(read_pod(&text("true")).unwrap().host_ports, None, "they are the pod's own there");
}

#[test]
fn a_pods_node_network_and_account() {
    let read =
        pod("spec: {nodeName: n1, hostNetwork: true, serviceAccountName: robot, containers: []}").unwrap();
    assert_eq!(
        (read.node, read.host_network, read.service_account.as_str()),
        (Some(NodeName::from("n1")), true, "robot")
    );
    let read = pod("spec: {containers: []}").unwrap();
    assert_eq!((read.node, read.host_network, read.service_account.as_str()), (None, false, "default"));
}

#[test]
fn a_namespace_carries_its_name_as_a_label() {
    let read =
        read_namespace("{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {a: b}}}").unwrap();
    assert_eq!(read.labels.get("kubernetes.io/metadata.name").unwrap(), "shop");
    assert_eq!(read.labels.get("a").unwrap(), "b");
}

#[test]
fn ranges_of_services_come_from_their_own_kind_and_from_what_is_announced() {
    let nets = |all: &[&str]| Some(all.iter().map(|net| net.parse().unwrap()).collect::<Vec<ipnet::IpNet>>());
    for version in ["v1", "v1beta1"] {
        let text = format!(
            "{{apiVersion: networking.k8s.io/{version}, kind: ServiceCIDR, metadata: {{name: kubernetes}}, \
             spec: {{cidrs: [10.96.0.0/12, 'fd96::/108']}}, status: {{conditions: []}}}}"
        );
        assert_eq!(read_ranges(&text), nets(&["10.96.0.0/12", "fd96::/108"]));
    }
    let bgp = |name: &str| {
        format!(
            "{{apiVersion: projectcalico.org/v3, kind: BGPConfiguration, metadata: {{name: {name}}}, spec: \
             {{asNumber: 64512, serviceClusterIPs: [{{cidr: 10.96.0.0/12}}], serviceExternalIPs: [{{cidr: 203.0.113.9/24}}], \
             serviceLoadBalancerIPs: [{{cidr: 'fd99::/64'}}, {{cidr: 10.96.0.0/12}}]}}}}"
        )
    };
    assert_eq!(read_ranges(&bgp("default")), nets(&["10.96.0.0/12", "203.0.113.0/24", "fd99::/64"]));
    assert_eq!(read_ranges(&bgp("node.node1")), nets(&[]), "as in Calico, one node's are not asked");
}

#[test]
fn a_nodes_internal_addresses_come_first() {
    let text = "{apiVersion: v1, kind: Node, metadata: {name: n}, spec: {podCIDR: 10.1.0.0/24, podCIDRs: [10.1.0.0/24, 'fd00::/64']}, \
                status: {addresses: [{type: Hostname, address: n}, {type: ExternalIP, address: 1.2.3.4}, {type: InternalIP, address: 10.9.0.1}, \
                {type: InternalIP, address: 'fd09::1'}, {type: ExternalIP, address: 10.9.0.1}]}}";
    let read = read_node(text).unwrap();
    assert_eq!(read.addresses, [ip("10.9.0.1"), ip("fd09::1"), ip("1.2.3.4")]);
    assert_eq!(read.pod_cidrs.len(), 2);
    let one =
        read_node("{apiVersion: v1, kind: Node, metadata: {name: n}, spec: {podCIDR: 10.1.0.0/24}}").unwrap();
    assert_eq!(one.pod_cidrs, ["10.1.0.0/24".parse().unwrap()]);
}

fn service(spec: &str) -> Option<Service> {
    read_service(&format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: s, namespace: n}}, spec: {{ports: [{{port: 80}}], {spec}}}}}"
    ))
}

#[test]
fn services_that_are_not_ours_to_serve_are_known_and_serve_nothing() {
    for spec in [
        "type: ExternalName, externalName: example.org",
        "clusterIP: None",
        "clusterIPs: [None]",
        "type: ClusterIP",
    ] {
        assert_eq!(service(spec), Some(Service::default()), "{spec}");
    }
    for label in ["service.kubernetes.io/service-proxy-name: other", "service.kubernetes.io/headless: ''"] {
        let text = format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: s, namespace: n, labels: {{{label}}}}}, \
             spec: {{clusterIP: 10.96.0.1, ports: [{{port: 80}}]}}}}"
        );
        assert_eq!(read_service(&text), Some(Service::default()), "{label}");
    }
    assert_eq!(
        read_service(
            "{apiVersion: v1, kind: Service, metadata: {name: s, namespace: n}, spec: {clusterIP: None}}"
        ),
        Some(Service::default())
    );
}

#[test]
fn a_service_has_the_defaults_of_kubernetes() {
    let read = service("clusterIP: 10.96.0.1").unwrap();
    assert_eq!(read.service_type, ServiceType::ClusterIp);
    assert_eq!(read.cluster_ips, [ip("10.96.0.1")]);
    assert_eq!((read.affinity_seconds, read.publish_not_ready), (None, false));
    assert_eq!(
        (read.internal_traffic_policy, read.external_traffic_policy),
        (TrafficPolicy::Cluster, TrafficPolicy::Cluster)
    );
    assert_eq!(
        (read.ports[0].name.as_str(), read.ports[0].transport, read.ports[0].node_port),
        ("", Transport::Tcp, 0)
    );
}

#[test]
fn a_service_with_everything() {
    let read = service(
        "type: LoadBalancer, clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1, 'fd96::1'], ipFamilies: [IPv4, IPv6], \
         ipFamilyPolicy: RequireDualStack, externalIPs: [1.2.3.4], sessionAffinity: ClientIP, \
         internalTrafficPolicy: Local, externalTrafficPolicy: Local, publishNotReadyAddresses: true",
    )
    .unwrap();
    assert_eq!(read.service_type, ServiceType::LoadBalancer);
    assert_eq!(read.cluster_ips, [ip("10.96.0.1"), ip("fd96::1")]);
    assert_eq!(read.external_ips, [ip("1.2.3.4")]);
    assert_eq!((read.affinity_seconds, read.publish_not_ready), (Some(10_800), true));
    assert_eq!(
        (read.internal_traffic_policy, read.external_traffic_policy),
        (TrafficPolicy::Local, TrafficPolicy::Local)
    );
}

#[test]
fn a_load_balancers_addresses_count_where_its_packets_arrive_unchanged() {
    let read = |kind: &str| {
        read_service(&format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: s, namespace: n}}, \
             spec: {{type: {kind}, clusterIP: 10.96.0.1, ports: [{{port: 80}}]}}, status: {{loadBalancer: {{ingress: [\
             {{ip: 203.0.113.1}}, {{ip: 203.0.113.2, ipMode: Proxy}}, {{hostname: example.org}}, \
             {{ip: 203.0.113.3, ipMode: VIP}}, {{ip: 203.0.113.1}}]}}}}}}"
        ))
        .unwrap()
    };
    assert_eq!(read("LoadBalancer").ingress_ips, [ip("203.0.113.1"), ip("203.0.113.3")]);
    assert!(read("NodePort").ingress_ips.is_empty(), "what the status of another type still says");
}

#[test]
fn how_clients_outside_are_spread_is_read_by_our_annotation_or_else_by_calicos() {
    const OURS: &str = "tortie.dev/external-traffic-strategy";
    const CALICOS: &str = "lb.projectcalico.org/external-traffic-strategy";
    let text = |annotations: &str| {
        format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: s, namespace: n, annotations: {{{annotations}}}}}, \
             spec: {{clusterIP: 10.96.0.1, ports: [{{port: 80}}]}}}}"
        )
    };
    let by_hash = |annotations: &str| read_service(&text(annotations)).unwrap().maglev;
    assert!(!by_hash("other: maglev"));
    assert!(by_hash(&format!("{OURS}: maglev")) && by_hash(&format!("{CALICOS}: maglev")));
    // A word that nobody knows is said, and the Service is served.
    let odd = text(&format!("{OURS}: roundrobin, {CALICOS}: maglev"));
    assert!(!read_service(&odd).unwrap().maglev, "ours comes first");
    let content = content::read(Path::new("f.yaml"), odd.as_bytes(), &Content::default());
    let said: Vec<_> = content.rejections.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains(OURS) && said[0].contains("roundrobin"), "{said:?}");
}

#[test]
fn what_is_not_to_be_translated_says_so_by_our_annotation_or_else_by_calicos() {
    const OURS: &str = "tortie.dev/nat-exclude-service";
    const CALICOS: &str = "projectcalico.org/natExcludeService";
    let excluded = |annotations: &str| {
        let text = format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: s, namespace: n, annotations: {{{annotations}}}}}, \
             spec: {{clusterIP: 10.96.0.1, ports: [{{port: 80}}]}}}}"
        );
        read_service(&text).unwrap().untranslated
    };
    assert!(excluded(&format!("{OURS}: 'true'")) && excluded(&format!("{CALICOS}: 'true'")));
    assert!(!excluded("") && !excluded(&format!("{CALICOS}: 'false'")));
    assert!(!excluded(&format!("{OURS}: 'false', {CALICOS}: 'true'")), "ours comes first");
}

#[test]
fn source_ranges_are_read_with_the_blanks_that_the_api_server_lets_pass() {
    let read = service(
        "type: LoadBalancer, clusterIP: 10.96.0.1, loadBalancerSourceRanges: [' 10.1.2.3/8 ', 'fd00::/8']",
    );
    let nets: Vec<String> = read.unwrap().source_ranges.iter().map(ToString::to_string).collect();
    assert_eq!(nets, ["10.0.0.0/8", "fd00::/8"]);
}

#[test]
fn a_health_check_port_counts_where_a_load_balancer_asks_for_nodes_with_endpoints() {
    let port = |spec: &str| {
        service(&format!("clusterIP: 10.96.0.1, healthCheckNodePort: 30100, {spec}"))
            .unwrap()
            .health_check_port
    };
    assert_eq!(port("type: LoadBalancer, externalTrafficPolicy: Local"), Some(30_100));
    assert_eq!(port("type: LoadBalancer"), None);
    assert_eq!(port("type: NodePort, externalTrafficPolicy: Local"), None);
}

#[test]
fn a_node_that_is_about_to_go_is_leaving() {
    let leaving = |rest: &str| {
        read_node(&format!("{{apiVersion: v1, kind: Node, metadata: {{name: n{rest}}}")).unwrap().leaving
    };
    assert!(!leaving("}"));
    assert!(!leaving("}, spec: {taints: [{key: node.kubernetes.io/unreachable, effect: NoSchedule}]}"));
    assert!(leaving("}, spec: {taints: [{key: ToBeDeletedByClusterAutoscaler, effect: NoSchedule}]}"));
    assert!(leaving(", deletionTimestamp: '2026-01-01T00:00:00Z'}"));
}

#[test]
fn endpoint_conditions_have_their_documented_defaults() {
    let text = "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: e, namespace: n, \
        labels: {kubernetes.io/service-name: s}}, addressType: IPv4, ports: [{name: web, port: 8080}], endpoints: [\
        {addresses: [10.0.0.1]}, {addresses: [10.0.0.2], conditions: {ready: false}}, \
        {addresses: [10.0.0.3], conditions: {ready: false, serving: true, terminating: true}, nodeName: n1}]}";
    let read = read_slice(text).unwrap();
    let conditions: Vec<_> = read.endpoints.iter().map(|e| (e.ready, e.serving, e.terminating)).collect();
    assert_eq!(conditions, [(true, true, false), (false, false, false), (false, true, true)]);
    assert_eq!(read.endpoints[2].node, Some(NodeName::from("n1")));
    assert_eq!(read.service.to_string(), "n/s");
}

#[test]
fn slices_that_are_not_for_this_proxy_are_known_and_mean_nothing() {
    for label in ["service.kubernetes.io/service-proxy-name: other", "service.kubernetes.io/headless: ''"] {
        let text = format!(
            "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: e, namespace: n, \
             labels: {{kubernetes.io/service-name: s, {label}}}}}, addressType: IPv4, ports: [{{port: 80}}], \
             endpoints: [{{addresses: [10.0.0.1]}}]}}"
        );
        assert_eq!(read_slice(&text), None, "{label}");
    }
}

fn policy(spec: &str) -> NetworkPolicy {
    read_policy(&format!(
        "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: p, namespace: n}}, spec: {{podSelector: {{}}, {spec}}}}}"
    ))
    .unwrap()
}

#[test]
fn policy_types_default_to_ingress_and_to_egress_when_it_has_rules() {
    let isolates = |spec: &str| {
        let read = policy(spec);
        (read.ingress.map(|rules| rules.len()), read.egress.map(|rules| rules.len()))
    };
    assert_eq!(isolates(""), (Some(0), None));
    assert_eq!(isolates("ingress: [{}]"), (Some(1), None));
    assert_eq!(isolates("egress: []"), (Some(0), None));
    assert_eq!(isolates("egress: [{}]"), (Some(0), Some(1)));
    assert_eq!(isolates("policyTypes: [Egress]"), (None, Some(0)));
    assert_eq!(
        isolates("policyTypes: [Egress], ingress: [{}]"),
        (None, Some(0)),
        "rules of a type that is not listed"
    );
    assert_eq!(isolates("policyTypes: [Ingress, Egress]"), (Some(0), Some(0)));
}

#[test]
fn peers_and_ports_keep_their_meaning() {
    let read = policy(
        "ingress: [{from: [{podSelector: {}}, {namespaceSelector: {}}, {ipBlock: {cidr: 10.0.0.5/8, except: [10.1.2.3/16]}}], \
         ports: [{}, {port: 80}, {port: 80, endPort: 90, protocol: UDP}, {port: web, protocol: SCTP}]}]",
    );
    let rules = read.ingress.unwrap();
    let [
        Peer::Pods { namespaces: None, .. },
        Peer::Pods { namespaces: Some(_), .. },
        Peer::Block { cidr, except },
    ] = rules[0].peers.as_slice()
    else {
        panic!("{rules:?}")
    };
    assert_eq!(
        (cidr.to_string(), except[0].to_string()),
        ("10.0.0.0/8".into(), "10.1.0.0/16".into()),
        "masked, as Kubernetes does"
    );
    let ports: Vec<_> = rules[0].ports.iter().map(|it| (it.transport, it.port.clone())).collect();
    let range = |first, last| Port::Range { first, last };
    assert_eq!(
        ports,
        [
            (Transport::Tcp, Port::Any),
            (Transport::Tcp, range(80, 80)),
            (Transport::Udp, range(80, 90)),
            (Transport::Sctp, Port::Named("web".into())),
        ]
    );
}

#[test]
fn a_pool_of_either_group_is_the_same() {
    for api in ["projectcalico.org/v3", "crd.projectcalico.org/v1"] {
        let read = read_pool(&format!(
            "{{apiVersion: {api}, kind: IPPool, metadata: {{name: p}}, spec: {{cidr: 'fd00::/48', natOutgoing: true, disabled: true, blockSize: 122, \
             nodeSelector: all(), allowedUses: [Workload, Tunnel], assignmentMode: Automatic, ipipMode: Never, vxlanMode: Never, disableBGPExport: false}}}}"
        ));
        let cidr = "fd00::/48".parse().unwrap();
        assert_eq!(read, Some(pool::Pool { cidr, nat_outgoing: true, for_pods: true, disabled: true }));
        let balancers = read_pool(&format!(
            "{{apiVersion: {api}, kind: IPPool, metadata: {{name: p}}, spec: {{cidr: 'fd00::/48', allowedUses: [LoadBalancer]}}}}"
        ));
        assert!(balancers.is_some_and(|pool| !pool.for_pods));
    }
}

#[test]
fn the_storage_form_of_the_address_management_has_its_own_name_and_is_the_same_object() {
    let key = |api: &str, kind: &str| {
        let value = serde_json::json!({"apiVersion": api, "kind": kind, "metadata": {"name": "default"}});
        tortie_store::resource::Resource::new(value, "").unwrap().key
    };
    let (ours, stored) =
        (key("projectcalico.org/v3", "IPAMConfiguration"), key("crd.projectcalico.org/v1", "IPAMConfig"));
    assert_eq!(ours, stored);
}

#[test]
fn an_ipv4_address_in_the_clothes_of_ipv6_is_the_ipv4_address() {
    assert_eq!(pod("status: {podIP: '::ffff:10.0.0.1'}").unwrap().addresses, [ip("10.0.0.1")]);
}

#[test]
fn null_is_as_if_it_were_not_there() {
    assert!(pod("spec: null\nstatus: null").is_some());
    assert_eq!(policy("ingress: null, egress: null, policyTypes: null").ingress, Some(vec![]));
}

#[test]
fn a_service_may_be_called_like_a_number() {
    let service = read_service(
        "{apiVersion: v1, kind: Service, metadata: {name: 4front, namespace: n}, spec: {clusterIP: 10.96.0.1, ports: [{port: 80}]}}",
    );
    assert_eq!(service.unwrap().cluster_ips, [ip("10.96.0.1")]);
    let slice = read_slice(
        "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: s, namespace: n, labels: \
         {kubernetes.io/service-name: 4front}}, addressType: IPv4}",
    );
    assert_eq!(&*slice.unwrap().service.name, "4front");
}

#[test]
fn a_port_or_address_that_nobody_can_use_leaves_the_rest_of_a_slice() {
    let slice = read_slice(
        "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: s, namespace: n, labels: \
         {kubernetes.io/service-name: web}}, addressType: IPv4, ports: [{name: all}, {name: none, port: 0}, \
         {name: much, port: 70000}, {name: good, port: 80}], endpoints: [{addresses: [239.1.1.1]}, \
         {addresses: [255.255.255.255]}, {addresses: [10.0.0.1]}]}",
    )
    .unwrap();
    let ports: Vec<_> = slice.ports.iter().map(|port| (port.name.as_str(), port.port)).collect();
    assert_eq!(ports, [("good", 80)]);
    // The calculation leaves out the others one by one, and says so.
    assert_eq!(slice.endpoints.len(), 3);
}

#[test]
fn an_outside_address_that_nobody_can_use_leaves_the_rest_of_a_service() {
    let service = read_service(
        "{apiVersion: v1, kind: Service, metadata: {name: s, namespace: n}, spec: {type: LoadBalancer, clusterIP: 10.96.0.1, \
         externalIPs: [239.1.1.1, 192.0.2.1], ports: [{port: 80}]}, status: {loadBalancer: {ingress: [{ip: 169.254.7.7}, \
         {ip: 192.0.2.2}]}}}",
    )
    .unwrap();
    assert_eq!(service.cluster_ips, [ip("10.96.0.1")]);
    assert_eq!((service.external_ips, service.ingress_ips), (vec![ip("192.0.2.1")], vec![ip("192.0.2.2")]));
}
