//! The machine that was measured: a figure without it means nothing.

use serde::Serialize;
use std::fmt;
use std::fs;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Machine {
    cpu: String,
    kernel: String,
    mitigations: Vec<String>,
    /// Absent when the kernel does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    jit: Option<bool>,
}

impl Machine {
    /// What the kernel says about it; what it does not say is empty.
    pub fn read() -> Self {
        let text = |path: &str| fs::read_to_string(path).map(|text| text.trim().to_owned()).ok();
        let cpu_info = text("/proc/cpuinfo").unwrap_or_default();
        let model = cpu_info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Self {
            cpu: model.map(|(_, name)| name.to_owned()).unwrap_or_default(),
            kernel: text("/proc/sys/kernel/osrelease").unwrap_or_default(),
            mitigations: mitigations(),
            jit: text("/proc/sys/net/core/bpf_jit_enable").map(|value| value != "0"),
        }
    }
}

/// Mitigations in force: they decide what calls and jumps cost.
fn mitigations() -> Vec<String> {
    let Ok(directory) = fs::read_dir("/sys/devices/system/cpu/vulnerabilities") else { return Vec::new() };
    let in_force = |entry: fs::DirEntry| {
        let text = fs::read_to_string(entry.path()).ok()?;
        let what = text.trim().strip_prefix("Mitigation: ")?.to_owned();
        Some(format!("{}: {what}", entry.file_name().to_string_lossy()))
    };
    let mut found: Vec<String> = directory.flatten().filter_map(in_force).collect();
    found.sort();
    found
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let jit = match self.jit {
            Some(true) => ", JIT on",
            Some(false) => ", JIT off",
            None => "",
        };
        writeln!(f, "{}, Linux {}{jit}", self.cpu, self.kernel)?;
        self.mitigations.iter().try_for_each(|mitigation| writeln!(f, "  {mitigation}"))
    }
}
