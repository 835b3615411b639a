//! A full synchronisation: everything is read, calculated and written into empty maps. The agent's own parts, in this
//! process, so that loading programs is left out.
//!
//! Invariant: the maps are as full afterwards as the world demands.

use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

use anyhow::{Context as _, anyhow};
use tortie_abi::maps::{BACKEND4, FRONTEND4, MapSpec};
use tortie_calc::Calc;
use tortie_host::links::{Links, best_mechanism};
use tortie_host::maps::{Maps, room_for};
use tortie_host::{clock, kernel};
use tortie_model::{NodeName, Object};
use tortie_reconcile::{Kernel, Reconciler, Saved};
use tortie_store::{Event, Store, dir};

use super::{figure, median};
use crate::bench::Item;
use crate::exit::Failure;
use crate::inspect::fill;

const DIRECTORY_SECONDS: f64 = 1.0;
const MEMORY_MILLIS: f64 = 100.0;
const ROUNDS: u32 = 5;
const NODE: &str = "node1";

/// From the directory `store`, and from what was read of it. `scratch` is a directory of a BPF file system.
pub fn items(store: &Path, scratch: &Path, services: u32) -> Result<Vec<Item>, Failure> {
    let (mut directory, mut memory) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let mut target = Target::new(scratch, services)?;
        let since = Instant::now();
        let options = dir::Options { node: NODE.to_owned(), ..dir::Options::default() };
        let objects = read(dir::open(store, options).map_err(Failure::unreachable)?)?;
        target.synchronise(&objects)?;
        directory.push(since.elapsed().as_secs_f64());
        target.check(services)?;

        let mut target = Target::new(scratch, services)?;
        let since = Instant::now();
        target.synchronise(&objects)?;
        memory.push(since.elapsed().as_secs_f64() * 1e3);
        target.check(services)?;
    }
    Ok(vec![
        figure("full-sync-directory", "s", services, median(directory), Some(DIRECTORY_SECONDS))?,
        figure("full-sync-memory", "ms", services, median(memory), Some(MEMORY_MILLIS))?,
    ])
}

/// Everything that a store holds.
fn read(mut store: Store) -> Result<Vec<Object>, Failure> {
    let mut objects = Vec::new();
    loop {
        let batch = store.blocking_next().context("the store is closed")?;
        for event in batch.events {
            match event {
                Event::Changed(object) => objects.push(object),
                Event::InSync => return Ok(objects),
                Event::Rejected(rejection) => return Err(Failure::no(anyhow!("{rejection}"))),
                Event::Resolved(_) => {}
            }
        }
    }
}

/// Empty maps, and who fills them.
struct Target {
    maps: Maps,
    kernel: Kernel,
    calc: Calc,
    reconciler: Reconciler,
}

impl Target {
    fn new(scratch: &Path, services: u32) -> Result<Self, Failure> {
        let sizes = room_for(services.saturating_mul(super::world::ENDPOINTS));
        let maps = Maps::anonymous(&sizes).map_err(Failure::not_allowed)?;
        std::fs::create_dir_all(scratch).context("a directory for links")?;
        let links = Rc::new(Links::open(scratch, best_mechanism()).map_err(anyhow::Error::from)?);
        let kernel = kernel::kernel(&maps, &links).map_err(Failure::not_allowed)?;
        let calc = Calc::new(NodeName::new(NODE));
        Ok(Self { maps, kernel, calc, reconciler: Reconciler::new(Saved::default()) })
    }

    fn synchronise(&mut self, objects: &[Object]) -> Result<(), Failure> {
        objects.iter().for_each(|object| self.calc.apply(object));
        self.calc.in_sync();
        let reconciler = &mut self.reconciler;
        self.calc.flush(&mut |intent| reconciler.receive(intent));
        reconciler.allocate(&mut self.kernel).map_err(anyhow::Error::from)?;
        reconciler.save();
        reconciler.apply(&mut self.kernel, clock::monotonic()).map_err(anyhow::Error::from)?;
        Ok(())
    }

    fn check(&self, services: u32) -> Result<(), Failure> {
        let count = |spec: &MapSpec| -> Result<u64, Failure> {
            let map = self.maps.get(spec.name).map_err(Failure::not_allowed)?;
            Ok(fill::of(spec, map).entries.with_context(|| format!("counting {}", spec.name))?)
        };
        let expected = u64::from(services);
        let endpoints = expected * u64::from(super::world::ENDPOINTS);
        let found = [count(&FRONTEND4)?, count(&BACKEND4)?];
        match found[0] >= expected && found[1] >= endpoints {
            true => Ok(()),
            false => Err(Failure::no(anyhow!("a full synchronisation wrote only {found:?}"))),
        }
    }
}
