//! One packet through one hook: what the preamble, the programs and their tail calls do together.

use crate::context::Context;
use crate::node::{HasTables, Node};
use tortie_abi::counter::CounterKey;
use tortie_abi::{DropReason, Hook, Target, Tick};
use tortie_datapath::FlowEntry as _;
use tortie_datapath::family::Spot;
use tortie_datapath::hook::{self, sweep::Fate};
use tortie_datapath::kernel::Table;
use tortie_datapath::state::Parsed;
use tortie_datapath::{Next, State, Tuple, V4, V6, Verdict, stage};
use tortie_wire::eth::{EthHeader, EtherType, VlanTag};
use tortie_wire::read_at;
use tortie_wire::{Be16, Ip6};
use zerocopy::{FromBytes, IntoBytes};

/// A frame and what the kernel knows about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// From the Ethernet header on.
    pub bytes: Vec<u8>,
    /// Interface of the hook.
    pub ifindex: u32,
    /// Firewall mark.
    pub mark: u32,
    /// A tag of this VLAN was taken off.
    pub vlan: Option<u16>,
    /// Many packets in one buffer.
    pub aggregate: bool,
    /// The node that sent it through the tunnel ([`tortie_datapath::Family::widen`]), and the tunnel's network.
    pub tunnel_source: Option<(Ip6, u32)>,
    /// The transport checksum is yet to be completed by hardware.
    pub checksum_partial: bool,
}

impl Packet {
    /// A plain frame at an interface.
    pub fn new(bytes: Vec<u8>, ifindex: u32) -> Self {
        Self {
            bytes,
            ifindex,
            mark: 0,
            vlan: None,
            aggregate: false,
            tunnel_source: None,
            checksum_partial: false,
        }
    }

    /// A frame as the kernel takes it in: without its first tag.
    pub fn arriving(mut bytes: Vec<u8>, ifindex: u32) -> Self {
        let is_tagged = matches!(bytes.get(12..14), Some([0x81, 0x00] | [0x88, 0xa8]));
        let tag = read_at::<VlanTag>(&bytes, EthHeader::LEN).filter(|_| is_tagged);
        if tag.is_some() {
            bytes.drain(12..12 + VlanTag::LEN);
        }
        Self { vlan: tag.map(|tag| tag.id()), ..Self::new(bytes, ifindex) }
    }
}

/// What became of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The verdict.
    pub verdict: Verdict,
    /// The packet as the hook left it.
    pub packet: Packet,
    /// Id of the last rule that decided, 0 when none was asked.
    pub rule: u32,
    /// The network of an answer that goes back into the tunnel.
    pub answer_network: u32,
}

/// Bytes that scratch memory holds before each packet: the previous packet's rubbish.
const POISON: u8 = 0xa5;

/// Sends `packet` through `hook`. `slot`: the endpoint that the preamble of a workload interface names;
/// anything at other hooks.
pub fn run(node: &Node, hook: Hook, slot: u32, packet: Packet) -> Outcome {
    let kind = read_at::<EthHeader>(&packet.bytes, 0).map(|header| header.kind());
    match (hook, kind) {
        (_, Some(EtherType::Ipv4)) => from::<V4>(node, hook, slot, packet, |k, s| enter(hook, k, s)),
        (_, Some(EtherType::Ipv6)) => from::<V6>(node, hook, slot, packet, |k, s| enter(hook, k, s)),
        (Hook::FromHostDevice, Some(EtherType::Vlan | EtherType::QinQ)) => {
            from::<V4>(node, hook, slot, packet, hook::tagged)
        }
        (_, Some(EtherType::Arp)) | (Hook::FromHostDevice | Hook::ToHostDevice, _) => {
            Outcome { verdict: Verdict::Pass, packet, rule: 0, answer_network: 0 }
        }
        _ => from::<V4>(node, hook, slot, packet, hook::other),
    }
}

/// What an IP packet meets first.
fn enter<F: HasTables>(hook: Hook, k: &Context<'_>, s: &mut State<F>) -> Next {
    match hook {
        Hook::FromWorkload => hook::from_workload(k, s),
        Hook::ToWorkload => hook::to_workload(k, s),
        Hook::FromHostDevice => hook::from_host_device(k, s),
        Hook::ToHostDevice => hook::to_host_device(k, s),
        Hook::FromTunnel => hook::from_tunnel(k, s),
        // No packet passes there: `crate::socket`.
        Hook::Socket => Next::Pass,
    }
}

