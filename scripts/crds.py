#!/usr/bin/env python3
"""Write deploy/crds/: Calico's kinds in their storage form, crd.projectcalico.org/v1, as structural schemas.

usage: crds.py [--check]      --check: write nothing, fail when a file is not what it should be

One definition of a rule, a selector, a port for all policies; what is here is what Calico's own CRDs take. A rule in
CEL stands where the API says that two fields exclude or need each other, so that a mistake is refused by kubectl
apply and not only reported by the agents. Where a cluster has Calico's CRDs, theirs stay (deploy/overlays).
"""
import os, sys

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "deploy", "crds")
GROUP = "crd.projectcalico.org"


# --- building blocks
def s(pattern=None, most=None):
    out = {"type": "string"}
    if pattern:
        out["pattern"] = pattern
    if most:
        out["maxLength"] = most
    return out


def enum(*words):
    return {"type": "string", "enum": list(words)}


def integer(least=None, most=None, form=None):
    out = {"type": "integer"}
    if form:
        out["format"] = form
    if least is not None:
        out["minimum"] = least
    if most is not None:
        out["maximum"] = most
    return out


def array(items, **more):
    return {"type": "array", "items": items, **more}


def mapping(values):
    return {"type": "object", "additionalProperties": values}


def obj(properties, required=(), rules=(), about=None):
    out = {"type": "object"}
    if about:
        out["description"] = about
    if required:
        out["required"] = list(required)
    out["properties"] = properties
    if rules:
        out["x-kubernetes-validations"] = [{"rule": r, "message": m} for r, m in rules]
    return out


BOOL = {"type": "boolean"}
INT_OR_STRING = {"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": True}
NUMBER = {"type": "number"}
TEXT = s()
DURATION = s(r"^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$", 64)
TIMEOUT = s(r"^(([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+|[Aa]uto)$", 64)
CIDR = s(most=64)
SELECTOR = s(most=8192)
PORT = integer(0, 65535)
TIME = {"type": "string", "format": "date-time", "nullable": True}

# --- policy
ICMP = obj({"type": integer(0, 254), "code": integer(0, 255)},
           rules=[("!has(self.code) || has(self.type)", "code needs type")])
ENTITY = obj({
    "nets": array(CIDR), "notNets": array(CIDR),
    "selector": SELECTOR, "notSelector": SELECTOR, "namespaceSelector": SELECTOR,
    "ports": array(INT_OR_STRING), "notPorts": array(INT_OR_STRING),
    "services": obj({"name": s(most=253), "namespace": s(most=253)}),
    "serviceAccounts": obj({"names": array(s(most=253)), "selector": SELECTOR}),
}, rules=[
    # Two rules, since the API server allows one rule only so much work in the longest list that it can imagine.
    ("!has(self.services) || !(has(self.nets) || has(self.notNets) || has(self.ports) || has(self.notPorts))",
     "services stands alone: no nets and no ports beside it"),
    ("!has(self.services) || !(has(self.selector) || has(self.notSelector) || has(self.serviceAccounts))",
     "services stands alone: no selectors and no serviceAccounts beside it"),
])
RULE = obj({
    "action": enum("Allow", "Deny", "Log", "Pass"),
    "ipVersion": {"type": "integer", "enum": [4, 6]},
    "protocol": INT_OR_STRING, "notProtocol": INT_OR_STRING,
    "icmp": ICMP, "notICMP": ICMP,
    "source": ENTITY, "destination": ENTITY,
    "http": obj({"methods": array(TEXT), "paths": array(obj({"exact": TEXT, "prefix": TEXT}))}),
    "metadata": obj({"annotations": mapping(TEXT)}),
}, required=["action"], rules=[
    ("!(has(self.icmp) || has(self.notICMP)) || has(self.protocol)", "icmp needs protocol ICMP or ICMPv6"),
])
RULES = array(RULE)
TYPES = array(enum("Ingress", "Egress"), maxItems=2)
HINTS = array(TEXT)
NAMESPACED_POLICY = {
    "tier": s(most=253), "order": NUMBER, "selector": SELECTOR, "serviceAccountSelector": SELECTOR,
    "types": TYPES, "ingress": RULES, "egress": RULES, "performanceHints": HINTS,
}
GLOBAL_POLICY = {
    **NAMESPACED_POLICY, "namespaceSelector": SELECTOR,
    "doNotTrack": BOOL, "preDNAT": BOOL, "applyOnForward": BOOL,
}
ON = "has(self.%s) && self.%s"
GLOBAL_RULES = [
    ("!(%s) || !(%s)" % (ON % (("doNotTrack",) * 2), ON % (("preDNAT",) * 2)), "doNotTrack and preDNAT exclude each other"),
    ("!(%s) || (%s)" % (ON % (("doNotTrack",) * 2), ON % (("applyOnForward",) * 2)), "doNotTrack needs applyOnForward"),
    ("!(%s) || (%s)" % (ON % (("preDNAT",) * 2), ON % (("applyOnForward",) * 2)), "preDNAT needs applyOnForward"),
    ("!(%s) || !has(self.egress) || size(self.egress) == 0" % (ON % (("preDNAT",) * 2)), "preDNAT has no egress rules"),
]
STAGED = {"stagedAction": enum("Set", "Delete", "Learn", "Ignore")}
LABEL_SELECTOR = obj({
    "matchLabels": mapping(TEXT),
    "matchExpressions": array(obj({"key": TEXT, "operator": TEXT, "values": array(TEXT)}, ["key", "operator"])),
})
K8S_PORT = obj({"protocol": TEXT, "port": INT_OR_STRING, "endPort": integer(1, 65535, "int32")})
K8S_PEER = obj({
    "podSelector": LABEL_SELECTOR, "namespaceSelector": LABEL_SELECTOR,
    "ipBlock": obj({"cidr": CIDR, "except": array(CIDR)}, ["cidr"]),
})
KUBERNETES_POLICY = {
    **STAGED, "podSelector": LABEL_SELECTOR, "policyTypes": TYPES,
    "ingress": array(obj({"ports": array(K8S_PORT), "from": array(K8S_PEER)})),
    "egress": array(obj({"ports": array(K8S_PORT), "to": array(K8S_PEER)})),
}

