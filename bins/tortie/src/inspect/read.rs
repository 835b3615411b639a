//! Reads pinned maps into a typed snapshot.

use crate::exit::Failure;
use std::io;
use std::path::Path;
use tortie_abi::counter::{Counter, CounterKey};
use tortie_abi::maps::{self, MapSpec};
use tortie_abi::{v4, v6};
use tortie_host::bpf::{self, Map};
use tortie_host::maps::pin_name;
use tortie_observe::Snapshot;
use zerocopy::FromBytes;

/// Key and value, as the kernel has them.
pub type Element = (Vec<u8>, Vec<u8>);

/// Reads the maps; the flow tables only when asked for.
pub fn snapshot(bpffs: &Path, flows: bool) -> Result<Snapshot, Failure> {
    let r = Reader { bpffs };
    let mut snapshot = Snapshot {
        endpoints: r.array(&maps::ENDPOINT)?,
        next_hops: r.array(&maps::NEXT_HOP)?,
        rule_counters: r.array(&maps::RULE_COUNTER)?,
        route4: r.typed(&maps::ROUTE4)?,
        route6: r.typed(&maps::ROUTE6)?,
        frontend4: r.typed(&maps::FRONTEND4)?,
        frontend6: r.typed(&maps::FRONTEND6)?,
        backend4: r.typed(&maps::BACKEND4)?,
        backend6: r.typed(&maps::BACKEND6)?,
        counters: r.counters()?,
        settings: r.typed::<u32, _>(&maps::SETTINGS)?.into_iter().map(|(_, s)| s).next(),
        now_nanos: now_nanos()?,
        ..Snapshot::default()
    };
    if flows {
        snapshot.flow4 = r.flows4(&maps::FLOW4)?;
        snapshot.flow6 = r.flows6(&maps::FLOW6)?;
        snapshot.half_open4 = r.flows4(&maps::HALF_OPEN4)?;
        snapshot.half_open6 = r.flows6(&maps::HALF_OPEN6)?;
    }
    Ok(snapshot)
}

/// Drop counters alone.
pub fn drop_counters(bpffs: &Path) -> Result<Vec<(CounterKey, Counter)>, Failure> {
    Reader { bpffs }.counters()
}

/// Drops that were counted and not told.
pub fn lost_events(bpffs: &Path) -> Result<u64, Failure> {
    let cpus = Reader { bpffs }.raw(&maps::EVENT_LOST)?;
    let words = cpus.iter().flat_map(|(_, values)| values.chunks_exact(8));
    Ok(words.filter_map(|word| u64::read_from_bytes(word).ok()).sum())
}

/// The back ends of IPv4 Services, as the kernel has them.
pub fn backends(bpffs: &Path) -> Result<Vec<Element>, Failure> {
    Reader { bpffs }.raw(&maps::BACKEND4)
}

struct Reader<'a> {
    bpffs: &'a Path,
}

impl Reader<'_> {
    fn open(&self, spec: &MapSpec) -> Result<Map, Failure> {
        let path = self.bpffs.join("maps").join(pin_name(spec));
        bpf::get_map(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Failure::unreachable(anyhow::anyhow!(
                "{}: no data plane here; is `tortie agent` running on this node, with the same --bpffs?",
                path.display()
            )),
            _ => Failure::not_allowed(anyhow::anyhow!("{}: {error}; run as root", path.display())),
        })
    }

    fn raw(&self, spec: &MapSpec) -> Result<Vec<Element>, Failure> {
        let map = self.open(spec)?;
        entries(&map).map_err(|e| Failure::not_allowed(anyhow::anyhow!("reading map {}: {e}", spec.name)))
    }

    fn typed<K: FromBytes, V: FromBytes>(&self, spec: &MapSpec) -> Result<Vec<(K, V)>, Failure> {
        let typed =
            |(k, v): (Vec<u8>, Vec<u8>)| Some((K::read_from_bytes(&k).ok()?, V::read_from_bytes(&v).ok()?));
        Ok(self.raw(spec)?.into_iter().filter_map(typed).collect())
    }

    /// The directions of flows in a table.
    fn flows4(&self, spec: &MapSpec) -> Result<Vec<(v4::FlowKey, v4::Flow)>, Failure> {
        let elements = self.typed::<v4::FlowKey, v4::FlowPair>(spec)?;
        Ok(elements.iter().flat_map(|(key, pair)| pair.directions(key)).collect())
    }

    /// The same of IPv6.
    fn flows6(&self, spec: &MapSpec) -> Result<Vec<(v6::FlowKey, v6::Flow)>, Failure> {
        let elements = self.typed::<v6::FlowKey, v6::FlowPair>(spec)?;
        Ok(elements.iter().flat_map(|(key, pair)| pair.directions(key)).collect())
    }

    /// The elements of an array that are not all zero.
    fn array<V: FromBytes>(&self, spec: &MapSpec) -> Result<std::collections::BTreeMap<u32, V>, Failure> {
        let used = self.raw(spec)?.into_iter().filter(|(_, v)| v.iter().any(|b| *b != 0));
        let typed =
            used.filter_map(|(k, v)| Some((u32::read_from_bytes(&k).ok()?, V::read_from_bytes(&v).ok()?)));
        Ok(typed.collect())
    }

    /// Per-CPU counters, summed.
    fn counters(&self) -> Result<Vec<(CounterKey, Counter)>, Failure> {
        let sum = |(key, values): (Vec<u8>, Vec<u8>)| {
            let mut total = Counter::default();
            for cpu in values.chunks_exact(size_of::<Counter>()) {
                let one = Counter::read_from_bytes(cpu).ok()?;
                total.packets += one.packets;
                total.bytes += one.bytes;
            }
            Some((FromBytes::read_from_bytes(&key).ok()?, total))
        };
        Ok(self.raw(&maps::COUNTER)?.into_iter().filter_map(sum).collect())
    }
}

/// Every element of a map.
fn entries(map: &Map) -> io::Result<Vec<Element>> {
    let (key, value) = (map.info().key_bytes as usize, map.value_stride());
    let mut found = Vec::new();
    map.read_batches(|keys, values| {
        let pairs = keys.chunks_exact(key).zip(values.chunks_exact(value));
        found.extend(pairs.map(|(key, value)| (key.to_vec(), value.to_vec())));
    })?;
    Ok(found)
}

/// `CLOCK_MONOTONIC`, as the programs read it.
fn now_nanos() -> Result<u64, Failure> {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)
        .map_err(|e| Failure::no(anyhow::anyhow!("reading the monotonic clock: {e}")))?;
    Ok(std::time::Duration::from(now).as_nanos() as u64)
}
