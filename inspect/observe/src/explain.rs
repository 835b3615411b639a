//! Every drop reason in plain words: what happened, and what to look at.

use tortie_abi::DropReason;

/// One or two sentences for a person at 3 a.m.
pub const fn reason(reason: DropReason) -> &'static str {
    use DropReason as R;
    match reason {
        R::FrameTooShort => "The frame ends inside its Ethernet header. Look at what sends it.",
        R::UnknownEthertype => "A pod sent something that is neither IPv4, IPv6 nor ARP.",
        R::VlanTag => {
            "A pod sent a frame with a VLAN tag, and pods have no VLANs; or one from the network has two tags of VLAN 0."
        }
        R::IpTruncated => "The IP header says more than the frame holds.",
        R::IpVersion => "The frame's type and the IP version differ.",
        R::IpHeaderLength => "The IPv4 header length, or the total length, is below what a header needs.",
        R::ExtensionHeaders => "Too many IPv6 extension headers, or one that ends outside the packet.",
        R::TransportTruncated => "The packet ends inside its TCP, UDP, SCTP or ICMP header.",
        R::TcpFlags => "TCP flags that no stack sends, as port scanners do.",
        R::Martian => {
            "A source or destination that may not be on a wire (loopback, multicast source, 0.0.0.0)."
        }
        R::FragmentWithoutFirst => "A later fragment came before, or without, its first one.",
        R::FragmentMalformed => "A fragment that is too small or overlaps the transport header.",
        R::SourceSpoofed => {
            "The source is not an address of the pod that sent it (or, from outside, is one of this node's). \
             See `tortie endpoints list` for whose it is."
        }
        R::RouterImpersonation => "A pod sent a router advertisement or redirect.",
        R::TunnelSource => {
            "A packet of the tunnel for Services from somebody who is no node of the cluster. See `tortie routes list`."
        }
        R::Encapsulated => {
            "A pod sent VXLAN or IP in IP, which is for nodes to send. FelixConfiguration allows it \
             (allowVXLANPacketsFromWorkloads, allowIPIPPacketsFromWorkloads)."
        }
        R::NoFlow => {
            "Not the start of a connection, and no connection is known: it expired, or began before the data \
             plane did. TCP clients get a reset. See `tortie conntrack list`."
        }
        R::FlowTableFull => {
            "The flow table is full; established flows stay, new ones are refused until the agent has made a larger one. Where \
             it may not (bpfMapSizeConntrackScaling: Disabled) or is away, raise bpfMapSizeConntrack."
        }
        R::TargetGone => "The pod or node of this flow is gone.",
        R::SourcePortCollision => {
            "Another flow has the same ends (behind the Service, or outside under the node's address). The next attempt \
             gets another port; where it fails for good, few are free: widen bpfPSNATPorts or natPortRange."
        }
        R::IcmpUnrelated => "An ICMP error about a connection that is not known, or that policy has cut.",
        R::NoBackend => {
            "The Service leads nowhere from here: no endpoint is ready, or none has the port that the Service asks for. \
             `tortie services show` says which."
        }
        R::BackendMissing => "The chosen endpoint is not in the table; a change was under way.",
        R::NoTunnel => {
            "A client outside was led to an endpoint on another node, and there is no tunnel to it. See `tortie status`."
        }
        R::SourceRange => {
            "The client is in none of the Service's loadBalancerSourceRanges, which bind pods and nodes too."
        }
        R::NoService => {
            "No Service has this address, protocol and port, though the address is in a range of Services \
             (serviceLoopPrevention). See `tortie services list`."
        }
        R::PolicyEgress => {
            "The sender's egress policy denies it, or for an answer that of who began the flow: no rule allows it, or a rule \
             denies it. See `tortie policy list` for the pod."
        }
        R::PolicyIngress => {
            "The receiver's ingress policy denies it, or for an answer that of who was asked: no rule allows it, or a rule \
             denies it. See `tortie policy list` for the pod."
        }
        R::PolicyNotReady => {
            "The pod's policy is not in force yet, so nothing is allowed. See `tortie status`."
        }
        R::EndpointToHost => "Pods may not reach the node itself (defaultEndpointToHostAction is Drop).",
        R::Blackhole => {
            "No pod of this node has the address, which came from the network and would go back there. A client or another \
             node that still uses the address of a pod that is gone."
        }
        R::EndpointNotReady => "The pod's programs are not in force yet. See `tortie status`.",
        R::TtlExceeded => "The time to live is used up; the sender was told. A routing loop, or traceroute.",
        R::TooBig => "Larger than the next hop's MTU; the sender was told which.",
        R::RewriteFailed => "The packet could not be changed.",
        R::ReplyFailed => "The answer to the sender could not be built.",
        R::Internal => {
            "A setting, a flow or scratch space is missing: the agent has not finished, or replaces its programs (a start of \
             another version, a larger map), when a packet or two are normal. See `tortie status`."
        }
        R::TailCall => "A program is missing from its slot. See `tortie status`.",
    }
}
