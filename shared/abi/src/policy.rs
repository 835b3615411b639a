//! The contract between the packet programs and the generated policy programs.
//!
//! A policy program is a tc program reached by a tail call from `policy[slot]`. It reads the
//! [`PolicyIo`] of this CPU (map `policy_io`, element 0), writes `verdict` and `rule` there, and tail
//! calls `stage[resume]`, where resume is [`crate::stage::RESUME4`] or [`crate::stage::RESUME6`] by
//! `family`. When the tail call fails the packet drops. Programs serve both families.
//!
//! The remote side is resolved to a class before: `class_addr` (exact), else `class_net` (longest
//! prefix), else [`NO_CLASS`]. A class stands for one combination of set memberships; the class maps
//! of both families share one space of ids. For traffic between two local workloads the class comes
//! from [`crate::endpoint::Endpoint`].

use tortie_wire::Ip6;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Input and output of one policy evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PolicyIo {
    /// Class of the remote side: the destination for egress, the source for ingress.
    pub remote_class: u32,
    /// Destination port after service translation, host byte order; 0 without ports.
    pub destination_port: u16,
    /// Source port, host byte order; 0 without ports.
    pub source_port: u16,
    /// IP protocol number (the upper layer's, behind IPv6 extension headers).
    pub protocol: u8,
    /// ICMP or ICMPv6 type, else 0.
    pub icmp_type: u8,
    /// ICMP or ICMPv6 code, else 0.
    pub icmp_code: u8,
    /// 4 or 6.
    pub family: u8,
    /// Address of the remote side; IPv4 in the first word, the rest 0.
    pub remote_address: Ip6,
    /// Out: [`Verdict`].
    pub verdict: u32,
    /// Out: the id of the rule that decided (index into `rule_counter`), 0 for the end of the list.
    pub rule: u32,
}

/// What a policy program decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Verdict {
    /// Refuse.
    Deny = 1,
    /// Let it through.
    Allow = 2,
}

impl Verdict {
    /// Everything but [`Verdict::Allow`] denies, unknown values too.
    #[inline(always)]
    pub const fn from_word(word: u32) -> Self {
        if word == Self::Allow as u32 { Self::Allow } else { Self::Deny }
    }
}

/// The class of an address that is in no set and no prefix that a policy uses.
pub const NO_CLASS: u32 = 0;

/// The rule id of a list's end: nothing matched.
pub const NO_RULE: u32 = 0;

const _: () = assert!(size_of::<PolicyIo>() == 36);
