//! What a node knows: a few pods, next hops, routes, Services and policies, crowded so that packets meet them.
//!
//! A world is made from a number alone: its bits switch settings. What a number means may not change, or the
//! corpus means something else.

mod policies;

use crate::step::Shot;
use ipnet::IpNet;
use policies::{classes, lists};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use tortie_abi::endpoint::{Endpoint, NO_PROGRAM, NextHop, endpoint_flags};
use tortie_abi::route::{Kind, Route, flags as route_flags};
use tortie_abi::service::{Frontend, MAGLEV_PIECE, flags as service_flags};
use tortie_abi::settings::{Settings, TUNNEL_NETWORK, flags, tunnel_flags};
use tortie_abi::{Hook, Target, Tick, v4, v6};
use tortie_datapath::{Family as _, V4};
use tortie_policy::classes::{ClassId, Classes};
use tortie_policy::form::{List, SetId};
use tortie_wire::{Be16, Ip6, Mac};
use zerocopy::FromZeros;

/// Entries of each main flow table: few, so that it is full now and then.
pub const FLOW_ENTRIES: u32 = 8;
/// Slots of pods that exist from the start.
pub const PODS: [u32; 4] = [1, 2, 3, 4];
/// A slot that nothing is in.
pub const EMPTY_SLOT: u32 = 6;
/// Slot of `policy` without a program.
pub const EMPTY_PROGRAM: u32 = 9;
/// The interface that leads to every address outside (as in the test build of the programs).
pub const WAY_OUT: u32 = 100;
/// Different worlds.
pub const WORLDS: u32 = 512;

/// The interface of a hook: a pod's, or the data interface.
pub const fn ifindex_of(hook: Hook, slot: u32) -> u32 {
    match hook {
        Hook::FromWorkload | Hook::ToWorkload => 100 + slot,
        // Slot 1 of this hook is loopback.
        Hook::ToHostDevice if slot == 1 => 1,
        Hook::FromHostDevice | Hook::ToHostDevice | Hook::FromTunnel | Hook::Socket => 100,
    }
}

/// Who sent a packet of the tunnel, and its network: slot 0 is the other node, 1 a stranger, 2 nobody of our networks, 3
/// the other node with a note about the front end, 4 and 5 are two nodes with requests that any node may lead.
pub fn tunnel_source(shot: &Shot) -> Option<(Ip6, u32)> {
    let v6 = shot.bytes.get(12..14) == Some(&[0x86, 0xdd]);
    let (of, network) = match shot.slot {
        0 => ([192, 168, 0, 2], TUNNEL_NETWORK),
        1 => ([203, 0, 113, 5], TUNNEL_NETWORK),
        NOTED => ([192, 168, 0, 2], TUNNEL_NETWORK | tunnel_flags::NOTE),
        SHARED => ([192, 168, 0, 2], TUNNEL_NETWORK | tunnel_flags::MAGLEV),
        SHARED_ELSEWHERE => ([192, 168, 0, 3], TUNNEL_NETWORK | tunnel_flags::MAGLEV),
        _ => return None,
    };
    (shot.hook == Hook::FromTunnel).then(|| (wide(address(of, v6)), network))
}

/// At the tunnel, in place of a slot: the other node, with a note about the front end.
pub const NOTED: u32 = 3;
/// Likewise: the other node, with a request that any node may lead.
pub const SHARED: u32 = 4;
/// Likewise: a third node, with such a request.
pub const SHARED_ELSEWHERE: u32 = 5;

fn wide(address: IpAddr) -> Ip6 {
    match address {
        IpAddr::V4(a) => V4::widen(&a.into()),
        IpAddr::V6(a) => a.into(),
    }
}

/// A pod's address; `second`: the one that only routes know.
pub fn pod(slot: u32, v6: bool, second: bool) -> IpAddr {
    let last = slot + if second { 10 } else { 0 };
    if v6 { v6_address(0, last) } else { IpAddr::V4(Ipv4Addr::new(10, 0, 0, last as u8)) }
}

fn v6_address(network: u16, last: u32) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, network, 0, 0, 0, last as u16))
}

/// An address by its IPv4 form; IPv6 has the third byte as network and the last as host.
pub fn address(of: [u8; 4], v6: bool) -> IpAddr {
    let [a, b, c, d] = of;
    if !v6 {
        return IpAddr::V4(Ipv4Addr::from(of));
    }
    match a {
        10 if b == 0 => v6_address(u16::from(c), u32::from(d)),
        10 => v6_address(0x9600 + u16::from(c), u32::from(d)),
        192 => v6_address(0x1920, u32::from(d)),
        _ => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, u16::from(c), u16::from(d))),
    }
}

