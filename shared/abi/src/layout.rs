//! The layouts that hold addresses: one definition, one instance for each address family.
//!
//! A macro and not a generic struct, because the derive that proves "no padding" needs concrete types.
//! The family-generic logic reaches them through the associated types of its `Family` trait.

/// Defines every layout with an address inside for one family. `$flow_reserved` words fill [`Flow`](v4::Flow) and
/// [`SocketKey`](v4::SocketKey) up to their alignment.
macro_rules! family {
    ($module:ident, $addr:ty, $addr_bits:literal, $flow_reserved:literal) => {
        /// Layouts of this family.
        pub mod $module {
            use crate::flow::{Counters, FlowCore};
            use tortie_wire::Be16;
            use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

            /// Address of this family.
            pub type Addr = $addr;

            /// Key of one direction of a flow: the packet's own addresses and ports as it arrives
            /// at the hook. ICMP uses the identifier as both ports; protocols without ports use 0.
            #[derive(
                Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
            )]
            #[repr(C)]
            pub struct FlowKey {
                /// Source of the packets of this direction.
                pub source: $addr,
                /// Destination of the packets of this direction, before translation.
                pub destination: $addr,
                /// Source port, or ICMP identifier.
                pub source_port: Be16,
                /// Destination port, or ICMP identifier.
                pub destination_port: Be16,
                /// IP protocol number.
                pub protocol: u8,
                /// Zero.
                pub _zero: [u8; 3],
            }

            /// One direction of a flow, complete in itself: all that an established packet needs.
            #[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
            #[repr(C)]
            pub struct Flow {
                /// Packets and bytes of this direction.
                pub counters: Counters,
                /// Everything that has the same shape in both families.
                pub core: FlowCore,
                /// Meaning by [`flags`](crate::flow::flags): the new destination or the new source.
                pub nat_address: $addr,
                /// Zero; keeps the size a multiple of 8.
                pub _zero: [u32; $flow_reserved],
            }

            impl FlowKey {
                /// The key of the other direction, where nothing is translated.
                #[inline(always)]
                pub const fn reversed(&self) -> Self {
                    Self {
                        source: self.destination,
                        destination: self.source,
                        source_port: self.destination_port,
                        destination_port: self.source_port,
                        ..*self
                    }
                }

                /// The key of the element that holds this direction, and which of its [`FlowPair::ways`] it is. A direction and
                /// its reverse share an element, but for a few whose ends rank alike. Without a branch, so that the
                /// verifier need not follow two.
                #[inline(always)]
                pub const fn element(&self) -> (Self, u32) {
                    let (source, destination) =
                        (self.source.rank(self.source_port), self.destination.rank(self.destination_port));
                    let way = (destination.wrapping_sub(source) >> 63) as u32;
                    let mask = way.wrapping_neg();
                    let (source, destination) = <$addr>::exchanged(self.source, self.destination, mask);
                    let (first, second) = (self.source_port.raw(), self.destination_port.raw());
                    let ports = (first ^ second) & mask as u16;
                    let key = Self {
                        source,
                        destination,
                        source_port: Be16::from_raw(first ^ ports),
                        destination_port: Be16::from_raw(second ^ ports),
                        ..*self
                    };
                    (key, way)
                }
            }

            impl Flow {
                /// What stands where no direction is.
                pub const NONE: Self = Self {
                    counters: Counters { packets: 0, bytes: 0 },
                    core: FlowCore::NONE,
                    nat_address: <$addr>::UNSPECIFIED,
                    _zero: [0; $flow_reserved],
                };
            }

            /// Value of `flow` and `half_open`: what runs between two places, each direction complete in itself. Of a flow that is
            /// not translated both directions are here; one that is has an element before and one behind the
            /// translation, with a direction in each.
            #[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
            #[repr(C)]
            pub struct FlowPair {
                /// The direction that the element's key says, and its reverse; [`Flow::NONE`] where there is none.
                pub ways: [Flow; 2],
            }

            impl FlowPair {
                /// Nothing.
                pub const NONE: Self = Self { ways: [Flow::NONE; 2] };

                /// The entry that is there, or the place for it: an address that is computed, and no choice, of which the
                /// verifier would follow both sides.
                #[inline(always)]
                #[expect(clippy::indexing_slicing, reason = "one bit is an index of two places")]
                pub const fn way(&mut self, way: u32) -> &mut Flow {
                    &mut self.ways[(way & 1) as usize]
                }

                /// The directions that are in the element under `key`, each with its own key.
                pub fn directions(&self, key: &FlowKey) -> impl Iterator<Item = (FlowKey, Flow)> + use<> {
                    let [first, second] = self.ways;
                    let all = [(*key, first), (key.reversed(), second)];
                    all.into_iter().filter(|(_, flow)| flow.core.is_there())
                }
            }

            /// Key of the longest-prefix maps (`route`, `class_net`). The kernel compares
            /// `prefix_length` leading bits of `address`.
            #[derive(
                Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
            )]
            #[repr(C)]
            pub struct PrefixKey {
                /// Significant bits of `address`.
                pub prefix_length: u32,
                /// The address; bits beyond `prefix_length` are zero in stored keys.
                pub address: $addr,
            }

            impl PrefixKey {
                /// Bits of a full address of this family.
                pub const ADDRESS_BITS: u32 = $addr_bits;

                /// The key that looks up one address.
                #[inline(always)]
                pub const fn host(address: $addr) -> Self {
                    Self { prefix_length: Self::ADDRESS_BITS, address }
                }
            }

            /// Key of the exact-address map (`class_addr`).
            #[derive(
                Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
            )]
            #[repr(C)]
            pub struct AddressKey {
                /// The address.
                pub address: $addr,
            }

            /// Key of a Service front end.
            #[derive(
                Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
            )]
            #[repr(C)]
            pub struct FrontendKey {
                /// The Service address.
                pub address: $addr,
                /// The Service port.
                pub port: Be16,
                /// IP protocol number.
                pub protocol: u8,
                /// Zero.
                pub _zero: u8,
            }

            /// One back end of a Service port.
            #[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
            #[repr(C)]
            pub struct Backend {
                /// The endpoint's address.
                pub address: $addr,
                /// The endpoint's port.
                pub port: Be16,
                /// Zero.
                pub _zero: u16,
            }

            /// Value of `maglev`: consecutive places of a consistent-hash table; beyond its end it begins again.
            #[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
            #[repr(C)]
            pub struct MaglevPiece {
                /// The back end at each place.
                pub places: [Backend; crate::service::MAGLEV_PIECE as usize],
            }

            /// Key of `member`: one back end of one Service port.
            #[derive(
                Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
            )]
            #[repr(C)]
            pub struct MemberKey {
                /// [`Frontend::service`](crate::service::Frontend::service).
                pub service: u32,
                /// The back end's address.
                pub address: $addr,
                /// The back end's port.
                pub port: Be16,
                /// Zero.
                pub _zero: u16,
            }

            /// Key of `source_range`: clients that may use a Service port. The kernel compares `prefix_length`
            /// leading bits of Service and address, of which the Service's always count.
            #[derive(
                Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
            )]
            #[repr(C)]
            pub struct SourceRangeKey {
                /// 32, and the significant bits of `client`.
                pub prefix_length: u32,
                /// [`Frontend::service`](crate::service::Frontend::service).
                pub service: u32,
                /// The clients' addresses; bits beyond the prefix are zero in stored keys.
                pub client: $addr,
            }

            impl SourceRangeKey {
                /// Of the Service.
                pub const SERVICE_BITS: u32 = 32;

                /// The key that looks up one client.
                #[inline(always)]
                pub const fn client(service: u32, client: $addr) -> Self {
                    Self { prefix_length: Self::SERVICE_BITS + $addr_bits, service, client }
                }
            }

            /// Key of `affinity`: one client of one Service port.
            #[derive(
                Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
            )]
            #[repr(C)]
            pub struct AffinityKey {
                /// The client's address; zero when `netns` names it.
                pub client: $addr,
                /// [`Frontend::service`](crate::service::Frontend::service).
                pub service: u32,
                /// Cookie of the client's network namespace, or [`NO_NETNS`](crate::service::NO_NETNS).
                pub netns: [u32; 2],
            }

            /// The back end that a client is led to again.
            #[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
            #[repr(C)]
            pub struct Affinity {
                /// The back end's address.
                pub address: $addr,
                /// The back end's port.
                pub port: Be16,
                /// Zero.
                pub _zero: u16,
                /// The client's last new connection.
                pub last_use: crate::service::LastUse,
            }

            /// Key of `socket` and `message`: what one socket knows by an address.
            #[derive(
                Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
            )]
            #[repr(C)]
            pub struct SocketKey {
                /// The kernel's number of the socket, never used for another one.
                pub cookie: u64,
                /// An address that the socket talks to.
                pub address: $addr,
                /// Its port.
                pub port: Be16,
                /// IP protocol number.
                pub protocol: u8,
                /// [`side`](crate::socket::side): whose address it is.
                pub side: u8,
                /// Zero; keeps the size a multiple of 8.
                pub _zero: [u32; $flow_reserved],
            }

            /// Where a connected socket was led to, and from where.
            #[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
            #[repr(C)]
            pub struct SocketLead {
                /// The back end.
                pub backend: $addr,
                /// The Service's address, which the socket asked for.
                pub service: $addr,
                /// The back end's port.
                pub backend_port: Be16,
                /// The Service's.
                pub service_port: Be16,
            }

            /// Value of `socket`: the place of one of the sockets whose numbers fall on it.
            #[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
            #[repr(C)]
            pub struct SocketPlace {
                /// The socket's number; 0: nobody's.
                pub cookie: u64,
                /// What is remembered of it.
                pub lead: SocketLead,
                /// How many others, whose numbers fall here as well, have an entry in `socket_rest`.
                pub others: u32,
            }

            /// Value of `message`: the other name of that address.
            #[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
            #[repr(C)]
            pub struct SocketPeer {
                /// The other address.
                pub address: $addr,
                /// Its port.
                pub port: Be16,
                /// Zero.
                pub _zero: u16,
                /// The Service port that it is about.
                pub service: u32,
                /// When it was last used to send.
                pub last_use: crate::Tick,
            }

            /// What one node tells another behind a packet in the tunnel: the front end that was asked. The sum of its
            /// words is that of nothing, so that a checksum which is completed over it stays right.
            #[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
            #[repr(C)]
            pub struct Note {
                /// The front end's address.
                pub address: $addr,
                /// Its port.
                pub port: Be16,
                /// Complements the sum.
                pub balance: Be16,
            }

            /// Key of the ports of a fragmented packet, learnt from its first fragment.
            #[derive(
                Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
            )]
            #[repr(C)]
            pub struct FragmentKey {
                /// Source address.
                pub source: $addr,
                /// Destination address.
                pub destination: $addr,
                /// Identification field (IPv4: 16 bits), as on the wire.
                pub identification: u32,
                /// IP protocol number of the fragmented payload.
                pub protocol: u8,
                /// Zero.
                pub _zero: [u8; 3],
            }
        }
    };
}

