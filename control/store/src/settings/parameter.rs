//! The parameters that this version acts on.
//!
//! Owns: their values and what each does to the settings. Does not: know where a value was written.
//! Invariant: a [`Setting`] holds a value that is in its parameter's range.

use super::value;
use crate::fault::Wrong;
use ipnet::IpNet;
use regex::Regex;
use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;
use tortie_model::settings::{
    ConnectTime, EndpointToHost, LoopPrevention, MapSizes, Settings, Timeout, Timeouts,
};

/// A parameter with its value.
#[derive(Clone, Debug, PartialEq)]
pub enum Setting {
    /// `bpfEnabled`: there is nothing else that could be on.
    BpfEnabled,
    /// `interfacePrefix`.
    InterfacePrefix(String),
    /// `bpfDataIfacePattern`.
    DataInterfacePattern(String),
    /// `bpfConntrackTimeouts`: those that are given.
    Timeouts(Vec<(TimeoutName, Timeout)>),
    /// `bpfMapSizeConntrack`, `bpfMapSizeNATBackend` and the like.
    MapSize(MapName, u32),
    /// `bpfMapSizeConntrackScaling: Disabled`.
    FlowsStay(bool),
    /// `bpfPSNATPorts`.
    SourcePortRange(u16, u16),
    /// `natPortRange`.
    NatPortRange(u16, u16),
    /// `iptablesMarkMask`.
    MarkMask(u32),
    /// `defaultEndpointToHostAction`.
    EndpointToHost(EndpointToHost),
    /// `allowVXLANPacketsFromWorkloads`.
    AllowVxlan(bool),
    /// `allowIPIPPacketsFromWorkloads`.
    AllowIpip(bool),
    /// `bpfRedirectToPeer`.
    RedirectToPeer(bool),
    /// `bpfAttachType`: by clsact.
    ForceClsact(bool),
    /// `bpfConnectTimeLoadBalancingEnabled`, the older name; the newer one wins over it.
    ConnectTimeEnabled(bool),
    /// `bpfConnectTimeLoadBalancing`.
    ConnectTime(ConnectTime),
    /// `cgroupV2Path`.
    CgroupPath(PathBuf),
    /// `bpfExternalServiceMode`: DSR.
    DirectReturn(bool),
    /// `bpfDSROptoutCIDRs`.
    DirectReturnOptOuts(Vec<IpNet>),
    /// `serviceLoopPrevention`.
    LoopPrevention(LoopPrevention),
    /// `bpfExcludeCIDRsFromNAT`.
    Untranslated(Vec<IpNet>),
    /// `bpfMaglevMaxServices`.
    MaglevServices(u32),
    /// `bpfMaglevMaxEndpointsPerService`.
    MaglevEndpoints(u32),
    /// `logSeverityScreen`.
    LogLevel(&'static str),
    /// `healthEnabled`.
    HealthEnabled(bool),
    /// `healthHost`.
    HealthHost(String),
    /// `healthPort`.
    HealthPort(u16),
    /// `prometheusMetricsEnabled`.
    MetricsEnabled(bool),
    /// `prometheusMetricsHost`.
    MetricsHost(String),
    /// `prometheusMetricsPort`.
    MetricsPort(u16),
    /// `bpfKubeProxyHealthzPort`; 0: off.
    ProxyHealthPort(u16),
    /// `prometheusProcessMetricsEnabled`.
    ProcessMetrics(bool),
    /// `dataplaneWatchdogTimeout`.
    Watchdog(Duration),
    /// `debugSimulateDataplaneHangAfter`.
    HangAfter(Duration),
}

/// A field of `bpfConntrackTimeouts`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeoutName {
    /// `tcpSynSent`.
    TcpSynSent,
    /// `tcpEstablished`.
    TcpEstablished,
    /// `tcpFinsSeen`.
    TcpFinsSeen,
    /// `tcpResetSeen`.
    TcpResetSeen,
    /// `udpTimeout`.
    Udp,
    /// `genericTimeout`.
    Generic,
    /// `icmpTimeout`.
    Icmp,
}