type Service<K, B> = (K, Frontend, Vec<B>);

/// The part of one family.
#[derive(Debug)]
pub struct Part<P, K, B> {
    /// Routes.
    pub routes: Vec<(P, Route)>,
    /// Services.
    pub services: Vec<Service<K, B>>,
    /// Clients that Services are open to: Service, address, prefix length.
    pub admitted: Vec<(u32, IpAddr, u8)>,
    /// Clients that are answered through the node that they have asked.
    pub opted_out: Vec<P>,
}

/// What a node knows.
#[derive(Debug)]
pub struct World {
    /// The number it was made from.
    pub number: u32,
    /// Settings.
    pub settings: Settings,
    /// Endpoints by slot.
    pub endpoints: BTreeMap<u32, Endpoint>,
    /// Next hops by slot.
    pub next_hops: BTreeMap<u32, NextHop>,
    /// IPv4.
    pub v4: Part<v4::PrefixKey, v4::FrontendKey, v4::Backend>,
    /// IPv6.
    pub v6: Part<v6::PrefixKey, v6::FrontendKey, v6::Backend>,
    /// Classes of addresses.
    pub class_addresses: BTreeMap<IpAddr, ClassId>,
    /// Classes of prefixes.
    pub class_prefixes: BTreeMap<IpNet, ClassId>,
    /// The sets that each class stands for.
    pub class_sets: BTreeMap<ClassId, Vec<SetId>>,
    /// Policies by slot of `policy`.
    pub lists: BTreeMap<u32, List>,
    /// For the compiler.
    pub classes: Classes,
}

impl World {
    /// The world of a number.
    pub fn new(number: u32) -> Self {
        let bit = |n: u32| number >> n & 1 == 1;
        let (classes, class_addresses, class_prefixes) = classes();
        let class = |address: IpAddr| classes.class_of(address);
        let settings = settings(bit(0), bit(1), bit(4), bit(5));
        let endpoints = PODS.into_iter().map(|slot| (slot, endpoint(slot, 1, bit(2), &class))).collect();
        Self {
            number,
            settings: Settings {
                flags: settings.flags
                    | if bit(6) { flags::DIRECT_RETURN } else { 0 }
                    | if bit(3) { flags::ALLOW_VXLAN } else { flags::ALLOW_IPIP }
                    | to_services(number),
                ..settings
            },
            endpoints,
            next_hops: (1..=4).map(|slot| (slot, next_hop(slot, bit(3)))).collect(),
            v4: Part {
                routes: routes(false).into_iter().map(|(net, route)| (prefix4(net), route)).collect(),
                services: services(false).into_iter().map(service4).collect(),
                admitted: admitted(false),
                opted_out: vec![prefix4(opted_out(false))],
            },
            v6: Part {
                routes: routes(true).into_iter().map(|(net, route)| (prefix6(net), route)).collect(),
                services: services(true).into_iter().map(service6).collect(),
                admitted: admitted(true),
                opted_out: vec![prefix6(opted_out(true))],
            },
            class_addresses,
            class_prefixes,
            class_sets: classes.iter().map(|(class, sets)| (class, sets.to_vec())).collect(),
            lists: lists(),
            classes,
        }
    }

    /// The counter of a rule.
    pub fn rule_id(program: u32, rule: usize) -> u32 {
        program * 100 + rule as u32 + 1
    }

    /// Another pod in the slot, with the same address.
    pub fn replace(&mut self, slot: u32) {
        let old = self.endpoints[&slot];
        let incarnation = old.id.incarnation().wrapping_add(1).max(1);
        let id = Target::endpoint(slot as u16, incarnation);
        self.endpoints.insert(slot, Endpoint { id, ..old });
    }
}

/// What becomes of what no Service serves.
fn to_services(number: u32) -> u32 {
    match number >> 7 & 3 {
        0 => 0,
        1 => flags::DROP_TO_SERVICES,
        _ => flags::REJECT_TO_SERVICES,
    }
}