# --- settings
FELIX_WORDS = {
    "awsSrcDstCheck": ("DoNothing", "Enable", "Disable"), "bpfAttachType": ("TC", "TCX", "Netkit"),
    "bpfConnectTimeLoadBalancing": ("TCP", "Enabled", "Disabled"), "bpfConntrackMode": ("Auto", "Userspace", "BPFProgram"),
    "bpfEnforceRPF": ("Disabled", "Loose", "Strict"), "bpfExternalServiceMode": ("Tunnel", "DSR"),
    "bpfHostNetworkedNATWithoutCTLB": ("Enabled", "Disabled"), "bpfJITHardening": ("Auto", "Strict"),
    "bpfLogLevel": ("Off", "Info", "Debug", ""), "bpfMapSizeConntrackScaling": ("Disabled", "DoubleIfFull"),
    "bpfOverlayHostSourceIP": ("TunnelAddress", "HostAddress"), "bpfProfiling": ("Enabled", "Disabled"),
    "bpfRedirectToPeer": ("Enabled", "Disabled", "L2Only"), "chainInsertMode": ("Insert", "Append"),
    "defaultEndpointToHostAction": ("Drop", "Accept", "Return"), "floatingIPs": ("Enabled", "Disabled"),
    "ipForwarding": ("Enabled", "Disabled"), "serviceLoopPrevention": ("Drop", "Reject", "Disabled"),
    "nftablesMode": ("Auto", "Enabled", "Disabled"), "windowsManageFirewallRules": ("Enabled", "Disabled"),
    "workloadSourceSpoofing": ("Disabled", "Any"), "istioAmbientMode": ("Enabled", "Disabled"),
}
FELIX_BOOLS = """allowIPIPPacketsFromWorkloads allowVXLANPacketsFromWorkloads bpfConnectTimeLoadBalancingEnabled
bpfDisableUnprivileged bpfEnabled bpfHostConntrackBypass bpfIPFragmentReassemblyEnabled bpfKubeProxyEndpointSlicesEnabled
bpfKubeProxyIptablesCleanupEnabled bpfPolicyDebugEnabled debugDisableLogDropping disableConntrackInvalidCheck
endpointReportingEnabled flowLogsCollectorDebugTrace genericXDPEnabled healthEnabled ipipEnabled ipv6Support
prometheusGoMetricsEnabled prometheusMetricsEnabled prometheusProcessMetricsEnabled prometheusWireGuardMetricsEnabled
removeExternalRoutes requireMTUFile routeSyncDisabled sidecarAccelerationEnabled usageReportingEnabled
useInternalDataplaneDriver vxlanEnabled wireguardEnabled wireguardEnabledV6 wireguardHostEncryptionEnabled
wireguardThreadingEnabled xdpEnabled""".split()
FELIX_PORTS = """bpfKubeProxyHealthzPort debugPort healthPort metadataPort prometheusMetricsPort vxlanPort
wireguardListeningPort wireguardListeningPortV6""".split()
FELIX_NUMBERS = """bpfExportBufferSizeMB bpfExtToServiceConnmark bpfMaglevMaxEndpointsPerService bpfMaglevMaxServices
bpfMapSizeConntrack bpfMapSizeConntrackCleanupQueue bpfMapSizeIPSets bpfMapSizeIfState bpfMapSizeNATAffinity
bpfMapSizeNATBackend bpfMapSizeNATFrontend bpfMapSizePerCpuConntrack bpfMapSizeRoute deviceRouteProtocol goGCThreshold
goMaxProcs goMemoryLimitMB ipipMTU ipv4ElevatedRoutePriority ipv4NormalRoutePriority ipv6ElevatedRoutePriority
ipv6NormalRoutePriority logActionRateLimitBurst maxIpsetSize vxlanMTU vxlanMTUV6 vxlanVNI wireguardMTU wireguardMTUV6
wireguardRoutingRulePriority""".split()
FELIX_MASKS = ["iptablesMarkMask", "nftablesMarkMask"]
FELIX_DURATIONS = """bpfIPFragTimeout bpfKubeProxyMinSyncPeriod dataplaneWatchdogTimeout debugSimulateCalcGraphHangAfter
debugSimulateDataplaneApplyDelay debugSimulateDataplaneHangAfter endpointReportingDelay flowLogsFlushInterval
interfaceRefreshInterval ipsetsRefreshInterval iptablesLockProbeInterval iptablesLockTimeout iptablesPostWriteCheckInterval
iptablesRefreshInterval liveMigrationRouteConvergenceTime netlinkTimeout nftablesRefreshInterval reportingInterval
reportingTTL routeRefreshInterval usageReportingInitialDelay usageReportingInterval wireguardKeepAlive
xdpRefreshInterval""".split()
FELIX_LISTS = "bpfDSROptoutCIDRs bpfExcludeCIDRsFromNAT bpfForceTrackPacketsFromIfaces externalNodesList".split()
FELIX_TEXTS = """bpfCTLBLogFilter bpfConntrackLogLevel bpfDataIfacePattern bpfDisableGROForIfaces bpfL3IfacePattern
cgroupV2Path dataplaneDriver debugHost debugMemoryProfilePath deviceRouteSourceAddress deviceRouteSourceAddressIPv6
endpointStatusPathPrefix featureDetectOverride featureGates flowLogsGoldmaneServer flowLogsLocalReporter
flowLogsPolicyEvaluationMode healthHost interfaceExclude interfacePrefix iptablesBackend iptablesFilterAllowAction
iptablesFilterDenyAction iptablesLockFilePath iptablesMangleAllowAction iptablesNATOutgoingInterfaceFilter
localSubnetL2Reachability logActionRateLimit logDebugFilenameRegex logFilePath logPrefix logSeverityFile logSeverityScreen
logSeveritySys metadataAddr mtuIfacePattern natOutgoingAddress natOutgoingExclusions nftablesFilterAllowAction
nftablesFilterDenyAction nftablesMangleAllowAction openstackRegion policySyncPathPrefix programClusterRoutes
prometheusMetricsCAFile prometheusMetricsCertFile prometheusMetricsClientAuth prometheusMetricsHost
prometheusMetricsKeyFile routeSource wireguardInterfaceName wireguardInterfaceNameV6""".split()
PORT_RULES = array(obj({"protocol": TEXT, "port": PORT, "net": CIDR}, ["port"]))
TABLE_RANGE = obj({"min": integer(), "max": integer()}, ["min", "max"])
FELIX = dict(sorted({
    **{name: enum(*words) for name, words in FELIX_WORDS.items()},
    **{name: BOOL for name in FELIX_BOOLS}, **{name: integer(0, 65535) for name in FELIX_PORTS},
    **{name: integer() for name in FELIX_NUMBERS},
    **{name: integer(0, 0xFFFFFFFF, "int64") for name in FELIX_MASKS}, **{name: TEXT for name in FELIX_TEXTS},
    **{name: DURATION for name in FELIX_DURATIONS}, **{name: array(TEXT) for name in FELIX_LISTS},
    "bpfConntrackTimeouts": obj({name: TIMEOUT for name in (
        "creationGracePeriod", "tcpSynSent", "tcpEstablished", "tcpFinsSeen", "tcpResetSeen", "udpTimeout",
        "genericTimeout", "icmpTimeout")}),
    "bpfLogFilters": mapping(TEXT), "bpfPSNATPorts": INT_OR_STRING, "natPortRange": INT_OR_STRING,
    "istioDSCPMark": INT_OR_STRING, "kubeNodePortRanges": array(INT_OR_STRING),
    "failsafeInboundHostPorts": PORT_RULES, "failsafeOutboundHostPorts": PORT_RULES,
    "healthTimeoutOverrides": array(obj({"name": TEXT, "timeout": DURATION}, ["name", "timeout"])),
    "routeTableRange": TABLE_RANGE, "routeTableRanges": array(TABLE_RANGE),
}.items()))

