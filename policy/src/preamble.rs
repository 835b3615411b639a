//! The few instructions on each workload interface: which endpoint, which family, on to the shared program.
//!
//! Owns: the way from an interface to the shared programs of its hook. Does not: read the packet.
//! Invariant: what has no shared program drops; ARP and only ARP passes on to other programs.

use crate::asm::{AsmError, Assembler, Condition, Program, Reg, Size};
use crate::emit::{SHOT, tail_call};
use tortie_abi::stage;

/// Which way packets cross the interface, from the host's point of view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Towards {
    /// They leave the pod (TCX ingress of the host side).
    FromWorkload,
    /// They go to the pod (TCX egress of the host side).
    ToWorkload,
}

/// `offsetof(struct __sk_buff, protocol)`, a `__be16` in 4 bytes.
const SKB_PROTOCOL: i16 = 16;
/// `offsetof(struct __sk_buff, cb)`
const SKB_CB: i16 = 48;
const ETHERTYPE_IP4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IP6: u16 = 0x86dd;
/// `TCX_NEXT`, and `TC_ACT_UNSPEC` under clsact: the next program, or the stack when there is none.
const NEXT: i32 = -1;

/// The preamble of the endpoint in `slot`. Its only relocation is [`crate::asm::MapRef::Stage`].
pub fn preamble(slot: u32, towards: Towards) -> Result<Program, AsmError> {
    let (ip4, ip6, other) = match towards {
        Towards::FromWorkload => (stage::FROM_WORKLOAD4, stage::FROM_WORKLOAD6, stage::FROM_WORKLOAD_OTHER),
        Towards::ToWorkload => (stage::TO_WORKLOAD4, stage::TO_WORKLOAD6, stage::TO_WORKLOAD_OTHER),
    };
    let mut asm = Assembler::new();
    let (v4, v6, arp, drop) = (asm.label(), asm.label(), asm.label(), asm.label());
    asm.mov(Reg::R6, Reg::R1);
    asm.mov(Reg::R2, slot as i32);
    asm.store(Size::U32, Reg::R6, SKB_CB, Reg::R2);
    asm.load(Size::U32, Reg::R2, Reg::R6, SKB_PROTOCOL);
    for (ethertype, label) in [(ETHERTYPE_IP4, v4), (ETHERTYPE_IP6, v6), (ETHERTYPE_ARP, arp)] {
        asm.jump_if(Condition::Equal, Reg::R2, i32::from(ethertype.to_be()), label);
    }
    tail_call(&mut asm, Reg::R6, other);
    asm.jump(drop);
    asm.place(v4);
    tail_call(&mut asm, Reg::R6, ip4);
    asm.jump(drop);
    asm.place(v6);
    tail_call(&mut asm, Reg::R6, ip6);
    asm.place(drop);
    asm.mov(Reg::R0, SHOT);
    asm.exit();
    asm.place(arp);
    asm.mov(Reg::R0, NEXT);
    asm.exit();
    asm.finish()
}
