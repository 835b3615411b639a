//! Header values as they are on the wire.
//!
//! Owns: the layouts of Ethernet, ARP, IPv4, IPv6, TCP, UDP, SCTP, ICMP and VXLAN headers, addresses,
//! byte-order types and checksums. Does not: know hooks, maps, policy, or how a byte is fetched.
//! Invariant: every type here is plain bytes without padding, read and written by value; no function
//! can panic, whatever the bytes say, so that the same source compiles to BPF.
//!
//! Alignment: the types have the natural alignment of their fields, which gives the compiler single loads.
//! In a frame they are often at an unaligned place; a reader copies them out by value ([`read_at`], or the
//! data path's `load`), never by reference.
#![no_std]
#![forbid(unsafe_code)]
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic,
    clippy::integer_division,
    clippy::modulo_arithmetic,
    clippy::cast_possible_truncation
)]

pub mod addr;
pub mod arp;
pub mod be;
pub mod checksum;
pub mod crc32c;
pub mod eth;
pub mod icmp4;
pub mod icmp6;
pub mod ip4;
pub mod ip6;
pub mod ipip;
pub mod proto;
pub mod sctp;
pub mod tcp;
pub mod udp;
pub mod vxlan;

mod bytes;

pub use addr::{Ip4, Ip6, Mac};
pub use be::{Be16, Be32, Be64};
pub use bytes::{read_at, write_at};
pub use proto::IpProtocol;
