//! The least that a program at `connect` can do: one look-up in a table like ours, and the new destination.
//!
//! Owns: the listing. Does not: load or attach it.

use std::mem::offset_of;
use tortie_abi::service::Frontend;
use tortie_policy::asm::{AsmError, Assembler, Condition, MapRef, Program as Listing, Reg, Size};

/// In the program: the table of front ends.
pub(super) const FRONTENDS: MapRef = MapRef::Cells;

/// `offsetof(struct bpf_sock_addr, user_ip4)`, `user_ip6`, `user_port`
const USER_IP4: i16 = 4;
const USER_IP6: i16 = 8;
const USER_PORT: i16 = 24;
/// `IPPROTO_TCP`
const TCP: i32 = 6;

/// Finds the front end at a TCP socket's destination in [`FRONTENDS`] and leads the socket to its lone back end.
pub(super) fn floor(family: u8) -> Result<Listing, AsmError> {
    let (address, words) = if family == 4 { (USER_IP4, 1) } else { (USER_IP6, 4) };
    let key_bytes: i16 = words * 4 + 4;
    let mut asm = Assembler::new();
    let out = asm.label();
    asm.mov(Reg::R6, Reg::R1);
    for word in 0..words {
        asm.load(Size::U32, Reg::R2, Reg::R6, address + word * 4);
        asm.store(Size::U32, Reg::R10, word * 4 - key_bytes, Reg::R2);
    }
    asm.load(Size::U32, Reg::R2, Reg::R6, USER_PORT);
    asm.store(Size::U16, Reg::R10, -4, Reg::R2);
    asm.store(Size::U8, Reg::R10, -2, TCP);
    asm.store(Size::U8, Reg::R10, -1, 0);
    asm.look_up(FRONTENDS, -key_bytes);
    asm.jump_if(Condition::Equal, Reg::R0, 0, out);
    for word in 0..words {
        asm.load(Size::U32, Reg::R2, Reg::R0, offset_of!(Frontend, lone_address) as i16 + word * 4);
        asm.store(Size::U32, Reg::R6, address + word * 4, Reg::R2);
    }
    asm.load(Size::U16, Reg::R2, Reg::R0, offset_of!(Frontend, lone_port) as i16);
    asm.store(Size::U32, Reg::R6, USER_PORT, Reg::R2);
    asm.place(out);
    asm.mov(Reg::R0, 1);
    asm.exit();
    asm.finish()
}
