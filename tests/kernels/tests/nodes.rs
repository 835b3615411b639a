//! Nodes on other kernels than this machine's: the programs are verified, attached as that kernel can, and carry packets.

use std::env;

use tortie_tests_kernels::kernels;

/// Those that `make test` promises, where apt has them.
const SERIES: [&str; 2] = ["6.1", "6.12"];

#[test]
fn two_nodes_work_on_every_kernel_that_there_is() {
    let kernels = kernels().unwrap_or_else(|error| panic!("{error:#}"));
    let everything_must_run = env::var("CI").is_ok_and(|value| !value.is_empty() && value != "false");
    let found: Vec<&str> = kernels.iter().map(|kernel| &*kernel.series).collect();
    assert!(
        !found.is_empty() && (!everything_must_run || found == SERIES),
        "kernels: {found:?} of {SERIES:?}"
    );
    for kernel in &kernels {
        let console = kernel.boot().unwrap_or_else(|error| panic!("{}: {error:#}", kernel.series));
        let passed = console.lines().filter(|line| line.starts_with("PASS ")).count();
        println!("{}: {passed} expectations met", kernel.series);
        assert!(
            passed > 0 && !console.contains("FAIL ") && console.lines().any(|line| line.trim() == "END"),
            "{}:\n{console}",
            kernel.series
        );
    }
}