/// What is wrong with a parameter's value, and in which part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidSetting {
    /// A field inside the value; empty: the value.
    pub part: String,
    /// Why.
    pub wrong: Wrong,
}

impl From<Wrong> for InvalidSetting {
    fn from(wrong: Wrong) -> Self {
        Self { part: String::new(), wrong }
    }
}

const TIMEOUTS: [(&str, TimeoutName); 7] = [
    ("tcpSynSent", TimeoutName::TcpSynSent),
    ("tcpEstablished", TimeoutName::TcpEstablished),
    ("tcpFinsSeen", TimeoutName::TcpFinsSeen),
    ("tcpResetSeen", TimeoutName::TcpResetSeen),
    ("udpTimeout", TimeoutName::Udp),
    ("genericTimeout", TimeoutName::Generic),
    ("icmpTimeout", TimeoutName::Icmp),
];
const TIMEOUT_NAMES: [&str; 8] = [
    "creationGracePeriod",
    "tcpSynSent",
    "tcpEstablished",
    "tcpFinsSeen",
    "tcpResetSeen",
    "udpTimeout",
    "genericTimeout",
    "icmpTimeout",
];

/// Which maps a `bpfMapSize…` is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapName {
    /// `bpfMapSizeConntrack`.
    Conntrack,
    /// `bpfMapSizeNATFrontend`.
    NatFrontend,
    /// `bpfMapSizeNATBackend`.
    NatBackend,
    /// `bpfMapSizeNATAffinity`.
    NatAffinity,
    /// `bpfMapSizeRoute`.
    Route,
    /// `bpfMapSizeIPSets`.
    IpSets,
}

impl MapName {
    const fn of(self, sizes: &mut MapSizes) -> &mut Option<u32> {
        match self {
            Self::Conntrack => &mut sizes.flows,
            Self::NatFrontend => &mut sizes.frontends,
            Self::NatBackend => &mut sizes.backends,
            Self::NatAffinity => &mut sizes.affinities,
            Self::Route => &mut sizes.routes,
            Self::IpSets => &mut sizes.addresses,
        }
    }
}

fn map_size(map: MapName, given: &Value) -> Result<Setting, InvalidSetting> {
    Ok(Setting::MapSize(map, value::number_within(given, 1, 1 << 28)?.unsigned_abs() as u32))
}

