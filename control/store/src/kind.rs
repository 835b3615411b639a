//! The kinds of objects, and every name people call them by.
//!
//! Owns: the table. Does not: read objects.
//! Invariant: a name means at most one kind.

/// What this version does with a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// A namespace.
    Namespace,
    /// A pod.
    Pod,
    /// A node.
    Node,
    /// A Service.
    Service,
    /// An EndpointSlice.
    EndpointSlice,
    /// A NetworkPolicy of Kubernetes.
    NetworkPolicy,
    /// An IPPool.
    IpPool,
    /// Ranges of Services' cluster addresses.
    ServiceCidr,
    /// Of it the ranges of Services that are announced; its BGP is kept.
    BgpConfiguration,
    /// Settings.
    FelixConfiguration,
    /// Kept, listed, not enforced.
    Kept,
}

/// A kind of object.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// API group; empty: the core group.
    pub group: &'static str,
    /// The version written when none is given, then others that are read.
    pub versions: &'static [&'static str],
    /// `NetworkPolicy`.
    pub kind: &'static str,
    /// `networkpolicies`.
    pub plural: &'static str,
    /// What else people type, in lower case.
    pub aliases: &'static [&'static str],
    /// Lives in a namespace.
    pub namespaced: bool,
    /// What becomes of it.
    pub role: Role,
}

const K8S: &[&str] = &["v1"];
/// The group in which its users write Calico's kinds.
pub const CALICO: &str = "projectcalico.org";
/// The storage form of [`CALICO`].
const CALICO_CRD: &str = "crd.projectcalico.org";
const V3: &[&str] = &["v3"];

const fn kind(
    group: &'static str,
    versions: &'static [&'static str],
    kind: &'static str,
    plural: &'static str,
    aliases: &'static [&'static str],
    namespaced: bool,
    role: Role,
) -> Kind {
    Kind { group, versions, kind, plural, aliases, namespaced, role }
}

/// Every kind that is known.
#[rustfmt::skip]
pub const KINDS: [Kind; 34] = [
    kind("", K8S, "Namespace", "namespaces", &["ns"], false, Role::Namespace),
    kind("", K8S, "Node", "nodes", &["no"], false, Role::Node),
    kind("", K8S, "Pod", "pods", &["po"], true, Role::Pod),
    kind("", K8S, "Service", "services", &["svc"], true, Role::Service),
    kind("", K8S, "ServiceAccount", "serviceaccounts", &["sa"], true, Role::Kept),
    kind("", K8S, "ConfigMap", "configmaps", &["cm"], true, Role::Kept),
    kind("discovery.k8s.io", K8S, "EndpointSlice", "endpointslices", &["eps"], true, Role::EndpointSlice),
    kind("networking.k8s.io", K8S, "NetworkPolicy", "networkpolicies", &["netpol"], true, Role::NetworkPolicy),
    kind("networking.k8s.io", &["v1", "v1beta1"], "ServiceCIDR", "servicecidrs", &[], false, Role::ServiceCidr),
    kind("policy.networking.k8s.io", &["v1alpha2", "v1alpha1"], "ClusterNetworkPolicy", "clusternetworkpolicies", &["cnp"], false, Role::Kept),
    kind("policy.networking.k8s.io", &["v1alpha1"], "AdminNetworkPolicy", "adminnetworkpolicies", &["anp"], false, Role::Kept),
    kind("policy.networking.k8s.io", &["v1alpha1"], "BaselineAdminNetworkPolicy", "baselineadminnetworkpolicies", &["banp"], false, Role::Kept),
    kind(CALICO, V3, "IPPool", "ippools", &["ipp", "ipps", "pool", "pools"], false, Role::IpPool),
    kind(CALICO, V3, "FelixConfiguration", "felixconfigurations", &["felixconfig", "felixconfigs", "fconfig", "fconfigs"], false, Role::FelixConfiguration),
    kind(CALICO, V3, "Tier", "tiers", &[], false, Role::Kept),
    kind(CALICO, V3, "NetworkPolicy", "caliconetworkpolicies", &["np", "cnetpol", "policy", "policies", "pol", "pols"], true, Role::Kept),
    kind(CALICO, V3, "GlobalNetworkPolicy", "globalnetworkpolicies", &["gnp", "gnps"], false, Role::Kept),
    kind(CALICO, V3, "StagedNetworkPolicy", "stagednetworkpolicies", &["snp", "snps"], true, Role::Kept),
    kind(CALICO, V3, "StagedGlobalNetworkPolicy", "stagedglobalnetworkpolicies", &["sgnp", "sgnps"], false, Role::Kept),
    kind(CALICO, V3, "StagedKubernetesNetworkPolicy", "stagedkubernetesnetworkpolicies", &["sknp", "sknps"], true, Role::Kept),
    kind(CALICO, V3, "HostEndpoint", "hostendpoints", &["hep", "heps"], false, Role::Kept),
    kind(CALICO, V3, "GlobalNetworkSet", "globalnetworksets", &["gns"], false, Role::Kept),
    kind(CALICO, V3, "NetworkSet", "networksets", &["netset", "netsets"], true, Role::Kept),
    kind(CALICO, V3, "Profile", "profiles", &["pro", "pros"], false, Role::Kept),
    kind(CALICO, V3, "WorkloadEndpoint", "workloadendpoints", &["wep", "weps"], true, Role::Kept),
    kind(CALICO, V3, "Node", "caliconodes", &[], false, Role::Kept),
    kind(CALICO, V3, "IPReservation", "ipreservations", &["ipres"], false, Role::Kept),
    kind(CALICO, V3, "IPAMConfiguration", "ipamconfigurations", &["ipamconfig", "ipamconfigs"], false, Role::Kept),
    kind(CALICO, V3, "BGPConfiguration", "bgpconfigurations", &["bgpconfig", "bgpconfigs"], false, Role::BgpConfiguration),
    kind(CALICO, V3, "BGPPeer", "bgppeers", &["bgpp", "bgpps", "bp"], false, Role::Kept),
    kind(CALICO, V3, "BGPFilter", "bgpfilters", &["bgpf", "bgpfs"], false, Role::Kept),
    kind(CALICO, V3, "CalicoNodeStatus", "caliconodestatuses", &["caliconodestatus"], false, Role::Kept),
    kind(CALICO, V3, "KubeControllersConfiguration", "kubecontrollersconfigurations", &["kubecontrollersconfig", "kcc"], false, Role::Kept),
    kind(CALICO, V3, "ClusterInformation", "clusterinformations", &["clusterinfo", "clusterinfos"], false, Role::Kept),
];

