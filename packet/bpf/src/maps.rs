//! The maps, with the types of `tortie-abi`, and which of them a family uses.
//!
//! Owns: one static for each entry of [`tortie_abi::maps`], under its name there, and the scratch memory.
//! Does not: repeat a size or a flag of the list.

use crate::map::{Map, Programs, Ring};
use tortie_abi::counter::{Counter, CounterKey};
use tortie_abi::endpoint::{Endpoint, NextHop};
use tortie_abi::policy::PolicyIo;
use tortie_abi::route::Route;
use tortie_abi::service::{BackendKey, Frontend, MAGLEV_PIECE, MaglevKey, Member};
use tortie_abi::settings::Settings;
use tortie_abi::sweep::Sweep;
use tortie_abi::{maps, stage, v4, v6};
use tortie_datapath::{Family, State, V4, V6};
use tortie_wire::{Ip4, Ip6};

macro_rules! maps {
    ($($symbol:literal $name:ident: $type:ty;)+) => {
        $(
            #[unsafe(export_name = $symbol)]
            #[unsafe(link_section = "maps")]
            pub static $name: $type = {
                assert!(same(maps::$name.name, $symbol));
                <$type>::new(&maps::$name)
            };
        )+
        const _: () = assert!([$($symbol,)+].len() == maps::ALL.len());
    };
}

const fn same(a: &str, b: &str) -> bool {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    while let ([x, rest_a @ ..], [y, rest_b @ ..]) = (a, b) {
        if *x != *y {
            return false;
        }
        (a, b) = (rest_a, rest_b);
    }
    a.is_empty() && b.is_empty()
}

maps! {
    "flow4" FLOW4: Map<v4::FlowKey, v4::FlowPair>;
    "flow6" FLOW6: Map<v6::FlowKey, v6::FlowPair>;
    "half_open4" HALF_OPEN4: Map<v4::FlowKey, v4::FlowPair>;
    "half_open6" HALF_OPEN6: Map<v6::FlowKey, v6::FlowPair>;
    "route4" ROUTE4: Map<v4::PrefixKey, Route>;
    "route6" ROUTE6: Map<v6::PrefixKey, Route>;
    "frontend4" FRONTEND4: Map<v4::FrontendKey, Frontend>;
    "frontend6" FRONTEND6: Map<v6::FrontendKey, Frontend>;
    "backend4" BACKEND4: Map<BackendKey, v4::Backend>;
    "backend6" BACKEND6: Map<BackendKey, v6::Backend>;
    "member4" MEMBER4: Map<v4::MemberKey, Member>;
    "member6" MEMBER6: Map<v6::MemberKey, Member>;
    "maglev4" MAGLEV4: Map<MaglevKey, v4::MaglevPiece>;
    "maglev6" MAGLEV6: Map<MaglevKey, v6::MaglevPiece>;
    "source_range4" SOURCE_RANGE4: Map<v4::SourceRangeKey, u32>;
    "source_range6" SOURCE_RANGE6: Map<v6::SourceRangeKey, u32>;
    "affinity4" AFFINITY4: Map<v4::AffinityKey, v4::Affinity>;
    "affinity6" AFFINITY6: Map<v6::AffinityKey, v6::Affinity>;
    "socket4" SOCKET4: Map<u32, v4::SocketPlace>;
    "socket_rest4" SOCKET_REST4: Map<u64, v4::SocketLead>;
    "socket6" SOCKET6: Map<u32, v6::SocketPlace>;
    "socket_rest6" SOCKET_REST6: Map<u64, v6::SocketLead>;
    "message4" MESSAGE4: Map<v4::SocketKey, v4::SocketPeer>;
    "message6" MESSAGE6: Map<v6::SocketKey, v6::SocketPeer>;
    "fragment4" FRAGMENT4: Map<v4::FragmentKey, [u8; 4]>;
    "fragment6" FRAGMENT6: Map<v6::FragmentKey, [u8; 4]>;
    "class_addr4" CLASS_ADDR4: Map<v4::AddressKey, u32>;
    "class_addr6" CLASS_ADDR6: Map<v6::AddressKey, u32>;
    "class_net4" CLASS_NET4: Map<v4::PrefixKey, u32>;
    "class_net6" CLASS_NET6: Map<v6::PrefixKey, u32>;
    "opt_out4" OPT_OUT4: Map<v4::PrefixKey, u32>;
    "opt_out6" OPT_OUT6: Map<v6::PrefixKey, u32>;
    "endpoint" ENDPOINT: Map<u32, Endpoint>;
    "next_hop" NEXT_HOP: Map<u32, NextHop>;
    "settings" SETTINGS: Map<u32, Settings>;
    "policy" POLICY: Programs;
    "stage" STAGE: Programs;
    "policy_io" POLICY_IO: Map<u32, PolicyIo>;
    "rule_counter" RULE_COUNTER: Map<u32, Counter>;
    "counter" COUNTER: Map<CounterKey, Counter>;
    "event" EVENT: Ring;
    "event_lost" EVENT_LOST: Map<u32, u64>;
    "sweep" SWEEP: Map<u32, Sweep>;
}