/// Reads the value of the parameter called `name`; `None`: this version does not act on it.
pub fn read(name: &str, given: &Value) -> Result<Option<Setting>, InvalidSetting> {
    let setting = match name {
        "bpfEnabled" => bpf_enabled(given)?,
        "interfacePrefix" => Setting::InterfacePrefix(prefix(given)?),
        "bpfDataIfacePattern" => Setting::DataInterfacePattern(pattern(given)?),
        "bpfConntrackTimeouts" => Setting::Timeouts(timeouts(given)?),
        "bpfMapSizeConntrack" => map_size(MapName::Conntrack, given)?,
        "bpfMapSizeConntrackScaling" => {
            Setting::FlowsStay(value::word(given, &["DoubleIfFull", "Disabled"], &[false, true])?)
        }
        "bpfMapSizeNATFrontend" => map_size(MapName::NatFrontend, given)?,
        "bpfMapSizeNATBackend" => map_size(MapName::NatBackend, given)?,
        "bpfMapSizeNATAffinity" => map_size(MapName::NatAffinity, given)?,
        "bpfMapSizeRoute" => map_size(MapName::Route, given)?,
        "bpfMapSizeIPSets" => map_size(MapName::IpSets, given)?,
        "bpfKubeProxyHealthzPort" => {
            let port = value::number_within(given, 0, u16::MAX.into())?;
            Setting::ProxyHealthPort(port.unsigned_abs() as u16)
        }
        "bpfPSNATPorts" => value::port_range(given).map(|(a, b)| Setting::SourcePortRange(a, b))?,
        "natPortRange" => value::port_range(given).map(|(a, b)| Setting::NatPortRange(a, b))?,
        "iptablesMarkMask" => Setting::MarkMask(mark(given)?),
        "defaultEndpointToHostAction" => Setting::EndpointToHost(to_host(given)?),
        "allowVXLANPacketsFromWorkloads" => Setting::AllowVxlan(value::switch(given)?),
        "allowIPIPPacketsFromWorkloads" => Setting::AllowIpip(value::switch(given)?),
        "bpfRedirectToPeer" => {
            let words = &["Enabled", "L2Only", "Disabled"];
            Setting::RedirectToPeer(value::word(given, words, &[true, true, false])?)
        }
        "bpfAttachType" => {
            Setting::ForceClsact(value::word(given, &["TC", "TCX", "Netkit"], &[true, false, false])?)
        }
        "bpfConnectTimeLoadBalancingEnabled" => Setting::ConnectTimeEnabled(value::boolean(given)?),
        "bpfConnectTimeLoadBalancing" => Setting::ConnectTime(connect_time(given)?),
        "cgroupV2Path" => Setting::CgroupPath(absolute(given)?),
        "bpfExternalServiceMode" => {
            Setting::DirectReturn(value::word(given, &["Tunnel", "DSR"], &[false, true])?)
        }
        "bpfDSROptoutCIDRs" => Setting::DirectReturnOptOuts(value::cidrs(given)?),
        "serviceLoopPrevention" => Setting::LoopPrevention(loop_prevention(given)?),
        "bpfExcludeCIDRsFromNAT" => Setting::Untranslated(value::cidrs(given)?),
        "bpfMaglevMaxServices" => Setting::MaglevServices(up_to_3000(given)?),
        "bpfMaglevMaxEndpointsPerService" => Setting::MaglevEndpoints(up_to_3000(given)?),
        "logSeverityScreen" => Setting::LogLevel(level(given)?),
        "healthEnabled" => Setting::HealthEnabled(value::switch(given)?),
        "healthHost" => Setting::HealthHost(value::host(given)?),
        "healthPort" => Setting::HealthPort(value::port(given)?),
        "prometheusMetricsEnabled" => Setting::MetricsEnabled(value::switch(given)?),
        "prometheusMetricsHost" => Setting::MetricsHost(value::host(given)?),
        "prometheusMetricsPort" => Setting::MetricsPort(value::port(given)?),
        "prometheusProcessMetricsEnabled" => Setting::ProcessMetrics(value::switch(given)?),
        "dataplaneWatchdogTimeout" => Setting::Watchdog(watchdog(given)?),
        "debugSimulateDataplaneHangAfter" => Setting::HangAfter(value::seconds(given)?),
        _ => return Ok(None),
    };
    Ok(Some(setting))
}

/// Nothing else enforces yet what these programs enforce, so that they are not switched off by a setting.
fn bpf_enabled(given: &Value) -> Result<Setting, Wrong> {
    if value::switch(given)? {
        return Ok(Setting::BpfEnabled);
    }
    let why = "this version has no other data plane than eBPF, so that what runs goes on";
    Err(Wrong::Conflict {
        why,
        fix: "set it to true, or leave it out; uninstall to take Tortie off the node",
    })
}

fn prefix(given: &Value) -> Result<String, Wrong> {
    let text = value::text(given)?;
    if text.contains(',') {
        let why = "several prefixes are not supported by this version";
        return Err(Wrong::Conflict { why, fix: "give one prefix" });
    }
    let good = (1..=14).contains(&text.len())
        && text.bytes().all(|c| c.is_ascii_alphanumeric() || b":._+-".contains(&c));
    let wrong = || Wrong::NotA { value: text.into(), what: "start of an interface name", example: "cali" };
    good.then(|| text.to_owned()).ok_or_else(wrong)
}

fn pattern(given: &Value) -> Result<String, Wrong> {
    let text = value::text(given)?;
    match Regex::new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => {
            let why = error.to_string().lines().last().unwrap_or_default().trim().to_owned();
            Err(Wrong::NotRegex { value: text.into(), why })
        }
    }
}

