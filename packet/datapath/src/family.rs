//! The address family as a type: one source, two compilations.

use crate::kernel::Packet;
use crate::state::Parsed;
use crate::tuple::{Place, Tuple};
use crate::verdict::Step;
use core::fmt::Debug;
use tortie_abi::Tick;
use tortie_abi::endpoint::{Endpoint, NextHop};
use tortie_abi::flow::{Counters, FlowCore};
use tortie_abi::settings::Settings;
use tortie_wire::checksum::{Delta, Sum};
use tortie_wire::proto::IpProtocol;
use tortie_wire::{Be16, Ip6, Mac};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

mod v4;
mod v6;

/// IPv4.
#[derive(Clone, Copy, Debug)]
pub enum V4 {}

/// IPv6.
#[derive(Clone, Copy, Debug)]
pub enum V6 {}

/// One entry of a flow table, whatever the family.
pub trait FlowEntry: Copy + FromBytes + IntoBytes + Immutable + KnownLayout {
    /// Address of the family.
    type Addr: Copy;
    /// A new entry.
    fn new(core: FlowCore, nat_address: Self::Addr) -> Self;
    /// Counters.
    fn counters(&mut self) -> &mut Counters;
    /// What both families share.
    fn core(&self) -> &FlowCore;
    /// What both families share.
    fn core_mut(&mut self) -> &mut FlowCore;
    /// Address to be written by the rewrite.
    fn nat_address(&self) -> Self::Addr;
    /// Changes it.
    fn set_nat_address(&mut self, address: Self::Addr);
}

/// Where an entry of the flow tables is.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Spot<F: Family> {
    /// The key of its element.
    pub element: F::FlowKey,
    /// Which of the two ways of the element: 0 or 1.
    pub way: u32,
}

impl<F: Family> Spot<F> {
    /// Of the entry that has this key.
    #[inline(always)]
    pub fn of(key: &F::FlowKey) -> Self {
        let (element, way) = F::element(key);
        Self { element, way }
    }
}

