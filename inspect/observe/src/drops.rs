//! `drops`: the latest dropped packets and refused calls, decoded from the ring buffer's events.

use crate::counters::{hook_name, reason_name};
use crate::{Names, protocol_name};
use serde::Serialize;
use std::net::IpAddr;
use std::sync::Arc;
use tortie_abi::event::{Event, Kind, Refusal};
use tortie_wire::proto::IpProtocol;
use tortie_wire::{Be16, Ip4, Ip6};
use zerocopy::FromBytes;

/// A dropped packet, or a system call that was refused before there was any.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// Seconds since the epoch.
    pub time: f64,
    /// Interface.
    pub interface: String,
    /// Its number, which outlives it.
    pub ifindex: u32,
    /// The pod of this node that the interface is of: it sent or was to get the packet, whatever the addresses say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface_pod: Option<String>,
    /// Hook.
    pub hook: String,
    /// Reason.
    pub reason: String,
    /// The same in plain words.
    pub detail: String,
    /// The packet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packet: Option<Packet>,
    /// The system call, where there was no packet yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call: Option<Call>,
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
    /// The pod of this node that has the source address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_pod: Option<String>,
    /// Destination.
    pub destination: IpAddr,
    /// Destination port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_port: Option<u16>,
    /// The pod of this node that has the destination address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_pod: Option<String>,
    /// Of ICMP and ICMPv6.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmp: Option<Icmp>,
    /// Bytes from the IP header on.
    pub length: u32,
}

/// A `connect` or a `sendto` that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Call {
    /// The calling task's name, of at most 15 bytes.
    pub task: String,
    /// The pod, `namespace/name`, in whose network namespace the socket is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// This node, when it is in the node's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// `TCP` …
    pub protocol: String,
    /// Where it wanted to go.
    pub destination: IpAddr,
    /// The port of that.
    pub destination_port: u16,
    /// Whose those are: `namespace/name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
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

/// Where a packet was dropped, and between whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Number of the interface.
    pub ifindex: u32,
    /// Source address, where it could be read.
    pub source: Option<IpAddr>,
    /// Destination address.
    pub destination: Option<IpAddr>,
}

/// The names of a [`Place`], of the moment when the packet was dropped: pods and interfaces go, and another pod may have
/// the address of one that has gone.
#[derive(Clone, Debug, Default)]
pub struct PlaceNames {
    /// Of the interface.
    pub interface: Option<Arc<str>>,
    /// `namespace/name` of the interface's pod.
    pub interface_pod: Option<Arc<str>>,
    /// Of the pod with the source address.
    pub source_pod: Option<Arc<str>>,
    /// Of the pod with the destination address.
    pub destination_pod: Option<Arc<str>>,
}

/// The place of a record; `None`: it is of no packet.
pub fn place(record: &[u8]) -> Option<Place> {
    let (event, _) = Event::read_from_prefix(record).ok()?;
    matches!(Kind::from_word(event.kind)?, Kind::Drop).then(|| Place {
        ifindex: event.ifindex,
        source: address(event.family, event.source),
        destination: address(event.family, event.destination),
    })
}

/// Decodes one record of the ring; `None` for records this version does not know. `boot_seconds`: the
/// epoch time at which the monotonic clock was 0.
pub fn row(record: &[u8], names: &Names, place: &PlaceNames, boot_seconds: f64) -> Option<Row> {
    let (event, _) = Event::read_from_prefix(record).ok()?;
    Some(match Kind::from_word(event.kind)? {
        Kind::Drop => drop_row(&event, names, place, boot_seconds),
        Kind::Refusal => refusal_row(&Refusal::read_from_prefix(record).ok()?.0, names, boot_seconds),
    })
}

fn drop_row(event: &Event, names: &Names, place: &PlaceNames, boot_seconds: f64) -> Row {
    Row {
        time: boot_seconds + event.time_nanos as f64 / 1e9,
        interface: owned(&place.interface).unwrap_or_else(|| names.interface(event.ifindex)),
        ifindex: event.ifindex,
        interface_pod: owned(&place.interface_pod),
        hook: hook_name(event.hook),
        reason: reason_name(event.reason),
        detail: detail(event.reason),
        packet: packet(event, place),
        call: None,
        rule: names.rule(event.rule),
    }
}

fn refusal_row(refusal: &Refusal, names: &Names, boot_seconds: f64) -> Row {
    Row {
        time: boot_seconds + refusal.time_nanos as f64 / 1e9,
        interface: names.interface(0),
        ifindex: 0,
        interface_pod: None,
        hook: hook_name(refusal.hook),
        reason: reason_name(refusal.reason),
        detail: detail(refusal.reason),
        packet: None,
        call: call(refusal, names),
        rule: None,
    }
}

fn call(refusal: &Refusal, names: &Names) -> Option<Call> {
    let task = refusal.task.split(|byte| *byte == 0).next().unwrap_or_default();
    let service = names.services.get(&refusal.service);
    Some(Call {
        task: String::from_utf8_lossy(task).into_owned(),
        pod: names.pods_by_netns.get(&refusal.netns).cloned(),
        node: (names.netns == Some(refusal.netns)).then(|| names.node.clone()),
        protocol: protocol_name(refusal.protocol),
        destination: address(refusal.family, refusal.destination)?,
        destination_port: refusal.destination_port.get(),
        service: service.map(|s| format!("{}/{}", s.namespace, s.name)),
    })
}

fn detail(reason: u16) -> String {
    tortie_abi::DropReason::from_word(reason)
        .map_or("unknown to this version", crate::explain::reason)
        .to_owned()
}

fn address(family: u8, wide: Ip6) -> Option<IpAddr> {
    match family {
        4 => Some(IpAddr::V4(Ip4(wide.0[0]).into())),
        6 => Some(IpAddr::V6(wide.into())),
        _ => None,
    }
}

fn owned(name: &Option<Arc<str>>) -> Option<String> {
    name.as_ref().map(|name| (**name).to_owned())
}

fn packet(event: &Event, place: &PlaceNames) -> Option<Packet> {
    let protocol = IpProtocol(event.protocol);
    let is_icmp = matches!(protocol, IpProtocol::ICMP | IpProtocol::ICMPV6);
    let [kind, code] = event.source_port.to_bytes();
    let port = |port: Be16| protocol.has_ports().then_some(port.get());
    Some(Packet {
        protocol: protocol_name(event.protocol),
        source: address(event.family, event.source)?,
        source_port: port(event.source_port),
        source_pod: owned(&place.source_pod),
        destination: address(event.family, event.destination)?,
        destination_port: port(event.destination_port),
        destination_pod: owned(&place.destination_pod),
        icmp: is_icmp.then_some(Icmp { kind, code, id: event.destination_port.get() }),
        length: event.length,
    })
}
