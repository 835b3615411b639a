//! The list of maps: the one place that knows name, type, size, version and writer of each.

use crate::{counter, endpoint, flow, policy, route, service, settings, stage, sweep, v4, v6};

/// Kernel map type, by its number in `enum bpf_map_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum MapKind {
    /// `BPF_MAP_TYPE_HASH`
    Hash = 1,
    /// `BPF_MAP_TYPE_ARRAY`
    Array = 2,
    /// `BPF_MAP_TYPE_PROG_ARRAY`
    ProgArray = 3,
    /// `BPF_MAP_TYPE_PERCPU_HASH`
    PerCpuHash = 5,
    /// `BPF_MAP_TYPE_PERCPU_ARRAY`
    PerCpuArray = 6,
    /// `BPF_MAP_TYPE_LRU_HASH`
    LruHash = 9,
    /// `BPF_MAP_TYPE_LPM_TRIE`
    LpmTrie = 11,
    /// `BPF_MAP_TYPE_RINGBUF`
    RingBuf = 27,
}

/// Who changes a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// Only user space.
    Agent,
    /// Only the programs.
    Kernel,
    /// Both: the programs in passing, user space in maintenance.
    Both,
}

/// One map.
#[derive(Clone, Copy, Debug)]
pub struct MapSpec {
    /// Name in the object file and, with `_v<version>` appended, below the bpffs directory.
    pub name: &'static str,
    /// Type.
    pub kind: MapKind,
    /// Key size in bytes.
    pub key_bytes: u32,
    /// Value size in bytes.
    pub value_bytes: u32,
    /// Default for `max_entries` (bytes for a ring buffer).
    pub max_entries: u32,
    /// `BPF_F_*` creation flags.
    pub flags: u32,
    /// ABI version of key and value.
    pub version: u32,
    /// Who changes it.
    pub writer: Writer,
}

/// `BPF_F_NO_PREALLOC`: entries are allocated as they come, so that an idle node costs little.
pub const NO_PREALLOC: u32 = 1;

/// Elements in each family's main flow table at first: one for each flow, two for each that is translated.
pub const FLOW_ENTRIES: u32 = 65_536;
/// Elements in each family's half-open table, as in the main one: LRU tables are allocated at once.
pub const HALF_OPEN_ENTRIES: u32 = 20_480;
/// Pieces of consistent-hash tables in each family: room for 100 Services with 10,007 places each.
pub const MAGLEV_PIECES: u32 = 100 * 10_007_u32.div_ceil(service::MAGLEV_PIECE);
/// Clients with session affinity in each family: LRU tables are allocated at once.
pub const AFFINITY_ENTRIES: u32 = 8_192;
/// Places of each family for open connections that were led from a Service to a back end by their socket; a power of two.
pub const SOCKET_PLACES: u32 = 8_192;
/// Those of each family whose place another one has.
pub const SOCKET_REST_ENTRIES: u32 = 16_384;
/// What sockets that send single messages remember in each family: LRU tables are allocated at once.
pub const MESSAGE_ENTRIES: u32 = 4_096;
/// Slots for workloads on this node.
pub const ENDPOINT_SLOTS: u32 = 2048;
/// Datagrams of each family of which fragments are on their way: LRU tables are allocated at once.
pub const FRAGMENT_ENTRIES: u32 = 2_048;
/// Slots for other nodes, two for each dual-stack node: room for 5,120 of them.
pub const NEXT_HOP_SLOTS: u32 = 10_240;
/// Slots for policy programs.
pub const POLICY_SLOTS: u32 = 8192;
/// Rule ids.
pub const RULE_SLOTS: u32 = 65_536;
/// No map of [`GROWING`] becomes larger by itself.
pub const MOST_ENTRIES: u32 = 1 << 20;

