//! `uninstall --data-plane`.

use tortie_tests_e2e::{TestLab, on_node, said, tortie_lab};

fn routes(test: &TestLab) -> String {
    let show = "ip route show proto 80; ip -6 route show proto 80";
    let output = tortie_lab(&test.lab.name, &["exec", "--node", "node1", "--", "sh", "-c", show]);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_node_that_is_let_go_has_no_routes_to_other_nodes_pods() {
    let test = TestLab::nodes(2);
    let empty = tempfile::tempdir().expect("a directory");
    let place = empty.path().to_str().expect("a path");
    let arguments = ["uninstall", "--data-plane", "--bin-dir", place, "--conf-dir", place];
    assert!(routes(&test).contains(" via "), "{}", routes(&test));
    let refused = on_node(&test.lab, "node1", &arguments);
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert_eq!(said(&refused).matches("stop").count(), 1, "{}", said(&refused));
    assert!(routes(&test).contains(" via "), "{}", routes(&test));
    test.lab.stop_agent("node1").expect("stop-agent");
    let done = on_node(&test.lab, "node1", &arguments);
    assert!(done.status.success() && said(&done).contains("2 routes"), "{}", said(&done));
    assert_eq!(routes(&test), "");
}
