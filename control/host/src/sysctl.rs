//! Settings under `/proc/sys`, of the network namespace of this thread.

use nix::mount::MsFlags;
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use tortie_reconcile::KernelTimeouts;

/// A setting could not be changed.
#[derive(Debug, thiserror::Error)]
#[error("sysctl {name} = {value}: {source}; set it by hand, or allow the agent to")]
pub struct SysctlError {
    /// Which.
    pub name: String,
    /// To what.
    pub value: String,
    /// Why not.
    pub source: io::Error,
}

fn path(name: &str) -> PathBuf {
    PathBuf::from("/proc/sys").join(name)
}

/// A setting's value.
pub fn get(name: &str) -> io::Result<String> {
    Ok(std::fs::read_to_string(path(name))?.trim().to_owned())
}

/// Changes a setting where it has another value; says whether it had.
pub fn set(name: &str, value: &str) -> Result<bool, SysctlError> {
    let failed = |source| SysctlError { name: name.replace('/', "."), value: value.to_owned(), source };
    if get(name).map_err(failed)? == value {
        return Ok(false);
    }
    let written = std::fs::write(path(name), value).or_else(|error| match error.raw_os_error() {
        Some(libc::EROFS) => {
            make_writable().map_err(|_| error).and_then(|()| std::fs::write(path(name), value))
        }
        _ => Err(error),
    });
    written.map_err(failed)?;
    Ok(true)
}

/// Container runtimes mount `/proc/sys` read-only; who has CAP_SYS_ADMIN may change that, for its own container alone.
fn make_writable() -> nix::Result<()> {
    let flags =
        MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    nix::mount::mount(None::<&str>, "/proc/sys", None::<&str>, flags, None::<&str>)
}

/// The node forwards packets.
pub const FORWARDING: [(&str, &str); 2] =
    [("net/ipv4/ip_forward", "1"), ("net/ipv6/conf/all/forwarding", "1")];

/// Replies that take another way than requests are no forgeries: our own source check is per endpoint. The kernel takes the
/// larger of the interface's value and `all`'s.
pub fn reverse_path_filter(interface: &str) -> (String, &'static str) {
    (format!("net/ipv4/conf/{interface}/rp_filter"), "2")
}

/// What one of the node's own interfaces needs where programs of ours are.
pub fn of_host_interface(interface: &str) -> Vec<(String, &'static str)> {
    // What the programs send back to the node itself arrives at loopback, from the node's own address or a Service's.
    let accepts_own = (interface == "lo").then(|| (format!("net/ipv4/conf/{interface}/accept_local"), "1"));
    std::iter::once(reverse_path_filter(interface)).chain(accepts_own).collect()
}

/// The kernel's conntrack time-outs, its defaults where conntrack is absent.
pub fn kernel_timeouts() -> KernelTimeouts {
    let read = |name: &str| {
        let seconds = get(&format!("net/netfilter/nf_conntrack_{name}")).ok()?.parse().ok()?;
        Some(Duration::from_secs(seconds))
    };
    let defaults = KernelTimeouts::default();
    KernelTimeouts {
        tcp_syn_sent: read("tcp_timeout_syn_sent").unwrap_or(defaults.tcp_syn_sent),
        tcp_established: read("tcp_timeout_established").unwrap_or(defaults.tcp_established),
        tcp_time_wait: read("tcp_timeout_time_wait").unwrap_or(defaults.tcp_time_wait),
        tcp_close: read("tcp_timeout_close").unwrap_or(defaults.tcp_close),
        udp: read("udp_timeout_stream").unwrap_or(defaults.udp),
        generic: read("generic_timeout").unwrap_or(defaults.generic),
        icmp: read("icmp_timeout").unwrap_or(defaults.icmp),
    }
}
