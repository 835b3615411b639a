//! Several nodes, their pods, and the way of a packet through them: journeys.

use crate::node::Node;
use crate::run::{Outcome, Packet, run};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use tortie_abi::endpoint::{Endpoint, NO_PROGRAM, NextHop, endpoint_flags};
use tortie_abi::flow::State as Life;
use tortie_abi::policy::Verdict as Decision;
use tortie_abi::route::{Kind, Route, flags as route_flags};
use tortie_abi::service::Frontend;
use tortie_abi::settings::{Settings, TUNNEL_NETWORK};
use tortie_abi::{DropReason, Hook, Target, Tick, v4, v6};
use tortie_datapath::{Family as _, V4, Verdict};
use tortie_wire::eth::{EthHeader, EtherType};
use tortie_wire::ip4::Ip4Header;
use tortie_wire::ip6::Ip6Header;
use tortie_wire::read_at;
use tortie_wire::{Be16, Ip4, Ip6, Mac};
use zerocopy::FromZeros;

/// Interface number of every node's uplink.
pub const UPLINK: u32 = 2;
/// Interface number of every node's tunnel.
pub const TUNNEL: u32 = 3;
/// Interface number of loopback.
pub const LOOPBACK: u32 = 1;
/// Interface number of the pod in slot 0; the others follow.
pub const FIRST_POD: u32 = 100;
/// Mark bit that the worlds use for "seen".
pub const MARK_SEEN: u32 = 0x0100_0000;

/// A pod.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Index of its node.
    pub node: usize,
    /// Endpoint slot on that node.
    pub slot: u32,
    /// Its id.
    pub id: Target,
    /// IPv4 address.
    pub v4: Ipv4Addr,
    /// IPv6 address.
    pub v6: Ipv6Addr,
}

impl Pod {
    /// Host side of its veth.
    pub fn ifindex(&self) -> u32 {
        FIRST_POD + self.slot
    }

    /// Pod side's MAC address.
    pub fn mac(&self) -> Mac {
        Mac([2, 0, self.node as u8, 0, 0, self.slot as u8])
    }
}

/// Where a packet ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Landed {
    /// In a pod, by name.
    Pod(String),
    /// In a node's own stack, by index.
    Host(usize),
    /// Beyond the cluster, sent out by this node.
    Outside(usize),
    /// Dropped.
    Dropped(DropReason),
}

/// A packet's whole way.
#[derive(Clone, Debug)]
pub struct Journey {
    /// Each hook with its verdict.
    pub steps: Vec<(usize, Hook, Verdict)>,
    /// Where it ended.
    pub landed: Landed,
    /// The packet as it arrived.
    pub packet: Vec<u8>,
}

/// Several nodes.
pub struct World {
    /// The nodes.
    pub nodes: Vec<Node>,
    /// Pods by name.
    pub pods: BTreeMap<String, Pod>,
    next_service: u32,
    next_program: u32,
    generation: u32,
}

/// Settings as an agent with Calico's defaults would write them.
pub fn default_settings(node4: Ipv4Addr, node6: Ipv6Addr) -> Settings {
    let seconds = |s: u64| Tick::ticks_of_millis(s * 1000);
    let mut settings = Settings::new_zeroed();
    let tcp = [
        (Life::SynSent, 20),
        (Life::SynReceived, 20),
        (Life::Established, 3600),
        (Life::Closing, 120),
        (Life::Closed, 120),
        (Life::Reset, 40),
    ];
    for (life, limit) in tcp {
        settings.tcp_timeouts[life as usize] = seconds(limit);
    }
    settings.udp_unreplied = seconds(30);
    settings.udp = seconds(60);
    settings.icmp = seconds(5);
    settings.other = seconds(600);
    settings.mark_seen = MARK_SEEN;
    settings.mark_mask = 0xffff_0000;
    settings.port_range_first = 20_000;
    settings.port_range_last = 29_999;
    settings.nat_range_first = 1_024;
    settings.nat_range_last = 29_999;
    settings.node_address4 = Ip4::from(node4);
    settings.node_address6 = Ip6::from(node6);
    settings.tunnel_ifindex = TUNNEL;
    settings
}

