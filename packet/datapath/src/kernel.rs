//! What the packet logic may ask of the kernel: small traits with methods that say what is meant.
//!
//! Two worlds implement them: `packet/bpf` with helpers and maps, `packet/sim` with a fake kernel. All
//! methods take `&self`, since maps are shared by nature; the simulator uses interior mutability. Values
//! in maps are reached through closures, so that no pointer outlives a lookup.

use crate::family::Family;
use crate::stage::port::Search;
use crate::tuple::Place;
use tortie_abi::endpoint::{Endpoint, NextHop};
use tortie_abi::policy::PolicyIo;
use tortie_abi::route::Route;
use tortie_abi::service::{BackendKey, Frontend, MaglevKey, Member};
use tortie_abi::settings::Settings;
use tortie_abi::{DropReason, Tick};
use tortie_wire::checksum::Delta;
use tortie_wire::{Be16, Ip4, Ip6};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The packet at the hook, from its Ethernet header on. Offsets and lengths are bytes.
pub trait Packet {
    /// Length of the frame.
    fn length(&self) -> u32;
    /// The value at `offset`, `None` when the frame ends before.
    fn load<T: FromBytes + IntoBytes>(&self, offset: u32) -> Option<T>;
    /// Writes `value` at `offset`, `None` when the frame ends before or may not be written.
    fn store<T: IntoBytes + Immutable>(&self, offset: u32, value: T) -> Option<()>;
    /// Changes the transport checksum at `offset` by `delta`. `kind` says whether a checksum that
    /// hardware is yet to complete has to change too.
    fn update_checksum(&self, offset: u32, delta: Delta, kind: ChecksumKind) -> Option<()>;
    /// Cuts or extends the frame to `length`; new bytes are zero. Ends segmentation offload.
    fn resize(&self, length: u32) -> Option<()>;
    /// The hardware or the stack has taken a VLAN tag off.
    fn has_vlan_tag(&self) -> bool;
    /// The VLAN that such a tag names. 0: there is no tag, or one that says no more than how urgent the frame is.
    fn vlan(&self) -> u16;
    /// One buffer that stands for many packets (GSO, GRO); its length says nothing about the MTU.
    fn is_aggregate(&self) -> bool;
    /// Bytes of payload that each packet of such a buffer has; 0: it stands for one.
    fn segment_bytes(&self) -> u32;
    /// The firewall mark.
    fn mark(&self) -> u32;
    /// Sets the firewall mark.
    fn set_mark(&self, mark: u32);
    /// The interface of the hook.
    fn ifindex(&self) -> u32;
}

/// What a checksum update is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChecksumKind {
    /// Addresses in the pseudo header: also in a checksum that is yet to be completed.
    PseudoHeader {
        /// UDP: zero means "none" and stays; a result of zero becomes all ones.
        udp: bool,
    },
    /// Bytes of the transport header or payload: not in a checksum that is yet to be completed.
    Payload {
        /// As above.
        udp: bool,
    },
}

/// Where a packet of the tunnel came from.
pub trait TunnelInfo<F: Family> {
    /// The node that sent it on, and the network it is of; `None`: it is none of our networks' packets.
    fn tunnel_source(&self) -> Option<(F::Addr, u32)>;
}

/// The kernel's own routes.
pub trait Ways<F: Family> {
    /// The interface that leads from an address of this node (unspecified: any) to one outside; `None`: none does, or it
    /// is the node's own.
    fn way_out(&self, source: &F::Addr, destination: &F::Addr) -> Option<u32>;

    /// Whether a route to an address outside leaves by this interface. IPv6 knows of the best one alone, IPv4 of others too.
    fn leads(&self, ifindex: u32, source: &F::Addr, destination: &F::Addr) -> bool;
}

/// Time.
pub trait Clock {
    /// Now, coarse.
    fn now(&self) -> Tick;
}

/// Randomness, good enough for load balancing.
pub trait Random {
    /// 32 random bits.
    fn random(&self) -> u32;
}

/// Random bits, or a hash, as a number below `count`: each as likely as the others, without a division.
#[inline(always)]
pub const fn below(count: u32, bits: u32) -> u32 {
    ((bits as u64).wrapping_mul(count as u64) >> 32) as u32
}

/// A table had no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableFull;

/// How an insert ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Insert {
    /// The entry is there now.
    Done,
    /// Another entry has the key; nothing changed.
    Exists,
    /// No room; nothing changed.
    Full,
}

/// A flow table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// The main table.
    Main,
    /// The half-open table, which evicts the least recently used element when it is full.
    HalfOpen,
}

/// The flow tables of one family. What is in an element is the logic's ([`crate::stage::table`]).
pub trait Flows<F: Family> {
    /// Applies `f` to the element.
    fn element<R>(&self, table: Table, key: &F::FlowKey, f: impl FnOnce(&mut F::FlowPair) -> R) -> Option<R>;
    /// Puts an element there that `fill` writes, over whatever was in the memory it is given. Where one has this key,
    /// `meet` gets it and the new one, and says how that ended.
    fn insert(
        &self,
        table: Table,
        key: &F::FlowKey,
        fill: impl FnOnce(&mut F::FlowPair),
        meet: impl FnOnce(&mut F::FlowPair, &mut F::FlowPair) -> Insert,
    ) -> Insert;
    /// Puts `pair`, which is an element of the half-open table, into the main one, in the place of what is there.
    fn copy_to_main(&self, key: &F::FlowKey, pair: &F::FlowPair) -> Result<(), TableFull>;
    /// Removes the element.
    fn delete(&self, table: Table, key: &F::FlowKey);
}

