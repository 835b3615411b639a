//! Maps that grow with what is in them.
//!
//! Owns: which sizes maps get, and when one is crowded. Does not: make larger ones; [`super::again`] starts the agent again,
//! which does.
//! Invariant: what is crowded here gets a larger size at the next start, so that an agent never starts again for nothing.

use std::time::{Duration, Instant};

use tortie_abi::maps::{FLOW4, FLOW6, GROWING, MOST_ENTRIES};
use tortie_host::maps::{Maps, MapsError, Size, Sizes, is_crowded};
use tortie_host::sweep::Report;
use tortie_model::settings::Settings;
use tortie_reconcile::{Reconciler, maglev_pieces};

use super::parts::Parts;

/// How long an agent runs before it starts again for a larger map.
const AT_LEAST: Duration = Duration::from_secs(10);

/// The maps whose size the settings choose, or what is `needed` of them, by name.
pub fn sizes(settings: &Settings, needed: &[(&'static str, usize)]) -> Sizes {
    let growing = |name, least| {
        let needed = needed.iter().find(|(of, _)| *of == name).map_or(0, |(_, elements)| *elements);
        Size::Growing { least, needed, is_new: false }
    };
    let mut sizes: Sizes =
        GROWING.iter().map(|spec| (spec.name, growing(spec.name, spec.max_entries))).collect();
    let chosen = &settings.map_sizes;
    for flows in [FLOW4, FLOW6] {
        let least = chosen.flows.unwrap_or(flows.max_entries);
        let size = if chosen.flows_stay { Size::Fixed(least) } else { growing(flows.name, least) };
        sizes.insert(flows.name, size);
    }
    let maps: [(Option<u32>, &[&'static str]); 6] = [
        (chosen.frontends, &["frontend4", "frontend6"]),
        (chosen.backends, &["backend4", "backend6", "member4", "member6"]),
        (chosen.affinities, &["affinity4", "affinity6"]),
        (chosen.routes, &["route4", "route6"]),
        (chosen.addresses, &["class_addr4", "class_addr6"]),
        (Some(maglev_pieces(settings)), &["maglev4", "maglev6"]),
    ];
    for (size, names) in maps {
        let Some(size) = size else { continue };
        sizes.extend(names.iter().map(|name| (*name, Size::Fixed(size))));
    }
    sizes
}

/// A map that has too little room for what is wanted in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crowded {
    pub map: &'static str,
    pub elements: usize,
    pub size: u32,
}

/// Whether an agent that runs should start again for a larger map.
#[derive(Debug)]
pub struct Growth {
    started: Instant,
    /// The last sweep that was looked at.
    looked_at: u64,
}

impl Growth {
    /// Of an agent that starts.
    pub fn new() -> Self {
        Self { started: Instant::now(), looked_at: 0 }
    }

    /// A map that should be larger; also one of flows where `table_is_full`: it had no room for a packet's. Not in an agent
    /// that has just started: whatever happens, it does more than start again.
    pub fn crowded(
        &mut self,
        parts: &Parts,
        reconciler: &Reconciler,
        table_is_full: bool,
    ) -> Option<Crowded> {
        if self.started.elapsed() < AT_LEAST {
            return None;
        }
        let found = self.first(parts, reconciler, table_is_full);
        found.unwrap_or_else(|error| {
            tracing::warn!(%error, "it is not known how full maps are");
            None
        })
    }

    fn first(
        &mut self,
        parts: &Parts,
        reconciler: &Reconciler,
        table_is_full: bool,
    ) -> Result<Option<Crowded>, MapsError> {
        let mut needed = reconciler.needed().to_vec();
        needed.extend(self.flows(&parts.maps, &parts.sweeper.reports().last(), table_is_full)?);
        for (map, elements) in needed {
            let size = parts.maps.get(map)?.info().max_entries;
            if size >= MOST_ENTRIES || !is_crowded(elements, size) {
                continue;
            }
            let grows = matches!(sizes(reconciler.settings(), &[]).get(map), Some(Size::Growing { .. }));
            // A start is not free where it may cost somebody his last good policy.
            if grows && (elements >= size as usize || !reconciler.is_any_list_refused()) {
                return Ok(Some(Crowded { map, elements, size }));
            }
        }
        Ok(None)
    }

    /// How many elements the flow tables have, which only the kernel knows; not counted where the last sweep rules out that
    /// they are crowded.
    fn flows(
        &mut self,
        maps: &Maps,
        sweep: &Report,
        table_is_full: bool,
    ) -> Result<Vec<(&'static str, usize)>, MapsError> {
        let is_new = std::mem::replace(&mut self.looked_at, sweep.sweeps) != sweep.sweeps;
        let mut counted = Vec::new();
        for (flows, family) in [FLOW4, FLOW6].into_iter().zip(&sweep.families) {
            let map = maps.get(flows.name)?;
            // An element has one entry or two, and some of these are half open.
            let seen = usize::try_from(family.seen).unwrap_or(usize::MAX);
            if table_is_full || is_new && is_crowded(seen, map.info().max_entries) {
                let failed = |source| MapsError::Kernel { name: flows.name, operation: "counting", source };
                counted.push((flows.name, map.count().map_err(failed)?));
            }
        }
        Ok(counted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tortie_abi::maps::ALL;
    use tortie_model::settings::MapSizes;

    #[test]
    fn every_chosen_size_is_that_of_a_map_in_both_families() {
        let all = Some(7);
        let map_sizes = MapSizes {
            flows: all,
            flows_stay: true,
            frontends: all,
            backends: all,
            affinities: all,
            routes: all,
            addresses: all,
        };
        let sizes = sizes(&Settings { map_sizes, ..Settings::default() }, &[]);
        assert!(sizes.keys().all(|name| ALL.iter().any(|spec| spec.name == *name)), "{sizes:?}");
        assert_eq!(sizes.values().filter(|size| **size == Size::Fixed(7)).count(), 14);
    }

    #[test]
    fn what_nobody_chose_grows_and_flows_grow_from_the_chosen_size() {
        let map_sizes = MapSizes { flows: Some(7), backends: Some(9), ..MapSizes::default() };
        let sizes =
            sizes(&Settings { map_sizes, ..Settings::default() }, &[("frontend4", 5), ("backend4", 5)]);
        assert_eq!(sizes["flow4"], Size::Growing { least: 7, needed: 0, is_new: false });
        assert_eq!(sizes["backend4"], Size::Fixed(9));
        let least = tortie_abi::maps::FRONTEND4.max_entries;
        assert_eq!(sizes["frontend4"], Size::Growing { least, needed: 5, is_new: false });
        let growing = sizes.values().filter(|size| matches!(size, Size::Growing { .. })).count();
        assert_eq!(growing, 6, "flows, front ends, addresses");
    }
}