impl World {
    /// `count` nodes that know each other, without pods.
    pub fn new(count: usize) -> Self {
        let nodes: Vec<Node> = (0..count).map(|_| Node::new()).collect();
        let world = Self { nodes, pods: BTreeMap::new(), next_service: 1, next_program: 0, generation: 1 };
        for index in 0..count {
            world.connect(index);
        }
        world
    }

    /// A node's addresses.
    pub fn node_addresses(index: usize) -> (Ipv4Addr, Ipv6Addr) {
        let host = index as u8 + 1;
        (Ipv4Addr::new(10, 240, 0, host), Ipv6Addr::new(0xfd00, 0x240, 0, 0, 0, 0, 0, u16::from(host)))
    }

    fn connect(&self, index: usize) {
        let node = &self.nodes[index];
        let (own4, own6) = Self::node_addresses(index);
        node.settings.set(default_settings(own4, own6));
        node.way_out.set(UPLINK);
        node.v4.set_route(own4.into(), 32, route(Kind::Host, Target::HOST));
        node.v6.set_route(own6.into(), 128, route(Kind::Host, Target::HOST));
        let (pods4, pods6) = Self::prefixes(index);
        node.v4.set_route(pods4.into(), 24, route(Kind::Blackhole, Target::HOST));
        node.v6.set_route(pods6.into(), 64, route(Kind::Blackhole, Target::HOST));
        for other in (0..self.nodes.len()).filter(|o| *o != index) {
            let (peer4, peer6) = Self::node_addresses(other);
            let (id4, id6) = Self::next_hops(other);
            let hop = NextHop { ifindex: UPLINK, mtu_bytes: 1500, ..NextHop::new_zeroed() };
            let mut hops = node.next_hop.borrow_mut();
            hops.insert(
                id4.slot(),
                NextHop { id: id4, address4: peer4.into(), node: V4::widen(&peer4.into()), ..hop },
            );
            hops.insert(id6.slot(), NextHop { id: id6, address6: peer6.into(), node: peer6.into(), ..hop });
            drop(hops);
            self.meet(index, other);
        }
    }

    fn next_hops(node: usize) -> (Target, Target) {
        let slot = node as u16 * 2;
        (Target::next_hop(slot, 1), Target::next_hop(slot + 1, 1))
    }

    /// The prefixes of a node's pods.
    fn prefixes(node: usize) -> (Ipv4Addr, Ipv6Addr) {
        let host = node as u8 + 1;
        (Ipv4Addr::new(10, 244, host, 0), Ipv6Addr::new(0xfd00, 0x244, u16::from(host), 0, 0, 0, 0, 0))
    }

    /// A node knows where another one is, and that one's pods.
    pub fn meet(&self, index: usize, other: usize) {
        let node = &self.nodes[index];
        let ((peer4, peer6), (pods4, pods6)) = (Self::node_addresses(other), Self::prefixes(other));
        let (id4, id6) = Self::next_hops(other);
        node.v4.set_route(peer4.into(), 32, route(Kind::RemoteHost, id4));
        node.v6.set_route(peer6.into(), 128, route(Kind::RemoteHost, id6));
        node.v4.set_route(pods4.into(), 24, route(Kind::RemotePod, id4));
        node.v6.set_route(pods6.into(), 64, route(Kind::RemotePod, id6));
    }

    /// A node hears that another one is gone. The record of the next hop stays, as an agent has it for a while.
    pub fn miss(&self, index: usize, other: usize) {
        let node = &self.nodes[index];
        let ((peer4, peer6), (pods4, pods6)) = (Self::node_addresses(other), Self::prefixes(other));
        node.v4.remove_route(peer4.into(), 32);
        node.v6.remove_route(peer6.into(), 128);
        node.v4.remove_route(pods4.into(), 24);
        node.v6.remove_route(pods6.into(), 64);
    }

