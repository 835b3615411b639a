//! The control plane dies and comes back; controllers move pods about. Traffic does not notice.
//!
//! One laboratory, and one test after the other: each leaves the cluster as it found it.

mod credentials;
mod faults;
mod history;
mod kinds;
mod reboot;
mod rolling;
mod silence;
mod world;

use std::time::Instant;

use tortie_tests_e2e::TestLab;

/// What is done, in a sentence, and the doing.
type Step = (&'static str, fn(&mut TestLab));

/// One test, so that one control plane serves all of them.
#[test]
fn traffic_does_not_notice_what_happens_to_the_control_plane() {
    let mut test = tortie_tests_kubernetes::cluster(2);
    test.apply(world::WORLD);
    let tests: [Step; 18] = [
        ("a rolling restart of a Deployment fails no connection", rolling::restart),
        ("a Service follows its Deployment from none to many and back", rolling::scale),
        ("the Service of the API server keeps its last back end", silence::of_its_service),
        ("an API server that has nothing to say is not away", silence::of_kinds),
        ("nothing breaks while the API server is there and says nothing", silence::of_the_server),
        ("nothing breaks while the API server and etcd are dead", faults::outage),
        ("a certificate that has expired is renewed in its file", credentials::certificate),
        ("a token that is worth nothing any more is renewed in its file", credentials::token),
        ("nothing is missed when history was compacted meanwhile", history::is_compacted),
        ("a kind that goes and comes back is noticed", kinds::come_and_go),
        ("a node starts again without memory", reboot::without_memory),
        (
            "a node starts again and finds the API server behind our Service",
            reboot::with_memory_and_a_service,
        ),
        (
            "a node starts again and finds the API server where the cluster told",
            reboot::with_memory_and_a_config_map,
        ),
        ("pods whose sandbox dies meanwhile are attached anew", faults::sandboxes),
        ("an agent that starts meanwhile enforces what it knows", faults::agents),
        ("an agent that starts meanwhile with a damaged memory leaves all in force", faults::memory),
        ("the cluster converges when the API server is killed again and again under churn", faults::churn),
        ("a kubelet that was killed goes on where it was", faults::kubelet),
    ];
    // For whoever works at one of them.
    let wanted = std::env::var("TORTIE_TEST_STEP").unwrap_or_default();
    let tests: Vec<Step> = tests.into_iter().filter(|(name, _)| name.contains(&wanted)).collect();
    assert!(!tests.is_empty(), "TORTIE_TEST_STEP={wanted} is no part of a sentence above");
    for (name, run) in tests {
        let started = Instant::now();
        println!("{name} …");
        run(&mut test);
        println!("{name}: {:.1} s", started.elapsed().as_secs_f64());
    }
}
