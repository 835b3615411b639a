//! Settings in the form the programs read.

use crate::delta::{DeltaTracker, Now, Part, Written};
use crate::dirty::Dirty;
use crate::kernel::Kernel;
use crate::table::TableError;
use std::net::IpAddr;
use std::time::Duration;
use tortie_abi::flow::State;
use tortie_abi::service::netns_words;
use tortie_abi::settings::{self as abi, flags};
use tortie_abi::time::Tick;
use tortie_model::settings::{ConnectTime, EndpointToHost, LoopPrevention, Settings as Model, Timeout};
use tortie_wire::{Ip4, Ip6};

/// The kernel's own conntrack time-outs: what `Auto` stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelTimeouts {
    /// `nf_conntrack_tcp_timeout_syn_sent`
    pub tcp_syn_sent: Duration,
    /// `nf_conntrack_tcp_timeout_established`
    pub tcp_established: Duration,
    /// `nf_conntrack_tcp_timeout_time_wait`
    pub tcp_time_wait: Duration,
    /// `nf_conntrack_tcp_timeout_close`
    pub tcp_close: Duration,
    /// `nf_conntrack_udp_timeout_stream`
    pub udp: Duration,
    /// `nf_conntrack_generic_timeout`
    pub generic: Duration,
    /// `nf_conntrack_icmp_timeout`
    pub icmp: Duration,
}

impl Default for KernelTimeouts {
    /// The kernel's defaults, for a kernel without conntrack.
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            tcp_syn_sent: seconds(120),
            tcp_established: seconds(432_000),
            tcp_time_wait: seconds(120),
            tcp_close: seconds(10),
            udp: seconds(120),
            generic: seconds(600),
            icmp: seconds(30),
        }
    }
}

/// What the settings say of this node itself.
#[derive(Debug, Default)]
pub struct Own {
    /// Its addresses, the preferred one of each family first.
    pub addresses: Vec<IpAddr>,
    /// The tunnel's interface.
    pub tunnel: Option<u32>,
    /// The kernel's number of its network namespace.
    pub netns: Option<u64>,
}

/// The one record.
#[derive(Debug, Default)]
pub struct SettingsTable {
    record: DeltaTracker<u32, abi::Settings>,
}

/// The bit that Calico uses for "seen", where it is ours, else the lowest of ours.
const PREFERRED_MARK: u32 = 0x0100_0000;

impl SettingsTable {
    /// What the record should be.
    pub fn want(&mut self, model: &Model, kernel: &KernelTimeouts, node: &Own) {
        self.record.want(0, Some(translate(model, kernel, node)));
    }

    /// Reads the kernel's side.
    pub fn read(&mut self, kernel: &mut Kernel) -> Result<(), TableError> {
        self.record.found(kernel.settings.list()?);
        Ok(())
    }

    /// Writes it.
    pub fn write(&mut self, kernel: &mut Kernel, now: Now) -> Written {
        self.record.apply(&mut kernel.settings, Part::Upserts, now, |_, _| true)
    }

    /// What is not as wanted.
    pub fn dirty(&self) -> Vec<Dirty> {
        Dirty::of_tracker("settings", &self.record)
    }

    /// When a failed write may be tried again.
    pub fn next_retry(&self) -> Option<Now> {
        self.record.next_retry()
    }
}

fn translate(model: &Model, kernel: &KernelTimeouts, node: &Own) -> abi::Settings {
    let ticks = |timeout: Timeout, auto: Duration| {
        let duration = match timeout {
            Timeout::Fixed(duration) => duration,
            Timeout::Auto => auto,
        };
        Tick::ticks_of_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    };
    let t = &model.timeouts;
    let udp = ticks(t.udp, kernel.udp);
    let address4 = node.addresses.iter().find_map(|address| match address {
        IpAddr::V4(address) => Some(Ip4::from(*address)),
        IpAddr::V6(_) => None,
    });
    let address6 = node.addresses.iter().find_map(|address| match address {
        IpAddr::V6(address) => Some(Ip6::from(*address)),
        IpAddr::V4(_) => None,
    });
    let lowest = model.mark_mask & model.mark_mask.wrapping_neg();
    abi::Settings {
        tcp_timeouts: std::array::from_fn(|index| {
            match u8::try_from(index).ok().and_then(State::from_byte) {
                Some(State::SynSent | State::SynReceived) => ticks(t.tcp_syn_sent, kernel.tcp_syn_sent),
                // One side may go on sending for as long as it likes after the other's FIN.
                Some(State::Established | State::Closing) => ticks(t.tcp_established, kernel.tcp_established),
                Some(State::Closed) => ticks(t.tcp_fins_seen, kernel.tcp_time_wait),
                Some(State::Reset) => ticks(t.tcp_reset_seen, kernel.tcp_close),
                Some(State::Unreplied) | None => 0,
            }
        }),
        udp_unreplied: udp,
        udp,
        icmp: ticks(t.icmp, kernel.icmp),
        other: ticks(t.generic, kernel.generic),
        mark_seen: if model.mark_mask & PREFERRED_MARK != 0 { PREFERRED_MARK } else { lowest },
        mark_mask: model.mark_mask,
        flags: if model.endpoint_to_host == EndpointToHost::Drop { flags::DROP_TO_HOST } else { 0 }
            | if model.allow_vxlan { flags::ALLOW_VXLAN } else { 0 }
            | if model.allow_ipip { flags::ALLOW_IPIP } else { 0 }
            | if model.redirect_to_peer { 0 } else { flags::NO_REDIRECT_PEER }
            | if model.direct_return { flags::DIRECT_RETURN } else { 0 }
            | match model.loop_prevention {
                LoopPrevention::Drop => flags::DROP_TO_SERVICES,
                LoopPrevention::Reject => flags::REJECT_TO_SERVICES,
                LoopPrevention::Disabled => 0,
            }
            | match model.connect_time {
                ConnectTime::Tcp => flags::CONNECT_TCP,
                ConnectTime::Enabled => flags::CONNECT_TCP | flags::CONNECT_UDP,
                ConnectTime::Disabled => 0,
            },
        port_range_first: model.source_port_range.0,
        port_range_last: model.source_port_range.1,
        nat_range_first: model.nat_port_range.0,
        nat_range_last: model.nat_port_range.1,
        node_address4: address4.unwrap_or_default(),
        node_address6: address6.unwrap_or_default(),
        gateway4: Ip4::default(),
        tunnel_ifindex: node.tunnel.unwrap_or(0),
        host_netns: netns_words(node.netns.unwrap_or(0)),
    }
}