fn settings(no_peer: bool, drop_to_host: bool, one_port: bool, no_gateway: bool) -> Settings {
    let mut settings = Settings::new_zeroed();
    let seconds = |s: u64| Tick::ticks_of_millis(s * 1000);
    settings.tcp_timeouts = [0, 20, 20, 3600, 30, 30, 10, 20].map(seconds);
    settings.udp_unreplied = seconds(30);
    settings.udp = seconds(180);
    settings.icmp = seconds(5);
    settings.other = seconds(60);
    settings.mark_seen = 0x0100_0000;
    settings.mark_mask = 0xff00_0000;
    settings.flags = if no_peer { flags::NO_REDIRECT_PEER } else { 0 };
    settings.flags |= if drop_to_host { flags::DROP_TO_HOST } else { 0 };
    (settings.port_range_first, settings.port_range_last) =
        if one_port { (2000, 2000) } else { (2000, 2999) };
    (settings.nat_range_first, settings.nat_range_last) = if one_port { (2000, 2001) } else { (1024, 2999) };
    settings.node_address4 = Ipv4Addr::new(192, 168, 0, 1).into();
    if let IpAddr::V6(node) = address([192, 168, 0, 1], true) {
        settings.node_address6 = node.into();
    }
    settings.tunnel_ifindex = if no_gateway { 0 } else { 100 };
    if !no_gateway {
        settings.gateway4 = Ipv4Addr::new(169, 254, 1, 1).into();
    }
    settings
}

fn endpoint(slot: u32, incarnation: u16, policies: bool, class: &impl Fn(IpAddr) -> ClassId) -> Endpoint {
    let (address4, address6) = match (pod(slot, false, false), pod(slot, true, false)) {
        (IpAddr::V4(a), IpAddr::V6(b)) => (a, b),
        _ => (Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED),
    };
    let (egress, ingress) = match slot {
        1 if policies => (1, 4),
        2 if policies => (NO_PROGRAM, 2),
        3 if policies => (EMPTY_PROGRAM, 3),
        _ => (NO_PROGRAM, NO_PROGRAM),
    };
    Endpoint {
        id: Target::endpoint(slot as u16, incarnation),
        ifindex: ifindex_of(Hook::ToWorkload, slot),
        egress_generation: 10 * slot,
        ingress_generation: if slot == 4 { 0 } else { 100 * slot },
        egress_program: egress,
        ingress_program: ingress,
        class4: class(IpAddr::V4(address4)),
        class6: class(IpAddr::V6(address6)),
        flags: if slot == 4 { 0 } else { endpoint_flags::READY },
        mac: Mac([2, 0, 0, 0, 1, slot as u8]),
        host_mac: Mac([2, 0, 0, 0, 2, slot as u8]),
        _zero: 0,
        address4: address4.into(),
        address6: address6.into(),
    }
}

fn next_hop(slot: u32, small: bool) -> NextHop {
    let mut hop = NextHop::new_zeroed();
    hop.id = Target::next_hop(slot as u16, 1);
    hop.ifindex = 7;
    hop.mtu_bytes = if small { 600 } else { 1500 };
    // Two for each node, one of each family.
    let node = address([192, 168, 0, if slot <= 2 { 2 } else { 3 }], slot.is_multiple_of(2));
    hop.node = wide(node);
    match node {
        IpAddr::V4(a) => hop.address4 = a.into(),
        IpAddr::V6(a) => hop.address6 = a.into(),
    }
    hop
}

fn routes(v6: bool) -> Vec<(IpNet, Route)> {
    let route = |of: [u8; 4], length: u8, kind: Kind, target: Target, flags: u8| {
        let length = if v6 { [64, 128][usize::from(length == 32)] } else { length };
        let net = IpNet::new(address(of, v6), length).expect("a length of the family").trunc();
        (net, Route { target, kind: kind as u8, flags, _zero: 0 })
    };
    let hop = Target::next_hop(if v6 { 2 } else { 1 }, 1);
    let third = Target::next_hop(if v6 { 4 } else { 3 }, 1);
    let mut routes = vec![
        route([10, 0, 0, 0], 24, Kind::Pool, Target::HOST, route_flags::IN_POOL),
        route([10, 0, 1, 0], 24, Kind::RemotePod, hop, route_flags::IN_POOL),
        route([10, 0, 2, 0], 24, Kind::RemotePod, Target::HOST, route_flags::IN_POOL),
        route([10, 0, 9, 0], 24, Kind::Blackhole, Target::HOST, 0),
        route([10, 96, 0, 0], 24, Kind::Services, Target::HOST, 0),
        route([192, 168, 0, 1], 32, Kind::Host, Target::HOST, 0),
        route([192, 168, 0, 2], 32, Kind::RemoteHost, hop, 0),
        route([192, 168, 0, 3], 32, Kind::RemoteHost, third, 0),
    ];
    for slot in PODS {
        let target = Target::endpoint(slot as u16, 1);
        // The second pod's pool masquerades, and so does the pool of everybody's second address.
        let masquerade = route_flags::IN_POOL | route_flags::NAT_OUTGOING;
        let flags = if slot == 2 { masquerade } else { route_flags::IN_POOL };
        routes.push(route([10, 0, 0, slot as u8], 32, Kind::LocalPod, target, flags));
        routes.push(route([10, 0, 0, slot as u8 + 10], 32, Kind::LocalPod, target, masquerade));
    }
    routes
}

