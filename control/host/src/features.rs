//! Is this kernel and node fit? Every feature the data plane uses, found by trying.
//!
//! Owns: the list of features: needed by what, what happens without, how to get it.
//! Does not: change the node. What needs an interface is tried in a network namespace that ends with the probe.
//! Invariant: nothing is deduced from a version number that can be tried; what may not be tried is
//! [`Found::Unknown`], never "no".

mod kernel;
mod namespace;
mod neighbours;
mod node;

pub use node::{OLDEST_KERNEL, version as kernel_version};

use std::cell::OnceCell;
use std::io;
use std::path::Path;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// There, and which.
    Yes(String),
    /// Not there, and how that showed.
    No(String),
    /// It cannot be told, and why.
    Unknown(String),
}

impl Found {
    /// From a trial. A refusal for lack of permission says nothing about the feature.
    fn trial(result: Result<String, io::Error>) -> Self {
        match result {
            Ok(detail) => Self::Yes(detail),
            Err(error) if is_refusal(&error) => Self::Unknown("not permitted".to_owned()),
            Err(error) => Self::No(error.to_string()),
        }
    }
}

/// `EACCES` is not one: the verifier says it of programs that it finds unsafe.
fn is_refusal(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EPERM)
}

/// One thing the data plane uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// Its name.
    pub name: &'static str,
    /// What uses it.
    pub needed_by: &'static str,
    /// Nothing works without it.
    pub required: bool,
    /// Is it there?
    pub found: Found,
    /// What happens without it.
    pub without: &'static str,
    /// How to get it.
    pub fix: &'static str,
}

/// May the data plane run here?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fitness {
    /// Everything required is there.
    Fit,
    /// Something required is missing.
    Unfit,
    /// Nothing required is known to be missing, but not everything could be tried.
    Unknown,
}

/// The answer that a list of features adds up to.
pub fn fitness(features: &[Feature]) -> Fitness {
    let required = || features.iter().filter(|feature| feature.required);
    if required().any(|feature| matches!(feature.found, Found::No(_))) {
        Fitness::Unfit
    } else if required().any(|feature| matches!(feature.found, Found::Unknown(_))) {
        Fitness::Unknown
    } else {
        Fitness::Fit
    }
}

/// Where the data plane would live, and what several probes share.
struct Node<'a> {
    bpffs: &'a Path,
    cgroup: Option<&'a Path>,
    namespace: OnceCell<namespace::Trials>,
}

impl Node<'_> {
    fn namespace(&self) -> &namespace::Trials {
        self.namespace.get_or_init(namespace::Trials::run)
    }
}