family!(v4, tortie_wire::Ip4, 32, 0);
family!(v6, tortie_wire::Ip6, 128, 1);

const _: () = assert!(size_of::<v4::FlowKey>() == 16 && size_of::<v4::Flow>() == 48);
const _: () = assert!(size_of::<v6::FlowKey>() == 40 && size_of::<v6::Flow>() == 64);
const _: () = assert!(size_of::<v4::FlowPair>() == 96 && size_of::<v6::FlowPair>() == 128);
const _: () = assert!(size_of::<v4::PrefixKey>() == 8 && size_of::<v6::PrefixKey>() == 20);
const _: () = assert!(size_of::<v4::FrontendKey>() == 8 && size_of::<v6::FrontendKey>() == 20);
const _: () = assert!(size_of::<v4::Backend>() == 8 && size_of::<v6::Backend>() == 20);
const _: () = assert!(size_of::<v4::MaglevPiece>() == 1024 && size_of::<v6::MaglevPiece>() == 2560);
const _: () = assert!(size_of::<v4::MemberKey>() == 12 && size_of::<v6::MemberKey>() == 24);
const _: () = assert!(size_of::<v4::SourceRangeKey>() == 12 && size_of::<v6::SourceRangeKey>() == 24);
const _: () = assert!(size_of::<v4::AffinityKey>() == 16 && size_of::<v6::AffinityKey>() == 28);
const _: () = assert!(size_of::<v4::Affinity>() == 12 && size_of::<v6::Affinity>() == 24);
const _: () = assert!(size_of::<v4::SocketKey>() == 16 && size_of::<v6::SocketKey>() == 32);
const _: () = assert!(size_of::<v4::SocketLead>() == 12 && size_of::<v6::SocketLead>() == 36);
const _: () = assert!(size_of::<v4::SocketPlace>() == 24 && size_of::<v6::SocketPlace>() == 48);
const _: () = assert!(size_of::<v4::SocketPeer>() == 16 && size_of::<v6::SocketPeer>() == 28);
const _: () = assert!(size_of::<v4::Note>() == 8 && size_of::<v6::Note>() == 20);
const _: () = assert!(size_of::<v4::FragmentKey>() == 16 && size_of::<v6::FragmentKey>() == 40);
