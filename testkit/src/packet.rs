//! Packets for tests.
//!
//! Owns: building frames of every kind the data path meets, right ones and wrong ones, and telling whether a
//! frame's checksums are right. Does not: send anything. Invariant: what is built is right unless a method
//! whose name says otherwise was called; [`verify_checksums`] shares no code with the builder's checksums.

mod build;
mod extension;
mod garbage;
mod link;
mod transport;
mod verify;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crc::{CRC_32_ISCSI, Crc};
use tortie_wire::tcp::TcpFlags;
use tortie_wire::{IpProtocol, Mac};

pub use extension::Extension;
pub use garbage::{bit_flips, truncations};
pub use link::{
    arp_reply, arp_request, neighbour_advertisement, neighbour_solicitation, router_advertisement,
};
pub use verify::{verify_checksums, verify_ip_checksums};

use transport::Transport;

/// The checksum of SCTP (RFC 9260 appendix A).
const CRC32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// Ethernet address of the sender unless told otherwise.
pub const SRC_MAC: Mac = Mac([0x02, 0, 0, 0, 0, 0x01]);
/// Ethernet address of the receiver unless told otherwise.
pub const DST_MAC: Mac = Mac([0x02, 0, 0, 0, 0, 0x02]);

/// Builds one packet. Without a transport the payload follows the IP header directly.
#[derive(Clone, Debug)]
pub struct PacketBuilder {
    src_mac: Mac,
    dst_mac: Mac,
    vlan: Option<u16>,
    net: Net,
    tos: u8,
    ttl: u8,
    transport: Transport,
    payload: Vec<u8>,
    wrong_l3: bool,
    wrong_l4: bool,
    patches: Vec<(Layer, usize, Vec<u8>)>,
}

