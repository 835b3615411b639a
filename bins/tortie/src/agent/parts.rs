//! Everything of the kernel that the agent holds open.

use std::rc::Rc;

use anyhow::Context as _;
use tortie_host::bpf::RingBuffer;
use tortie_host::datapath::Datapath;
use tortie_host::links::{Links, Mechanism};
use tortie_host::maps::{Maps, Sizes};
use tortie_host::sockets::SocketHooks;
use tortie_host::sweep::Sweeper;
use tortie_reconcile::Kernel;

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
    pub fn open(options: &Options, sizes: &Sizes, mechanism: Mechanism) -> anyhow::Result<Self> {
        let maps = Maps::open(&options.bpffs, sizes)?;
        for (name, entries) in maps.kept_size() {
            tracing::warn!(
                map = name,
                entries,
                "holds more than the new size; it keeps its size until it has emptied"
            );
        }
        let datapath = Datapath::open(&options.bpffs, &maps, &options.run_dir)?;
        let links = Rc::new(Links::open(&options.bpffs, mechanism)?);
        if !datapath.adopted {
            if let Err(error) = links.replace(datapath.programs()) {
                tracing::warn!(%error, "programs of interfaces are replaced later");
            }
            maps.catch_up()?;
        }
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
