//! The kernel traits over a fake node and one packet.

use crate::node::{HasTables, Node};
use crate::run::{Packet as Frame, poison};
use crate::socket::Call;
use crate::table::Refused;
use std::cell::{Cell, RefCell};
use tortie_abi::Tick;
use tortie_abi::endpoint::{Endpoint, NextHop};
use tortie_abi::maps;
use tortie_abi::policy::{NO_CLASS, PolicyIo};
use tortie_abi::route::Route;
use tortie_abi::service::{BackendKey, Frontend, MAGLEV_PIECE, MaglevKey, Member};
use tortie_abi::settings::Settings;
use tortie_datapath::kernel::{
    ChecksumKind, Clock, Flows, Fragments, Insert, Packet, Policies, Random, Searches, Services, Table,
    TableFull, Topology, TunnelInfo, Ways,
};
use tortie_datapath::stage::port::Search;
use tortie_wire::Be16;
use tortie_wire::checksum::Delta;
use tortie_wire::{read_at, write_at};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

/// Longest frame that the kernel lets a program make, bytes.
const MAX_FRAME: usize = 65_535 + 14;

/// Payload of each packet in a buffer that stands for many, bytes (the differential suite's).
const SEGMENT_BYTES: u32 = 500;

/// One packet or one system call on one node.
pub(crate) struct Context<'a> {
    pub(crate) node: &'a Node,
    pub(crate) frame: RefCell<Frame>,
    pub(crate) call: Cell<Call>,
}

impl<'a> Context<'a> {
    pub(crate) fn of_packet(node: &'a Node, frame: Frame) -> Self {
        Self { node, frame: RefCell::new(frame), call: Cell::new(Call::NONE) }
    }

    pub(crate) fn of_call(node: &'a Node, call: Call) -> Self {
        Self { node, frame: RefCell::new(Frame::new(Vec::new(), 0)), call: Cell::new(call) }
    }
}

impl Packet for Context<'_> {
    fn length(&self) -> u32 {
        self.frame.borrow().bytes.len() as u32
    }

    fn load<T: FromBytes + IntoBytes>(&self, offset: u32) -> Option<T> {
        read_at(&self.frame.borrow().bytes, offset as usize)
    }

    fn store<T: IntoBytes + Immutable>(&self, offset: u32, value: T) -> Option<()> {
        write_at(&mut self.frame.borrow_mut().bytes, offset as usize, &value)
    }

    /// `bpf_l4_csum_replace` with a difference (`inet_proto_csum_replace_by_diff`).
    fn update_checksum(&self, offset: u32, delta: Delta, kind: ChecksumKind) -> Option<()> {
        let mut frame = self.frame.borrow_mut();
        let old: Be16 = read_at(&frame.bytes, offset as usize)?;
        let (pseudo, udp) = match kind {
            ChecksumKind::PseudoHeader { udp } => (true, udp),
            ChecksumKind::Payload { udp } => (false, udp),
        };
        if udp && old.is_zero() {
            return Some(());
        }
        let new = match (frame.checksum_partial, pseudo) {
            (false, _) => !fold(u64::from(delta.to_kernel()) + 0xffff_0000 + u64::from(!old.raw())),
            (true, true) => !fold(u64::from(delta.to_kernel()) + u64::from(old.raw())),
            (true, false) => old.raw(),
        };
        let new = if udp && new == 0 { 0xffff } else { new };
        write_at(&mut frame.bytes, offset as usize, &Be16::from_raw(new))
    }

    fn resize(&self, length: u32) -> Option<()> {
        let length = length as usize;
        if !(14..=MAX_FRAME).contains(&length) {
            return None;
        }
        let mut frame = self.frame.borrow_mut();
        frame.bytes.resize(length, 0);
        frame.aggregate = false;
        Some(())
    }

    fn has_vlan_tag(&self) -> bool {
        self.frame.borrow().vlan.is_some()
    }

    fn vlan(&self) -> u16 {
        self.frame.borrow().vlan.unwrap_or(0)
    }

    fn is_aggregate(&self) -> bool {
        self.frame.borrow().aggregate
    }

    fn segment_bytes(&self) -> u32 {
        if self.is_aggregate() { SEGMENT_BYTES } else { 0 }
    }

    fn mark(&self) -> u32 {
        self.frame.borrow().mark
    }

    fn set_mark(&self, mark: u32) {
        self.frame.borrow_mut().mark = mark;
    }

    fn ifindex(&self) -> u32 {
        self.frame.borrow().ifindex
    }
}

