//! The laboratory: a Kubernetes cluster on one machine, out of network namespaces.
#![forbid(unsafe_code)]

use std::io;
use std::path::Path;

/// The laboratories on this machine, by name, sorted.
pub fn names() -> anyhow::Result<Vec<String>> {
    let entries = match Path::new("/run/tortie-lab").read_dir() {
        Err(absent) if absent.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names: Vec<String> =
        entries.map_while(Result::ok).filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    Ok(names)
}
