//! The API server says nothing, or its own Service says that nobody is there.

use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use tortie_lab::{Component, Lab, Where};
use tortie_tests_e2e::{TestLab, briefly, endpoint};
use tortie_tests_kubernetes::{kubectl, while_asking};

use super::world::{PATIENCE, asking};

/// Stopped but listening, and then behind a cable that is cut: connections stay, what is denied stays denied, and what
/// changed meanwhile arrives.
pub fn of_the_server(test: &mut TestLab) {
    let lab = &test.lab;
    let still = asking(lab, "still");
    let mut denied = tortie_lab::Probe { from: endpoint("pod:default/stranger"), ..still.clone() };
    briefly(&mut denied);
    let ((), attempts) = while_asking(lab, &still, || {
        for silence in [freeze, cut_the_cable] {
            silence(lab, true);
            for _ in 0..3 {
                assert!(!lab.probe(&denied).expect("probe").is_connected());
                thread::sleep(Duration::from_millis(500));
            }
            silence(lab, false);
            kubectl(lab, &["label", "pod", "stranger", "app=client"], "").expect("label");
            lab.wait(PATIENCE).expect("wait");
            assert!(lab.probe(&denied).expect("probe").is_connected(), "a change arrives");
            kubectl(lab, &["label", "pod", "stranger", "app-"], "").expect("label");
            lab.wait(PATIENCE).expect("wait");
            assert!(!lab.probe(&denied).expect("probe").is_connected());
        }
    });
    assert!(attempts.made > 20 && attempts.failed.is_empty(), "{attempts:?}");
}

fn freeze(lab: &Lab, now: bool) {
    let record =
        std::fs::read_to_string(lab.paths.process(Component::ApiServer.program())).expect("a record");
    let record: serde_json::Value = serde_json::from_str(&record).expect("JSON");
    let signal = if now { "-STOP" } else { "-CONT" };
    assert!(
        Command::new("kill").args([signal, &record["pid"].to_string()]).status().expect("kill").success()
    );
}

/// At the router's end: addresses and routes of the machine would go with its own.
fn cut_the_cable(lab: &Lab, now: bool) {
    let command = ["ip", "link", "set", "api", if now { "down" } else { "up" }].map(Into::into);
    let stdio = [Stdio::null(), Stdio::null(), Stdio::inherit()];
    let mut child = lab.router_place().spawn(&command, stdio).expect("ip");
    assert!(child.wait().expect("ip").success());
}

/// Whoever reaches the API server through its Service must not lose the way when the list of its servers is lost.
pub fn of_its_service(test: &mut TestLab) {
    let lab = &test.lab;
    let place = lab.place(&Where::Pod("default".into(), "client".into())).expect("a pod");
    let address: SocketAddr = "10.96.0.1:443".parse().expect("an address");
    let reaches =
        || place.run(|| Ok(TcpStream::connect_timeout(&address, Duration::from_secs(5)).map(drop)?));
    reaches().expect("the Service of the API server");
    kubectl(lab, &["delete", "endpointslices", "kubernetes"], "").expect("delete");
    lab.wait(PATIENCE).expect("wait");
    reaches().expect("it keeps its last back end");
}
