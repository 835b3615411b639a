//! Whether this process may do what the privileged suites do.

use std::fs;
use std::process::Command;

/// CAP_NET_ADMIN, CAP_SYS_ADMIN, CAP_PERFMON and CAP_BPF, as bits of a capability set.
const NEEDED: u64 = 1 << 12 | 1 << 21 | 1 << 38 | 1 << 39;

/// Why the privileged suites cannot run here; `None` when they can.
pub fn missing() -> Option<String> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let Some(effective) = effective_capabilities(&status) else {
        return Some("no /proc/self/status: this is not Linux, or /proc is not mounted".to_owned());
    };
    if effective & NEEDED != NEEDED {
        return Some("needs root with CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN and CAP_SYS_ADMIN".to_owned());
    }
    let filesystems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if !filesystems.split_whitespace().any(|word| word == "bpf") {
        return Some("the kernel has no bpffs (CONFIG_BPF_SYSCALL)".to_owned());
    }
    let namespaces = Command::new("unshare").args(["--net", "--mount", "true"]).output();
    match namespaces {
        Ok(output) if output.status.success() => None,
        _ => Some("may not make network and mount namespaces (a container without --privileged?)".to_owned()),
    }
}

fn effective_capabilities(status: &str) -> Option<u64> {
    let hex = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(hex.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_has_what_is_needed_and_a_user_has_not() {
        assert_eq!(effective_capabilities("Name:\tx\nCapEff:\t000001ffffffffff\n").unwrap() & NEEDED, NEEDED);
        assert_eq!(effective_capabilities("CapEff:\t0000000000000000\n"), Some(0));
        assert_eq!(effective_capabilities("Name:\tx\n"), None);
    }
}
