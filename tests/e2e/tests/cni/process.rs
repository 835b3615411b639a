//! The plugin as a runtime meets it: a program with an environment, stdin, stdout and an exit code.

use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::{env, fs};

use serde_json::{Value, json};

use crate::world::{Pod, World};

#[test]
fn a_runtime_reads_the_answer_on_stdout_and_the_rest_on_stderr() {
    let world = World::new();
    let _agent = world.willing_agent();
    let pod = Pod::new("front");
    let config = world.config("1.0.0");
    let plugin = world.dir.path().join("tortie-cni");
    symlink(program(), &plugin).unwrap();

    let added = call(&world, &plugin, "ADD", &config, &pod);
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    let result: Value = serde_json::from_slice(&added.stdout).expect("one JSON value on stdout");
    assert_eq!(
        (&result["cniVersion"], &result["ips"][0]["address"]),
        (&json!("1.0.0"), &json!("10.65.0.2/32"))
    );

    let deleted = call(&world, &plugin, "DEL", &config, &pod);
    assert!(deleted.status.success());
    assert_eq!(String::from_utf8_lossy(&deleted.stdout), "");
    world.assert_nothing_left();

    fs::remove_file(world.run_dir().join("agent.sock")).unwrap();
    let mut hurried = config;
    hurried["readyTimeoutSeconds"] = json!(0.1);
    let failed = call(&world, &plugin, "ADD", &hurried, &pod);
    assert_eq!(failed.status.code(), Some(1));
    let error: Value = serde_json::from_slice(&failed.stdout).expect("one JSON value on stdout");
    assert_eq!((&error["cniVersion"], &error["code"]), (&json!("1.0.0"), &json!(11)));
    assert!(String::from_utf8_lossy(&failed.stderr).contains("shop/front"));
    world.assert_nothing_left();
}

fn call(world: &World, plugin: &Path, command: &str, config: &Value, pod: &Pod) -> Output {
    world.host.run(|| {
        let mut child = Command::new(plugin)
            .env_clear()
            .envs(world.vars(command, Some(pod)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(config.to_string().as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    })
}

/// What `TORTIE_BIN` names, else what was last built beside this test.
fn program() -> PathBuf {
    let beside = || env::current_exe().unwrap().parent().and_then(Path::parent).unwrap().join("tortie");
    let program = env::var_os("TORTIE_BIN").map_or_else(beside, PathBuf::from);
    assert!(
        program.is_file(),
        "{}: build it with `cargo build -p tortie`, or set TORTIE_BIN",
        program.display()
    );
    program
}