/// One of the two clients outside.
fn opted_out(v6: bool) -> IpNet {
    let client = address([203, 0, 113, 9], v6);
    IpNet::new(client, if v6 { 128 } else { 32 }).expect("a whole address")
}

/// Front end (last byte of 10.96.0.x, port, protocol), its record, and its back ends in order.
type Plan = ((IpAddr, u16, u8), Frontend, Vec<(IpAddr, u16)>);

/// A front end for the outside: a port of every node, or an address outside.
fn external(
    service: u32,
    of: ([u8; 4], u16, u8),
    v6: bool,
    flags: u32,
    local: u32,
    to: &[(IpAddr, u16)],
) -> Plan {
    let address = match of.0 {
        [0, 0, 0, 0] if v6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        other => address(other, v6),
    };
    let frontend = Frontend {
        service,
        backends: to.len() as u32,
        local_backends: local,
        flags: flags | service_flags::EXTERNAL,
        ..Frontend::default()
    };
    ((address, of.1, of.2), frontend, to.to_vec())
}

fn services(v6: bool) -> Vec<Plan> {
    let at = |of: [u8; 4], port: u16| (address(of, v6), port);
    let plan = |last: u8, port: u16, protocol: u8, flags: u32, local: u32, backends: Vec<(IpAddr, u16)>| {
        let count = backends.len() as u32;
        let frontend = Frontend {
            service: u32::from(last),
            backends: count,
            local_backends: local,
            flags,
            ..Frontend::default()
        };
        ((address([10, 96, 0, last], v6), port, protocol), frontend, backends)
    };
    let (pod1, pod2) = (at([10, 0, 0, 1], 5353), at([10, 0, 0, 2], 8080));
    let remote = at([10, 0, 1, 5], 8080);
    let host = at([192, 168, 0, 1], 6443);
    let mut missing = plan(5, 80, 6, 0, 1, vec![pod2]);
    missing.2.clear();
    vec![
        plan(1, 80, 6, 0, 1, vec![pod2, remote]),
        plan(2, 53, 17, 0, 2, vec![pod1, at([10, 0, 0, 2], 5353)]),
        plan(3, 80, 6, 0, 0, Vec::new()),
        plan(3, 53, 17, 0, 0, Vec::new()),
        plan(4, 80, 6, service_flags::INTERNAL_LOCAL, 0, vec![remote]),
        missing,
        plan(6, 80, 6, 0, 1, vec![at([10, 0, 0, 1], 8080)]),
        plan(7, 132, 132, 0, 1, vec![at([10, 0, 0, 2], 132), at([10, 0, 1, 5], 36_412)]),
        plan(8, 443, 6, 0, 0, vec![at([192, 168, 0, 1], 6443), at([203, 0, 113, 5], 443)]),
        plan(9, 80, 6, 0, 1, vec![at([10, 0, 0, 4], 80)]),
        sticky(plan(10, 80, 6, 0, 2, vec![pod2, at([10, 0, 0, 3], 8080), remote])),
        sticky(plan(11, 53, 17, 0, 2, vec![pod1, at([10, 0, 0, 2], 5353), at([10, 0, 1, 6], 53)])),
        // The first one is for node-local traffic alone.
        sticky(narrowed(plan(12, 80, 6, service_flags::INTERNAL_LOCAL, 1, vec![pod2, remote]))),
        narrowed(plan(12, 53, 17, 0, 1, vec![pod1, at([10, 0, 0, 2], 5353), at([10, 0, 1, 5], 53)])),
        external(21, (ANY_NODE, 30_080, 6), v6, service_flags::NODE_PORT, 2, &[pod2, host, remote]),
        external(22, (ANY_NODE, 30_053, 17), v6, service_flags::NODE_PORT, 1, &[pod1]),
        external(23, (ANY_NODE, 30_081, 6), v6, LOCAL_NODE_PORT, 0, &[remote]),
        external(24, (ANY_NODE, 30_132, 132), v6, service_flags::NODE_PORT, 1, &[at([10, 0, 0, 2], 132)]),
        external(25, ([198, 51, 100, 9], 80, 6), v6, service_flags::EXTERNAL_LOCAL, 1, &[pod2, remote]),
        external(28, ([198, 51, 100, 10], 80, 6), v6, service_flags::SOURCE_RANGES, 1, &[pod2, remote]),
        plan(14, 53, 17, service_flags::SOURCE_RANGES, 1, vec![pod1]),
        plan(14, 80, 6, service_flags::SOURCE_RANGES, 0, Vec::new()),
        plan(13, 80, 6, service_flags::UNTRANSLATED, 1, vec![pod2, remote]),
        plan(13, 53, 17, service_flags::UNTRANSLATED, 0, Vec::new()),
        external(26, (ANY_NODE, 30_082, 6), v6, service_flags::NODE_PORT, 0, &[]),
        external(27, (ANY_NODE, 30_083, 17), v6, service_flags::NODE_PORT, 1, &[host]),
        by_hash(external(29, ([198, 51, 100, 11], 80, 6), v6, 0, 2, &[pod2, host, remote])),
        by_hash(external(30, ([198, 51, 100, 11], 30_053, 17), v6, 0, 1, &[pod1, at([10, 0, 1, 6], 53)])),
        sticky(by_hash(external(31, ([198, 51, 100, 12], 80, 6), v6, 0, 1, &[pod2, remote]))),
    ]
}