# --- the rest
MODE = enum("Never", "Always", "CrossSubnet")
POOL = obj({
    "cidr": CIDR, "vxlanMode": MODE, "ipipMode": MODE, "natOutgoing": BOOL, "disabled": BOOL, "disableBGPExport": BOOL,
    "blockSize": integer(20, 128), "nodeSelector": SELECTOR, "namespaceSelector": SELECTOR,
    "allowedUses": array(enum("Workload", "Tunnel", "LoadBalancer")), "assignmentMode": enum("Automatic", "Manual"),
    "ipip": obj({"enabled": BOOL, "mode": TEXT}), "nat-outgoing": BOOL,
}, ["cidr"], [
    ("!(has(self.vxlanMode) && self.vxlanMode != 'Never' && has(self.ipipMode) && self.ipipMode != 'Never')",
     "one overlay at most: vxlanMode or ipipMode"),
    ("!(has(self.ipipMode) && self.ipipMode != 'Never') || !self.cidr.contains(':')", "ipipMode is for IPv4 only"),
    ("self.cidr == oldSelf.cidr", "cidr cannot be changed; make another pool"),
])
ENDPOINT_PORT = obj({"name": s(most=63), "protocol": INT_OR_STRING, "port": PORT}, ["name", "port", "protocol"])
SECRET_KEY = obj({"name": TEXT, "key": TEXT, "optional": BOOL}, ["key"])
COMMUNITY = s(most=64)
FILTER_OPERATION = array({"type": "object", "x-kubernetes-preserve-unknown-fields": True})
FILTER_RULES = {
    version: array(obj({
        "action": enum("Accept", "Reject"), "cidr": CIDR, "interface": TEXT, "matchOperator": enum("Equal", "NotEqual", "In", "NotIn"),
        "source": TEXT, "prefixLength": obj({"min": integer(0, most), "max": integer(0, most)}),
        "peerType": TEXT, "communities": obj({"values": array(COMMUNITY)}), "asPathPrefix": array(integer(0)),
        "priority": integer(0), "operations": FILTER_OPERATION,
    }, ["action"])) for version, most in (("V4", 32), ("V6", 128))}
