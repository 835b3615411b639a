//! What FelixConfiguration and its file and environment forms say, for this node.

use ipnet::IpNet;
use std::path::PathBuf;
use std::time::Duration;

/// A time-out: fixed, or taken from the kernel's own sysctl (`Auto`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timeout {
    /// This long.
    Fixed(Duration),
    /// As the kernel's conntrack has it.
    Auto,
}

/// `bpfConntrackTimeouts`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP, SYN sent, no answer.
    pub tcp_syn_sent: Timeout,
    /// TCP, established.
    pub tcp_established: Timeout,
    /// TCP, FIN from one or both sides.
    pub tcp_fins_seen: Timeout,
    /// TCP, reset.
    pub tcp_reset_seen: Timeout,
    /// UDP.
    pub udp: Timeout,
    /// Other protocols.
    pub generic: Timeout,
    /// ICMP.
    pub icmp: Timeout,
}

/// `defaultEndpointToHostAction`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointToHost {
    /// Refuse.
    Drop,
    /// Let through.
    Accept,
}

/// Where a small HTTP server of the agent listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// `healthEnabled`, `prometheusMetricsEnabled`.
    pub enabled: bool,
    /// `healthHost`, `prometheusMetricsHost`: an address or a name; empty: every address of the node.
    pub host: String,
    /// `healthPort`, `prometheusMetricsPort`.
    pub port: u16,
}

/// `bpfConnectTimeLoadBalancing`: which sockets are led to a back end when they name a Service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConnectTime {
    /// TCP alone.
    #[default]
    Tcp,
    /// TCP and UDP.
    Enabled,
    /// None: packets are translated one by one.
    Disabled,
}

/// `serviceLoopPrevention`: what becomes of packets to addresses that Services may have and none has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoopPrevention {
    /// They are dropped.
    #[default]
    Drop,
    /// Their sender is told.
    Reject,
    /// They go where other packets go.
    Disabled,
}

/// The most elements of each family's maps; `None`: they grow with what is in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MapSizes {
    /// `bpfMapSizeConntrack`: flows, at first.
    pub flows: Option<u32>,
    /// `bpfMapSizeConntrackScaling: Disabled`: it stays so.
    pub flows_stay: bool,
    /// `bpfMapSizeNATFrontend`: addresses and ports of Services.
    pub frontends: Option<u32>,
    /// `bpfMapSizeNATBackend`: their back ends.
    pub backends: Option<u32>,
    /// `bpfMapSizeNATAffinity`: clients with session affinity.
    pub affinities: Option<u32>,
    /// `bpfMapSizeRoute`: routes.
    pub routes: Option<u32>,
    /// `bpfMapSizeIPSets`: addresses that policies tell from others.
    pub addresses: Option<u32>,
}

