//! The reconciler's kernel over real maps.

use crate::bpf::Map;
use crate::hooks::WorkloadHooks;
use crate::links::Links;
use crate::maps::{Maps, MapsError};
use crate::programs::PolicySlots;
use crate::tables::BpfTable;
use std::rc::Rc;
use tortie_reconcile::{Dyn, Kernel};
use zerocopy::{FromBytes, Immutable, IntoBytes};

fn clone(maps: &Maps, name: &'static str) -> Result<Map, MapsError> {
    let failed = |source| MapsError::Kernel { name, operation: "opening", source };
    maps.get(name)?.try_clone().map_err(failed)
}

fn table<K, V>(maps: &Maps, new: &[&str], name: &'static str) -> Result<Dyn<K, V>, MapsError>
where
    K: Copy + FromBytes + IntoBytes + Immutable + 'static,
    V: Copy + FromBytes + IntoBytes + Immutable + 'static,
{
    let failed = |source| MapsError::Kernel { name, operation: "opening as a table", source };
    let map = clone(maps, name)?;
    let table = if new.contains(&name) { BpfTable::<K, V>::of_new(map) } else { BpfTable::new(map) };
    Ok(Box::new(table.map_err(failed)?))
}

/// Everything the reconciler writes, over these maps and links. Who asks first for maps that are new knows them to be empty.
pub fn kernel(maps: &Maps, links: &Rc<Links>) -> Result<Kernel, MapsError> {
    let new = maps.take_new();
    let [policy, policy_io, stage] = ["policy", "policy_io", "stage"].map(|name| clone(maps, name));
    let slots = PolicySlots::new(policy?, policy_io?, stage?, new.contains(&"policy"));
    Ok(Kernel {
        endpoint: table(maps, &new, "endpoint")?,
        next_hop: table(maps, &new, "next_hop")?,
        settings: table(maps, &new, "settings")?,
        route4: table(maps, &new, "route4")?,
        route6: table(maps, &new, "route6")?,
        frontend4: table(maps, &new, "frontend4")?,
        frontend6: table(maps, &new, "frontend6")?,
        backend4: table(maps, &new, "backend4")?,
        backend6: table(maps, &new, "backend6")?,
        member4: table(maps, &new, "member4")?,
        member6: table(maps, &new, "member6")?,
        maglev4: table(maps, &new, "maglev4")?,
        maglev6: table(maps, &new, "maglev6")?,
        source_range4: table(maps, &new, "source_range4")?,
        source_range6: table(maps, &new, "source_range6")?,
        class_addr4: table(maps, &new, "class_addr4")?,
        class_addr6: table(maps, &new, "class_addr6")?,
        class_net4: table(maps, &new, "class_net4")?,
        class_net6: table(maps, &new, "class_net6")?,
        opt_out4: table(maps, &new, "opt_out4")?,
        opt_out6: table(maps, &new, "opt_out6")?,
        rule_counter: table(maps, &new, "rule_counter")?,
        programs: Box::new(slots),
        hooks: Box::new(WorkloadHooks::new(links.clone(), clone(maps, "stage")?)),
    })
}
