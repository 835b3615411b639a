//! What files and sysctls say about the node.

use super::Found;
use crate::sockets::{self, Support};
use crate::{bpffs, cgroup, sysctl};
use nix::sys::resource::{Resource, getrlimit};
use std::io;
use std::path::Path;

/// The oldest kernel that is meant to be supported.
pub const OLDEST_KERNEL: (u32, u32) = (6, 1);
/// From here on memory of maps is accounted to cgroups and the limit of locked memory does not matter.
const ACCOUNTED: (u32, u32) = (5, 11);

fn release() -> io::Result<String> {
    sysctl::get("kernel/osrelease")
}

/// Major and minor number of a release: `6.18.44-foo` → (6, 18).
pub fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

pub(super) fn kernel_version() -> Found {
    match release() {
        Ok(release) => match version(&release) {
            Some(version) if version >= OLDEST_KERNEL => Found::Yes(release),
            Some(_) => Found::No(format!("{release}, older than {}.{}", OLDEST_KERNEL.0, OLDEST_KERNEL.1)),
            None => Found::Unknown(format!("{release} is no version")),
        },
        Err(error) => Found::Unknown(error.to_string()),
    }
}

pub(super) fn bpf_file_system(dir: &Path) -> Found {
    let usual = Path::new("/sys/fs/bpf");
    if let Err(error) = dir.try_exists() {
        return Found::Unknown(format!("{}: {error}", dir.display()));
    }
    match (bpffs::is_bpffs(dir), dir.starts_with(usual) && usual.is_dir()) {
        (true, _) => Found::Yes(dir.display().to_string()),
        (false, true) => Found::Yes(format!("not mounted yet; the agent mounts it at {}", usual.display())),
        (false, false) => Found::No(format!("{} is on another file system", dir.display())),
    }
}

pub(super) fn cgroup_mount(given: Option<&Path>) -> Found {
    match cgroup::find(given) {
        Ok(dir) => Found::Yes(dir.display().to_string()),
        Err(error) => Found::No(error.to_string()),
    }
}

pub(super) fn socket_programs() -> Found {
    match sockets::support() {
        Support::Full => Found::Yes("with errors of their own".to_owned()),
        Support::WithoutErrors => Found::Yes(
            "refusing as \"operation not permitted\" (bpf_set_retval is new in Linux 5.18)".to_owned(),
        ),
        Support::None => Found::No("programs of that type are refused".to_owned()),
    }
}

pub(super) fn ipv6() -> Found {
    match sysctl::get("net/ipv6/conf/all/disable_ipv6") {
        Ok(value) if value == "0" => Found::Yes("on".to_owned()),
        Ok(_) => Found::No("switched off (net.ipv6.conf.all.disable_ipv6)".to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Found::No("not in this kernel".to_owned()),
        Err(error) => Found::Unknown(error.to_string()),
    }
}

pub(super) fn forwarding() -> Found {
    let differs = |(name, wanted): &(&str, &str)| match sysctl::get(name) {
        Ok(value) if value == *wanted => None,
        Ok(value) => Some(format!("{} = {value}", name.replace('/', "."))),
        // Without IPv6 there is nothing to forward.
        Err(_) => None,
    };
    let off: Vec<String> = sysctl::FORWARDING.iter().filter_map(differs).collect();
    if off.is_empty() { Found::Yes("on".to_owned()) } else { Found::No(off.join(", ")) }
}

pub(super) fn reverse_path_filter() -> Found {
    match strict_interfaces(Path::new("/proc/sys/net/ipv4/conf")) {
        Ok(names) if names.is_empty() => Found::Yes("on every interface".to_owned()),
        Ok(names) => Found::No(format!("strict on {}", shown(&names))),
        Err(error) => Found::Unknown(error.to_string()),
    }
}

/// Loopback is one: what the programs send back to the node itself arrives there.
fn strict_interfaces(root: &Path) -> io::Result<Vec<String>> {
    let interfaces = std::fs::read_dir(root)?.flatten();
    let interfaces = interfaces.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let value = |name: &str| {
        let text = std::fs::read_to_string(root.join(name).join("rp_filter")).ok()?;
        text.trim().parse::<u8>().ok()
    };
    let all = value("all").unwrap_or_default();
    // The kernel takes the larger of both; 1 is strict, 2 loose.
    let strict = |name: &String| value(name).is_some_and(|own| own.max(all) == 1);
    let own = |name: &String| !["all", "default"].contains(&name.as_str());
    let mut names: Vec<String> = interfaces.filter(own).filter(strict).collect();
    names.sort();
    Ok(names)
}

/// The first few of many names.
fn shown(names: &[String]) -> String {
    const SHOWN: usize = 4;
    let first = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

pub(super) fn locked_memory() -> Found {
    if release().ok().and_then(|release| version(&release)).is_some_and(|version| version >= ACCOUNTED) {
        return Found::Yes("accounted to cgroups".to_owned());
    }
    match getrlimit(Resource::RLIMIT_MEMLOCK) {
        Ok((nix::libc::RLIM_INFINITY, _)) => Found::Yes("unlimited".to_owned()),
        Ok((limit, _)) => Found::No(format!("locked memory is limited to {} KiB", limit / 1024)),
        Err(error) => Found::Unknown(error.to_string()),
    }
}

pub(super) fn unprivileged_bpf() -> Found {
    match sysctl::get("kernel/unprivileged_bpf_disabled") {
        Ok(value) if value == "0" => Found::No("kernel.unprivileged_bpf_disabled = 0".to_owned()),
        Ok(value) => Found::Yes(format!("kernel.unprivileged_bpf_disabled = {value}")),
        Err(error) => Found::Unknown(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbers_and_not_text() {
        assert_eq!(version("6.18.44-fc-v769"), Some((6, 18)));
        assert_eq!(version("6.1-rc3"), Some((6, 1)));
        assert!(version("6.6.0") > version("6.1.99") && version("6.18") > version("6.6"));
        assert_eq!(version("plan9"), None);
    }

    #[test]
    fn a_directory_on_another_file_system_holds_no_pins() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(bpf_file_system(dir.path()), Found::No(_)));
    }

    #[test]
    fn the_larger_of_an_interfaces_own_and_the_common_filter_counts_also_for_loopback() {
        let strict = |all: &str, lo: &str, eth0: &str| {
            let dir = tempfile::tempdir().unwrap();
            for (name, value) in [("all", all), ("default", "1"), ("lo", lo), ("eth0", eth0)] {
                std::fs::create_dir(dir.path().join(name)).unwrap();
                std::fs::write(dir.path().join(name).join("rp_filter"), format!("{value}\n")).unwrap();
            }
            strict_interfaces(dir.path()).unwrap()
        };
        assert_eq!(strict("0", "1", "2"), ["lo"]);
        assert_eq!(strict("1", "0", "2"), ["lo"]);
        assert_eq!(strict("1", "0", "0"), ["eth0", "lo"]);
        assert_eq!(strict("2", "1", "1"), [""; 0]);
    }

    #[test]
    fn long_lists_of_interfaces_are_cut() {
        let names: Vec<String> = (0..6).map(|n| format!("eth{n}")).collect();
        assert_eq!(shown(&names), "eth0, eth1, eth2, eth3 and 2 more");
        assert_eq!(shown(&names[..1]), "eth0");
    }
}
