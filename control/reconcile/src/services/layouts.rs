//! Keys and values of the Services' tables in each address family.
//!
//! Owns: how an address of the model stands in a layout, and which table of the kernel is whose.
//! Does not: decide what the tables hold.
//! Invariant: an address is never written into the other family's tables.

use crate::kernel::{Dyn, Kernel};
use ipnet::IpNet;
use std::hash::Hash;
use std::net::IpAddr;
use tortie_abi::service::{BackendKey, Frontend, MaglevKey, Member};
use tortie_abi::{v4, v6};
use tortie_intent::{Backend, Frontend as Address};
use tortie_model::workload::Transport;
use tortie_wire::Be16;
use zerocopy::FromZeros;

/// What differs between the families.
pub(super) trait Family {
    /// Key of `frontend`.
    type FrontendKey: Copy + Eq + Hash + std::fmt::Debug;
    /// Value of `backend`.
    type Backend: Copy + PartialEq + std::fmt::Debug;
    /// Key of `member`.
    type MemberKey: Copy + Eq + Hash + std::fmt::Debug;
    /// Value of `maglev`.
    type Piece: Copy + PartialEq + std::fmt::Debug;
    /// Key of `source_range`.
    type RangeKey: Copy + Eq + Hash + std::fmt::Debug;
    /// IPv6?
    const V6: bool;
    /// Names of the tables: front ends, back ends, members, consistent-hash tables, source ranges.
    const NAMES: [&'static str; 5];
    /// `None`: the address is of the other family.
    fn frontend_key(at: &Address, transport: Transport) -> Option<Self::FrontendKey>;
    /// `None`: the address is of the other family.
    fn member_key(service: u32, backend: &Backend) -> Option<Self::MemberKey>;
    /// `None`: the prefix is of the other family.
    fn range_key(service: u32, net: &IpNet) -> Option<Self::RangeKey>;
    /// Consecutive places of a consistent-hash table, at most as many as a piece has.
    fn piece(places: &[Self::Backend]) -> Self::Piece;
    /// What a back end is known by wherever it is a member: its address and port.
    fn identity(member: &Self::MemberKey) -> u128;
    /// Its address and port.
    fn place(member: &Self::MemberKey) -> (IpAddr, Be16);
    /// The back end that a member is.
    fn backend_of(member: &Self::MemberKey) -> Self::Backend;
    /// The member that a back end of a Service is.
    fn member_of(service: u32, backend: &Self::Backend) -> Self::MemberKey;
    /// `frontend`.
    fn frontends(kernel: &mut Kernel) -> &mut Dyn<Self::FrontendKey, Frontend>;
    /// `backend`.
    fn backends(kernel: &mut Kernel) -> &mut Dyn<BackendKey, Self::Backend>;
    /// `member`.
    fn members(kernel: &mut Kernel) -> &mut Dyn<Self::MemberKey, Member>;
    /// `maglev`.
    fn pieces(kernel: &mut Kernel) -> &mut Dyn<MaglevKey, Self::Piece>;
    /// `source_range`.
    fn ranges(kernel: &mut Kernel) -> &mut Dyn<Self::RangeKey, u32>;
}

macro_rules! family {
    ($name:ident, $addr:ident, $v6:literal, $layouts:ident, $variant:ident, $names:expr,
     $frontends:ident, $backends:ident, $members:ident, $pieces:ident, $ranges:ident) => {
        /// The family.
        #[derive(Debug)]
        pub(super) enum $name {}

        impl Family for $name {
            type FrontendKey = $layouts::FrontendKey;
            type Backend = $layouts::Backend;
            type MemberKey = $layouts::MemberKey;
            type Piece = $layouts::MaglevPiece;
            type RangeKey = $layouts::SourceRangeKey;
            const V6: bool = $v6;
            const NAMES: [&'static str; 5] = $names;
            fn frontend_key(at: &Address, transport: Transport) -> Option<Self::FrontendKey> {
                let IpAddr::$variant(address) = at.address else { return None };
                let (port, protocol) = (at.port.into(), transport.number());
                Some($layouts::FrontendKey { address: address.into(), port, protocol, _zero: 0 })
            }
            fn member_key(service: u32, backend: &Backend) -> Option<Self::MemberKey> {
                let IpAddr::$variant(address) = backend.address else { return None };
                Some($layouts::MemberKey {
                    service,
                    address: address.into(),
                    port: backend.port.into(),
                    _zero: 0,
                })
            }
            fn range_key(service: u32, net: &IpNet) -> Option<Self::RangeKey> {
                let IpAddr::$variant(client) = net.network() else { return None };
                let prefix_length =
                    $layouts::SourceRangeKey::SERVICE_BITS.saturating_add(net.prefix_len().into());
                Some($layouts::SourceRangeKey { prefix_length, service, client: client.into() })
            }
            fn piece(places: &[Self::Backend]) -> Self::Piece {
                let mut piece = Self::Piece::new_zeroed();
                piece.places.iter_mut().zip(places).for_each(|(to, from)| *to = *from);
                piece
            }
            fn identity(member: &Self::MemberKey) -> u128 {
                // An IPv6 address fills the number: the port is spread over it.
                let address = u128::from(std::net::$addr::from(member.address).to_bits());
                address ^ u128::from(member.port.get()).wrapping_mul(PORT_FACTOR)
            }
            fn place(member: &Self::MemberKey) -> (IpAddr, Be16) {
                (std::net::$addr::from(member.address).into(), member.port)
            }
            fn backend_of(member: &Self::MemberKey) -> Self::Backend {
                $layouts::Backend { address: member.address, port: member.port, _zero: 0 }
            }
            fn member_of(service: u32, backend: &Self::Backend) -> Self::MemberKey {
                $layouts::MemberKey { service, address: backend.address, port: backend.port, _zero: 0 }
            }
            fn frontends(kernel: &mut Kernel) -> &mut Dyn<Self::FrontendKey, Frontend> {
                &mut kernel.$frontends
            }
            fn backends(kernel: &mut Kernel) -> &mut Dyn<BackendKey, Self::Backend> {
                &mut kernel.$backends
            }
            fn members(kernel: &mut Kernel) -> &mut Dyn<Self::MemberKey, Member> {
                &mut kernel.$members
            }
            fn pieces(kernel: &mut Kernel) -> &mut Dyn<MaglevKey, Self::Piece> {
                &mut kernel.$pieces
            }
            fn ranges(kernel: &mut Kernel) -> &mut Dyn<Self::RangeKey, u32> {
                &mut kernel.$ranges
            }
        }
    };
}

/// Odd, so that different ports stay different; the golden ratio's digits.
const PORT_FACTOR: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;

const NAMES4: [&str; 5] = ["frontend4", "backend4", "member4", "maglev4", "source_range4"];
const NAMES6: [&str; 5] = ["frontend6", "backend6", "member6", "maglev6", "source_range6"];
family!(V4, Ipv4Addr, false, v4, V4, NAMES4, frontend4, backend4, member4, maglev4, source_range4);
family!(V6, Ipv6Addr, true, v6, V6, NAMES6, frontend6, backend6, member6, maglev6, source_range6);