/// One packet's state, per CPU: it lives and dies with the programs.
#[unsafe(export_name = "scratch4")]
#[unsafe(link_section = "maps")]
static SCRATCH4: Map<u32, State<V4>> = Map::scratch();

/// As `scratch4`.
#[unsafe(export_name = "scratch6")]
#[unsafe(link_section = "maps")]
static SCRATCH6: Map<u32, State<V6>> = Map::scratch();

/// What is about to be put into a flow table, per CPU: too much for the stack.
#[unsafe(export_name = "new_flow4")]
#[unsafe(link_section = "maps")]
static NEW_FLOW4: Map<u32, v4::FlowPair> = Map::scratch();

/// As `new_flow4`.
#[unsafe(export_name = "new_flow6")]
#[unsafe(link_section = "maps")]
static NEW_FLOW6: Map<u32, v6::FlowPair> = Map::scratch();

/// The maps and the constant tail calls of one family.
pub trait Tables: Family {
    /// Key of the longest-prefix maps.
    type PrefixKey;
    /// Key of the exact-address map.
    type AddressKey;
    /// The place of a socket.
    type SocketPlace;
    /// Main flow table.
    const FLOW: &'static Map<Self::FlowKey, Self::FlowPair>;
    /// Half-open flow table.
    const HALF_OPEN: &'static Map<Self::FlowKey, Self::FlowPair>;
    /// Routes.
    const ROUTE: &'static Map<Self::PrefixKey, Route>;
    /// Service front ends.
    const FRONTEND: &'static Map<Self::FrontendKey, Frontend>;
    /// Service back ends.
    const BACKEND: &'static Map<BackendKey, Self::Backend>;
    /// Back ends by address.
    const MEMBER: &'static Map<Self::MemberKey, Member>;
    /// Clients that may use a Service.
    const SOURCE_RANGE: &'static Map<Self::SourceRangeKey, u32>;
    /// Clients with session affinity.
    const AFFINITY: &'static Map<Self::AffinityKey, Self::Affinity>;
    /// What connected sockets remember.
    const SOCKET: &'static Map<u32, Self::SocketPlace>;
    /// What those remember whose place is taken.
    const SOCKET_REST: &'static Map<u64, Self::SocketLead>;
    /// What others remember.
    const MESSAGE: &'static Map<Self::SocketKey, Self::SocketPeer>;
    /// Ports of fragments.
    const FRAGMENT: &'static Map<Self::FragmentKey, [u8; 4]>;
    /// Classes of addresses.
    const CLASS_ADDR: &'static Map<Self::AddressKey, u32>;
    /// Classes of prefixes.
    const CLASS_NET: &'static Map<Self::PrefixKey, u32>;
    /// Clients whose answers never leave directly.
    const OPT_OUT: &'static Map<Self::PrefixKey, u32>;
    /// State.
    const SCRATCH: &'static Map<u32, State<Self>>;
    /// An element of a flow table before it is put there.
    const NEW_FLOW: &'static Map<u32, Self::FlowPair>;
    /// Slot of the answer program in `stage`.
    const REPLY: u32;
    /// Slot in `stage` of the program that comes after policy.
    const RESUME: u32;
    /// Slot of the ICMP error program in `stage`.
    const RELATED: u32;
    /// Slot in `stage` of the program for flows that begin at a data interface.
    const OPEN: u32;
    /// Slot in `stage` of the program for what few packets need before they leave.
    const APART: u32;
    /// Element of `sweep`.
    const SWEEP: u32;
    /// `AF_INET` or `AF_INET6`.
    const ADDRESS_FAMILY: u32;

    /// Looks up one address.
    fn prefix_key(address: &Self::Addr) -> Self::PrefixKey;
    /// The back end at a place of a piece of a consistent-hash table.
    fn maglev(key: &MaglevKey, within: u32) -> Option<Self::Backend>;
    /// Looks up one address.
    fn address_key(address: &Self::Addr) -> Self::AddressKey;
    /// Whose a place is, what is remembered there, and how many others have none.
    fn place(place: &mut Self::SocketPlace) -> (&mut u64, &mut Self::SocketLead, &mut u32);
}

