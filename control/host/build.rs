//! Builds the BPF object once for all profiles and tells the crate where it is (`TORTIE_BPF_OBJECT`).
//!
//! Owns: when to rebuild. Does not: know compilers or flags (`xtask/src/bpf_object.rs`). Invariant: a
//! host crate that compiles has the object of the sources beside it.

#[path = "../../xtask/src/bpf_object.rs"]
mod bpf_object;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};

use bpf_object::Request;

/// Every input of the object, relative to this crate, so that a target directory that two checkouts share asks for the
/// files of the one that is built: a change in any of them asks for a new build.
const INPUTS: [&str; 5] =
    ["../../packet/bpf", "../../packet/datapath", "../../shared", "../../Cargo.toml", "../../Cargo.lock"];

/// Environment variables that change which object is built, or how.
const SETTINGS: [&str; 3] = ["TORTIE_BPF_OBJECT", "TORTIE_BPF_RUSTC", "TORTIE_CACHE"];

fn main() -> ExitCode {
    let (Some(manifest), Some(out_dir)) = (env::var_os("CARGO_MANIFEST_DIR"), env::var_os("OUT_DIR")) else {
        eprintln!("error: this is a build script; run it through cargo");
        return ExitCode::FAILURE;
    };
    let (manifest, out_dir) = (PathBuf::from(manifest), PathBuf::from(out_dir));
    let Some(workspace) = manifest.ancestors().nth(2) else {
        eprintln!("error: {} is not inside the workspace", manifest.display());
        return ExitCode::FAILURE;
    };
    for input in INPUTS {
        println!("cargo::rerun-if-changed={input}");
    }
    for setting in SETTINGS {
        println!("cargo::rerun-if-env-changed={setting}");
    }
    let output = out_dir.join("tortie-bpf.o");
    let build_dir = target_dir(&out_dir).join("bpf-object");
    match bpf_object::build(&Request { workspace, build_dir: &build_dir, features: "", output: &output }) {
        Ok(()) => {
            println!("cargo::rustc-env=TORTIE_BPF_OBJECT={}", output.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("cargo::error={error}");
            ExitCode::FAILURE
        }
    }
}

/// Cargo marks the target directory, which every profile shares, with a `CACHEDIR.TAG`.
fn target_dir(out_dir: &Path) -> &Path {
    let marked = |dir: &&Path| fs::exists(dir.join("CACHEDIR.TAG")).unwrap_or(false);
    out_dir.ancestors().find(marked).unwrap_or(out_dir)
}
