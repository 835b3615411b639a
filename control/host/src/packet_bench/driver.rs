//! The program around each measured one: it restores the frame, since a run leaves it translated and its time
//! to live lower, and goes on by a tail call.

use std::net::IpAddr;
use tortie_abi::settings::TUNNEL_NETWORK;
use tortie_policy::asm::{AsmError, Assembler, Condition, MapRef, Op, Program as Listing, Reg, Size};
use tortie_wire::Ip6;

/// In drivers: the array of measured programs.
pub(super) const PROGRAMS: MapRef = MapRef::Stage;
/// In drivers: one number for each CPU, which makes flows new.
pub(super) const COUNTER: MapRef = MapRef::Rows;
/// In the floor's program: the flow table.
pub(super) const FLOWS: MapRef = MapRef::Cells;

/// `offsetof(struct __sk_buff, data)`, `data_end`
const SKB_DATA: i16 = 76;
const SKB_DATA_END: i16 = 80;
const TAIL_CALL: i32 = 12;
const SET_TUNNEL_KEY: i32 = 21;
const REDIRECT_PEER: i32 = 155;
const KTIME_GET_COARSE: i32 = 160;
/// `TC_ACT_UNSPEC`, `TC_ACT_SHOT`
const UNSPEC: i32 = -1;
const SHOT: i32 = 2;

/// What the tunnel's device says about a packet: `struct bpf_tunnel_key` and the helper's flags.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tunnel {
    key: [u32; 11],
    flags: i32,
}

/// `offsetof(struct bpf_tunnel_key, local_ipv4)`, in words. Who sent a packet that has arrived is read from there.
const LOCAL: usize = 7;
/// `BPF_F_TUNINFO_IPV6`
const IPV6: i32 = 1;

impl From<IpAddr> for Tunnel {
    /// The tunnel from a node.
    fn from(node: IpAddr) -> Self {
        let mut key = [0; 11];
        if let Some(network) = key.first_mut() {
            *network = TUNNEL_NETWORK;
        }
        let (words, flags) = match node {
            // In the order of this machine; an IPv6 address in the network's.
            IpAddr::V4(node) => ([node.to_bits(), 0, 0, 0], 0),
            IpAddr::V6(node) => (Ip6::from(node).0.map(|word| word.raw()), IPV6),
        };
        for (to, from) in key.iter_mut().skip(LOCAL).zip(words) {
            *to = from;
        }
        Self { key, flags }
    }
}

/// Restores `frame`, with another source port in each run when `port_at` says where it is, and goes on to
/// `slot` of [`PROGRAMS`]. One out of a tunnel is given its tunnel's description anew: a program may have set another.
pub(super) fn driver(
    frame: &[u8],
    port_at: Option<usize>,
    tunnel: Option<Tunnel>,
    slot: u32,
) -> Result<Listing, AsmError> {
    let mut asm = Assembler::new();
    let out = asm.label();
    asm.mov(Reg::R6, Reg::R1);
    if port_at.is_some() {
        count(&mut asm, out);
    }
    if let Some(tunnel) = tunnel {
        arrive_through(&mut asm, &tunnel);
    }
    asm.load(Size::U32, Reg::R2, Reg::R6, SKB_DATA);
    asm.load(Size::U32, Reg::R3, Reg::R6, SKB_DATA_END);
    asm.mov(Reg::R4, Reg::R2);
    asm.alu(Op::Add, Reg::R4, frame.len() as i32);
    asm.jump_if(Condition::Above, Reg::R4, Reg::R3, out);
    let (words, rest) = frame.as_chunks::<4>();
    for (index, word) in words.iter().enumerate() {
        asm.store(Size::U32, Reg::R2, (index * 4) as i16, i32::from_ne_bytes(*word));
    }
    for (index, byte) in rest.iter().enumerate() {
        asm.store(Size::U8, Reg::R2, (words.len() * 4 + index) as i16, i32::from(*byte));
    }
    if let Some(at) = port_at {
        asm.store(Size::U16, Reg::R2, at as i16, Reg::R7);
    }
    asm.mov(Reg::R1, Reg::R6);
    asm.load_map(Reg::R2, PROGRAMS);
    asm.mov(Reg::R3, slot as i32);
    asm.call(TAIL_CALL);
    asm.place(out);
    asm.mov(Reg::R0, SHOT);
    asm.exit();
    asm.finish()
}

/// The next number into R7.
fn count(asm: &mut Assembler, out: tortie_policy::asm::Label) {
    asm.store(Size::U32, Reg::R10, -4, 0);
    asm.look_up(COUNTER, -4);
    asm.jump_if(Condition::Equal, Reg::R0, 0, out);
    asm.load(Size::U64, Reg::R7, Reg::R0, 0);
    asm.alu(Op::Add, Reg::R7, 1);
    asm.store(Size::U64, Reg::R0, 0, Reg::R7);
}

/// As if the packet in R6 had come out of the tunnel.
fn arrive_through(asm: &mut Assembler, tunnel: &Tunnel) {
    let bytes = size_of_val(&tunnel.key) as i32;
    for (index, word) in tunnel.key.iter().enumerate() {
        asm.store(Size::U32, Reg::R10, (index * 4) as i16 - bytes as i16, *word as i32);
    }
    asm.mov(Reg::R1, Reg::R6);
    asm.mov(Reg::R2, Reg::R10);
    asm.alu(Op::Add, Reg::R2, -bytes);
    asm.mov(Reg::R3, bytes);
    asm.mov(Reg::R4, tunnel.flags);
    asm.call(SET_TUNNEL_KEY);
}

/// Does nothing.
pub(super) fn empty() -> Result<Listing, AsmError> {
    let mut asm = Assembler::new();
    asm.mov(Reg::R0, UNSPEC);
    asm.exit();
    asm.finish()
}

/// Finds the entry of `key` in the flow table, reads the clock and redirects: the least a data plane does.
pub(super) fn floor(key: &[u8]) -> Result<Listing, AsmError> {
    let mut asm = Assembler::new();
    let out = asm.label();
    let start = -(key.len() as i16);
    let (words, _) = key.as_chunks::<4>();
    for (index, word) in words.iter().enumerate() {
        asm.store(Size::U32, Reg::R10, start + (index * 4) as i16, i32::from_ne_bytes(*word));
    }
    asm.look_up(FLOWS, start);
    asm.jump_if(Condition::Equal, Reg::R0, 0, out);
    asm.mov(Reg::R7, Reg::R0);
    asm.call(KTIME_GET_COARSE);
    asm.store(Size::U64, Reg::R7, 0, Reg::R0);
    asm.mov(Reg::R1, 1);
    asm.mov(Reg::R2, 0);
    asm.call(REDIRECT_PEER);
    asm.exit();
    asm.place(out);
    asm.mov(Reg::R0, SHOT);
    asm.exit();
    asm.finish()
}