/// Everything that differs between IPv4 and IPv6.
pub trait Family: Sized + Copy + 'static {
    /// An address.
    type Addr: Copy + PartialEq + Debug + FromBytes + IntoBytes + Immutable + KnownLayout;
    /// Key of the flow tables.
    type FlowKey: Copy + PartialEq + Debug + FromBytes + IntoBytes + Immutable + KnownLayout;
    /// Entry of the flow tables.
    type Flow: FlowEntry<Addr = Self::Addr>;
    /// Element of the flow tables: one entry or two.
    type FlowPair: Copy + FromBytes + IntoBytes + Immutable + KnownLayout;
    /// Key of the front ends.
    type FrontendKey: Copy + IntoBytes + Immutable;
    /// A back end.
    type Backend: Copy;
    /// Key of a Service's member.
    type MemberKey: Copy + IntoBytes + Immutable;
    /// Key of the clients that a Service is open to.
    type SourceRangeKey: Copy + IntoBytes + Immutable;
    /// Key of a client with session affinity.
    type AffinityKey: Copy + IntoBytes + Immutable;
    /// The back end that such a client is led to.
    type Affinity: Copy + FromBytes + IntoBytes + Immutable + KnownLayout;
    /// Where a socket was led to.
    type SocketLead: Copy + FromBytes + IntoBytes + Immutable + KnownLayout;
    /// Key of what sockets without a peer remember.
    type SocketKey: Copy + FromBytes + IntoBytes + Immutable + KnownLayout;
    /// What they remember.
    type SocketPeer: Copy + FromBytes + IntoBytes + Immutable + KnownLayout;
    /// What one node tells another about a flow that begins.
    type Note: Copy + FromBytes + IntoBytes + Immutable + KnownLayout;
    /// Key of the fragment table.
    type FragmentKey: Copy + FromBytes + IntoBytes + Immutable + KnownLayout;

    /// 4 or 6.
    const VERSION: u8;
    /// The family's ICMP.
    const ICMP: IpProtocol;
    /// No address.
    const UNSPECIFIED: Self::Addr;
    /// Bytes of the fixed IP header.
    const HEADER_BYTES: u32;
    /// What the tunnel adds to a packet: IP, UDP, VXLAN and Ethernet headers.
    const TUNNEL_BYTES: u32;
    /// How much of a packet an ICMP error quotes at most; a multiple of 4.
    const QUOTE_BYTES: u32;

    /// ICMP type of an echo request.
    const ECHO_REQUEST: u8;
    /// ICMP type and code of "port unreachable".
    const PORT_UNREACHABLE: (u8, u8);
    /// ICMP type and code of "time to live exceeded".
    const TTL_EXCEEDED: (u8, u8);
    /// ICMP type and code of "fragmentation needed", "packet too big".
    const TOO_BIG: (u8, u8);

    /// Does a quoted packet follow an ICMP header of this type?
    fn icmp_is_error(kind: u8) -> bool;
    /// Echo request or reply?
    fn icmp_is_echo(kind: u8) -> bool;
    /// Neighbour discovery and multicast listener messages, as their senders on the link make them: one that a router has
    /// sent on is none, and its receivers would not believe in it.
    fn icmp_is_link_control(kind: u8, ip: &Parsed<Self::Addr>) -> bool;
    /// What only a router may send.
    fn icmp_is_from_router(kind: u8) -> bool;

    /// The key of a tuple.
    fn flow_key(tuple: &Tuple<Self::Addr>) -> Self::FlowKey;
    /// The key of the element that an entry is in, and which of its ways it is: 0 or 1.
    fn element(key: &Self::FlowKey) -> (Self::FlowKey, u32);
    /// The entry that is there, or the place for it.
    fn way(pair: &mut Self::FlowPair, way: u32) -> &mut Self::Flow;
    /// The key of the other direction of a flow that is not translated.
    fn reversed(key: &Self::FlowKey) -> Self::FlowKey;
    /// The entries of an element, each with its own key.
    fn directions(
        key: &Self::FlowKey,
        pair: &Self::FlowPair,
    ) -> impl Iterator<Item = (Self::FlowKey, Self::Flow)> + use<Self>;
    /// The tuple of a key.
    fn tuple(key: &Self::FlowKey) -> Tuple<Self::Addr>;
    /// The front end that a tuple's destination would be.
    fn frontend_key(tuple: &Tuple<Self::Addr>) -> Self::FrontendKey;
    /// Address and port of a back end.
    fn backend(backend: &Self::Backend) -> (Self::Addr, Be16);
    /// The key of a back end of a Service.
    fn member_key(service: u32, address: Self::Addr, port: Be16) -> Self::MemberKey;
    /// The key of one client of a Service that is not open to all.
    fn source_range_key(service: u32, client: Self::Addr) -> Self::SourceRangeKey;
    /// The key of a client that is known by its address.
    fn affinity_key(client: Self::Addr, service: u32) -> Self::AffinityKey;
    /// The key of a client that is known by its network namespace.
    fn affinity_key_of(netns: u64, service: u32) -> Self::AffinityKey;
    /// What is remembered of it.
    fn affinity(address: Self::Addr, port: Be16, last_use: Tick) -> Self::Affinity;
    /// Address and port of the remembered back end, and the client's last new connection.
    fn remembered(affinity: &Self::Affinity) -> (Self::Addr, Be16, Tick);
    /// The key of an address that a socket talks to; `side` says whose it is.
    fn socket_key(cookie: u64, address: Self::Addr, port: Be16, protocol: u8, side: u8) -> Self::SocketKey;
    /// From a Service to a back end.
    fn socket_lead(service: Place<Self::Addr>, backend: Place<Self::Addr>) -> Self::SocketLead;
    /// The Service and the back end of it.
    fn lead(lead: &Self::SocketLead) -> (Place<Self::Addr>, Place<Self::Addr>);
    /// The other name of that address.
    fn socket_peer(address: Self::Addr, port: Be16, service: u32, now: Tick) -> Self::SocketPeer;
    /// Address, port, Service port and last use of it.
    fn peer(peer: &Self::SocketPeer) -> (Self::Addr, Be16, u32, Tick);
    /// The note about a front end.
    fn note(address: Self::Addr, port: Be16) -> Self::Note;
    /// The front end that a note is about.
    fn noted(note: &Self::Note) -> (Self::Addr, Be16);
    /// The key of a fragmented packet.
    fn fragment_key(tuple: &Tuple<Self::Addr>, identification: u32) -> Self::FragmentKey;

    /// Reads the IP header (and extension headers) at `offset`.
    fn parse<K: Packet>(k: &K, offset: u32) -> Step<Parsed<Self::Addr>>;
    /// Reads the IP header that an ICMP error quotes at `offset`: no length checks, since the quote is cut.
    fn parse_quoted<K: Packet>(k: &K, offset: u32) -> Step<Parsed<Self::Addr>>;
    /// May this address be a source on a wire?
    fn is_martian_source(address: &Self::Addr) -> bool;
    /// May this address be a destination on a wire?
    fn is_martian_destination(address: &Self::Addr) -> bool;
    /// Does a socket that asks for the address mean its own network namespace: loopback, or no address at all?
    fn is_at_self(address: &Self::Addr) -> bool;
    /// Does the address mean whoever is on the link, so that no router sends on what is for it? (Of IPv4's link-local
    /// addresses clouds route some.)
    fn is_for_neighbours(address: &Self::Addr) -> bool;
    /// Multicast or broadcast.
    fn is_group(address: &Self::Addr) -> bool;
    /// An address that means something on one link only: link-local, or a group of that scope.
    fn is_link_scope(address: &Self::Addr) -> bool;
    /// An address that whoever has this Ethernet address gives itself on the link; of one that is not known yet (zero) any that
    /// means something there alone.
    fn is_link_address_of(mac: Mac, address: &Self::Addr) -> bool;
    /// IPv4 in the first word, the rest zero.
    fn widen(address: &Self::Addr) -> Ip6;
    /// The other way round.
    fn narrow(address: &Ip6) -> Self::Addr;

    /// The endpoint's first address.
    fn endpoint_address(endpoint: &Endpoint) -> Self::Addr;
    /// The class of the endpoint's own address.
    fn endpoint_class(endpoint: &Endpoint) -> u32;
    /// The neighbour's address.
    fn next_hop_address(next_hop: &NextHop) -> Self::Addr;
    /// The node's own address.
    fn node_address(settings: &Settings) -> Self::Addr;
    /// The source of ICMP errors that this node makes.
    fn error_source(settings: &Settings) -> Self::Addr;

    /// What replacing an address does to a checksum.
    fn address_delta(delta: Delta, old: &Self::Addr, new: &Self::Addr) -> Delta;
    /// Writes source and destination into the IP header at `offset`, with its checksum.
    fn store_addresses<K: Packet>(
        k: &K,
        offset: u32,
        old: (&Self::Addr, &Self::Addr),
        new: (&Self::Addr, &Self::Addr),
    ) -> Option<()>;
    /// Takes one from the time to live of the IP header at `offset`. `None`: nothing was written.
    fn decrement_ttl<K: Packet>(k: &K, offset: u32) -> Option<()>;
    /// The pseudo header of a transport packet of `length` bytes.
    fn pseudo_header(source: &Self::Addr, destination: &Self::Addr, protocol: IpProtocol, length: u16)
    -> Sum;
    /// Writes a fresh IP header at `offset`, for `length` bytes of `protocol` behind it.
    fn store_header<K: Packet>(
        k: &K,
        offset: u32,
        source: &Self::Addr,
        destination: &Self::Addr,
        protocol: IpProtocol,
        length: u16,
    ) -> Option<()>;
}
