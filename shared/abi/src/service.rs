//! Services: front ends and the keys of their back ends.
//!
//! The back ends of a Service port are `backend[{service, ordinal}]`, in three groups one after the other: those
//! on this node that only node-local traffic may use, those on this node that all traffic may use, those
//! elsewhere. So `0 .. local_backends` are the ones on this node, and `first .. first + backends` the ones for
//! the whole cluster (which topology hints may have narrowed). No cluster-wide one: there is none at all.

use crate::Tick;
use core::net::IpAddr;
use tortie_wire::{Be16, Be32, Ip4, Ip6};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Value of `frontend`.
///
/// A key with the unspecified address stands for every address of this node ([`flags::NODE_PORT`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Frontend {
    /// Id of the Service port in this family; never 0, and never used for another one.
    pub service: u32,
    /// Ordinal of the first back end that traffic of policy `Cluster` may choose.
    pub first: u32,
    /// How many it may choose from; 0: refuse with a reset or port unreachable.
    pub backends: u32,
    /// How many back ends are on this node, from ordinal 0.
    pub local_backends: u32,
    /// Session affinity's time-out in ticks since the client's last new connection; 0: no affinity.
    pub affinity: u32,
    /// Places of the Service's consistent-hash table that clients outside are led by; 0: back ends are chosen at random.
    pub maglev_slots: u32,
    /// [`flags`].
    pub flags: u32,
    /// The back end at [`Frontend::first`] where it is the only one for the whole cluster: a socket that is connected need not
    /// look into `backend`, which is one cold element less. An IPv4 address is the first word.
    pub lone_address: Ip6,
    /// Its port; 0: it is not told here.
    pub lone_port: Be16,
    /// Zero.
    pub _zero: u16,
}

impl Frontend {
    /// The same, with its lone back end told.
    pub fn with_lone(self, address: IpAddr, port: Be16) -> Self {
        let lone_address = match address {
            IpAddr::V4(a) => Ip6([Ip4::from(a).0, Be32::ZERO, Be32::ZERO, Be32::ZERO]),
            IpAddr::V6(a) => a.into(),
        };
        Self { lone_address, lone_port: port, ..self }
    }
}

/// Bits of [`Frontend::flags`].
pub mod flags {
    /// Clients inside the cluster only get back ends on this node (`internalTrafficPolicy: Local`).
    pub const INTERNAL_LOCAL: u32 = 1 << 0;
    /// Clients outside only get back ends on this node (`externalTrafficPolicy: Local`).
    pub const EXTERNAL_LOCAL: u32 = 1 << 1;
    /// An address that the outside uses: a node port, an external or a load balancer's address. Clients
    /// inside the cluster meet no traffic policy there.
    pub const EXTERNAL: u32 = 1 << 2;
    /// A port of the node itself.
    pub const NODE_PORT: u32 = 1 << 3;
    /// Only clients in `source_range` are served (`loadBalancerSourceRanges`).
    pub const SOURCE_RANGES: u32 = 1 << 4;
    /// It is a pod's (`hostPort`); for people.
    pub const HOST_PORT: u32 = 1 << 5;
    /// Not translated: packets go where the address leads by itself (`bpfExcludeCIDRsFromNAT`, `natExcludeService`).
    pub const UNTRANSLATED: u32 = 1 << 6;
}

/// Key of `backend`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BackendKey {
    /// [`Frontend::service`].
    pub service: u32,
    /// From 0.
    pub ordinal: u32,
}

/// Key of `maglev`: a piece of a Service port's consistent-hash table, which holds the addresses themselves, so that it
/// is the same on every node whatever the ordinals are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MaglevKey {
    /// [`Frontend::service`].
    pub service: u32,
    /// Place in the table by [`MAGLEV_PIECE`].
    pub piece: u32,
}

/// Places in one piece of a consistent-hash table; a power of two.
pub const MAGLEV_PIECE: u32 = 128;

impl MaglevKey {
    /// Where a place of a Service's table is: the piece, and the place within.
    #[inline(always)]
    pub const fn of(service: u32, place: u32) -> (Self, u32) {
        (Self { service, piece: place / MAGLEV_PIECE }, place % MAGLEV_PIECE)
    }
}

/// Value of `member`: where a back end stands. A back end of the Service that new connections may not choose (one
/// that terminates while others are ready) has [`Member::NOT_CHOSEN`]; one that is none has no entry. Only Services
/// whose back ends are looked for by their address have any: of UDP, and with session affinity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Member {
    /// [`BackendKey::ordinal`].
    pub ordinal: u32,
}

impl Member {
    /// In [`Member::ordinal`].
    pub const NOT_CHOSEN: u32 = u32::MAX;
}

/// In an affinity key: the client is known by its address and not by a network namespace.
pub const NO_NETNS: [u32; 2] = [0; 2];

/// The kernel's number (cookie) of a network namespace as records have it, its low half first.
#[inline(always)]
pub const fn netns_words(cookie: u64) -> [u32; 2] {
    [cookie as u32, (cookie >> 32) as u32]
}

/// When a client was last led to its back end.
pub type LastUse = Tick;

const _: () = assert!(size_of::<Frontend>() == 48 && size_of::<BackendKey>() == 8);
const _: () = assert!(size_of::<MaglevKey>() == 8 && MAGLEV_PIECE.is_power_of_two());