/// Who may use the Services that are not open to all.
fn admitted(v6: bool) -> Vec<(u32, IpAddr, u8)> {
    let of = |service: u32, of: [u8; 4], length: u8| {
        (service, address(of, v6), if v6 { [64, 128][usize::from(length == 32)] } else { length })
    };
    vec![
        of(28, [203, 0, 113, 0], 24),
        of(28, [10, 0, 0, 1], 32),
        of(14, [192, 168, 0, 1], 32),
        of(14, [10, 0, 0, 2], 32),
        of(14, [10, 0, 1, 0], 24),
    ]
}

/// Every address of every node.
const ANY_NODE: [u8; 4] = [0; 4];
const LOCAL_NODE_PORT: u32 = service_flags::NODE_PORT | service_flags::EXTERNAL_LOCAL;

/// Seconds of affinity of the Services that have it.
const AFFINITY_SECONDS: u64 = 10;

fn sticky((key, frontend, backends): Plan) -> Plan {
    let affinity = Tick::ticks_of_millis(AFFINITY_SECONDS * 1000);
    (key, Frontend { affinity, ..frontend }, backends)
}

/// Clients outside are led by a consistent-hash table, which has more than one piece.
fn by_hash((key, frontend, backends): Plan) -> Plan {
    (key, Frontend { maglev_slots: MAGLEV_PIECE + 5, ..frontend }, backends)
}

/// The consistent-hash table of a Service: its back ends in turn.
pub fn places<B: Copy>(frontend: &Frontend, backends: &[B]) -> Vec<B> {
    backends.iter().copied().cycle().take(frontend.maglev_slots as usize).collect()
}

/// The first back end is not for traffic of policy `Cluster`.
fn narrowed((key, frontend, backends): Plan) -> Plan {
    (key, Frontend { first: 1, backends: frontend.backends - 1, ..frontend }, backends)
}

fn prefix4(net: IpNet) -> v4::PrefixKey {
    match net {
        IpNet::V4(net) => {
            v4::PrefixKey { prefix_length: u32::from(net.prefix_len()), address: net.network().into() }
        }
        IpNet::V6(net) => panic!("{net} among IPv4 routes"),
    }
}

fn prefix6(net: IpNet) -> v6::PrefixKey {
    match net {
        IpNet::V6(net) => {
            v6::PrefixKey { prefix_length: u32::from(net.prefix_len()), address: net.network().into() }
        }
        IpNet::V4(net) => panic!("{net} among IPv6 routes"),
    }
}

fn service4(((address, port, protocol), frontend, backends): Plan) -> Service<v4::FrontendKey, v4::Backend> {
    let ip = |address: IpAddr| match address {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => panic!("{address} in an IPv4 service"),
    };
    let key = v4::FrontendKey { address: ip(address), port: Be16::new(port), protocol, _zero: 0 };
    let backend = |(address, port): (IpAddr, u16)| v4::Backend {
        address: ip(address),
        port: Be16::new(port),
        _zero: 0,
    };
    (key, frontend, backends.into_iter().map(backend).collect())
}

fn service6(((address, port, protocol), frontend, backends): Plan) -> Service<v6::FrontendKey, v6::Backend> {
    let ip = |address: IpAddr| match address {
        IpAddr::V6(address) => address.into(),
        IpAddr::V4(address) => panic!("{address} in an IPv6 service"),
    };
    let key = v6::FrontendKey { address: ip(address), port: Be16::new(port), protocol, _zero: 0 };
    let backend = |(address, port): (IpAddr, u16)| v6::Backend {
        address: ip(address),
        port: Be16::new(port),
        _zero: 0,
    };
    (key, frontend, backends.into_iter().map(backend).collect())
}