    /// Adds a pod without policy to a node.
    pub fn add_pod(&mut self, name: &str, node: usize) -> Pod {
        let slot = self.pods.values().filter(|p| p.node == node).count() as u32;
        let host = node as u8 + 1;
        let v4 = Ipv4Addr::new(10, 244, host, slot as u8 + 10);
        let v6 = Ipv6Addr::new(0xfd00, 0x244, u16::from(host), 0, 0, 0, 0, slot as u16 + 10);
        let pod = Pod { node, slot, id: Target::endpoint(slot as u16, 1), v4, v6 };
        let kernel = &self.nodes[node];
        kernel.v4.set_route(v4.into(), 32, route(Kind::LocalPod, pod.id));
        kernel.v6.set_route(v6.into(), 128, route(Kind::LocalPod, pod.id));
        let endpoint = Endpoint {
            id: pod.id,
            ifindex: pod.ifindex(),
            egress_generation: self.generation,
            ingress_generation: self.generation,
            egress_program: NO_PROGRAM,
            ingress_program: NO_PROGRAM,
            flags: endpoint_flags::READY,
            mac: pod.mac(),
            host_mac: Mac([0xee; 6]),
            address4: v4.into(),
            address6: v6.into(),
            ..Endpoint::new_zeroed()
        };
        kernel.endpoint.borrow_mut().insert(slot, endpoint);
        self.pods.insert(name.to_owned(), pod.clone());
        pod
    }

    /// The pool of a pod's addresses masquerades what leaves it.
    pub fn set_nat_outgoing(&self, pod: &Pod) {
        let route = Route {
            flags: route_flags::IN_POOL | route_flags::NAT_OUTGOING,
            ..route(Kind::LocalPod, pod.id)
        };
        self.nodes[pod.node].v4.set_route(pod.v4.into(), 32, route);
        self.nodes[pod.node].v6.set_route(pod.v6.into(), 128, route);
    }

    /// Changes a pod's endpoint record.
    pub fn edit(&self, pod: &Pod, change: impl FnOnce(&mut Endpoint)) {
        if let Some(endpoint) = self.nodes[pod.node].endpoint.borrow_mut().get_mut(&pod.slot) {
            change(endpoint);
        }
    }

    /// Puts a rule in force for one direction of a pod, under a new generation. `rule` sees the contract
    /// record that a policy program sees.
    pub fn set_policy(
        &mut self,
        pod: &Pod,
        ingress: bool,
        rule: impl Fn(&tortie_abi::policy::PolicyIo) -> Decision + 'static,
    ) {
        let slot = self.next_program;
        self.next_program += 1;
        self.generation += 1;
        let generation = self.generation;
        let program = Box::new(move |io: &tortie_abi::policy::PolicyIo| (rule(io), slot + 1));
        self.nodes[pod.node].policy.borrow_mut().insert(slot, program);
        self.edit(pod, |e| {
            if ingress {
                e.ingress_program = slot;
                e.ingress_generation = generation;
            } else {
                e.egress_program = slot;
                e.egress_generation = generation;
            }
        });
    }

    /// Adds a Service with its back ends on every node.
    pub fn add_service(&mut self, address: IpAddr, port: u16, protocol: u8, backends: &[(IpAddr, u16)]) {
        let service = self.new_service();
        let frontend = Frontend { service, backends: backends.len() as u32, ..Frontend::default() };
        for node in 0..self.nodes.len() {
            self.set_frontend(node, (address, port, protocol), frontend, backends);
        }
    }

    /// An id that no Service has.
    pub fn new_service(&mut self) -> u32 {
        self.next_service += 1;
        self.next_service - 1
    }

