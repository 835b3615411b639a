//! Expiry: what a sweep over a flow table does with each entry.

use crate::family::{Family, FlowEntry, Spot};
use crate::kernel::{Flows, Services, Table, Topology};
use crate::seeded;
use crate::stage::{flow, nat, service, table};
use tortie_abi::Tick;
use tortie_abi::flow::{FlowCore, State as Life, flags};
use tortie_abi::settings::Settings;
use tortie_wire::proto::IpProtocol;

/// A TCP peer that speaks to somebody who is gone within this time is told so.
const TELL_TICKS: u32 = Tick::ticks_of_millis(300_000);

/// An entry younger than this may still miss its other direction.
const ORPHAN_TICKS: u32 = Tick::ticks_of_millis(2_000);

/// What becomes of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It stays.
    Keep,
    /// Both directions have been idle for too long: both go.
    Expired,
    /// Its endpoint or next hop is gone (and, of TCP, nobody has asked for it for a while), its UDP back end left the
    /// Service, or a Service has come to where it goes: both directions go.
    Stale,
    /// Its other direction is missing: it goes.
    Orphaned,
}

/// Routes have changed: whether the device that an entry names still leads to its client is asked at its next packet.
#[inline(always)]
pub fn doubt(core: &mut FlowCore, is_asked: impl FnOnce() -> bool) {
    let doubted = core.target.doubted();
    if doubted != core.target && is_asked() {
        core.target = doubted;
    }
}

/// Judges one entry of `table` and says the key of its other direction.
#[inline(always)]
pub fn examine<F: Family, K: Flows<F> + Topology<F> + Services<F>>(
    k: &K,
    table: Table,
    key: &F::FlowKey,
    entry: &F::Flow,
    now: Tick,
) -> (Fate, F::FlowKey) {
    let mut tuple = F::tuple(key);
    let protocol = tuple.protocol;
    if nat::far_end::<F, K>(k, &mut tuple, entry).is_err() {
        return (Fate::Keep, *key);
    }
    let partner = F::flow_key(&tuple.reversed());
    let misled = || has_left::<F, K>(k, key, entry) || is_served_now::<F, K>(k, key, entry.core());
    if protocol == IpProtocol::UDP.0 && misled() {
        return (Fate::Stale, partner);
    }
    (judge(k, table, &partner, entry.core(), protocol, now), partner)
}

/// Nobody tells a UDP client that its back end is gone: the flow ends, and its next packet finds another one. A
/// Service that is gone itself has no front end any more, and its flows end as well.
#[inline(always)]
fn has_left<F: Family, K: Services<F>>(k: &K, key: &F::FlowKey, entry: &F::Flow) -> bool {
    let core = entry.core();
    // (A reply to a masqueraded client is led to it by the same flag.)
    if core.flags & (flags::NAT_DESTINATION | flags::SERVICE) != flags::NAT_DESTINATION | flags::SERVICE {
        return false;
    }
    let frontend = service::frontend_of::<F, K>(k, &F::tuple(key));
    let Some(frontend) = frontend.filter(service::is_translated) else { return true };
    k.member(&F::member_key(frontend.service, entry.nat_address(), core.nat_port)).is_none()
}

/// A pod's UDP client goes on as it began, when no Service had the address: the flow ends, and its next packet finds the
/// Service.
#[inline(always)]
fn is_served_now<F: Family, K: Services<F> + Topology<F>>(k: &K, key: &F::FlowKey, core: &FlowCore) -> bool {
    let others = flags::REPLY | flags::NAT_DESTINATION | flags::TUNNEL_BACK | flags::SERVICE;
    core.flags & others == 0
        && service::frontend_at::<F, K>(k, &F::tuple(key))
            .is_some_and(|frontend| service::is_translated(&frontend))
}

#[inline(always)]
fn judge<F: Family, K: Flows<F> + Topology<F>>(
    k: &K,
    table: Table,
    partner: &F::FlowKey,
    core: &FlowCore,
    protocol: u8,
    now: Tick,
) -> Fate {
    if flow::is_stale::<F, K>(k, core.target) && (protocol != IpProtocol::TCP.0 || is_silent(core, now)) {
        return Fate::Stale;
    }
    let Some(limit) = k.settings(|c| timeout::<F>(c, protocol, core.state)) else { return Fate::Keep };
    if now.since(core.last_seen) <= limit {
        return Fate::Keep;
    }
    match table::entry(k, table, &Spot::of(partner), |p| p.core().last_seen) {
        Some(seen) if now.since(seen) > limit => Fate::Expired,
        Some(_) if seeded::SWEPT_EARLY => Fate::Expired,
        Some(_) => Fate::Keep,
        None if now.since(core.created) > ORPHAN_TICKS => Fate::Orphaned,
        None => Fate::Keep,
    }
}

#[inline(always)]
fn is_silent(core: &FlowCore, now: Tick) -> bool {
    now.since(core.last_seen) > TELL_TICKS
}

/// Ticks that a flow of this protocol and state may be idle.
#[inline(always)]
pub fn timeout<F: Family>(settings: &Settings, protocol: u8, life: u8) -> u32 {
    let unreplied = life == Life::Unreplied as u8;
    match IpProtocol(protocol) {
        IpProtocol::TCP => settings.tcp_timeouts.get((life & 7) as usize).copied().unwrap_or(0),
        IpProtocol::UDP if unreplied => settings.udp_unreplied,
        IpProtocol::UDP => settings.udp,
        icmp if icmp == F::ICMP => settings.icmp,
        _ => settings.other,
    }
}