/// Settings in force. Names follow FelixConfiguration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `interfacePrefix`: the start of the names of pods' veths.
    pub interface_prefix: String,
    /// `bpfDataIfacePattern`: a regular expression for data interfaces.
    pub data_interface_pattern: String,
    /// `bpfConntrackTimeouts`.
    pub timeouts: Timeouts,
    /// `bpfMapSizeConntrack`, `bpfMapSizeNATBackend` and the like.
    pub map_sizes: MapSizes,
    /// `bpfPSNATPorts`.
    pub source_port_range: (u16, u16),
    /// `natPortRange`.
    pub nat_port_range: (u16, u16),
    /// `iptablesMarkMask`: the bits of the mark that are ours.
    pub mark_mask: u32,
    /// `defaultEndpointToHostAction`.
    pub endpoint_to_host: EndpointToHost,
    /// `allowVXLANPacketsFromWorkloads`.
    pub allow_vxlan: bool,
    /// `allowIPIPPacketsFromWorkloads`.
    pub allow_ipip: bool,
    /// `bpfRedirectToPeer`.
    pub redirect_to_peer: bool,
    /// `bpfAttachType: TC` instead of TCX.
    pub force_clsact: bool,
    /// `bpfConnectTimeLoadBalancing`.
    pub connect_time: ConnectTime,
    /// `cgroupV2Path`: the node's cgroup v2 directory; `None`: where it is mounted.
    pub cgroup_path: Option<PathBuf>,
    /// `bpfExternalServiceMode: DSR`: back ends on other nodes answer clients outside directly, and not through the node
    /// that was asked.
    pub direct_return: bool,
    /// `serviceLoopPrevention`.
    pub loop_prevention: LoopPrevention,
    /// `bpfDSROptoutCIDRs`: clients outside that are always answered through the node that was asked.
    pub direct_return_opt_outs: Vec<IpNet>,
    /// `bpfExcludeCIDRsFromNAT`: Services' addresses that are not translated.
    pub untranslated: Vec<IpNet>,
    /// `bpfMaglevMaxServices`: Services with a consistent-hash table that there is room for.
    pub maglev_services: u32,
    /// `bpfMaglevMaxEndpointsPerService`: back ends that such a table is made for; with more of them shares are less even.
    pub maglev_endpoints: u32,
    /// `vxlanMTU`-like override: MTU of pods' interfaces, bytes; `None`: the uplink's.
    pub mtu_bytes: Option<u32>,
    /// `logSeverityScreen`.
    pub log_level: String,
    /// `healthEnabled`, `healthHost`, `healthPort`.
    pub health: Listen,
    /// `prometheusMetricsEnabled`, `prometheusMetricsHost`, `prometheusMetricsPort`.
    pub metrics: Listen,
    /// `bpfKubeProxyHealthzPort`: kube-proxy's page, on every address of the node; 0 switches it off.
    pub proxy_health: Listen,
    /// `prometheusProcessMetricsEnabled`: metrics about the agent's own process too.
    pub process_metrics: bool,
    /// `dataplaneWatchdogTimeout`: the main loop counts as hanging when it has not turned for this long.
    pub watchdog: Duration,
    /// `debugSimulateDataplaneHangAfter`: the main loop stops turning this long after the start.
    pub hang_after: Option<Duration>,
}

impl Default for Settings {
    fn default() -> Self {
        let seconds = |s| Timeout::Fixed(Duration::from_secs(s));
        Self {
            interface_prefix: "cali".into(),
            data_interface_pattern: "^((en|wl|ww|sl|ib)[Popsx].*|(eth|wlan|wwan|bond).*)".into(),
            timeouts: Timeouts {
                tcp_syn_sent: seconds(20),
                tcp_established: seconds(3600),
                tcp_fins_seen: Timeout::Auto,
                tcp_reset_seen: seconds(40),
                udp: seconds(60),
                generic: seconds(600),
                icmp: seconds(5),
            },
            map_sizes: MapSizes::default(),
            source_port_range: (20_000, 29_999),
            nat_port_range: (1_024, 29_999),
            mark_mask: 0xffff_0000,
            endpoint_to_host: EndpointToHost::Drop,
            allow_vxlan: false,
            allow_ipip: false,
            redirect_to_peer: true,
            force_clsact: false,
            connect_time: ConnectTime::Tcp,
            cgroup_path: None,
            direct_return: false,
            loop_prevention: LoopPrevention::Drop,
            direct_return_opt_outs: Vec::new(),
            untranslated: Vec::new(),
            maglev_services: 100,
            maglev_endpoints: 100,
            mtu_bytes: None,
            log_level: "info".into(),
            health: Listen { enabled: false, host: "localhost".into(), port: 9099 },
            metrics: Listen { enabled: false, host: String::new(), port: 9091 },
            proxy_health: Listen { enabled: true, host: String::new(), port: 10_256 },
            process_metrics: true,
            watchdog: Duration::from_secs(90),
            hang_after: None,
        }
    }
}