    /// Adds or replaces one front end of one node, and its Service's back ends there.
    pub fn set_frontend(
        &self,
        node: usize,
        (address, port, protocol): (IpAddr, u16, u8),
        frontend: Frontend,
        backends: &[(IpAddr, u16)],
    ) {
        let node = &self.nodes[node];
        // As an agent writes it.
        let lone = backends.get(frontend.first as usize).filter(|_| frontend.backends == 1);
        let frontend =
            lone.map_or(frontend, |(address, port)| frontend.with_lone(*address, Be16::new(*port)));
        match address {
            IpAddr::V4(a) => {
                let key = v4::FrontendKey { address: a.into(), port: Be16::new(port), protocol, _zero: 0 };
                let list: Vec<_> = backends.iter().filter_map(|b| backend4(*b)).collect();
                node.v4.set_service(&key, frontend, &list);
            }
            IpAddr::V6(a) => {
                let key = v6::FrontendKey { address: a.into(), port: Be16::new(port), protocol, _zero: 0 };
                let list: Vec<_> = backends.iter().filter_map(|b| backend6(*b)).collect();
                node.v6.set_service(&key, frontend, &list);
            }
        }
    }

    /// Gives a Service a consistent-hash table on every node.
    pub fn set_maglev(&self, service: u32, places: &[(IpAddr, u16)]) {
        let list4: Vec<_> = places.iter().filter_map(|b| backend4(*b)).collect();
        let list6: Vec<_> = places.iter().filter_map(|b| backend6(*b)).collect();
        for node in &self.nodes {
            node.v4.set_maglev(service, &list4);
            node.v6.set_maglev(service, &list6);
        }
    }

    /// Opens a Service with source ranges to the clients of a prefix, on every node.
    pub fn admit(&self, service: u32, client: IpAddr, length: u32) {
        for node in &self.nodes {
            match client {
                IpAddr::V4(a) => node.v4.admit(service, a.into(), length),
                IpAddr::V6(a) => node.v6.admit(service, a.into(), length),
            }
        }
    }

    /// A back end of a Service is none of it any more on a node (`None`), or stands at this ordinal.
    pub fn set_member(&self, node: usize, service: u32, backend: (IpAddr, u16), ordinal: Option<u32>) {
        if let Some(backend) = backend4(backend) {
            self.nodes[node].v4.set_member(service, &backend, ordinal);
        }
        if let Some(backend) = backend6(backend) {
            self.nodes[node].v6.set_member(service, &backend, ordinal);
        }
    }

    /// A pod sends a frame.
    pub fn send(&self, from: &Pod, frame: Vec<u8>) -> Journey {
        self.travel(from.node, Hook::FromWorkload, from.slot, Packet::new(frame, from.ifindex()), vec![])
    }

    /// A pod sends a buffer that stands for many packets.
    pub fn send_aggregate(&self, from: &Pod, frame: Vec<u8>) -> Journey {
        let packet = Packet { aggregate: true, ..Packet::new(frame, from.ifindex()) };
        self.travel(from.node, Hook::FromWorkload, from.slot, packet, vec![])
    }

    /// A frame arrives at a node's uplink.
    pub fn arrive(&self, node: usize, frame: Vec<u8>) -> Journey {
        self.travel(node, Hook::FromHostDevice, u32::MAX, Packet::arriving(frame, UPLINK), vec![])
    }

    /// A node's own stack sends a frame.
    pub fn send_from_host(&self, node: usize, frame: Vec<u8>) -> Journey {
        self.host_stack(node, Packet::new(frame, UPLINK), vec![], true)
    }