macro_rules! maps {
    ($($const:ident = $name:literal, $kind:ident, $key:ty => $value:ty, $max:expr, $flags:expr, v $version:literal, $writer:ident;)+) => {
        $(
            #[doc = concat!("Map `", $name, "`.")]
            pub const $const: MapSpec = MapSpec {
                name: $name,
                kind: MapKind::$kind,
                key_bytes: size_of::<$key>() as u32,
                value_bytes: size_of::<$value>() as u32,
                max_entries: $max,
                flags: $flags,
                version: $version,
                writer: Writer::$writer,
            };
        )+
        /// Every map.
        pub const ALL: &[MapSpec] = &[$($const,)+];
    };
}

maps! {
    FLOW4 = "flow4", Hash, v4::FlowKey => v4::FlowPair, FLOW_ENTRIES, NO_PREALLOC, v 2, Both;
    FLOW6 = "flow6", Hash, v6::FlowKey => v6::FlowPair, FLOW_ENTRIES, NO_PREALLOC, v 2, Both;
    HALF_OPEN4 = "half_open4", LruHash, v4::FlowKey => v4::FlowPair, HALF_OPEN_ENTRIES, 0, v 2, Both;
    HALF_OPEN6 = "half_open6", LruHash, v6::FlowKey => v6::FlowPair, HALF_OPEN_ENTRIES, 0, v 2, Both;
    ROUTE4 = "route4", LpmTrie, v4::PrefixKey => route::Route, 262_144, NO_PREALLOC, v 1, Agent;
    ROUTE6 = "route6", LpmTrie, v6::PrefixKey => route::Route, 262_144, NO_PREALLOC, v 1, Agent;
    FRONTEND4 = "frontend4", Hash, v4::FrontendKey => service::Frontend, 8_192, NO_PREALLOC, v 3, Agent;
    FRONTEND6 = "frontend6", Hash, v6::FrontendKey => service::Frontend, 8_192, NO_PREALLOC, v 3, Agent;
    BACKEND4 = "backend4", Hash, service::BackendKey => v4::Backend, 16_384, NO_PREALLOC, v 1, Agent;
    BACKEND6 = "backend6", Hash, service::BackendKey => v6::Backend, 16_384, NO_PREALLOC, v 1, Agent;
    MEMBER4 = "member4", Hash, v4::MemberKey => service::Member, 8_192, NO_PREALLOC, v 1, Agent;
    MEMBER6 = "member6", Hash, v6::MemberKey => service::Member, 8_192, NO_PREALLOC, v 1, Agent;
    MAGLEV4 = "maglev4", Hash, service::MaglevKey => v4::MaglevPiece, MAGLEV_PIECES, NO_PREALLOC, v 1, Agent;
    MAGLEV6 = "maglev6", Hash, service::MaglevKey => v6::MaglevPiece, MAGLEV_PIECES, NO_PREALLOC, v 1, Agent;
    SOURCE_RANGE4 = "source_range4", LpmTrie, v4::SourceRangeKey => u32, 65_536, NO_PREALLOC, v 1, Agent;
    SOURCE_RANGE6 = "source_range6", LpmTrie, v6::SourceRangeKey => u32, 65_536, NO_PREALLOC, v 1, Agent;
    AFFINITY4 = "affinity4", LruHash, v4::AffinityKey => v4::Affinity, AFFINITY_ENTRIES, 0, v 1, Kernel;
    AFFINITY6 = "affinity6", LruHash, v6::AffinityKey => v6::Affinity, AFFINITY_ENTRIES, 0, v 1, Kernel;
    SOCKET4 = "socket4", Array, u32 => v4::SocketPlace, SOCKET_PLACES, 0, v 3, Kernel;
    SOCKET6 = "socket6", Array, u32 => v6::SocketPlace, SOCKET_PLACES, 0, v 3, Kernel;
    SOCKET_REST4 = "socket_rest4", Hash, u64 => v4::SocketLead, SOCKET_REST_ENTRIES, NO_PREALLOC, v 1, Kernel;
    SOCKET_REST6 = "socket_rest6", Hash, u64 => v6::SocketLead, SOCKET_REST_ENTRIES, NO_PREALLOC, v 1, Kernel;
    MESSAGE4 = "message4", LruHash, v4::SocketKey => v4::SocketPeer, MESSAGE_ENTRIES, 0, v 1, Kernel;
    MESSAGE6 = "message6", LruHash, v6::SocketKey => v6::SocketPeer, MESSAGE_ENTRIES, 0, v 1, Kernel;
    FRAGMENT4 = "fragment4", LruHash, v4::FragmentKey => [u8; 4], FRAGMENT_ENTRIES, 0, v 1, Kernel;
    FRAGMENT6 = "fragment6", LruHash, v6::FragmentKey => [u8; 4], FRAGMENT_ENTRIES, 0, v 1, Kernel;
    CLASS_ADDR4 = "class_addr4", Hash, v4::AddressKey => u32, 16_384, NO_PREALLOC, v 1, Agent;
    CLASS_ADDR6 = "class_addr6", Hash, v6::AddressKey => u32, 16_384, NO_PREALLOC, v 1, Agent;
    CLASS_NET4 = "class_net4", LpmTrie, v4::PrefixKey => u32, 65_536, NO_PREALLOC, v 1, Agent;
    CLASS_NET6 = "class_net6", LpmTrie, v6::PrefixKey => u32, 65_536, NO_PREALLOC, v 1, Agent;
    OPT_OUT4 = "opt_out4", LpmTrie, v4::PrefixKey => u32, 16_384, NO_PREALLOC, v 1, Agent;
    OPT_OUT6 = "opt_out6", LpmTrie, v6::PrefixKey => u32, 16_384, NO_PREALLOC, v 1, Agent;
    ENDPOINT = "endpoint", Array, u32 => endpoint::Endpoint, ENDPOINT_SLOTS, 0, v 1, Agent;
    NEXT_HOP = "next_hop", Array, u32 => endpoint::NextHop, NEXT_HOP_SLOTS, 0, v 2, Agent;
    SETTINGS = "settings", Array, u32 => settings::Settings, 1, 0, v 4, Agent;
    POLICY = "policy", ProgArray, u32 => u32, POLICY_SLOTS, 0, v 1, Agent;
    STAGE = "stage", ProgArray, u32 => u32, stage::COUNT, 0, v 1, Agent;
    POLICY_IO = "policy_io", PerCpuArray, u32 => policy::PolicyIo, 1, 0, v 1, Kernel;
    RULE_COUNTER = "rule_counter", Array, u32 => counter::Counter, RULE_SLOTS, 0, v 1, Both;
    COUNTER = "counter", PerCpuHash, counter::CounterKey => counter::Counter, 16_384, NO_PREALLOC, v 1, Both;
    EVENT = "event", RingBuf, () => (), 1 << 18, 0, v 1, Kernel;
    EVENT_LOST = "event_lost", PerCpuArray, u32 => u64, 1, 0, v 1, Both;
    SWEEP = "sweep", Array, u32 => sweep::Sweep, 2, 0, v 3, Both;
}

/// Maps that begin small, since a hash table costs 16 bytes for each element that it could hold, and grow with what is in them.
pub const GROWING: [MapSpec; 10] =
    [FLOW4, FLOW6, FRONTEND4, FRONTEND6, BACKEND4, BACKEND6, MEMBER4, MEMBER6, CLASS_ADDR4, CLASS_ADDR6];

const _: () = assert!(size_of::<v4::FlowKey>() + size_of::<v4::FlowPair>() <= 128);
const _: () = assert!(size_of::<v6::FlowKey>() + size_of::<v6::FlowPair>() <= 208);
const _: () = assert!(size_of::<flow::Counters>() == 16 && SOCKET_PLACES.is_power_of_two());
