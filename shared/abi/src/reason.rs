//! Why a packet was dropped, and at which hook: shared by the programs, the counters and the command line.

/// Where a program is attached. Directions are from the host's point of view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u16)]
pub enum Hook {
    /// tc ingress of a pod's veth: packets leaving the pod.
    FromWorkload = 1,
    /// tc egress of a pod's veth: packets from the host stack to the pod.
    ToWorkload = 2,
    /// tc ingress of a data interface.
    FromHostDevice = 3,
    /// tc egress of a data interface, and of loopback.
    ToHostDevice = 4,
    /// tc ingress of the tunnel's interface: packets for a Service that another node sends on.
    FromTunnel = 5,
    /// Cgroup: a socket's system call. No interface.
    Socket = 6,
}

impl Hook {
    /// All hooks, in the order of their numbers.
    pub const ALL: [Self; 6] = [
        Self::FromWorkload,
        Self::ToWorkload,
        Self::FromHostDevice,
        Self::ToHostDevice,
        Self::FromTunnel,
        Self::Socket,
    ];

    /// The hook of a stored number, `None` for one this version does not know.
    pub const fn from_word(word: u16) -> Option<Self> {
        match word {
            1 => Some(Self::FromWorkload),
            2 => Some(Self::ToWorkload),
            3 => Some(Self::FromHostDevice),
            4 => Some(Self::ToHostDevice),
            5 => Some(Self::FromTunnel),
            6 => Some(Self::Socket),
            _ => None,
        }
    }

    /// The name that people see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FromWorkload => "from-workload",
            Self::ToWorkload => "to-workload",
            Self::FromHostDevice => "from-host-device",
            Self::ToHostDevice => "to-host-device",
            Self::FromTunnel => "from-tunnel",
            Self::Socket => "socket",
        }
    }
}

macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $value:literal, $name:literal;)+) => {
        /// Why a packet was dropped: the stage that decided and the cause.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u16)]
        pub enum DropReason {
            $($(#[doc = $doc])+ $variant = $value,)+
        }

        impl DropReason {
            /// All reasons, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The reason of a stored number, `None` for one this version does not know.
            #[inline(always)]
            pub const fn from_word(word: u16) -> Option<Self> {
                match word { $($value => Some(Self::$variant),)+ _ => None }
            }

            /// The name that people and scripts see.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

drop_reasons! {
    /// Parse: the frame ends inside the Ethernet header.
    FrameTooShort = 1, "frame-too-short";
    /// Parse: neither IPv4, IPv6 nor ARP.
    UnknownEthertype = 2, "unknown-ethertype";
    /// Parse: a VLAN tag where none is expected, or a second one without a VLAN.
    VlanTag = 3, "vlan-tag";
    /// Parse: the packet ends inside the IP header, or its length field exceeds the packet.
    IpTruncated = 4, "ip-truncated";
    /// Parse: IP version and ethertype differ.
    IpVersion = 5, "ip-version";
    /// Parse: an IPv4 header length below 20 bytes, or a total length below the header's.
    IpHeaderLength = 6, "ip-header-length";
    /// Parse: more IPv6 extension headers than the bound, or one that ends outside the packet.
    ExtensionHeaders = 7, "extension-headers";
    /// Parse: the packet ends inside the transport header, or that header's length field is wrong.
    TransportTruncated = 8, "transport-truncated";
    /// Parse: TCP flags that no stack sends (SYN with FIN or RST, none at all).
    TcpFlags = 9, "tcp-flags";
    /// Parse: an address that may not be on a wire (loopback, multicast source, unspecified …).
    Martian = 10, "martian";
    /// Fragment: a later fragment without a known first one.
    FragmentWithoutFirst = 11, "fragment-without-first";
    /// Fragment: too small, or overlapping the transport header.
    FragmentMalformed = 12, "fragment-malformed";
    /// Source: not an address of the endpoint that sent it.
    SourceSpoofed = 20, "source-spoofed";
    /// Source: a router advertisement or redirect from a pod.
    RouterImpersonation = 21, "router-impersonation";
    /// Source: from the tunnel, but not from a node of the cluster, or not of our network.
    TunnelSource = 22, "tunnel-source";
    /// Source: a pod's packet with another one in it (VXLAN, IPIP), as nodes send them.
    Encapsulated = 23, "encapsulated";
    /// Flow: not the start of a connection, and no connection is known.
    NoFlow = 30, "no-flow";
    /// Flow: the main table is full; established flows stay, new ones are refused.
    FlowTableFull = 31, "flow-table-full";
    /// Flow: the endpoint or next hop of the flow is gone.
    TargetGone = 32, "target-gone";
    /// Flow: the translated tuple is taken, and no other source port was free.
    SourcePortCollision = 33, "source-port-collision";
    /// Flow: an ICMP error about a connection that is not known.
    IcmpUnrelated = 34, "icmp-unrelated";
    /// Service: no back end (the client gets a reset or port unreachable).
    NoBackend = 40, "no-backend";
    /// Service: the chosen back end is not in the table.
    BackendMissing = 41, "backend-missing";
    /// Service: the back end is on another node, and nothing leads there from here.
    NoTunnel = 42, "no-tunnel";
    /// Service: the client is in none of `loadBalancerSourceRanges`.
    SourceRange = 43, "source-range";
    /// Service: an address that a Service might have, and none has.
    NoService = 44, "no-service";
    /// Policy: the source endpoint's egress rules deny it.
    PolicyEgress = 50, "policy-egress";
    /// Policy: the destination endpoint's ingress rules deny it.
    PolicyIngress = 51, "policy-ingress";
    /// Policy: an endpoint's policy is not in force yet.
    PolicyNotReady = 52, "policy-not-ready";
    /// Policy: `defaultEndpointToHostAction: Drop`.
    EndpointToHost = 53, "endpoint-to-host";
    /// Route: to an address of this node's pods that none has, by the way it came.
    Blackhole = 60, "blackhole";
    /// Route: the destination endpoint's programs are not ready.
    EndpointNotReady = 61, "endpoint-not-ready";
    /// Route: the time to live is used up (the sender gets an ICMP error).
    TtlExceeded = 62, "ttl-exceeded";
    /// Route: larger than the next hop's MTU (the sender gets an ICMP error).
    TooBig = 63, "too-big";
    /// Rewrite: the packet could not be changed.
    RewriteFailed = 70, "rewrite-failed";
    /// Reply: the answer could not be built.
    ReplyFailed = 71, "reply-failed";
    /// Internal: scratch space or a setting is missing.
    Internal = 80, "internal";
    /// Internal: a tail call failed, because its slot is empty.
    TailCall = 81, "tail-call";
}
