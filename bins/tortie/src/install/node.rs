//! What the agent needs of the node and may not do itself without being privileged.
//!
//! Owns: the BPF file system, and the sysctls of forwarding. Does not: touch interfaces.
//! Invariant: what is as it should be is left alone, so that it can be run again at any time.

use std::fs;
use std::path::Path;

use tortie_host::{bpffs, sysctl};

use crate::args::Global;
use crate::exit::{Answer, Failure, Outcome};
use crate::output;

/// Where the kernel lists the interfaces that have settings.
const INTERFACES: &str = "/proc/sys/net/ipv4/conf";

/// Prepares this node.
pub fn prepare(global: &Global) -> Outcome {
    bpffs::ensure(&global.bpffs).map_err(Failure::not_allowed)?;
    output::write(&format!("{} is on a BPF file system", global.bpffs.display()))?;
    for (name, value) in sysctl::FORWARDING {
        // A kernel without IPv6 has no such setting, and nothing to forward.
        if !Path::new("/proc/sys").join(name).exists() {
            continue;
        }
        set(name, value)?;
    }
    for entry in fs::read_dir(INTERFACES)? {
        let interface = entry?.file_name().to_string_lossy().into_owned();
        let (name, value) = sysctl::reverse_path_filter(&interface);
        // An interface may go at any moment, and what is none needs no setting.
        if interface != "lo" && Path::new("/proc/sys").join(&name).exists() {
            set(&name, value)?;
        }
    }
    Ok(Answer::Yes)
}

fn set(name: &str, value: &str) -> Result<(), Failure> {
    if sysctl::set(name, value).map_err(Failure::not_allowed)? {
        output::write(&format!("{} = {value}", name.replace('/', ".")))?;
    }
    Ok(())
}