/// The group and version of an `apiVersion`; the storage form of Calico's group counts as the group itself.
pub fn group_version(api_version: &str) -> (&str, &str) {
    match api_version.split_once('/') {
        Some((CALICO_CRD, "v1")) => (CALICO, "v3"),
        Some((group, version)) => (group, version),
        None => ("", api_version),
    }
}

/// The kind an object says it is.
pub fn of(group: &str, kind: &str) -> Option<&'static Kind> {
    let kind = if group == CALICO { of_storage(kind) } else { kind };
    KINDS.iter().find(|known| known.group == group && known.kind == kind)
}

/// The one kind of Calico's that its storage form calls otherwise.
pub fn of_storage(kind: &str) -> &str {
    if kind == "IPAMConfig" { "IPAMConfiguration" } else { kind }
}

/// The other way round: what a kind is called where it has this `apiVersion`.
pub fn in_form<'a>(api_version: &str, kind: &'a str) -> &'a str {
    let is_stored = api_version.split_once('/').is_some_and(|(group, _)| group == CALICO_CRD);
    if is_stored && kind == "IPAMConfiguration" { "IPAMConfig" } else { kind }
}

/// Where kinds of that name are, if `group` is one in which it would be expected: a policy of the wrong group
/// must not be taken for something unknown.
pub fn elsewhere(group: &str, kind: &str) -> Option<String> {
    let ours = KINDS.iter().any(|known| known.group == group)
        || group == "extensions"
        || group.ends_with(".k8s.io")
        || group.ends_with("projectcalico.org");
    let places: Vec<_> = KINDS.iter().filter(|known| known.kind == kind).map(Kind::api_version).collect();
    (ours && !places.is_empty()).then(|| places.join(" or "))
}

/// The kind a person means: `pods`, `po`, `Pod`, `networkpolicies.networking.k8s.io` …
pub fn named(word: &str) -> Option<&'static Kind> {
    let word = word.to_lowercase();
    let (name, group) = word.split_once('.').unwrap_or((&word, ""));
    let group = group.strip_prefix("v3.").or_else(|| group.strip_prefix("v1.")).unwrap_or(group);
    let group = if group == CALICO_CRD { CALICO } else { group };
    KINDS.iter().find(|kind| {
        if group.is_empty() {
            kind.is_called(name)
        } else {
            kind.group == group && kind.is_called_in_group(name)
        }
    })
}

impl Kind {
    /// `apiVersion` of new objects.
    pub fn api_version(&self) -> String {
        match (self.group, self.versions.first().copied().unwrap_or_default()) {
            ("", version) => version.into(),
            (group, version) => format!("{group}/{version}"),
        }
    }

    /// A cluster may do without it: its definition is installed, or not, or its API server is older than it.
    pub fn is_optional(&self) -> bool {
        self.is_custom() || self.role == Role::ServiceCidr
    }

    /// A CustomResourceDefinition makes it known to a cluster.
    pub fn is_custom(&self) -> bool {
        self.group == CALICO || self.group.starts_with("policy.")
    }

    /// What kubectl calls it in its answers: `networkpolicy.networking.k8s.io`, `pod`.
    pub fn resource(&self) -> String {
        let singular = self.kind.to_lowercase();
        if self.group.is_empty() { singular } else { format!("{singular}.{}", self.group) }
    }

    fn is_called(&self, name: &str) -> bool {
        // Of two kinds with one name, that of Kubernetes has it, as with kubectl.
        let shadowed = self.group == CALICO && matches!(self.kind, "NetworkPolicy" | "Node");
        name == self.plural || self.aliases.contains(&name) || (!shadowed && name == self.kind.to_lowercase())
    }

    fn is_called_in_group(&self, name: &str) -> bool {
        let singular = self.kind.to_lowercase();
        let plural = match singular.strip_suffix('y') {
            Some(stem) => format!("{stem}ies"),
            None => format!("{singular}s"),
        };
        self.is_called(name) || name == singular || name == plural
    }
}
