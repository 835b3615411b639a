//! Builds the BPF object once for all profiles and tells the crate where it is (`TORTIE_BPF_OBJECT`).
//!
//! Owns: when to rebuild, and leaving out what the kernel is not given: agents would parse and keep it. Does not: know
//! compilers or flags (`xtask/src/bpf_object.rs`). Invariant: a host crate that compiles has the object of the sources
//! beside it.

#[path = "../../xtask/src/bpf_object.rs"]
mod bpf_object;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};

use bpf_object::Request;
use object::build::elf::{Builder, SectionData};
use object::elf::SHT_STRTAB;

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
    let (whole, output) = (out_dir.join("tortie-bpf.debug.o"), out_dir.join("tortie-bpf.o"));
    let build_dir = target_dir(&out_dir).join("bpf-object");
    let request = Request { workspace, build_dir: &build_dir, features: "", output: &whole };
    let built = bpf_object::build(&request).map_err(|error| error.to_string());
    match built.and_then(|()| without_dwarf(&whole, &output)) {
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

/// The object without its DWARF sections, three quarters of it, from which the linker has made the BTF that the kernel
/// takes.
fn without_dwarf(whole: &Path, output: &Path) -> Result<(), String> {
    let failed = |path: &Path, cause: &dyn std::fmt::Display| format!("{}: {cause}", path.display());
    let bytes = fs::read(whole).map_err(|cause| failed(whole, &cause))?;
    let mut object = Builder::read(&*bytes).map_err(|cause| failed(whole, &cause))?;
    for section in &mut object.sections {
        section.delete = section.name.starts_with(b".debug_") || section.name.starts_with(b".rel.debug_");
    }
    object.delete_orphans();
    // The linker keeps names of sections and symbols in one table; what is written here has one for each.
    let names = object.sections.add();
    names.name = ".shstrtab".into();
    names.sh_type = SHT_STRTAB;
    names.data = SectionData::SectionString;
    let mut small = Vec::new();
    object.write(&mut small).map_err(|cause| failed(output, &cause))?;
    fs::write(output, small).map_err(|cause| failed(output, &cause))
}

/// Cargo marks the target directory, which every profile shares, with a `CACHEDIR.TAG`.
fn target_dir(out_dir: &Path) -> &Path {
    let marked = |dir: &&Path| fs::exists(dir.join("CACHEDIR.TAG")).unwrap_or(false);
    out_dir.ancestors().find(marked).unwrap_or(out_dir)
}