impl<F: HasTables> TunnelInfo<F> for Context<'_> {
    fn tunnel_source(&self) -> Option<(F::Addr, u32)> {
        self.frame.borrow().tunnel_source.map(|(address, network)| (F::narrow(&address), network))
    }
}

impl<F: HasTables> Ways<F> for Context<'_> {
    fn way_out(&self, _source: &F::Addr, _destination: &F::Addr) -> Option<u32> {
        Some(self.node.way_out.get()).filter(|ifindex| *ifindex != 0)
    }

    fn leads(&self, ifindex: u32, _source: &F::Addr, _destination: &F::Addr) -> bool {
        self.node.dead_end.get() != ifindex
    }
}

/// `csum_fold` without the final complement.
fn fold(sum: u64) -> u16 {
    let mut sum = (sum & 0xffff_ffff) + (sum >> 32);
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

impl Clock for Context<'_> {
    fn now(&self) -> Tick {
        self.node.now()
    }
}

impl Random for Context<'_> {
    fn random(&self) -> u32 {
        self.node.next_random()
    }
}

impl<F: HasTables> Flows<F> for Context<'_> {
    fn element<R>(&self, table: Table, key: &F::FlowKey, f: impl FnOnce(&mut F::FlowPair) -> R) -> Option<R> {
        let tables = F::tables(self.node);
        match table {
            Table::Main => tables.flow.borrow_mut().get_mut(key.as_bytes()).map(f),
            Table::HalfOpen => tables.half_open.borrow_mut().get_mut(key.as_bytes()).map(f),
        }
    }

    fn insert(
        &self,
        table: Table,
        key: &F::FlowKey,
        fill: impl FnOnce(&mut F::FlowPair),
        meet: impl FnOnce(&mut F::FlowPair, &mut F::FlowPair) -> Insert,
    ) -> Insert {
        let tables = F::tables(self.node);
        let mut new = poison::<F::FlowPair>();
        fill(&mut new);
        let inserted = match table {
            Table::Main => tables.flow.borrow_mut().insert(key.as_bytes(), new, false),
            Table::HalfOpen => tables.half_open.borrow_mut().insert(key.as_bytes(), new, false),
        };
        match inserted {
            Ok(()) => Insert::Done,
            Err(Refused::Exists) => {
                Flows::<F>::element(self, table, key, |there| meet(there, &mut new)).unwrap_or(Insert::Exists)
            }
            Err(Refused::Full) => Insert::Full,
        }
    }

    fn copy_to_main(&self, key: &F::FlowKey, pair: &F::FlowPair) -> Result<(), TableFull> {
        let tables = F::tables(self.node);
        tables.flow.borrow_mut().insert(key.as_bytes(), *pair, true).map_err(|_| TableFull)
    }

    fn delete(&self, table: Table, key: &F::FlowKey) {
        let tables = F::tables(self.node);
        match table {
            Table::Main => tables.flow.borrow_mut().remove(key.as_bytes()),
            Table::HalfOpen => tables.half_open.borrow_mut().remove(key.as_bytes()),
        };
    }
}

impl<F: HasTables> Searches<F> for Context<'_> {
    fn search(&self, times: u32, search: &mut Search<'_, F>) {
        let _ = (0..times).find(|number| search.look(self, *number));
    }
}

