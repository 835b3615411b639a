//! Owns: IPv6 extension headers as bytes. Does not: order them. Invariant: each is as long as its length
//! field says, except `Raw`.

use tortie_wire::IpProtocol;
use tortie_wire::be::{Be16, Be32};
use tortie_wire::ip6::FragmentHeader;
use zerocopy::IntoBytes;

/// An IPv6 extension header. `units`: how many times 8 bytes (authentication: 4) beyond the shortest form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extension {
    /// Hop-by-hop options, filled with padding options: 8 + 8 × units bytes.
    HopByHop(u8),
    /// Destination options, filled with padding options: 8 + 8 × units bytes.
    Destination(u8),
    /// A routing header with no segments left: 8 + 8 × units bytes.
    Routing(u8),
    /// An authentication header: 12 + 4 × units bytes.
    Authentication(u8),
    /// A fragment header; `offset` in bytes.
    Fragment {
        /// Where in the whole payload this piece starts; a multiple of 8.
        offset: u16,
        /// Do more fragments follow?
        more: bool,
        /// Identification.
        id: u32,
    },
    /// Any bytes under any number; the first byte is overwritten with the next header.
    Raw(IpProtocol, Vec<u8>),
}

impl Extension {
    /// The number that announces it.
    pub fn protocol(&self) -> IpProtocol {
        match self {
            Self::HopByHop(_) => IpProtocol::HOP_BY_HOP,
            Self::Destination(_) => IpProtocol::DESTINATION,
            Self::Routing(_) => IpProtocol::ROUTING,
            Self::Authentication(_) => IpProtocol::AH,
            Self::Fragment { .. } => IpProtocol::FRAGMENT,
            Self::Raw(protocol, _) => *protocol,
        }
    }

    /// Must stay before a fragment header (RFC 8200 section 4.5).
    pub(super) fn is_per_fragment(&self) -> bool {
        matches!(self, Self::HopByHop(_) | Self::Routing(_))
    }

    /// Its bytes, announcing `next`.
    pub(super) fn bytes(&self, next: IpProtocol) -> Vec<u8> {
        match self {
            Self::HopByHop(units) | Self::Destination(units) => options(next, *units),
            Self::Routing(units) => {
                let mut bytes = vec![0; 8 + 8 * usize::from(*units)];
                // Type 253 is for experiments (RFC 4727); nothing left to visit.
                bytes[..4].copy_from_slice(&[next.0, *units, 253, 0]);
                bytes
            }
            Self::Authentication(units) => {
                let mut bytes = vec![0xa5; 12 + 4 * usize::from(*units)];
                bytes[..4].copy_from_slice(&[next.0, units + 1, 0, 0]);
                bytes
            }
            Self::Fragment { offset, more, id } => FragmentHeader {
                next,
                reserved: 0,
                offset_more: Be16::new((offset & 0xfff8) | u16::from(*more)),
                id: Be32::new(*id),
            }
            .as_bytes()
            .to_vec(),
            Self::Raw(_, bytes) => {
                let mut bytes = bytes.clone();
                if let Some(first) = bytes.first_mut() {
                    *first = next.0;
                }
                bytes
            }
        }
    }
}

/// An options header whose body is padding (RFC 8200 section 4.2), one PadN per 8 bytes.
fn options(next: IpProtocol, units: u8) -> Vec<u8> {
    let mut bytes = vec![next.0, units, 1, 4, 0, 0, 0, 0];
    for _ in 0..units {
        bytes.extend([1, 6, 0, 0, 0, 0, 0, 0]);
    }
    bytes
}
