//! Lists of what is in the kernel: with names, and without the agent.

use serde_json::{Value, json};
use tortie_tests_e2e::TestLab;

use crate::{answer, denied, items, verb, world};

fn with<'v>(rows: &'v [Value], field: &str, value: &str) -> Vec<&'v Value> {
    rows.iter().filter(|row| row[field] == value).collect()
}

fn pod_address(test: &TestLab, name: &str) -> String {
    let (pod, _) = answer(test, &["get", "pod", name]);
    pod["status"]["podIP"].as_str().expect("an address").to_owned()
}

#[test]
fn lists_show_what_is_in_force_by_name_also_when_the_agent_is_dead() {
    let mut test = world();
    // Connections that were led to a back end by their socket are flows between pods, and no Service's.
    test.apply(
        "
apiVersion: projectcalico.org/v3
kind: FelixConfiguration
metadata: {name: default}
spec: {defaultEndpointToHostAction: Accept, bpfConnectTimeLoadBalancing: Disabled}
",
    );
    let far = pod_address(&test, "far");
    // Often enough that each back end has had one.
    for _ in 0..32 {
        assert!(
            test.probe("pod:default/client", "svc:default/server", |p| p.port = Some(8000)).is_connected()
        );
    }
    denied(&test);
    let services = items(&test, &["services", "show", "default/server"]);
    for endpoint in services[0]["endpoints"].as_array().expect("endpoints") {
        let conditions = ["used", "ready", "serving", "terminating"].map(|name| endpoint[name].as_bool());
        assert_eq!(conditions, [Some(true), Some(true), Some(true), Some(false)], "{endpoint}");
    }
    test.lab.kill_agent("node1").expect("kill-agent");

    let endpoints = items(&test, &["endpoints", "list"]);
    let near = with(&endpoints, "name", "near")[0];
    assert_eq!(
        (endpoints.len(), &near["node"], &near["ready"]),
        (2, &"node1".into(), &true.into()),
        "{near}"
    );
    assert_eq!(near["addresses"].as_array().expect("addresses").len(), 2, "{near}");
    assert!(near["programs"]["toWorkload"]["id"].is_number(), "{near}");

    let routes = items(&test, &["routes", "list", "--kind", "remote-pod"]);
    assert!(!routes.is_empty() && routes.iter().all(|route| route["node"] == "node2"), "{routes:?}");

    let services = items(&test, &["services", "show", "default/server"]);
    let backends = services[0]["endpoints"].as_array().expect("endpoints");
    assert_eq!((&services[0]["port"], &services[0]["type"]), (&"web".into(), &"ClusterIP".into()));
    let there = backends.iter().find(|backend| backend["address"] == far.as_str()).expect("far");
    assert_eq!(
        (&there["port"], &there["node"], &there["local"]),
        (&80.into(), &"node2".into(), &false.into())
    );

    let policy = items(&test, &["policy", "list", "--endpoint", "default/near", "--direction", "ingress"]);
    assert_eq!(policy[0]["policy"], "NetworkPolicy default/server", "{policy:?}");
    assert!(policy[0]["packets"].as_u64().expect("packets") > 0, "{policy:?}");
    assert_eq!(policy[0]["matches"]["peers"][0], "pods app=client", "{policy:?}");

    let flows = items(&test, &["conntrack", "list", "--service", "default/server"]);
    let flow = flows.first().expect("a flow through the Service");
    assert_eq!((&flow["protocol"], &flow["server"]["port"]), (&"TCP".into(), &8000.into()), "{flow}");
    assert_eq!(flow["backend"]["port"], 80, "{flow}");

    let counters = items(&test, &["counters", "list", "--reason", "policy-ingress"]);
    assert!(counters[0]["packets"].as_u64().expect("packets") > 0, "{counters:?}");
    assert!(!counters[0]["interface"].as_str().expect("interface").is_empty(), "{counters:?}");

    // A pod is meant by its name and its address, a Service by each of its own and of its endpoints'.
    let address = near["addresses"][0].as_str().expect("an address");
    let frontend = services[0]["frontends"][0]["address"].as_str().expect("an address");
    for name in ["default/near", address] {
        for list in ["endpoints", "policy", "routes", "conntrack"] {
            assert!(!items(&test, &[list, "show", name]).is_empty(), "{list} show {name}");
        }
    }
    for name in [frontend, address, "default/near"] {
        assert_eq!(items(&test, &["services", "show", name]), services, "{name}");
    }
}

