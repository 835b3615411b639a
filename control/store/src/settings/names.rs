//! Every name a setting may have.
//!
//! Owns: the list of FelixConfiguration's fields, and what only files and the environment may say.
//! Does not: know values. Invariant: a field that Calico knows is never called unknown.

/// Fields of FelixConfiguration's spec.
#[rustfmt::skip]
pub const FIELDS: &[&str] = &[
    "allowIPIPPacketsFromWorkloads", "allowVXLANPacketsFromWorkloads", "awsSrcDstCheck", "bpfAttachType",
    "bpfCTLBLogFilter", "bpfConnectTimeLoadBalancing", "bpfConnectTimeLoadBalancingEnabled",
    "bpfConntrackLogLevel", "bpfConntrackMode", "bpfConntrackTimeouts", "bpfDSROptoutCIDRs",
    "bpfDataIfacePattern", "bpfDisableGROForIfaces", "bpfDisableUnprivileged", "bpfEnabled", "bpfEnforceRPF",
    "bpfExcludeCIDRsFromNAT", "bpfExportBufferSizeMB", "bpfExtToServiceConnmark", "bpfExternalServiceMode",
    "bpfForceTrackPacketsFromIfaces", "bpfHostConntrackBypass", "bpfHostNetworkedNATWithoutCTLB",
    "bpfIPFragTimeout", "bpfIPFragmentReassemblyEnabled", "bpfJITHardening",
    "bpfKubeProxyEndpointSlicesEnabled", "bpfKubeProxyHealthzPort", "bpfKubeProxyIptablesCleanupEnabled",
    "bpfKubeProxyMinSyncPeriod", "bpfL3IfacePattern", "bpfLogFilters", "bpfLogLevel",
    "bpfMaglevMaxEndpointsPerService", "bpfMaglevMaxServices", "bpfMapSizeConntrack",
    "bpfMapSizeConntrackCleanupQueue", "bpfMapSizeConntrackScaling", "bpfMapSizeIPSets", "bpfMapSizeIfState",
    "bpfMapSizeNATAffinity", "bpfMapSizeNATBackend", "bpfMapSizeNATFrontend", "bpfMapSizePerCpuConntrack",
    "bpfMapSizeRoute", "bpfOverlayHostSourceIP", "bpfPSNATPorts", "bpfPolicyDebugEnabled", "bpfProfiling",
    "bpfRedirectToPeer", "cgroupV2Path", "chainInsertMode", "dataplaneDriver", "dataplaneWatchdogTimeout",
    "debugDisableLogDropping", "debugHost", "debugMemoryProfilePath", "debugPort",
    "debugSimulateCalcGraphHangAfter", "debugSimulateDataplaneApplyDelay", "debugSimulateDataplaneHangAfter",
    "defaultEndpointToHostAction", "deviceRouteProtocol", "deviceRouteSourceAddress",
    "deviceRouteSourceAddressIPv6", "disableConntrackInvalidCheck", "endpointReportingDelay",
    "endpointReportingEnabled", "endpointStatusPathPrefix", "externalNodesList", "failsafeInboundHostPorts",
    "failsafeOutboundHostPorts", "featureDetectOverride", "featureGates", "floatingIPs", "flowLogsCollectorDebugTrace",
    "flowLogsFlushInterval", "flowLogsGoldmaneServer", "flowLogsLocalReporter",
    "flowLogsPolicyEvaluationMode", "genericXDPEnabled", "goGCThreshold", "goMaxProcs", "goMemoryLimitMB",
    "healthEnabled", "healthHost", "healthPort", "healthTimeoutOverrides", "interfaceExclude",
    "interfacePrefix", "interfaceRefreshInterval", "ipForwarding", "ipipEnabled", "ipipMTU",
    "ipsetsRefreshInterval", "iptablesBackend", "iptablesFilterAllowAction", "iptablesFilterDenyAction",
    "iptablesLockFilePath", "iptablesLockProbeInterval", "iptablesLockTimeout", "iptablesMangleAllowAction",
    "iptablesMarkMask", "iptablesNATOutgoingInterfaceFilter", "iptablesPostWriteCheckInterval",
    "iptablesRefreshInterval", "ipv4ElevatedRoutePriority", "ipv4NormalRoutePriority",
    "ipv6ElevatedRoutePriority", "ipv6NormalRoutePriority", "ipv6Support", "istioAmbientMode",
    "istioDSCPMark", "kubeNodePortRanges", "liveMigrationRouteConvergenceTime", "localSubnetL2Reachability",
    "logActionRateLimit", "logActionRateLimitBurst", "logDebugFilenameRegex", "logFilePath", "logPrefix",
    "logSeverityFile", "logSeverityScreen", "logSeveritySys", "maxIpsetSize", "metadataAddr", "metadataPort",
    "mtuIfacePattern", "natOutgoingAddress", "natOutgoingExclusions", "natPortRange", "netlinkTimeout",
    "nftablesFilterAllowAction", "nftablesFilterDenyAction", "nftablesMangleAllowAction", "nftablesMarkMask",
    "nftablesMode", "nftablesRefreshInterval", "openstackRegion", "policySyncPathPrefix",
    "programClusterRoutes", "prometheusGoMetricsEnabled", "prometheusMetricsCAFile",
    "prometheusMetricsCertFile", "prometheusMetricsClientAuth", "prometheusMetricsEnabled",
    "prometheusMetricsHost", "prometheusMetricsKeyFile", "prometheusMetricsPort",
    "prometheusProcessMetricsEnabled", "prometheusWireGuardMetricsEnabled", "removeExternalRoutes",
    "reportingInterval", "reportingTTL", "requireMTUFile", "routeRefreshInterval", "routeSource",
    "routeSyncDisabled", "routeTableRange", "routeTableRanges", "serviceLoopPrevention",
    "sidecarAccelerationEnabled", "usageReportingEnabled", "usageReportingInitialDelay",
    "usageReportingInterval", "useInternalDataplaneDriver", "vxlanEnabled", "vxlanMTU", "vxlanMTUV6",
    "vxlanPort", "vxlanVNI", "windowsManageFirewallRules", "wireguardEnabled", "wireguardEnabledV6",
    "wireguardHostEncryptionEnabled", "wireguardInterfaceName", "wireguardInterfaceNameV6",
    "wireguardKeepAlive", "wireguardListeningPort", "wireguardListeningPortV6", "wireguardMTU",
    "wireguardMTUV6", "wireguardRoutingRulePriority", "wireguardThreadingEnabled", "workloadSourceSpoofing",
    "xdpEnabled", "xdpRefreshInterval",
];

/// What only a file or the environment may say, in lower case. Starts of names end with `*`.
const LOCAL: &[&str] =
    &["datastoretype", "etcd*", "felixhostname", "typha*", "usagereporting*", "windows*", "kubernetes*"];

/// The field that a name in any case means.
pub fn field(name: &str) -> Option<&'static str> {
    FIELDS.iter().copied().find(|field| field.eq_ignore_ascii_case(name))
}

/// The field that a misspelt name in any case could mean.
pub fn closest(name: &str) -> Option<&'static str> {
    let lower: Vec<String> = FIELDS.iter().map(|field| field.to_ascii_lowercase()).collect();
    let lower: Vec<&str> = lower.iter().map(String::as_str).collect();
    field(crate::strict::closest(&name.to_ascii_lowercase(), &lower)?)
}

/// Whether a name means something, though not to a data plane.
pub fn is_local(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    LOCAL.iter().any(|known| match known.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == *known,
    })
}