/// A feature before it was looked for.
struct Probe {
    name: &'static str,
    needed_by: &'static str,
    required: bool,
    without: &'static str,
    fix: &'static str,
    look: fn(&Node<'_>) -> Found,
}

/// Looks for everything. `bpffs`: where pins would be; `cgroup`: the cgroup v2 directory, if it is given.
pub fn probe(bpffs: &Path, cgroup: Option<&Path>) -> Vec<Feature> {
    let node = Node { bpffs, cgroup, namespace: OnceCell::new() };
    let look = |probe: &Probe| Feature {
        name: probe.name,
        needed_by: probe.needed_by,
        required: probe.required,
        found: (probe.look)(&node),
        without: probe.without,
        fix: probe.fix,
    };
    PROBES.iter().map(look).collect()
}

/// In the order in which a person would look.
const PROBES: &[Probe] = &[
    Probe {
        name: "permission",
        needed_by: "everything",
        required: true,
        without: "no program, map or link can be made, and most of this list cannot be tried",
        fix: "run as root, or with CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON and CAP_SYS_ADMIN",
        look: |_| kernel::permission(),
    },
    Probe {
        name: "kernel version",
        needed_by: "support",
        required: false,
        without: "what this list finds works; nobody has tested it on a kernel this old",
        fix: "Linux 6.1 or newer",
        look: |_| node::kernel_version(),
    },
    Probe {
        name: "JIT compiler",
        needed_by: "speed",
        required: false,
        without: "programs are interpreted: everything works, every packet costs a multiple",
        fix: "sysctl -w net.core.bpf_jit_enable=1",
        look: |_| kernel::jit(),
    },
    Probe {
        name: "BPF file system",
        needed_by: "pins: the data plane outlives the agent",
        required: true,
        without: "the agent does not start",
        fix: "mount -t bpf bpf /sys/fs/bpf, and --bpffs below it",
        look: |node| node::bpf_file_system(node.bpffs),
    },
    Probe {
        name: "map types",
        needed_by: "flows, services, routes, policy",
        required: true,
        without: "the maps cannot be made",
        fix: "Linux 5.8 or newer",
        look: |_| kernel::map_types(),
    },
    Probe {
        name: "batched map access",
        needed_by: "writing and listing large tables",
        required: true,
        without: "the agent cannot read its tables back",
        fix: "Linux 5.6 or newer",
        look: |_| kernel::batches(),
    },
    Probe {
        name: "runs by user space",
        needed_by: "expiry of flows",
        required: true,
        without: "flows never end, until their table is full and refuses new ones",
        fix: "Linux 5.10 or newer, with CONFIG_BPF_EVENTS=y",
        look: |_| kernel::program_runs(),
    },
    Probe {
        name: "coarse clock",
        needed_by: "ages of flows",
        required: true,
        without: "the packet programs cannot be loaded",
        fix: "Linux 5.11 or newer",
        look: |_| kernel::coarse_clock(),
    },
    Probe {
        name: "redirect_peer",
        needed_by: "pod to pod on one node",
        required: true,
        without: "the packet programs cannot be loaded",
        fix: "Linux 5.10 or newer",
        look: |_| kernel::redirect_peer(),
    },
    Probe {
        name: "redirect_neigh",
        needed_by: "pod to pod between nodes",
        required: true,
        without: "the packet programs cannot be loaded",
        fix: "Linux 5.10 or newer",
        look: |_| kernel::redirect_neigh(),
    },
    Probe {
        name: "packet programs",
        needed_by: "everything: the programs of this version, as they would run",
        required: true,
        without: "the agent does not start",
        fix: "report the verifier's message and `uname -r`",
        look: |_| kernel::packet_programs(),
    },
    Probe {
        name: "attachment",
        needed_by: "programs on interfaces",
        required: true,
        without: "no packet meets a program",
        fix: "Linux 6.6 or newer for TCX links, or CONFIG_NET_CLS_BPF and CONFIG_NET_SCH_INGRESS",
        look: |node| node.namespace().attachment(),
    },
    Probe {
        name: "veth devices",
        needed_by: "pods' interfaces (CNI plugin)",
        required: true,
        without: "no pod can be wired",
        fix: "CONFIG_VETH; modprobe veth",
        look: |node| node.namespace().veth(),
    },
    Probe {
        name: "VXLAN devices",
        needed_by: "clients outside: endpoints on other nodes",
        required: false,
        without: "clients outside reach a Service's endpoints on the node that they ask alone",
        fix: "CONFIG_VXLAN; modprobe vxlan",
        look: |node| node.namespace().vxlan(),
    },
    Probe {
        name: "cgroup v2",
        needed_by: "connect-time load balancing",
        required: false,
        without: "pods' connections to Services are translated packet by packet; the node's own reach no Service",
        fix: "mount -t cgroup2 none DIR, and --cgroup DIR",
        look: |node| node::cgroup_mount(node.cgroup),
    },
    Probe {
        name: "programs at cgroups",
        needed_by: "connect-time load balancing",
        required: false,
        without: "as without cgroup v2",
        fix: "CONFIG_CGROUP_BPF",
        look: |_| node::socket_programs(),
    },
    Probe {
        name: "IPv6",
        needed_by: "dual stack",
        required: false,
        without: "pods have IPv4 only",
        fix: "sysctl -w net.ipv6.conf.all.disable_ipv6=0, and no ipv6.disable=1 at boot",
        look: |_| node::ipv6(),
    },
    Probe {
        name: "forwarding",
        needed_by: "what the programs leave to the kernel's stack",
        required: false,
        without: "the agent switches it on when it starts",
        fix: "sysctl -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1",
        look: |_| node::forwarding(),
    },
    Probe {
        name: "loose rp_filter",
        needed_by: "replies that come another way than requests went",
        required: false,
        without: "the kernel drops such packets silently on the interfaces named",
        fix: "sysctl -w net.ipv4.conf.all.rp_filter=2",
        look: |_| node::reverse_path_filter(),
    },
    Probe {
        name: "memory for maps",
        needed_by: "maps",
        required: false,
        without: "large maps are refused with `Operation not permitted`",
        fix: "ulimit -l unlimited (LimitMEMLOCK=infinity), or Linux 5.11 or newer",
        look: |_| node::locked_memory(),
    },
    Probe {
        name: "BPF for root only",
        needed_by: "safety of this node",
        required: false,
        without: "every user may load programs, and with them probe the CPU's speculation",
        fix: "sysctl -w kernel.unprivileged_bpf_disabled=1",
        look: |_| node::unprivileged_bpf(),
    },
    Probe {
        name: "no kube-proxy",
        needed_by: "Services: one translator",
        required: false,
        without: "Tortie translates before the rules of kube-proxy see a packet; what they still see, they decide by what \
                  they last knew",
        fix: "stop kube-proxy on all nodes, then kube-proxy --cleanup on this one (docs/install.md)",
        look: |_| neighbours::kube_proxy(),
    },
    Probe {
        name: "no other BPF data plane",
        needed_by: "pods' interfaces: one policy",
        required: false,
        without: "a packet that the other one passes or redirects may never meet our programs",
        fix: "remove the other one from this node and restart its pods",
        look: |_| neighbours::bpf_data_planes(),
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    fn feature(required: bool, found: Found) -> Feature {
        Feature { name: "x", needed_by: "", required, found, without: "", fix: "" }
    }

    #[test]
    fn only_required_features_decide_and_a_missing_one_outweighs_an_unknown_one() {
        let yes = || Found::Yes(String::new());
        let no = || Found::No(String::new());
        let unknown = || Found::Unknown(String::new());
        assert_eq!(fitness(&[feature(true, yes()), feature(false, no())]), Fitness::Fit);
        assert_eq!(fitness(&[feature(true, yes()), feature(false, unknown())]), Fitness::Fit);
        assert_eq!(fitness(&[feature(true, unknown()), feature(true, yes())]), Fitness::Unknown);
        assert_eq!(fitness(&[feature(true, unknown()), feature(true, no())]), Fitness::Unfit);
    }

    #[test]
    fn what_is_not_permitted_is_unknown_and_not_missing() {
        let refused = io::Error::from_raw_os_error(libc::EPERM);
        assert!(matches!(Found::trial(Err(refused)), Found::Unknown(_)));
        let absent = io::Error::from_raw_os_error(libc::EINVAL);
        assert!(matches!(Found::trial(Err(absent)), Found::No(_)));
    }

    #[test]
    fn every_feature_says_what_needs_it_what_happens_without_and_how_to_get_it() {
        for probe in PROBES {
            for text in [probe.name, probe.needed_by, probe.without, probe.fix] {
                assert!(!text.is_empty() && !text.contains("  "), "{}: {text:?}", probe.name);
            }
        }
    }
}
