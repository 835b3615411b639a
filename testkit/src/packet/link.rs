//! Owns: ARP and neighbour discovery frames. Invariant: addresses and hop limits are as the RFCs want them.

use std::net::{Ipv4Addr, Ipv6Addr};

use tortie_wire::arp::{self, ArpPacket};
use tortie_wire::eth::{EthHeader, EtherType};
use tortie_wire::icmp6::{self, LinkLayerOption};
use tortie_wire::{Ip6, Mac};
use zerocopy::IntoBytes;

use super::PacketBuilder;

/// "Who has `target`?", to everybody.
pub fn arp_request(sender_mac: Mac, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let packet = arp_packet(sender_mac, sender, Mac::ZERO, target);
    arp_frame(Mac::BROADCAST, ArpPacket { operation: arp::REQUEST, ..packet })
}

/// "`sender` is at `sender_mac`", to the one who asked.
pub fn arp_reply(sender_mac: Mac, sender: Ipv4Addr, target_mac: Mac, target: Ipv4Addr) -> Vec<u8> {
    let packet = arp_packet(sender_mac, sender, target_mac, target);
    arp_frame(target_mac, ArpPacket { operation: arp::REPLY, ..packet })
}

fn arp_packet(sender_mac: Mac, sender: Ipv4Addr, target_mac: Mac, target: Ipv4Addr) -> ArpPacket {
    ArpPacket {
        hardware: arp::ETHERNET,
        protocol: EtherType::IPV4,
        hardware_len: 6,
        protocol_len: 4,
        operation: arp::REQUEST,
        sender_mac,
        sender_ip: sender.octets(),
        target_mac,
        target_ip: target.octets(),
    }
}

fn arp_frame(dst: Mac, packet: ArpPacket) -> Vec<u8> {
    let header = EthHeader { dst, src: packet.sender_mac, ethertype: EtherType::ARP };
    [header.as_bytes(), packet.as_bytes()].concat()
}

/// "Who has `target`?", to the group of those who may (RFC 4861 section 4.3).
pub fn neighbour_solicitation(sender_mac: Mac, sender: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let group = Ip6::from(target).solicited_node();
    let [.., a, b, c, d] = group.octets();
    let option = LinkLayerOption { kind: icmp6::OPTION_SOURCE, len: 1, mac: sender_mac };
    PacketBuilder::ipv6(sender, group.into())
        .mac(sender_mac, Mac([0x33, 0x33, a, b, c, d]))
        .ttl(icmp6::ND_HOP_LIMIT)
        .icmp(icmp6::NEIGHBOUR_SOLICITATION, 0, 0)
        .payload(&[&target.octets()[..], option.as_bytes()].concat())
        .build()
}

/// "`target` is at `target_mac`", to the one who asked (RFC 4861 section 4.4).
pub fn neighbour_advertisement(
    target_mac: Mac,
    target: Ipv6Addr,
    asker_mac: Mac,
    asker: Ipv6Addr,
) -> Vec<u8> {
    let option = LinkLayerOption { kind: icmp6::OPTION_TARGET, len: 1, mac: target_mac };
    let flags = icmp6::NA_SOLICITED.get() | icmp6::NA_OVERRIDE.get();
    PacketBuilder::ipv6(target, asker)
        .mac(target_mac, asker_mac)
        .ttl(icmp6::ND_HOP_LIMIT)
        .icmp(icmp6::NEIGHBOUR_ADVERTISEMENT, 0, flags)
        .payload(&[&target.octets()[..], option.as_bytes()].concat())
        .build()
}

/// "I am a router", to all nodes, with a lifetime of 1,800 seconds (RFC 4861 section 4.2).
pub fn router_advertisement(sender_mac: Mac, sender: Ipv6Addr) -> Vec<u8> {
    PacketBuilder::ipv6(sender, Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1))
        .mac(sender_mac, Mac([0x33, 0x33, 0, 0, 0, 1]))
        .ttl(icmp6::ND_HOP_LIMIT)
        .icmp(icmp6::ROUTER_ADVERTISEMENT, 0, (64 << 24) | 1800)
        .payload(&[0; 8])
        .build()
}
