//! `drops`: the latest dropped packets, decoded from the ring buffer's events.

use crate::counters::{hook_name, reason_name};
use crate::{Names, protocol_name};
use serde::Serialize;
use std::net::IpAddr;
use tortie_abi::event::{Event, Kind};
use tortie_wire::proto::IpProtocol;
use tortie_wire::{Be16, Ip4, Ip6};
use zerocopy::FromBytes;

/// A dropped packet.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// Seconds since the epoch.
    pub time: f64,
    /// Interface.
    pub interface: String,
    /// Its number, which outlives it.
    pub ifindex: u32,
    /// Hook.
    pub hook: String,
    /// Reason.
    pub reason: String,
    /// The same in plain words.
    pub detail: String,
    /// The packet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packet: Option<Packet>,
    /// The policy rule that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
}

/// The packet of a drop.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Packet {
    /// `TCP` …
    pub protocol: String,
    /// Source.
    pub source: IpAddr,
    /// Source port, of protocols that have ports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_port: Option<u16>,
    /// Destination.
    pub destination: IpAddr,
    /// Destination port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_port: Option<u16>,
    /// Of ICMP and ICMPv6.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmp: Option<Icmp>,
    /// Bytes from the IP header on.
    pub length: u32,
}

/// What ICMP has in place of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Icmp {
    /// Type.
    #[serde(rename = "type")]
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// Of an echo request or reply; else 0.
    pub id: u16,
}

/// Decodes one record of the ring; `None` for records this version does not know. `boot_seconds`: the
/// epoch time at which the monotonic clock was 0.
pub fn row(record: &[u8], names: &Names, boot_seconds: f64) -> Option<Row> {
    let (event, _) = Event::read_from_prefix(record).ok()?;
    Kind::from_word(event.kind).map(|kind| match kind {
        Kind::Drop => drop_row(&event, names, boot_seconds),
    })
}

fn drop_row(event: &Event, names: &Names, boot_seconds: f64) -> Row {
    let reason = tortie_abi::DropReason::from_word(event.reason);
    Row {
        time: boot_seconds + event.time_nanos as f64 / 1e9,
        interface: names.interface(event.ifindex),
        ifindex: event.ifindex,
        hook: hook_name(event.hook),
        reason: reason_name(event.reason),
        detail: reason.map_or("unknown to this version", crate::explain::reason).to_owned(),
        packet: packet(event),
        rule: names.rule(event.rule),
    }
}

fn packet(event: &Event) -> Option<Packet> {
    let address = |wide: Ip6| match event.family {
        4 => Some(IpAddr::V4(Ip4(wide.0[0]).into())),
        6 => Some(IpAddr::V6(wide.into())),
        _ => None,
    };
    let protocol = IpProtocol(event.protocol);
    let is_icmp = matches!(protocol, IpProtocol::ICMP | IpProtocol::ICMPV6);
    let [kind, code] = event.source_port.to_bytes();
    let port = |port: Be16| protocol.has_ports().then_some(port.get());
    Some(Packet {
        protocol: protocol_name(event.protocol),
        source: address(event.source)?,
        source_port: port(event.source_port),
        destination: address(event.destination)?,
        destination_port: port(event.destination_port),
        icmp: is_icmp.then_some(Icmp { kind, code, id: event.destination_port.get() }),
        length: event.length,
    })
}