fn mark(given: &Value) -> Result<u32, Wrong> {
    let number = value::number_within(given, 1, u32::MAX.into())?;
    let mask = u32::try_from(number).unwrap_or_default();
    if mask.count_ones() < 8 {
        let why = "the mask has fewer than 8 bits";
        return Err(Wrong::Conflict { why, fix: "set at least 8 bits, such as 0xffff0000" });
    }
    Ok(mask)
}

fn to_host(given: &Value) -> Result<EndpointToHost, Wrong> {
    // Return hands the packet to the host's own rules; past our programs it is accepted either way.
    let meanings = [EndpointToHost::Drop, EndpointToHost::Accept, EndpointToHost::Accept];
    value::word(given, &["Drop", "Accept", "Return"], &meanings)
}

fn connect_time(given: &Value) -> Result<ConnectTime, Wrong> {
    let meanings = [ConnectTime::Tcp, ConnectTime::Enabled, ConnectTime::Disabled];
    value::word(given, &["TCP", "Enabled", "Disabled"], &meanings)
}

fn loop_prevention(given: &Value) -> Result<LoopPrevention, Wrong> {
    let meanings = [LoopPrevention::Drop, LoopPrevention::Reject, LoopPrevention::Disabled];
    value::word(given, &["Drop", "Reject", "Disabled"], &meanings)
}

/// 0: for ever, as Felix has it. The main loop turns once a second by itself.
fn watchdog(given: &Value) -> Result<Duration, Wrong> {
    const LEAST: Duration = Duration::from_secs(2);
    match value::seconds(given)? {
        Duration::ZERO => Ok(Duration::MAX),
        short if short < LEAST => {
            let value = format!("{} ms", short.as_millis());
            Err(Wrong::NotA {
                value,
                what: "time that a main loop can keep to",
                example: "90s, or 0s for no limit",
            })
        }
        long => Ok(long),
    }
}

/// As Calico limits both sides of its consistent-hash tables.
fn up_to_3000(given: &Value) -> Result<u32, Wrong> {
    Ok(value::number_within(given, 1, 3000)?.unsigned_abs() as u32)
}

fn absolute(given: &Value) -> Result<PathBuf, Wrong> {
    let text = value::text(given)?;
    let wrong = || Wrong::NotA { value: text.into(), what: "path from the root", example: "/sys/fs/cgroup" };
    text.starts_with('/').then(|| PathBuf::from(text)).ok_or_else(wrong)
}

fn level(given: &Value) -> Result<&'static str, Wrong> {
    let words = &["Trace", "Debug", "Info", "Warning", "Error", "Fatal", "None"];
    value::word(given, words, &["trace", "debug", "info", "warn", "error", "error", "off"])
}

/// `{tcpEstablished: 1h, …}`, or as text `tcpEstablished=1h,…`.
fn timeouts(given: &Value) -> Result<Vec<(TimeoutName, Timeout)>, InvalidSetting> {
    match given {
        Value::Object(map) => {
            map.iter().filter_map(|(name, value)| timeout_field(name, value).transpose()).collect()
        }
        Value::String(text) => {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            let field = |part: &str| {
                let (name, value) = part.split_once('=').unwrap_or((part, ""));
                timeout_field(name.trim(), &Value::String(value.trim().into())).transpose()
            };
            parts.filter_map(field).collect()
        }
        _ => Err(Wrong::Missing { expected: "fields such as tcpEstablished: 1h" }.into()),
    }
}

fn timeout_field(name: &str, given: &Value) -> Result<Option<(TimeoutName, Timeout)>, InvalidSetting> {
    let invalid = |wrong| InvalidSetting { part: name.to_owned(), wrong };
    let timeout = value::timeout(given).map_err(invalid)?;
    if timeout == Timeout::Fixed(std::time::Duration::ZERO) {
        let why = "a flow would end at once";
        return Err(invalid(Wrong::Conflict { why, fix: "give a duration above 0" }));
    }
    if let Some((_, known)) = TIMEOUTS.iter().find(|(known, _)| *known == name) {
        return Ok(Some((*known, timeout)));
    }
    // Half-open flows have a table of their own here, so there is no grace to wait for.
    if name == "creationGracePeriod" {
        return Ok(None);
    }
    let like = crate::strict::closest(name, &TIMEOUT_NAMES).map(str::to_owned);
    Err(invalid(Wrong::UnknownField { like }))
}

