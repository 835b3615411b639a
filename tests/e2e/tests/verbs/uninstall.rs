//! `uninstall --data-plane`.

use tortie_tests_e2e::{TestLab, binary, on_node, said, tortie_lab};

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
    let program = dir.path().join("tortie-cni");
    std::fs::write(&program, "").expect("a program");
    let done = on_node(&test.lab, "node1", &arguments);
    assert!(done.status.success() && said(&done).contains("2 routes"), "{}", said(&done));
    assert_eq!(routes(&test), "");
    assert!(!conflist.exists() && !cache.exists() && !program.exists());
    let again = on_node(&test.lab, "node1", &arguments);
    assert!(again.status.success() && !said(&again).contains("removed"), "{}", said(&again));
}

/// A volume of its own below /var/lib, and a disk that gives errors.
#[test]
fn what_cannot_be_removed_keeps_nothing_else_on_the_node_but_the_program_for_another_attempt() {
    let test = TestLab::nodes(2);
    let dir = tempfile::tempdir().expect("a directory");
    let place = dir.path().to_str().expect("a path");
    let (program, cache) = (dir.path().join("tortie-cni"), dir.path().join("cache"));
    std::fs::write(&program, "").expect("a program");
    // No directory: it cannot be removed as one.
    std::fs::write(&cache, "").expect("a file");
    test.lab.stop_agent("node1").expect("stop-agent");
    let cache_flag = format!("--cache={}", cache.display());
    let arguments = ["uninstall", "--data-plane", "--bin-dir", place, "--conf-dir", place, &cache_flag];
    let half = on_node(&test.lab, "node1", &arguments);
    assert_ne!(half.status.code(), Some(0), "{}", said(&half));
    assert!(said(&half).contains("run this again") && said(&half).contains("2 routes"), "{}", said(&half));
    assert_eq!(routes(&test), "");
    assert!(program.exists());
    std::fs::remove_file(&cache).expect("removing");
    std::fs::create_dir(&cache).expect("a directory");
    let mounted = format!(
        "mount -t tmpfs none {0} && touch {0}/x && {1} {2} && ls -A {0}",
        cache.display(),
        binary().display(),
        arguments.join(" ")
    );
    let exec = ["exec", "--node", "node1", "--", "unshare", "--mount", "sh", "-c", &mounted];
    let again = tortie_lab(&test.lab.name, &exec);
    let told = said(&again);
    assert!(
        again.status.success() && told.contains("emptied") && !told.lines().any(|it| it == "x"),
        "{told}"
    );
    assert!(!program.exists());
}
