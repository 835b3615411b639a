//! The objects that the suite loads: the product's sources, built with the test map and with seeded bugs.

#[path = "../../../xtask/src/bpf_object.rs"]
#[allow(dead_code, reason = "shared with xtask, which uses more of it")]
mod bpf_object;

use bpf_object::Request;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// Builds the object with these features (comma separated) and returns its bytes. Builds of different lanes go on at the
/// same time: each has a directory of its own.
pub fn build(features: &str, lane: usize) -> Result<Vec<u8>, String> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).ok_or("no workspace")?;
    let build_dir = target_dir(workspace).join("bpf-object-test").join(lane.to_string());
    fs::create_dir_all(&build_dir).map_err(|error| format!("{}: {error}", build_dir.display()))?;
    let output = build_dir.join(format!("{}.o", features.replace(',', "-")));
    bpf_object::build(&Request { workspace, build_dir: &build_dir, features, output: &output })
        .map_err(|error| error.to_string())?;
    fs::read(&output).map_err(|error| format!("{}: {error}", output.display()))
}

/// The directory that holds the running test.
fn target_dir(workspace: &Path) -> PathBuf {
    let test = env::current_exe().unwrap_or_default();
    let marked = test.ancestors().find(|dir| dir.join("CACHEDIR.TAG").exists());
    marked.map_or_else(|| workspace.join("target"), Path::to_path_buf)
}
