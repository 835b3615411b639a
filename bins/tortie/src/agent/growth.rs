//! Maps that grow with what is in them.
//!
//! Owns: which sizes maps get, and when one is crowded. Does not: make larger ones; [`super::again`] starts the agent again,
//! which does.
//! Invariant: what is crowded here gets a larger size at the next start, so that an agent never starts again for nothing.

use tortie_abi::maps::{FLOW4, FLOW6, GROWING, MOST_ENTRIES};
use tortie_host::maps::{Maps, MapsError, Size, Sizes, is_crowded};
use tortie_host::sweep::Report;
use tortie_model::settings::Settings;
use tortie_reconcile::maglev_pieces;

/// The maps whose size the settings choose, or what is `needed` of them, by name.
pub fn sizes(settings: &Settings, needed: &[(&'static str, usize)]) -> Sizes {
    let growing = |name, least| {
        let needed = needed.iter().find(|(of, _)| *of == name).map_or(0, |(_, elements)| *elements);
        Size::Growing { least, needed }
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

/// The first map that is crowded and can be larger; where a start is not free (`only_full`), the first that is too small.
pub fn crowded(maps: &Maps, sizes: &Sizes, only_full: bool) -> Result<Option<Crowded>, MapsError> {
    for (name, size) in sizes {
        let Size::Growing { needed, .. } = size else { continue };
        let size = maps.get(name)?.info().max_entries;
        let is_full = *needed >= size as usize;
        if size < MOST_ENTRIES && is_crowded(*needed, size) && (is_full || !only_full) {
            return Ok(Some(Crowded { map: name, elements: *needed, size }));
        }
    }
    Ok(None)
}

/// Looks at the flow tables, whose elements only the kernel knows.
#[derive(Debug, Default)]
pub struct FlowTables {
    looked_at: u64,
}

impl FlowTables {
    /// How many elements they have; not counted where the last sweep rules out that they are crowded, unless a packet was
    /// refused because one `is_full`.
    pub fn elements(
        &mut self,
        maps: &Maps,
        sweep: &Report,
        is_full: bool,
    ) -> Result<Vec<(&'static str, usize)>, MapsError> {
        let is_new = std::mem::replace(&mut self.looked_at, sweep.sweeps) != sweep.sweeps;
        let mut counted = Vec::new();
        for (flows, family) in [FLOW4, FLOW6].into_iter().zip(&sweep.families) {
            let map = maps.get(flows.name)?;
            // An element has one entry or two, and some of these are half open.
            let seen = usize::try_from(family.seen).unwrap_or(usize::MAX);
            if is_full || is_new && is_crowded(seen, map.info().max_entries) {
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
        assert_eq!(sizes["flow4"], Size::Growing { least: 7, needed: 0 });
        assert_eq!(sizes["backend4"], Size::Fixed(9));
        let least = tortie_abi::maps::FRONTEND4.max_entries;
        assert_eq!(sizes["frontend4"], Size::Growing { least, needed: 5 });
        let growing = sizes.values().filter(|size| matches!(size, Size::Growing { .. })).count();
        assert_eq!(growing, 6, "flows, front ends, addresses");
    }
}