#[test]
fn who_asks_for_the_flows_of_a_service_is_told_of_those_that_nobody_knows_to_be_its() {
    let mut test = world();
    assert!(
        test.probe("pod:default/client", "svc:default/server", |p| p.port = Some(8000)).is_connected(),
        "led by its socket"
    );
    let list = ["conntrack", "list", "--service", "default/server", "-o", "json"];
    let said = |test: &TestLab| {
        let output = verb(test, &list);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON alone");
        (answer["items"].clone(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (flows, note) = said(&test);
    assert_eq!(flows.as_array().map(Vec::len), Some(0), "{flows}");
    let address = note.split_once("--address ").expect(&note).1.split('`').next().expect("an address");
    let near = pod_address(&test, "near");
    assert!([near.clone(), pod_address(&test, "far")].contains(&address.to_owned()), "{note}");
    test.configure("bpfConnectTimeLoadBalancing: Disabled");
    assert_eq!(said(&test).1, "", "nothing is led from here on");
}

#[test]
fn a_filter_that_nothing_can_pass_is_bad_input_and_one_that_nothing_passes_an_empty_list() {
    let test = world();
    for filter in [
        ["conntrack", "--state", "foo"],
        ["conntrack", "--protocol", "foo"],
        ["conntrack", "--service", "server"],
        ["policy", "--direction", "foo"],
        ["policy", "--endpoint", "near"],
        ["routes", "--kind", "foo"],
        ["counters", "--reason", "foo"],
    ] {
        let [list, flag, value] = filter;
        let output = verb(&test, &[list, "list", flag, value]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{filter:?}: {said}");
        assert!(said.contains(flag), "{said}");
    }
    assert_eq!(verb(&test, &["drops", "--reason", "foo"]).status.code(), Some(2));
    for filter in [
        ["conntrack", "--state", "closed"],
        ["conntrack", "--protocol", "132"],
        ["counters", "--reason", "blackhole"],
    ] {
        assert_eq!(items(&test, &[filter[0], "list", filter[1], filter[2]]), [Value::Null; 0], "{filter:?}");
    }
}

#[test]
fn the_end_of_a_list_names_every_policy_that_selects_the_pod() {
    let mut test = world();
    test.apply(
        "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: deny},
         spec: {podSelector: {}, policyTypes: [Ingress, Egress]}}
---
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: typo},
 spec: {podSelector: {}, ingress: [{ports: [{port: htpp}]}]}}
",
    );
    let rows = items(&test, &["policy", "list", "--endpoint", "default/near"]);
    let of: Vec<_> = with(&rows, "policy", "end of the list")
        .into_iter()
        .map(|row| (row["direction"].clone(), row["policies"].clone()))
        .collect();
    let [deny, server, typo] = ["deny", "server", "typo"].map(|name| format!("NetworkPolicy default/{name}"));
    assert_eq!(of, [("ingress".into(), json!([deny, server, typo])), ("egress".into(), json!([deny]))]);
    let shown = verb(&test, &["policy", "show", "default/typo"]);
    assert_eq!(shown.status.code(), Some(0), "{shown:?}");
    assert!(
        String::from_utf8_lossy(&shown.stdout)
            .contains(&format!("end of the list: {deny}, {server}, {typo}"))
    );
}

#[test]
fn nobody_reads_what_is_said_and_the_exit_code_stays() {
    let mut command = std::process::Command::new(tortie_tests_e2e::binary());
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let status = command.args(["lab", "status", "--name", "nobody"]).stderr(writer).status().expect("tortie");
    assert_eq!(status.code(), Some(3), "{status}");
}

#[test]
fn what_is_not_there_is_a_no_and_says_where_to_look() {
    let test = world();
    for list in ["endpoints", "routes", "services", "policy", "conntrack", "counters"] {
        let output = verb(&test, &[list, "show", "default/nobody"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{list}: {said}");
        assert!(said.contains(&format!("tortie {list} list")), "{said}");
        let output = verb(&test, &["--bpffs", "/sys/fs/bpf/nowhere", list, "list"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{list}: {said}");
        assert!(said.contains("tortie agent"), "{said}");
    }
    // far is another node's pod; a Service without a connection is an empty list.
    for (named, word) in [
        (["policy", "list", "--endpoint", "default/nobody"].as_slice(), "policy default/nobody"),
        (&["policy", "list", "--endpoint", "default/far"], "policy default/far"),
        (&["conntrack", "list", "--service", "default/nobody"], "Service default/nobody"),
        (&["counters", "list", "--interface", "nope"], "interface nope"),
        (&["drops", "--interface", "nope"], "interface nope"),
        (&["drops", "--follow", "--interface", "nope"], "interface nope"),
    ] {
        let output = verb(&test, named);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{named:?}: {said}");
        assert!(said.contains(word), "{said}");
    }
    assert!(items(&test, &["conntrack", "list", "--service", "default/server"]).is_empty());
    assert!(items(&test, &["counters", "list", "--interface", "lo"]).is_empty());
    assert_eq!(verb(&test, &["drops", "--interface", "lo"]).status.code(), Some(0));
    let (list, code) = answer(&test, &["endpoints", "list", "-n", "elsewhere"]);
    assert_eq!((list["items"].as_array().map(Vec::len), code), (Some(0), 0));
}

#[test]
fn an_endpoint_that_is_not_ready_is_listed_with_the_reason() {
    let mut test = world();
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: ill, labels: {app: server}, annotations: {tortie.dev/ready: 'false'}}\n\
               spec: {nodeName: node2, containers: [{name: c, image: any, ports: [{containerPort: 80}]}]}\n";
    test.apply(pod);
    let ill = pod_address(&test, "ill");
    let services = items(&test, &["services", "list"]);
    let backends = with(&services, "name", "server")[0]["endpoints"].as_array().expect("endpoints").clone();
    let found = backends.iter().find(|backend| backend["address"] == ill.as_str()).expect("listed");
    assert_eq!(
        (&found["used"], &found["ready"], &found["reason"]),
        (&false.into(), &false.into(), &"not ready".into()),
        "{found}"
    );
    let table = String::from_utf8_lossy(&verb(&test, &["services", "list"]).stdout).into_owned();
    assert!(table.contains(&format!("{ill}:80 not used: not ready")), "{table}");
}

#[test]
fn a_service_whose_port_no_container_has_says_so_and_not_that_nobody_is_ready() {
    let mut test = world();
    test.apply(
        "
apiVersion: v1
kind: Service
metadata: {name: wrong}
spec: {selector: {app: server}, ports: [{name: web, port: 8000, targetPort: nope}]}
",
    );
    let table =
        String::from_utf8_lossy(&verb(&test, &["services", "show", "default/wrong"]).stdout).into_owned();
    assert!(
        table.contains("none: clients are refused; 2 ready addresses have no port of this name"),
        "{table}"
    );
    let near = pod_address(&test, "near");
    assert!(
        table.contains(&format!("{near} (node1) not used: its EndpointSlice has no port of this name")),
        "{table}"
    );
}
