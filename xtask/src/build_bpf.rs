//! `xtask build-bpf`: the BPF object on its own, also with the features that the product is built without.

use std::path::PathBuf;

use anyhow::Result;

use crate::bpf_object::{self, Request};
use crate::run;

/// Builds the object of the current sources and returns where it is.
pub fn build(features: &str, output: Option<PathBuf>) -> Result<PathBuf> {
    let target_dir = run::target_dir()?;
    let output = output.unwrap_or_else(|| target_dir.join("tortie-bpf.o"));
    let build_dir = target_dir.join("bpf-object");
    bpf_object::build(&Request {
        workspace: run::workspace()?,
        build_dir: &build_dir,
        features,
        output: &output,
    })?;
    Ok(output)
}

/// Builds it and prints where it is.
pub fn main(features: &str, output: Option<PathBuf>) -> Result<()> {
    println!("{}", build(features, output)?.display());
    Ok(())
}