ANY = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}

# kind, plural, namespaced, spec, columns, comment on the spec; the last is None where the kind has a status too
KINDS = [
    ("FelixConfiguration", "felixconfigurations", False, obj(FELIX), [("eBPF", "boolean", ".spec.bpfEnabled")]),
    ("IPPool", "ippools", False, POOL, [("CIDR", "string", ".spec.cidr"), ("Disabled", "boolean", ".spec.disabled")]),
    ("NetworkPolicy", "networkpolicies", True, obj(NAMESPACED_POLICY), "policy"),
    ("GlobalNetworkPolicy", "globalnetworkpolicies", False, obj(GLOBAL_POLICY, rules=GLOBAL_RULES), "policy"),
    ("StagedNetworkPolicy", "stagednetworkpolicies", True, obj({**STAGED, **NAMESPACED_POLICY}), "policy"),
    ("StagedGlobalNetworkPolicy", "stagedglobalnetworkpolicies", False,
     obj({**STAGED, **GLOBAL_POLICY}, rules=GLOBAL_RULES), "policy"),
    ("StagedKubernetesNetworkPolicy", "stagedkubernetesnetworkpolicies", True, obj(KUBERNETES_POLICY), []),
    ("Tier", "tiers", False, obj({"order": NUMBER, "defaultAction": enum("Deny", "Pass")}),
     [("Order", "number", ".spec.order"), ("Default", "string", ".spec.defaultAction")]),
    ("HostEndpoint", "hostendpoints", False, obj({
        "node": s(most=253), "interfaceName": s(most=15), "expectedIPs": array(CIDR), "profiles": array(TEXT),
        "ports": array(ENDPOINT_PORT)}, rules=[
            ("has(self.interfaceName) || (has(self.expectedIPs) && size(self.expectedIPs) > 0)",
             "interfaceName or expectedIPs says which interface it is"),
            ("has(self.node) && self.node != ''", "node is required")]),
     [("Node", "string", ".spec.node"), ("Interface", "string", ".spec.interfaceName")]),
    ("GlobalNetworkSet", "globalnetworksets", False, obj({"nets": array(CIDR)}), []),
    ("NetworkSet", "networksets", True, obj({"nets": array(CIDR)}), []),
    ("IPReservation", "ipreservations", False, obj({"reservedCIDRs": array(CIDR)}), []),
    ("IPAMConfig", "ipamconfigs", False, obj({
        "strictAffinity": BOOL, "autoAllocateBlocks": BOOL, "maxBlocksPerHost": integer(0),
        "kubeVirtVMAddressPersistence": enum("Enabled", "Disabled")}), []),
    ("BGPConfiguration", "bgpconfigurations", False, obj({
        "asNumber": integer(0, 4294967295, "int64"), "logSeverityScreen": TEXT, "nodeToNodeMeshEnabled": BOOL,
        "nodeToNodeMeshConfig": ANY, "nodeToNodeMeshMaxRestartTime": DURATION, "listenPort": integer(1, 65535),
        "bindMode": enum("None", "NodeIP"), "nodeMeshPassword": obj({"secretKeyRef": SECRET_KEY}),
        "communities": array(obj({"name": TEXT, "value": COMMUNITY})),
        "prefixAdvertisements": array(obj({"cidr": CIDR, "communities": array(COMMUNITY)})),
        **{name: array(obj({"cidr": CIDR})) for name in ("serviceClusterIPs", "serviceExternalIPs", "serviceLoadBalancerIPs")},
        "serviceLoadBalancerAggregation": enum("Enabled", "Disabled"), "ignoredInterfaces": array(TEXT),
        "localWorkloadPeeringIPV4": TEXT, "localWorkloadPeeringIPV6": TEXT, "programClusterRoutes": TEXT,
        "ipv4NormalRoutePriority": integer(), "ipv4ElevatedRoutePriority": integer(),
        "ipv6NormalRoutePriority": integer(), "ipv6ElevatedRoutePriority": integer()}), []),
    ("BGPPeer", "bgppeers", False, obj({
        "node": s(most=253), "nodeSelector": SELECTOR, "peerIP": TEXT, "asNumber": integer(0, 4294967295, "int64"),
        "localASNumber": integer(0, 4294967295, "int64"), "peerSelector": SELECTOR, "keepOriginalNextHop": BOOL,
        "nextHopMode": enum("Auto", "Self", "Keep"), "password": obj({"secretKeyRef": SECRET_KEY}),
        "sourceAddress": enum("UseNodeIP", "None"), "maxRestartTime": DURATION, "numAllowedLocalASNumbers": integer(0, form="int32"),
        "ttlSecurity": integer(0, 255), "reachableBy": TEXT, "filters": array(TEXT), "keepaliveTime": DURATION,
        "localWorkloadSelector": SELECTOR, "reversePeering": enum("Auto", "Manual")}, rules=[
            ("!(has(self.node) && self.node != '' && has(self.nodeSelector) && self.nodeSelector != '')",
             "node and nodeSelector exclude each other")]), [("Peer", "string", ".spec.peerIP")]),
    ("BGPFilter", "bgpfilters", False, obj({
        "exportV4": FILTER_RULES["V4"], "importV4": FILTER_RULES["V4"],
        "exportV6": FILTER_RULES["V6"], "importV6": FILTER_RULES["V6"]}), []),
    ("CalicoNodeStatus", "caliconodestatuses", False, obj({
        "node": s(most=253), "classes": array(enum("Agent", "BGP", "Routes")), "updatePeriodSeconds": integer(0, form="int32")}), []),
    ("KubeControllersConfiguration", "kubecontrollersconfigurations", False, obj({
        "logSeverityScreen": TEXT, "healthChecks": TEXT, "etcdV3CompactionPeriod": DURATION,
        "prometheusMetricsPort": integer(0, 65535), "debugProfilePort": integer(0, 65535, "int32"), "controllers": ANY}), []),
    ("ClusterInformation", "clusterinformations", False, obj({
        "clusterGUID": TEXT, "clusterType": TEXT, "calicoVersion": TEXT, "datastoreReady": BOOL, "variant": TEXT}), []),
]
# Written by others, and by versions that know more of it than this file: whatever it holds stays.
WITH_STATUS = {"CalicoNodeStatus", "KubeControllersConfiguration"}
POLICY_COLUMNS = [("Tier", "string", ".spec.tier"), ("Order", "number", ".spec.order")]


