//! What connected sockets remember: each in its place, or, where another socket has that, in a hash table
//! ([`tortie_abi::socket`]).
//!
//! Invariant: a socket has one entry at most. Only calls about a socket itself ask for its entry, so that nobody reads what
//! another CPU is writing.

use crate::map::CREATE;
use crate::maps::Tables;
use core::ptr;
use tortie_abi::socket::place;

/// No socket has this number.
const NOBODY: u64 = 0;

/// Where the socket was led to.
#[inline(always)]
pub fn lead<F: Tables>(cookie: u64) -> Option<F::SocketLead> {
    if cookie == NOBODY {
        return None;
    }
    let look = |place: &mut F::SocketPlace| {
        let (owner, lead, others) = F::place(place);
        if *owner == cookie { Ok(*lead) } else { Err(*others) }
    };
    match F::SOCKET.with(&place(cookie), look)? {
        Ok(lead) => Some(lead),
        Err(0) => None,
        Err(_) => F::SOCKET_REST.get(&cookie),
    }
}

/// Remembers it. A full table means that the peer is told by its own address.
#[inline(always)]
pub fn set_lead<F: Tables>(cookie: u64, lead: &F::SocketLead) {
    if cookie == NOBODY {
        return;
    }
    F::SOCKET.with(&place(cookie), |place| {
        let (owner, kept, others) = F::place(place);
        // At another attempt of the same socket it may be in the table, and stays there.
        if *owner != cookie && *others != 0 && F::SOCKET_REST.with(&cookie, |known| *known = *lead).is_some()
        {
            return;
        }
        if *owner == cookie || claim(owner, cookie) {
            *kept = *lead;
        } else if F::SOCKET_REST.update(&cookie, lead, CREATE).is_ok() {
            count(others, 1);
        }
    });
}

/// Forgets it.
#[inline(always)]
pub fn forget_lead<F: Tables>(cookie: u64) {
    F::SOCKET.with(&place(cookie), |place| {
        let (owner, _, others) = F::place(place);
        if *owner == cookie {
            *owner = NOBODY;
        } else if *others != 0 && F::SOCKET_REST.remove(&cookie) {
            count(others, u32::MAX);
        }
    });
}

/// Takes a place that is nobody's: an instruction, since `core` has no such operation on this target.
#[inline(always)]
fn claim(owner: &mut u64, cookie: u64) -> bool {
    let found: u64;
    // SAFETY: valid and aligned, since it is a reference; nothing but the cookie changes.
    unsafe {
        core::arch::asm!(
            "r0 = cmpxchg_64({owner} + 0, r0, {cookie})",
            owner = in(reg) ptr::from_mut(owner),
            cookie = in(reg) cookie,
            inout("r0") NOBODY => found,
            options(nostack),
        );
    }
    found == NOBODY
}

/// Adds, as [`crate::tables::add`] does.
#[inline(always)]
fn count(others: &mut u32, more: u32) {
    // SAFETY: as above.
    unsafe {
        core::arch::asm!(
            "lock *(u32 *)({others} + 0) += {more}",
            others = in(reg) ptr::from_mut(others),
            more = in(wreg) more,
            options(nostack),
        );
    }
}
