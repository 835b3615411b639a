//! Everything of the kernel that the agent holds open.

use std::rc::Rc;

use anyhow::Context as _;
use tortie_host::bpf::RingBuffer;
use tortie_host::datapath::Datapath;
use tortie_host::links::{Links, Mechanism};
use tortie_host::maps::{Maps, Sizes};
use tortie_host::sockets::SocketHooks;
use tortie_host::sweep::Sweeper;
use tortie_model::settings::Settings;
use tortie_reconcile::{Kernel, maglev_pieces};

use super::Options;

/// Maps, programs, links.
pub struct Parts {
    pub maps: Maps,
    pub datapath: Datapath,
    pub links: Rc<Links>,
    pub sockets: SocketHooks,
    pub kernel: Kernel,
    pub sweeper: Sweeper,
}

impl Parts {
    /// Opens what is there and makes the rest.
    pub fn open(options: &Options, settings: &Settings, mechanism: Mechanism) -> anyhow::Result<Self> {
        let maps = Maps::open(&options.bpffs, &sizes(settings))?;
        for (name, entries) in maps.kept_size() {
            tracing::warn!(
                map = name,
                entries,
                "holds more than the new size; it keeps its size until it has emptied"
            );
        }
        let datapath = Datapath::open(&options.bpffs, &maps, &options.run_dir)?;
        let links = Rc::new(Links::open(&options.bpffs, mechanism)?);
        // Of pods that went while no agent was there.
        if let Err(error) = links.remove_stale() {
            tracing::warn!(%error, "stale links could not be removed");
        }
        let sockets = SocketHooks::open(&options.bpffs)?;
        let kernel = tortie_host::kernel::kernel(&maps, &links)?;
        let sweeper = Sweeper::start(&datapath, &maps, options.sweep)?;
        for old in Maps::remove_outdated(&options.bpffs).context("removing old maps")? {
            tracing::info!(map = old, "removed: of another version");
        }
        Ok(Self { maps, datapath, links, sockets, kernel, sweeper })
    }

    /// The reading end of the programs' events.
    pub fn events(&self) -> anyhow::Result<RingBuffer> {
        let map = self.maps.get("event")?.try_clone().context("map event")?;
        RingBuffer::open(map).context("map event")
    }
}

/// The maps whose size the settings choose.
fn sizes(settings: &Settings) -> Sizes {
    let chosen = &settings.map_sizes;
    let maps: [(Option<u32>, &[&'static str]); 7] = [
        (chosen.flows, &["flow4", "flow6"]),
        (chosen.frontends, &["frontend4", "frontend6"]),
        (chosen.backends, &["backend4", "backend6", "member4", "member6"]),
        (chosen.affinities, &["affinity4", "affinity6"]),
        (chosen.routes, &["route4", "route6"]),
        (chosen.addresses, &["class_addr4", "class_addr6"]),
        (Some(maglev_pieces(settings)), &["maglev4", "maglev6"]),
    ];
    let sized = maps.into_iter().filter_map(|(size, names)| size.map(|size| (size, names)));
    sized.flat_map(|(size, names)| names.iter().map(move |name| (*name, size))).collect()
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
            frontends: all,
            backends: all,
            affinities: all,
            routes: all,
            addresses: all,
        };
        let sizes = sizes(&Settings { map_sizes, ..Settings::default() });
        assert!(sizes.keys().all(|name| ALL.iter().any(|spec| spec.name == *name)), "{sizes:?}");
        assert_eq!(sizes.values().filter(|size| **size == 7).count(), 14);
        assert_eq!(
            super::sizes(&Settings::default()).len(),
            2,
            "the consistent-hash tables have their own settings"
        );
    }
}