def crd(kind, plural, namespaced, spec, columns):
    properties = {"apiVersion": TEXT, "kind": TEXT, "metadata": {"type": "object"}, "spec": spec}
    if kind in WITH_STATUS:
        properties["status"] = ANY
    version = {"name": "v1", "served": True, "storage": True}
    columns = POLICY_COLUMNS if columns == "policy" else columns
    if columns:
        columns = columns + [("Age", "date", ".metadata.creationTimestamp")]
        version["additionalPrinterColumns"] = [{"name": n, "type": t, "jsonPath": p} for n, t, p in columns]
    version["schema"] = {"openAPIV3Schema": {"type": "object", "properties": properties}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}", "labels": {"app.kubernetes.io/part-of": "tortie"}},
        "spec": {
            "group": GROUP, "scope": "Namespaced" if namespaced else "Cluster",
            "names": {"kind": kind, "listKind": kind + "List", "plural": plural, "singular": kind.lower()},
            "versions": [version],
        },
    }


# --- YAML
def scalar(value):
    if value is True or value is False:
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    return "'" + value.replace("'", "''") + "'" if not value.replace("-", "").replace(".", "").replace("/", "").isalnum() or \
        value.lower() in ("yes", "no", "on", "off", "true", "false", "null", "y", "n", "") or value[0].isdigit() else value