macro_rules! tables {
    ($family:ident, $addr:ty, $layouts:ident, $maglev:ident, [$flow:ident, $half_open:ident, $route:ident, $frontend:ident,
     $backend:ident, $member:ident, $source_range:ident, $affinity:ident, $socket:ident, $socket_rest:ident, $message:ident, $fragment:ident, $class_addr:ident, $class_net:ident, $opt_out:ident, $scratch:ident, $new_flow:ident], $reply:ident, $resume:ident,
     $related:ident, $open:ident, $apart:ident, $sweep:literal, $address_family:literal) => {
        impl Tables for $family {
            type PrefixKey = $layouts::PrefixKey;
            type AddressKey = $layouts::AddressKey;
            type SocketPlace = $layouts::SocketPlace;
            const FLOW: &'static Map<Self::FlowKey, Self::FlowPair> = &$flow;
            const HALF_OPEN: &'static Map<Self::FlowKey, Self::FlowPair> = &$half_open;
            const ROUTE: &'static Map<Self::PrefixKey, Route> = &$route;
            const FRONTEND: &'static Map<Self::FrontendKey, Frontend> = &$frontend;
            const BACKEND: &'static Map<BackendKey, Self::Backend> = &$backend;
            const MEMBER: &'static Map<Self::MemberKey, Member> = &$member;
            const SOURCE_RANGE: &'static Map<Self::SourceRangeKey, u32> = &$source_range;
            const AFFINITY: &'static Map<Self::AffinityKey, Self::Affinity> = &$affinity;
            const SOCKET: &'static Map<u32, Self::SocketPlace> = &$socket;
            const SOCKET_REST: &'static Map<u64, Self::SocketLead> = &$socket_rest;
            const MESSAGE: &'static Map<Self::SocketKey, Self::SocketPeer> = &$message;
            const FRAGMENT: &'static Map<Self::FragmentKey, [u8; 4]> = &$fragment;
            const CLASS_ADDR: &'static Map<Self::AddressKey, u32> = &$class_addr;
            const CLASS_NET: &'static Map<Self::PrefixKey, u32> = &$class_net;
            const OPT_OUT: &'static Map<Self::PrefixKey, u32> = &$opt_out;
            const SCRATCH: &'static Map<u32, State<Self>> = &$scratch;
            const NEW_FLOW: &'static Map<u32, Self::FlowPair> = &$new_flow;
            const REPLY: u32 = stage::$reply;
            const RESUME: u32 = stage::$resume;
            const RELATED: u32 = stage::$related;
            const OPEN: u32 = stage::$open;
            const APART: u32 = stage::$apart;
            const SWEEP: u32 = $sweep;
            const ADDRESS_FAMILY: u32 = $address_family;
            #[inline(always)]
            fn prefix_key(address: &$addr) -> Self::PrefixKey {
                $layouts::PrefixKey::host(*address)
            }
            #[inline(always)]
            fn maglev(key: &MaglevKey, within: u32) -> Option<Self::Backend> {
                $maglev.with(key, |piece| piece.places.get((within % MAGLEV_PIECE) as usize).copied())?
            }
            #[inline(always)]
            fn address_key(address: &$addr) -> Self::AddressKey {
                $layouts::AddressKey { address: *address }
            }
            #[inline(always)]
            fn place(place: &mut Self::SocketPlace) -> (&mut u64, &mut Self::SocketLead, &mut u32) {
                (&mut place.cookie, &mut place.lead, &mut place.others)
            }
        }
    };
}

tables!(
    V4,
    Ip4,
    v4,
    MAGLEV4,
    [
        FLOW4,
        HALF_OPEN4,
        ROUTE4,
        FRONTEND4,
        BACKEND4,
        MEMBER4,
        SOURCE_RANGE4,
        AFFINITY4,
        SOCKET4,
        SOCKET_REST4,
        MESSAGE4,
        FRAGMENT4,
        CLASS_ADDR4,
        CLASS_NET4,
        OPT_OUT4,
        SCRATCH4,
        NEW_FLOW4
    ],
    REPLY4,
    RESUME4,
    RELATED4,
    OPEN4,
    APART4,
    0,
    2
);
tables!(
    V6,
    Ip6,
    v6,
    MAGLEV6,
    [
        FLOW6,
        HALF_OPEN6,
        ROUTE6,
        FRONTEND6,
        BACKEND6,
        MEMBER6,
        SOURCE_RANGE6,
        AFFINITY6,
        SOCKET6,
        SOCKET_REST6,
        MESSAGE6,
        FRAGMENT6,
        CLASS_ADDR6,
        CLASS_NET6,
        OPT_OUT6,
        SCRATCH6,
        NEW_FLOW6
    ],
    REPLY6,
    RESUME6,
    RELATED6,
    OPEN6,
    APART6,
    1,
    10
);