    fn travel(
        &self,
        node: usize,
        hook: Hook,
        slot: u32,
        packet: Packet,
        mut steps: Vec<(usize, Hook, Verdict)>,
    ) -> Journey {
        let ifindex = packet.ifindex;
        let Outcome { verdict, packet, answer_network, .. } = run(&self.nodes[node], hook, slot, packet);
        steps.push((node, hook, verdict));
        let landed = match verdict {
            Verdict::Drop(reason) => Landed::Dropped(reason),
            Verdict::Peer { ifindex } | Verdict::Interface { ifindex } => self.pod_behind(node, ifindex),
            Verdict::Answer if hook == Hook::FromWorkload => self.pod_behind(node, ifindex),
            Verdict::Answer if hook == Hook::ToHostDevice => Landed::Host(node),
            Verdict::Answer if hook == Hook::FromTunnel => {
                let sender = packet.tunnel_source.expect("a packet of the tunnel").0;
                let hops = self.nodes[node].next_hop.borrow();
                let back = hops.iter().find(|(_, hop)| hop.node == sender).map(|(slot, _)| *slot);
                drop(hops);
                let back = back.expect("only nodes get answers");
                return self.through_tunnel(node, (back, answer_network), packet, steps);
            }
            Verdict::Answer => Landed::Outside(node),
            Verdict::Local => Landed::Host(node),
            Verdict::Tunnel { slot, network } => {
                return self.through_tunnel(node, (slot, network), packet, steps);
            }
            Verdict::Routed { ifindex } => {
                self.leave_unseen(node, ifindex, &packet);
                Landed::Outside(node)
            }
            Verdict::Pass if hook == Hook::ToHostDevice && ifindex == LOOPBACK => Landed::Host(node),
            Verdict::Pass if hook == Hook::ToHostDevice => Landed::Outside(node),
            Verdict::Neighbour { slot } => return self.to_neighbour(node, slot, packet, steps),
            Verdict::Pass if hook == Hook::ToWorkload => self.pod_behind(node, ifindex),
            Verdict::Pass => return self.host_stack(node, packet, steps, false),
        };
        Journey { steps, landed, packet: packet.bytes }
    }

    /// Another node opens what this one has wrapped.
    fn through_tunnel(
        &self,
        node: usize,
        (slot, network): (u32, u32),
        packet: Packet,
        steps: Vec<(usize, Hook, Verdict)>,
    ) -> Journey {
        let (own4, own6) = Self::node_addresses(node);
        let wide = |index: usize| {
            let (a4, a6) = Self::node_addresses(index);
            (V4::widen(&a4.into()), Ip6::from(a6))
        };
        let to = self.nodes[node].next_hop.borrow().get(&slot).map(|n| n.node);
        let peer = (0..self.nodes.len()).find(|index| {
            let (a4, a6) = wide(*index);
            to == Some(a4) || to == Some(a6)
        });
        let Some(peer) = peer else {
            return Journey { steps, landed: Landed::Outside(node), packet: packet.bytes };
        };
        let own = if to == Some(wide(peer).0) { V4::widen(&own4.into()) } else { own6.into() };
        let packet = Packet { tunnel_source: Some((own, network)), ..Packet::new(packet.bytes, TUNNEL) };
        self.travel(peer, Hook::FromTunnel, u32::MAX, packet, steps)
    }

    /// A frame comes out of a node's tunnel, which claims to be from this address.
    pub fn arrive_by_tunnel(&self, node: usize, sender: IpAddr, frame: Vec<u8>) -> Journey {
        let sender = match sender {
            IpAddr::V4(a) => V4::widen(&a.into()),
            IpAddr::V6(a) => a.into(),
        };
        let packet = Packet { tunnel_source: Some((sender, TUNNEL_NETWORK)), ..Packet::new(frame, TUNNEL) };
        self.travel(node, Hook::FromTunnel, u32::MAX, packet, vec![])
    }