def flow(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{scalar(k)}: {flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(flow(v) for v in value) + "]"
    return scalar(value)


def yaml(value, indent=0):
    """Block style, and flow style for what fits on a line."""
    pad = "  " * indent
    lines = []
    for key, inner in value.items():
        one = f"{pad}{scalar(key)}: {flow(inner)}"
        if not isinstance(inner, (dict, list)) or (len(one) <= 110 and key not in ("metadata", "spec")):
            lines.append(one)
        elif isinstance(inner, dict):
            lines += [f"{pad}{scalar(key)}:"] + yaml(inner, indent + 1)
        else:
            lines.append(f"{pad}{scalar(key)}:")
            for item in inner:
                if isinstance(item, dict) and len(flow(item)) > 110:
                    block = yaml(item, indent + 1)
                    lines += [f"{pad}- {block[0].strip()}"] + block[1:]
                else:
                    lines.append(f"{pad}- {flow(item)}")
    return lines


def main():
    check, wrong = "--check" in sys.argv[1:], []
    files = {}
    for row in KINDS:
        header = "# Written by scripts/crds.py. Change it there.\n"
        files[f"{row[1]}.yaml"] = header + "\n".join(yaml(crd(*row))) + "\n"
    header = "# Written by scripts/crds.py. Change it there.\n"
    listing = "".join(f"- {name}\n" for name in sorted(files))
    files["kustomization.yaml"] = f"{header}apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n{listing}"
    os.makedirs(OUT, exist_ok=True)
    for name, text in files.items():
        path = os.path.join(OUT, name)
        found = open(path).read() if os.path.exists(path) else None
        if found != text:
            wrong.append(name)
            if not check:
                open(path, "w").write(text)
    wrong += [name for name in os.listdir(OUT) if name not in files]
    if check and wrong:
        sys.exit("deploy/crds: not as scripts/crds.py writes it: " + ", ".join(sorted(wrong)))


main()