#[derive(Clone, Debug)]
enum Net {
    V4 { src: Ipv4Addr, dst: Ipv4Addr, id: u16, flags_fragment: u16, options: Vec<u8> },
    V6 { src: Ipv6Addr, dst: Ipv6Addr, flow_label: u32, extensions: Vec<Extension> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layer {
    Ip,
    Transport,
}

impl PacketBuilder {
    /// An IPv4 packet: TTL 64, identification 1, may be fragmented.
    pub fn ipv4(src: Ipv4Addr, dst: Ipv4Addr) -> Self {
        Self::new(Net::V4 { src, dst, id: 1, flags_fragment: 0, options: Vec::new() })
    }

    /// An IPv6 packet: hop limit 64.
    pub fn ipv6(src: Ipv6Addr, dst: Ipv6Addr) -> Self {
        Self::new(Net::V6 { src, dst, flow_label: 0, extensions: Vec::new() })
    }

    /// A packet of the family of both addresses, which must be the same.
    pub fn ip(src: IpAddr, dst: IpAddr) -> Self {
        match (src, dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => Self::ipv4(src, dst),
            (IpAddr::V6(src), IpAddr::V6(dst)) => Self::ipv6(src, dst),
            _ => panic!("{src} and {dst} are of different families"),
        }
    }

    fn new(net: Net) -> Self {
        Self {
            src_mac: SRC_MAC,
            dst_mac: DST_MAC,
            vlan: None,
            net,
            tos: 0,
            ttl: 64,
            transport: Transport::Raw(IpProtocol(253)),
            payload: Vec::new(),
            wrong_l3: false,
            wrong_l4: false,
            patches: Vec::new(),
        }
    }

    /// Ethernet addresses.
    pub fn mac(mut self, src: Mac, dst: Mac) -> Self {
        (self.src_mac, self.dst_mac) = (src, dst);
        self
    }

    /// Tagged for a VLAN.
    pub fn vlan(mut self, id: u16) -> Self {
        self.vlan = Some(id);
        self
    }

    /// TTL, or hop limit.
    pub fn ttl(mut self, ttl: u8) -> Self {
        self.ttl = ttl;
        self
    }

    /// Type of service, or traffic class.
    pub fn tos(mut self, tos: u8) -> Self {
        self.tos = tos;
        self
    }

    /// IPv4 identification.
    pub fn id(mut self, new: u16) -> Self {
        match &mut self.net {
            Net::V4 { id, .. } => *id = new,
            Net::V6 { .. } => panic!("id: IPv4 only; IPv6 has it in a fragment header"),
        }
        self
    }

    /// IPv6 flow label.
    pub fn flow_label(mut self, new: u32) -> Self {
        match &mut self.net {
            Net::V4 { .. } => panic!("flow_label: IPv6 only"),
            Net::V6 { flow_label, .. } => *flow_label = new & 0x000f_ffff,
        }
        self
    }

    /// IPv4 don't-fragment.
    pub fn dont_fragment(mut self) -> Self {
        match &mut self.net {
            Net::V4 { flags_fragment, .. } => *flags_fragment |= tortie_wire::ip4::DONT_FRAGMENT,
            Net::V6 { .. } => panic!("dont_fragment: IPv4 only"),
        }
        self
    }

    /// Marks this packet as a fragment, nothing more: `offset` in bytes, a multiple of 8. For fragments that
    /// belong together use [`Self::build_fragments`].
    pub fn fragment(mut self, offset: u16, more: bool) -> Self {
        match &mut self.net {
            Net::V4 { flags_fragment, .. } => *flags_fragment = (offset >> 3) | (u16::from(more) << 13),
            Net::V6 { extensions, .. } => extensions.push(Extension::Fragment { offset, more, id: 1 }),
        }
        self
    }

    /// IPv4 options, padded to a multiple of four bytes; at most 40.
    pub fn options(mut self, bytes: &[u8]) -> Self {
        match &mut self.net {
            Net::V4 { options, .. } => {
                *options = bytes.to_vec();
                options.resize(bytes.len().next_multiple_of(4), 0);
                assert!(options.len() <= 40, "options: at most 40 bytes");
            }
            Net::V6 { .. } => panic!("options: IPv4 only; IPv6 has extension headers"),
        }
        self
    }

    /// One more IPv6 extension header, after those already there.
    pub fn extension(mut self, extension: Extension) -> Self {
        match &mut self.net {
            Net::V4 { .. } => panic!("extension: IPv6 only"),
            Net::V6 { extensions, .. } => extensions.push(extension),
        }
        self
    }

    /// TCP: SYN, sequence number 1,000, unless told otherwise.
    pub fn tcp(mut self, src_port: u16, dst_port: u16) -> Self {
        self.transport = Transport::tcp(src_port, dst_port);
        self
    }

    /// TCP flags.
    pub fn flags(mut self, flags: TcpFlags) -> Self {
        self.transport.tcp_header("flags").flags = flags;
        self
    }

    /// TCP sequence number.
    pub fn seq(mut self, seq: u32) -> Self {
        self.transport.tcp_header("seq").seq = seq.into();
        self
    }

    /// TCP acknowledgement number; the ACK flag is for [`Self::flags`].
    pub fn ack(mut self, ack: u32) -> Self {
        self.transport.tcp_header("ack").ack = ack.into();
        self
    }

    /// TCP window.
    pub fn window(mut self, window: u16) -> Self {
        self.transport.tcp_header("window").window = window.into();
        self
    }

    /// TCP options, padded to a multiple of four bytes; at most 40.
    pub fn tcp_options(mut self, bytes: &[u8]) -> Self {
        self.transport.set_tcp_options(bytes);
        self
    }

    /// UDP.
    pub fn udp(mut self, src_port: u16, dst_port: u16) -> Self {
        self.transport = Transport::udp(src_port, dst_port);
        self
    }

    /// UDP without a checksum: legal over IPv4 only.
    pub fn no_udp_checksum(mut self) -> Self {
        self.transport.drop_udp_checksum();
        self
    }

    /// SCTP with verification tag 1; see [`Self::chunk`].
    pub fn sctp(mut self, src_port: u16, dst_port: u16) -> Self {
        self.transport = Transport::sctp(src_port, dst_port);
        self
    }

    /// SCTP verification tag.
    pub fn verification_tag(mut self, tag: u32) -> Self {
        self.transport.sctp_header("verification_tag").verification_tag = tag.into();
        self
    }

    /// One more SCTP chunk, padded to a multiple of four bytes.
    pub fn chunk(mut self, kind: tortie_wire::sctp::ChunkType, value: &[u8]) -> Self {
        self.transport.push_chunk(kind, value);
        self
    }

    /// Echo request of the packet's family.
    pub fn echo_request(mut self, id: u16, sequence: u16) -> Self {
        self.transport = Transport::echo(self.is_v4(), true, id, sequence);
        self
    }

    /// Echo reply of the packet's family.
    pub fn echo_reply(mut self, id: u16, sequence: u16) -> Self {
        self.transport = Transport::echo(self.is_v4(), false, id, sequence);
        self
    }

    /// ICMP or ICMPv6 of any type, by the packet's family.
    pub fn icmp(mut self, kind: u8, code: u8, rest: u32) -> Self {
        self.transport = Transport::icmp(self.is_v4(), kind, code, rest);
        self
    }

    /// Port unreachable about `quoted`, an IP packet or its beginning.
    pub fn port_unreachable(self, quoted: &[u8]) -> Self {
        let (kind, code) = if self.is_v4() { (3, 3) } else { (1, 4) };
        self.icmp(kind, code, 0).payload(quoted)
    }

    /// Fragmentation needed, or packet too big, about `quoted`.
    pub fn too_big(self, mtu: u32, quoted: &[u8]) -> Self {
        let (kind, code) = if self.is_v4() { (3, 4) } else { (2, 0) };
        self.icmp(kind, code, mtu).payload(quoted)
    }

    /// TTL or hop limit exceeded about `quoted`.
    pub fn time_exceeded(self, quoted: &[u8]) -> Self {
        let kind = if self.is_v4() { 11 } else { 3 };
        self.icmp(kind, 0, 0).payload(quoted)
    }

    /// Any other protocol; the payload follows the IP header directly.
    pub fn protocol(mut self, protocol: u8) -> Self {
        self.transport = Transport::Raw(IpProtocol(protocol));
        self
    }

    /// What follows the transport header.
    pub fn payload(mut self, bytes: &[u8]) -> Self {
        self.payload = bytes.to_vec();
        self
    }

    /// A payload of `len` bytes, each different from its neighbours.
    pub fn payload_len(mut self, len: usize) -> Self {
        self.payload = (0..len).map(|i| (i * 7 + i / 256) as u8).collect();
        self
    }

    /// IPv4 header checksum wrong by one.
    pub fn wrong_ip_checksum(mut self) -> Self {
        assert!(self.is_v4(), "wrong_ip_checksum: IPv6 has none");
        self.wrong_l3 = true;
        self
    }

    /// Transport checksum wrong by one.
    pub fn wrong_transport_checksum(mut self) -> Self {
        self.wrong_l4 = true;
        self
    }

    /// Overwrites bytes counted from the start of the IP header, after checksums were computed.
    pub fn patch_ip(mut self, offset: usize, bytes: &[u8]) -> Self {
        self.patches.push((Layer::Ip, offset, bytes.to_vec()));
        self
    }

    /// Overwrites bytes counted from the start of the transport header, after checksums were computed.
    pub fn patch_transport(mut self, offset: usize, bytes: &[u8]) -> Self {
        self.patches.push((Layer::Transport, offset, bytes.to_vec()));
        self
    }

    fn is_v4(&self) -> bool {
        matches!(self.net, Net::V4 { .. })
    }
}