fn from<'n, F: HasTables>(
    node: &'n Node,
    hook: Hook,
    slot: u32,
    packet: Packet,
    first: impl FnOnce(&Context<'n>, &mut State<F>) -> Next,
) -> Outcome {
    let length = packet.bytes.len().saturating_sub(14) as u32;
    let ifindex = packet.ifindex;
    let k = Context::of_packet(node, packet);
    let mut s = poisoned::<F>();
    s.begin(hook, slot, node.now());
    let mut next = first(&k, &mut s);
    let verdict = loop {
        if let Some(verdict) = s.verdict(next) {
            break verdict;
        }
        next = match next {
            Next::Reply => hook::reply(&k, &mut s),
            Next::Related => hook::related(&k, &mut s),
            Next::Open => hook::open(&k, &mut s),
            Next::Apart => hook::apart(&k, &mut s),
            Next::Admit => hook::resume(&k, &mut s),
            _ if ask(node, s.output) => hook::resume(&k, &mut s),
            _ => break Verdict::Drop(DropReason::PolicyNotReady),
        };
    };
    let reason = match verdict {
        Verdict::Drop(reason) => Some(reason as u16),
        Verdict::Answer => Some(s.reason),
        Verdict::Pass | Verdict::Peer { .. } | Verdict::Interface { .. } | Verdict::Neighbour { .. } => None,
        Verdict::Routed { .. } | Verdict::Local | Verdict::Tunnel { .. } => None,
    };
    if let Some(reason) = reason {
        let length = if s.ip.total_bytes == 0 { length } else { s.ip.total_bytes };
        node.count(&CounterKey { ifindex, hook: hook as u16, reason }, length);
    }
    let answer_network = s.answer_network();
    Outcome { verdict, packet: k.frame.into_inner(), rule: s.rule, answer_network }
}

/// Runs the policy program in `slot`; `false` when the slot is empty.
fn ask(node: &Node, slot: u32) -> bool {
    let programs = node.policy.borrow();
    let Some(program) = programs.get(&slot) else { return false };
    let mut io = node.policy_io.get();
    let (verdict, rule) = program(&io);
    io.verdict = verdict as u32;
    io.rule = rule;
    node.policy_io.set(io);
    true
}

/// Scratch memory full of [`POISON`], so that a field which `begin` forgets shows.
fn poisoned<F: HasTables>() -> State<F> {
    let word = u32::from_ne_bytes([POISON; 4]);
    let half = u16::from_ne_bytes([POISON; 2]);
    let address = poison::<F::Addr>();
    let tuple = Tuple {
        source: address,
        destination: address,
        source_port: Be16::from_raw(half),
        destination_port: Be16::from_raw(half),
        protocol: POISON,
    };
    let ip = Parsed {
        source: address,
        destination: address,
        protocol: POISON,
        ttl: POISON,
        fragment: POISON,
        dont_fragment: POISON,
        header_bytes: word,
        total_bytes: word,
        identification: word,
    };
    State {
        tuple,
        translated: tuple,
        ip,
        flow: poison::<F::Flow>(),
        rewritten: tuple,
        own: Spot { element: poison::<F::FlowKey>(), way: word },
        partner: Spot { element: poison::<F::FlowKey>(), way: word },
        generation: word,
        transport_offset: word,
        sequence: word,
        sequence_end: word,
        acknowledged: word,
        slot: word,
        client_slot: word,
        server_slot: word,
        target: Target(word),
        reply_target: Target(word),
        now: Tick(word),
        output: word,
        rule: word,
        mtu_bytes: word,
        answer_source: address,
        front: address,
        front_port: Be16::from_raw(half),
        flow_flags: half,
        hook: half,
        reason: half,
        other_port: Be16::from_raw(half),
        tcp_flags: POISON,
        icmp_type: POISON,
        icmp_code: POISON,
        phase: POISON,
        answer: POISON,
        note: POISON,
        awaits: POISON,
        vacant: POISON,
        next: POISON,
    }
}

pub(crate) fn poison<T: FromBytes + IntoBytes>() -> T {
    let mut value = T::new_zeroed();
    value.as_mut_bytes().fill(POISON);
    value
}

/// What a sweep would do with one entry now.
pub fn fate<F: HasTables>(node: &Node, table: Table, key: &F::FlowKey, entry: &F::Flow) -> Fate {
    examine::<F>(node, table, key, entry).0
}

/// As [`fate`], with the key of the other direction's entry.
pub fn examine<F: HasTables>(
    node: &Node,
    table: Table,
    key: &F::FlowKey,
    entry: &F::Flow,
) -> (Fate, F::FlowKey) {
    let k = Context::of_packet(node, Packet::new(Vec::new(), 0));
    hook::sweep::examine::<F, _>(&k, table, key, entry, node.now())
}

/// An entry of a flow table.
pub fn entry<F: HasTables>(node: &Node, table: Table, key: &F::FlowKey) -> Option<F::Flow> {
    let k = Context::of_packet(node, Packet::new(Vec::new(), 0));
    stage::table::entry::<F, _, _>(&k, table, &Spot::of(key), |entry| *entry)
}

/// Routes have changed: doubts the way that an entry says, as a sweep does.
pub fn doubt<F: HasTables>(node: &Node, table: Table, key: &F::FlowKey) {
    let k = Context::of_packet(node, Packet::new(Vec::new(), 0));
    let one = |entry: &mut F::Flow| hook::sweep::doubt(entry.core_mut(), || true);
    let _ = stage::table::entry::<F, _, _>(&k, table, &Spot::of(key), one);
}

/// Removes an entry from a flow table, as a sweep does.
pub fn remove<F: HasTables>(node: &Node, table: Table, key: &F::FlowKey) {
    let k = Context::of_packet(node, Packet::new(Vec::new(), 0));
    stage::table::remove::<F, _>(&k, table, &Spot::of(key));
}