    fn to_neighbour(
        &self,
        node: usize,
        slot: u32,
        packet: Packet,
        steps: Vec<(usize, Hook, Verdict)>,
    ) -> Journey {
        self.leave_unseen(node, UPLINK, &packet);
        let next = self.nodes[node].next_hop.borrow().get(&slot).map(|n| (n.address4, n.address6));
        let peer = (0..self.nodes.len()).find(|index| {
            let (a4, a6) = Self::node_addresses(*index);
            next == Some((a4.into(), Ip6::UNSPECIFIED)) || next == Some((Ip4::UNSPECIFIED, a6.into()))
        });
        match peer {
            Some(peer) => {
                let arrived = Packet::new(packet.bytes, UPLINK);
                self.travel(peer, Hook::FromHostDevice, u32::MAX, arrived, steps)
            }
            None => Journey { steps, landed: Landed::Outside(node), packet: packet.bytes },
        }
    }

    /// The program at the data interface meets again what another one sends out, and lets it through.
    fn leave_unseen(&self, node: usize, ifindex: u32, packet: &Packet) {
        let packet = Packet { ifindex, ..packet.clone() };
        let again = run(&self.nodes[node], Hook::ToHostDevice, u32::MAX, packet.clone());
        assert_eq!((again.verdict, &again.packet), (Verdict::Pass, &packet), "what is sent out was judged");
    }

    /// What the host's stack does with a packet: to itself, into a local pod, or out.
    fn host_stack(
        &self,
        node: usize,
        packet: Packet,
        steps: Vec<(usize, Hook, Verdict)>,
        own: bool,
    ) -> Journey {
        let destination = destination(&packet.bytes);
        let of_vlan = packet.vlan.is_some_and(|vlan| vlan != 0);
        if destination.is_none() || of_vlan {
            return Journey { steps, landed: Landed::Host(node), packet: packet.bytes };
        }
        let local = self.pods.values().find(|p| {
            p.node == node && (Some(IpAddr::V4(p.v4)) == destination || Some(IpAddr::V6(p.v6)) == destination)
        });
        if let Some(pod) = local {
            let packet = Packet { ifindex: pod.ifindex(), ..packet };
            return self.travel(node, Hook::ToWorkload, pod.slot, packet, steps);
        }
        let (a4, a6) = Self::node_addresses(node);
        let is_own = destination == Some(IpAddr::V4(a4)) || destination == Some(IpAddr::V6(a6));
        if is_own && !own {
            return Journey { steps, landed: Landed::Host(node), packet: packet.bytes };
        }
        let packet = Packet { ifindex: if is_own { LOOPBACK } else { UPLINK }, ..packet };
        self.travel(node, Hook::ToHostDevice, u32::MAX, packet, steps)
    }

    fn pod_behind(&self, node: usize, ifindex: u32) -> Landed {
        let found = self.pods.iter().find(|(_, p)| p.node == node && p.ifindex() == ifindex);
        found.map_or(Landed::Host(node), |(name, _)| Landed::Pod(name.clone()))
    }
}

fn route(kind: Kind, target: Target) -> Route {
    Route { target, kind: kind as u8, flags: 0, _zero: 0 }
}

fn backend4((address, port): (IpAddr, u16)) -> Option<v4::Backend> {
    match address {
        IpAddr::V4(a) => Some(v4::Backend { address: a.into(), port: Be16::new(port), _zero: 0 }),
        IpAddr::V6(_) => None,
    }
}

fn backend6((address, port): (IpAddr, u16)) -> Option<v6::Backend> {
    match address {
        IpAddr::V6(a) => Some(v6::Backend { address: a.into(), port: Be16::new(port), _zero: 0 }),
        IpAddr::V4(_) => None,
    }
}

/// The destination address of a frame.
pub fn destination(frame: &[u8]) -> Option<IpAddr> {
    match read_at::<EthHeader>(frame, 0)?.kind() {
        EtherType::Ipv4 => Some(IpAddr::V4(read_at::<Ip4Header>(frame, 14)?.dst.into())),
        EtherType::Ipv6 => Some(IpAddr::V6(read_at::<Ip6Header>(frame, 14)?.dst.into())),
        _ => None,
    }
}
