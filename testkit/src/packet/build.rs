//! Owns: putting the layers of a packet together, whole or in fragments. Invariant: lengths and checksums
//! are those of the bytes that follow.

use std::net::IpAddr;

use tortie_wire::checksum::Sum;
use tortie_wire::eth::{EthHeader, EtherType, VlanTag};
use tortie_wire::ip4::{self, Ip4Header};
use tortie_wire::ip6::Ip6Header;
use tortie_wire::{Be16, Be32, IpProtocol};
use zerocopy::IntoBytes;

use super::{Extension, Layer, Net, PacketBuilder};

impl PacketBuilder {
    /// The frame, Ethernet header included.
    pub fn build(&self) -> Vec<u8> {
        self.frame(&self.build_ip())
    }

    /// The packet without an Ethernet header: for devices that have none, and for quoting in ICMP errors.
    pub fn build_ip(&self) -> Vec<u8> {
        let mut packet = self.packet(&self.transport_bytes());
        for (layer, offset, bytes) in &self.patches {
            let start = match layer {
                Layer::Ip => 0,
                Layer::Transport => self.transport_offset() - self.ip_offset(),
            } + offset;
            packet[start..start + bytes.len()].copy_from_slice(bytes);
        }
        packet
    }

    /// The packet in fragments, none with more than `max` bytes (a multiple of 8) of what is fragmented: the
    /// transport header with its payload, and over IPv6 the extension headers that are not for every router.
    pub fn build_fragments(&self, max: usize) -> Vec<Vec<u8>> {
        assert!(max > 0 && max.is_multiple_of(8), "fragments are multiples of 8 bytes");
        let (whole, protocol, before) = self.fragmentable();
        let pieces = whole.chunks(max).enumerate();
        let last = whole.len().div_ceil(max).saturating_sub(1);
        pieces
            .map(|(i, piece)| {
                let (offset, more) = ((i * max) as u16, i < last);
                let mut builder = self.clone();
                builder.patches.clear();
                if let Net::V6 { extensions, .. } = &mut builder.net {
                    *extensions = before.clone();
                }
                let builder = builder.protocol(protocol.0).fragment(offset, more);
                builder.frame(&builder.packet(piece))
            })
            .collect()
    }

    /// Where the IP header is in the frame.
    pub fn ip_offset(&self) -> usize {
        EthHeader::LEN + if self.vlan.is_some() { VlanTag::LEN } else { 0 }
    }

    /// Where the transport header is in the frame.
    pub fn transport_offset(&self) -> usize {
        self.ip_offset()
            + match &self.net {
                Net::V4 { options, .. } => Ip4Header::LEN + options.len(),
                Net::V6 { extensions, .. } => {
                    Ip6Header::LEN + chain(extensions, self.transport.protocol()).len()
                }
            }
    }

    fn frame(&self, packet: &[u8]) -> Vec<u8> {
        let network = if self.is_v4() { EtherType::IPV4 } else { EtherType::IPV6 };
        let ethertype = if self.vlan.is_some() { EtherType::VLAN } else { network };
        let header = EthHeader { dst: self.dst_mac, src: self.src_mac, ethertype };
        let mut frame = header.as_bytes().to_vec();
        if let Some(id) = self.vlan {
            frame.extend(VlanTag { control: Be16::new(id), ethertype: network }.as_bytes());
        }
        frame.extend(packet);
        frame
    }

    fn addresses(&self) -> (IpAddr, IpAddr) {
        match &self.net {
            Net::V4 { src, dst, .. } => ((*src).into(), (*dst).into()),
            Net::V6 { src, dst, .. } => ((*src).into(), (*dst).into()),
        }
    }

    fn transport_bytes(&self) -> Vec<u8> {
        let (src, dst) = self.addresses();
        self.transport.bytes(src, dst, &self.payload, self.wrong_l4)
    }

    /// What is fragmented, the number that announces it, and the extension headers that stay before it.
    fn fragmentable(&self) -> (Vec<u8>, IpProtocol, Vec<Extension>) {
        let transport = self.transport_bytes();
        let protocol = self.transport.protocol();
        let Net::V6 { extensions, .. } = &self.net else { return (transport, protocol, Vec::new()) };
        let stay = extensions.iter().rposition(Extension::is_per_fragment).map_or(0, |i| i + 1);
        let (before, after) = extensions.split_at(stay);
        let first = after.first().map_or(protocol, Extension::protocol);
        ([chain(after, protocol), transport].concat(), first, before.to_vec())
    }

    fn packet(&self, transport: &[u8]) -> Vec<u8> {
        let protocol = self.transport.protocol();
        match &self.net {
            Net::V4 { src, dst, id, flags_fragment, options } => {
                let header_len = Ip4Header::LEN + options.len();
                let header = Ip4Header {
                    version_ihl: 0x40 | (header_len / 4) as u8,
                    tos: self.tos,
                    total_len: Be16::new((header_len + transport.len()) as u16),
                    id: Be16::new(*id),
                    flags_fragment: Be16::new(*flags_fragment),
                    ttl: self.ttl,
                    protocol,
                    checksum: Be16::ZERO,
                    src: (*src).into(),
                    dst: (*dst).into(),
                };
                let sum = Sum::EMPTY.bytes(header.as_bytes()).bytes(options);
                let wrong = if self.wrong_l3 { 0x0100 } else { 0 };
                let checksum = Be16::new(sum.checksum().get() ^ wrong);
                [Ip4Header { checksum, ..header }.as_bytes(), options, transport].concat()
            }
            Net::V6 { src, dst, flow_label, extensions } => {
                let chain = chain(extensions, protocol);
                let header = Ip6Header {
                    version_class_flow: Be32::new((6 << 28) | (u32::from(self.tos) << 20) | flow_label),
                    payload_len: Be16::new((chain.len() + transport.len()) as u16),
                    next: extensions.first().map_or(protocol, Extension::protocol),
                    hop_limit: self.ttl,
                    src: (*src).into(),
                    dst: (*dst).into(),
                };
                [header.as_bytes(), &chain, transport].concat()
            }
        }
    }
}

/// Extension headers, each announcing the next one and the last one `protocol`.
fn chain(extensions: &[Extension], protocol: IpProtocol) -> Vec<u8> {
    let following = extensions.iter().skip(1).map(Extension::protocol).chain([protocol]);
    extensions.iter().zip(following).flat_map(|(extension, next)| extension.bytes(next)).collect()
}

const _: () = assert!(ip4::MAX_HEADER_LEN == Ip4Header::LEN + 40);