impl<F: HasTables> Topology<F> for Context<'_> {
    fn route(&self, address: &F::Addr) -> Option<Route> {
        F::tables(self.node).route.borrow().get(address.as_bytes()).copied()
    }

    fn endpoint<R>(&self, slot: u32, f: impl FnOnce(&Endpoint) -> R) -> Option<R> {
        if slot >= maps::ENDPOINT_SLOTS {
            return None;
        }
        Some(f(self.node.endpoint.borrow().get(&slot).unwrap_or(&Endpoint::new_zeroed())))
    }

    fn next_hop<R>(&self, slot: u32, f: impl FnOnce(&NextHop) -> R) -> Option<R> {
        if slot >= maps::NEXT_HOP_SLOTS {
            return None;
        }
        Some(f(self.node.next_hop.borrow().get(&slot).unwrap_or(&NextHop::new_zeroed())))
    }

    fn has_opted_out(&self, client: &F::Addr) -> bool {
        F::tables(self.node).opt_out.borrow().get(client.as_bytes()).is_some()
    }

    fn settings<R>(&self, f: impl FnOnce(&Settings) -> R) -> Option<R> {
        Some(f(&self.node.settings.get()))
    }
}

impl<F: HasTables> Services<F> for Context<'_> {
    fn frontend(&self, key: &F::FrontendKey) -> Option<Frontend> {
        F::tables(self.node).frontend.borrow().get(key.as_bytes()).copied()
    }

    fn backend(&self, key: &BackendKey) -> Option<F::Backend> {
        F::tables(self.node).backend.borrow().get(key.as_bytes()).copied()
    }

    fn maglev(&self, key: &MaglevKey, within: u32) -> Option<F::Backend> {
        let place = key.piece * MAGLEV_PIECE + within;
        F::tables(self.node).maglev.borrow().get(&(key.service, place)).copied()
    }

    fn member(&self, key: &F::MemberKey) -> Option<Member> {
        F::tables(self.node).member.borrow().get(key.as_bytes()).copied()
    }

    fn is_admitted(&self, key: &F::SourceRangeKey) -> bool {
        // The key begins with the length that a lookup does not need.
        F::tables(self.node).source_range.borrow().get(&key.as_bytes()[4..]).is_some()
    }

    fn affinity(&self, key: &F::AffinityKey) -> Option<F::Affinity> {
        F::tables(self.node).affinity.borrow_mut().get_mut(key.as_bytes()).copied()
    }

    fn remember(&self, key: &F::AffinityKey, affinity: &F::Affinity) {
        let _ = F::tables(self.node).affinity.borrow_mut().insert(key.as_bytes(), *affinity, true);
    }
}

impl<F: HasTables> Policies<F> for Context<'_> {
    fn class_of(&self, address: &F::Addr) -> u32 {
        let tables = F::tables(self.node);
        let exact = tables.class_addr.borrow().get(address.as_bytes()).copied();
        exact.or_else(|| tables.class_net.borrow().get(address.as_bytes()).copied()).unwrap_or(NO_CLASS)
    }

    fn policy_io<R>(&self, f: impl FnOnce(&mut PolicyIo) -> R) -> Option<R> {
        let mut io = self.node.policy_io.get();
        let result = f(&mut io);
        self.node.policy_io.set(io);
        Some(result)
    }

    fn count_rule(&self, rule: u32, bytes: u32) {
        if rule >= maps::RULE_SLOTS {
            return;
        }
        let mut counters = self.node.rule_counter.borrow_mut();
        let counter = counters.entry(rule).or_default();
        counter.packets += 1;
        counter.bytes += u64::from(bytes);
    }
}

impl<F: HasTables> Fragments<F> for Context<'_> {
    fn learn_ports(&self, key: &F::FragmentKey, ports: [u8; 4]) {
        let _ = F::tables(self.node).fragment.borrow_mut().insert(key.as_bytes(), ports, true);
    }

    fn ports(&self, key: &F::FragmentKey) -> Option<[u8; 4]> {
        F::tables(self.node).fragment.borrow_mut().get_mut(key.as_bytes()).map(|p| *p)
    }
}