/// Work that is done many times over.
pub trait Searches<F: Family>: Flows<F> {
    /// Calls [`Search::look`] with 0, 1 and so on, at most `times` times, until it has found.
    fn search(&self, times: u32, search: &mut Search<'_, F>);
}

/// What user space tells about the cluster.
pub trait Topology<F: Family> {
    /// The longest matching prefix's route.
    fn route(&self, address: &F::Addr) -> Option<Route>;
    /// Applies `f` to the endpoint record in `slot`; an empty slot is all zero.
    fn endpoint<R>(&self, slot: u32, f: impl FnOnce(&Endpoint) -> R) -> Option<R>;
    /// Applies `f` to the next hop in `slot`; an empty slot is all zero.
    fn next_hop<R>(&self, slot: u32, f: impl FnOnce(&NextHop) -> R) -> Option<R>;
    /// Whether a client outside gets all its answers through the node that it has asked (`bpfDSROptoutCIDRs`).
    fn has_opted_out(&self, client: &F::Addr) -> bool;
    /// Applies `f` to the settings.
    fn settings<R>(&self, f: impl FnOnce(&Settings) -> R) -> Option<R>;
}

/// Services of one family.
pub trait Services<F: Family> {
    /// The front end at this address, port and protocol.
    fn frontend(&self, key: &F::FrontendKey) -> Option<Frontend>;
    /// One of its back ends.
    fn backend(&self, key: &BackendKey) -> Option<F::Backend>;
    /// The back end at a place of a piece of a Service's consistent-hash table.
    fn maglev(&self, key: &MaglevKey, within: u32) -> Option<F::Backend>;
    /// Where a back end stands in a Service; `None`: it is none of its.
    fn member(&self, key: &F::MemberKey) -> Option<Member>;
    /// Whether a client is in one of the ranges that a Service is open to.
    fn is_admitted(&self, key: &F::SourceRangeKey) -> bool;
    /// The back end that a client was last led to.
    fn affinity(&self, key: &F::AffinityKey) -> Option<F::Affinity>;
    /// Remembers that; the least recently used client is forgotten when the table is full.
    fn remember(&self, key: &F::AffinityKey, affinity: &F::Affinity);
}

/// A socket at a cgroup hook.
pub trait Socket {
    /// The kernel's number of it.
    fn cookie(&self) -> u64;
}

/// A system call about a socket's peer. Only the addresses of the hook's own family may be asked for.
pub trait SocketCall: Socket {
    /// The socket's IP protocol number.
    fn protocol(&self) -> u8;
    /// The kernel's number of the network namespace that the socket is in.
    fn netns(&self) -> u64;
    /// The peer's port.
    fn port(&self) -> Be16;
    /// Replaces the peer's port.
    fn set_port(&self, port: Be16);
    /// The peer's IPv4 address.
    fn address4(&self) -> Ip4;
    /// Replaces the peer's IPv4 address.
    fn set_address4(&self, address: Ip4);
    /// The peer's IPv6 address.
    fn address6(&self) -> Ip6;
    /// Replaces the peer's IPv6 address.
    fn set_address6(&self, address: Ip6);
    /// The socket has a peer of its own.
    fn is_connected(&self) -> bool;
}

/// What sockets remember.
pub trait Sockets<F: Family> {
    /// Where the socket with this cookie was last led to when it was connected.
    fn lead(&self, cookie: u64) -> Option<F::SocketLead>;
    /// Remembers it; nothing is remembered when the table is full.
    fn set_lead(&self, cookie: u64, lead: &F::SocketLead);
    /// Forgets it.
    fn forget_lead(&self, cookie: u64);
    /// The other name of an address that single messages go to or come from.
    fn message(&self, key: &F::SocketKey) -> Option<F::SocketPeer>;
    /// Remembers it; the least recently used one is forgotten when the table is full.
    fn set_message(&self, key: &F::SocketKey, peer: &F::SocketPeer);
}

/// Counts and tells what was refused where no packet is.
pub trait Refusals<F: Family> {
    /// One more for this reason: a call to this address and port, which are the Service's.
    fn refused(&self, reason: DropReason, to: Place<F::Addr>, service: u32);
}

/// Policy.
pub trait Policies<F: Family> {
    /// The class of an address: exact, else by longest prefix, else [`tortie_abi::policy::NO_CLASS`].
    fn class_of(&self, address: &F::Addr) -> u32;
    /// Applies `f` to this CPU's contract record with the policy programs.
    fn policy_io<R>(&self, f: impl FnOnce(&mut PolicyIo) -> R) -> Option<R>;
    /// Counts a flow that `rule` decided.
    fn count_rule(&self, rule: u32, bytes: u32);
}

/// Ports of fragmented packets.
pub trait Fragments<F: Family> {
    /// Remembers source and destination port of a first fragment.
    fn learn_ports(&self, key: &F::FragmentKey, ports: [u8; 4]);
    /// The ports of the first fragment, when it was seen.
    fn ports(&self, key: &F::FragmentKey) -> Option<[u8; 4]>;
}

/// Everything: only hooks ask for this.
pub trait Kernel<F: Family>:
    Packet
    + TunnelInfo<F>
    + Ways<F>
    + Clock
    + Random
    + Flows<F>
    + Searches<F>
    + Topology<F>
    + Services<F>
    + Policies<F>
    + Fragments<F>
{
}

impl<F, K> Kernel<F> for K
where
    F: Family,
    K: Packet
        + TunnelInfo<F>
        + Ways<F>
        + Clock
        + Random
        + Flows<F>
        + Searches<F>
        + Topology<F>
        + Services<F>
        + Policies<F>
        + Fragments<F>,
{
}
