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
    let dir = tempfile::tempdir().expect("a directory");
    let place = dir.path().to_str().expect("a path");
    let (conflist, cache) = (dir.path().join("10-tortie.conflist"), dir.path().join("cache"));
    std::fs::write(&conflist, "{}").expect("a conflist");
    std::fs::create_dir(&cache).expect("a cache");
    let cache_flag = format!("--cache={}", cache.display());
    let arguments = ["uninstall", "--data-plane", "--bin-dir", place, "--conf-dir", place, &cache_flag];
    assert!(routes(&test).contains(" via "), "{}", routes(&test));
    let refused = on_node(&test.lab, "node1", &arguments);
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert_eq!(said(&refused).matches("stop").count(), 1, "{}", said(&refused));
    assert!(routes(&test).contains(" via ") && conflist.exists() && cache.exists(), "{}", routes(&test));
    test.lab.stop_agent("node1").expect("stop-agent");
    let done = on_node(&test.lab, "node1", &arguments);
    assert!(done.status.success() && said(&done).contains("2 routes"), "{}", said(&done));
    assert_eq!(routes(&test), "");
    assert!(!conflist.exists() && !cache.exists());
    let again = on_node(&test.lab, "node1", &arguments);
    assert!(again.status.success() && !said(&again).contains("removed"), "{}", said(&again));
}
