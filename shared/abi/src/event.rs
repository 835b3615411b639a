//! What the programs tell user space as it happens, through the ring buffer `event`.

use core::mem::offset_of;
use tortie_wire::{Be16, Ip6};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// One event. The ring drops and counts (in `event_lost`) rather than blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Event {
    /// Monotonic nanoseconds since boot.
    pub time_nanos: u64,
    /// [`Kind`].
    pub kind: u16,
    /// [`crate::Hook`].
    pub hook: u16,
    /// [`crate::DropReason`] for drops, else 0.
    pub reason: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// 4, 6, or 0 when the packet was not understood.
    pub family: u8,
    /// Interface of the hook.
    pub ifindex: u32,
    /// The policy rule that decided, else 0.
    pub rule: u32,
    /// IPv4 in the first word, the rest 0.
    pub source: Ip6,
    /// IPv4 in the first word, the rest 0.
    pub destination: Ip6,
    /// Source port, or ICMP type and code.
    pub source_port: Be16,
    /// Destination port.
    pub destination_port: Be16,
    /// Bytes from the IP header on.
    pub length: u32,
}

/// A system call that was refused: there is no packet. In the same ring, and the same as [`Event`] up to the family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Refusal {
    /// Monotonic nanoseconds since boot.
    pub time_nanos: u64,
    /// [`Kind::Refusal`].
    pub kind: u16,
    /// [`crate::Hook::Socket`].
    pub hook: u16,
    /// [`crate::DropReason`].
    pub reason: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// 4 or 6.
    pub family: u8,
    /// The socket's network namespace, by the kernel's number of it (its cookie).
    pub netns: u64,
    /// Where the call wanted to go: IPv4 in the first word, the rest 0.
    pub destination: Ip6,
    /// Its port.
    pub destination_port: Be16,
    /// Zero.
    pub _zero: u16,
    /// The Service of that address and port.
    pub service: u32,
    /// The calling task's name, zero-terminated.
    pub task: [u8; 16],
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Kind {
    /// A packet was dropped.
    Drop = 1,
    /// A system call was refused ([`Refusal`]).
    Refusal = 2,
}

impl Kind {
    /// The kind of a stored value, `None` for one this version does not know.
    pub const fn from_word(word: u16) -> Option<Self> {
        match word {
            1 => Some(Self::Drop),
            2 => Some(Self::Refusal),
            _ => None,
        }
    }
}

const _: () = assert!(size_of::<Event>() == 64 && size_of::<Refusal>() == 64);

/// Who reads a record looks at these before it knows which of the two it is.
const _: () = assert!(
    offset_of!(Event, time_nanos) == offset_of!(Refusal, time_nanos)
        && offset_of!(Event, kind) == offset_of!(Refusal, kind)
        && offset_of!(Event, hook) == offset_of!(Refusal, hook)
        && offset_of!(Event, reason) == offset_of!(Refusal, reason)
        && offset_of!(Event, protocol) == offset_of!(Refusal, protocol)
        && offset_of!(Event, family) == offset_of!(Refusal, family)
);