impl Setting {
    /// An older name of a parameter: it yields to the newer one of the same source.
    pub const fn is_deprecated(&self) -> bool {
        matches!(self, Self::ConnectTimeEnabled(_))
    }

    /// Puts it in force.
    pub fn apply(&self, settings: &mut Settings) {
        match self {
            Self::BpfEnabled => {}
            Self::InterfacePrefix(prefix) => settings.interface_prefix.clone_from(prefix),
            Self::DataInterfacePattern(pattern) => settings.data_interface_pattern.clone_from(pattern),
            Self::Timeouts(given) => {
                given.iter().for_each(|(name, timeout)| *name.of(&mut settings.timeouts) = *timeout);
            }
            Self::MapSize(map, elements) => *map.of(&mut settings.map_sizes) = Some(*elements),
            Self::FlowsStay(on) => settings.map_sizes.flows_stay = *on,
            Self::SourcePortRange(first, last) => settings.source_port_range = (*first, *last),
            Self::NatPortRange(first, last) => settings.nat_port_range = (*first, *last),
            Self::MarkMask(mask) => settings.mark_mask = *mask,
            Self::EndpointToHost(action) => settings.endpoint_to_host = *action,
            Self::AllowVxlan(on) => settings.allow_vxlan = *on,
            Self::AllowIpip(on) => settings.allow_ipip = *on,
            Self::RedirectToPeer(on) => settings.redirect_to_peer = *on,
            Self::ForceClsact(on) => settings.force_clsact = *on,
            Self::ConnectTimeEnabled(on) => {
                settings.connect_time = if *on { ConnectTime::Enabled } else { ConnectTime::Disabled };
            }
            Self::ConnectTime(mode) => settings.connect_time = *mode,
            Self::CgroupPath(path) => settings.cgroup_path = Some(path.clone()),
            Self::DirectReturn(on) => settings.direct_return = *on,
            Self::LoopPrevention(mode) => settings.loop_prevention = *mode,
            Self::DirectReturnOptOuts(nets) => settings.direct_return_opt_outs.clone_from(nets),
            Self::Untranslated(nets) => settings.untranslated.clone_from(nets),
            Self::MaglevServices(most) => settings.maglev_services = *most,
            Self::MaglevEndpoints(most) => settings.maglev_endpoints = *most,
            Self::LogLevel(level) => settings.log_level = (*level).into(),
            Self::HealthEnabled(on) => settings.health.enabled = *on,
            Self::HealthHost(host) => settings.health.host.clone_from(host),
            Self::HealthPort(port) => settings.health.port = *port,
            Self::MetricsEnabled(on) => settings.metrics.enabled = *on,
            Self::MetricsHost(host) => settings.metrics.host.clone_from(host),
            Self::MetricsPort(port) => settings.metrics.port = *port,
            Self::ProxyHealthPort(port) => {
                settings.proxy_health.enabled = *port != 0;
                settings.proxy_health.port = *port;
            }
            Self::ProcessMetrics(on) => settings.process_metrics = *on,
            Self::Watchdog(after) => settings.watchdog = *after,
            // 0 is Calico's way to say: never.
            Self::HangAfter(after) => settings.hang_after = (!after.is_zero()).then_some(*after),
        }
    }
}

impl TimeoutName {
    fn of(self, timeouts: &mut Timeouts) -> &mut Timeout {
        match self {
            Self::TcpSynSent => &mut timeouts.tcp_syn_sent,
            Self::TcpEstablished => &mut timeouts.tcp_established,
            Self::TcpFinsSeen => &mut timeouts.tcp_fins_seen,
            Self::TcpResetSeen => &mut timeouts.tcp_reset_seen,
            Self::Udp => &mut timeouts.udp,
            Self::Generic => &mut timeouts.generic,
            Self::Icmp => &mut timeouts.icmp,
        }
    }
}
