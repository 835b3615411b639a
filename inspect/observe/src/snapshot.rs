//! What was read from the maps of a node, typed.

use std::collections::BTreeMap;
use tortie_abi::counter::{Counter, CounterKey};
use tortie_abi::endpoint::{Endpoint, NextHop};
use tortie_abi::route::Route;
use tortie_abi::service::{BackendKey, Frontend};
use tortie_abi::settings::Settings;
use tortie_abi::{v4, v6};

/// Entries of the maps; a list that was not asked for is empty.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// `flow4`.
    pub flow4: Vec<(v4::FlowKey, v4::Flow)>,
    /// `flow6`.
    pub flow6: Vec<(v6::FlowKey, v6::Flow)>,
    /// `half_open4`.
    pub half_open4: Vec<(v4::FlowKey, v4::Flow)>,
    /// `half_open6`.
    pub half_open6: Vec<(v6::FlowKey, v6::Flow)>,
    /// `endpoint`, without empty slots.
    pub endpoints: BTreeMap<u32, Endpoint>,
    /// `next_hop`, without empty slots.
    pub next_hops: BTreeMap<u32, NextHop>,
    /// `route4`.
    pub route4: Vec<(v4::PrefixKey, Route)>,
    /// `route6`.
    pub route6: Vec<(v6::PrefixKey, Route)>,
    /// `frontend4`.
    pub frontend4: Vec<(v4::FrontendKey, Frontend)>,
    /// `frontend6`.
    pub frontend6: Vec<(v6::FrontendKey, Frontend)>,
    /// `backend4`.
    pub backend4: Vec<(BackendKey, v4::Backend)>,
    /// `backend6`.
    pub backend6: Vec<(BackendKey, v6::Backend)>,
    /// `rule_counter`, without zeroes.
    pub rule_counters: BTreeMap<u32, Counter>,
    /// `counter`, summed over CPUs.
    pub counters: Vec<(CounterKey, Counter)>,
    /// `settings`.
    pub settings: Option<Settings>,
    /// When it was taken: monotonic nanoseconds since boot.
    pub now_nanos: u64,
}
