//! What the kernel's BPF machinery can do, found by making maps and loading programs that nobody else sees.

use super::{Found, is_refusal};
use crate::bpf::{Cursor, LoadError, Map, MapDef, Program, ProgramDef, ProgramKind};
use crate::maps::{Maps, Size, Sizes};
use crate::object;
use std::collections::BTreeSet;
use std::io;
use std::time::Instant;
use tortie_abi::maps::{ALL, MapKind, MapSpec};
use tortie_policy::asm::Instruction;

const HASH: u32 = MapKind::Hash as u32;
/// Helper numbers of `enum bpf_func_id`.
const REDIRECT_NEIGH: i32 = 152;
const REDIRECT_PEER: i32 = 155;
const KTIME_GET_COARSE_NS: i32 = 160;

/// `call helper`
fn call(helper: i32) -> Instruction {
    Instruction { opcode: 0x85, immediate: helper, ..Instruction::default() }
}

/// `register = constant`
fn set(register: u8, constant: i32) -> Instruction {
    Instruction { opcode: 0xb7, dst: register, immediate: constant, ..Instruction::default() }
}

/// `return`
fn leave() -> Instruction {
    Instruction { opcode: 0x95, ..Instruction::default() }
}

fn bytes(code: &[Instruction]) -> Vec<u8> {
    code.iter().flat_map(|instruction| instruction.bytes()).collect()
}

/// A tc program that does nothing.
pub(super) fn empty_program() -> Result<Program, LoadError> {
    Program::load(&ProgramDef::new("tortie_probe", ProgramKind::SchedCls, &bytes(&[set(0, 0), leave()])))
}

/// Capabilities by which `bpf(2)` may be allowed: bit and name.
const CAPABILITIES: [(u32, &str); 4] =
    [(12, "CAP_NET_ADMIN"), (21, "CAP_SYS_ADMIN"), (38, "CAP_PERFMON"), (39, "CAP_BPF")];

pub(super) fn permission() -> Found {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or_default();
    let held: Vec<&str> =
        CAPABILITIES.iter().filter(|(bit, _)| bits >> bit & 1 == 1).map(|(_, name)| *name).collect();
    // A lockdown or a seccomp profile refuses root too, so the answer is the kernel's.
    match empty_program() {
        Ok(_) => Found::Yes(held.join(", ")),
        Err(LoadError { source, .. }) if is_refusal(&source) && held.is_empty() => {
            Found::No("no capability of these; bpf(2) is refused".to_owned())
        }
        Err(LoadError { source, .. }) => Found::No(format!("bpf(2) with {}: {source}", held.join(", "))),
    }
}

pub(super) fn jit() -> Found {
    let compiled = empty_program().map_err(|e| e.source).and_then(|program| program.info());
    match compiled {
        Ok(info) if info.jited_bytes > 0 => {
            let debug = crate::sysctl::get("net/core/bpf_jit_enable").is_ok_and(|value| value == "2");
            Found::Yes(if debug { "on, printing code to the kernel's log (2)" } else { "on" }.to_owned())
        }
        Ok(_) => Found::No("programs are not compiled".to_owned()),
        Err(error) => Found::trial(Err(error)),
    }
}

fn map(kind: u32, key_bytes: u32, value_bytes: u32, max_entries: u32, flags: u32) -> io::Result<Map> {
    Map::create(&MapDef { name: "tortie_probe", kind, key_bytes, value_bytes, max_entries, flags })
}

/// As the list of maps has it, but small.
fn small(spec: &MapSpec) -> io::Result<Map> {
    match spec.kind {
        MapKind::RingBuf => map(spec.kind as u32, 0, 0, small_size(spec), spec.flags),
        _ => map(spec.kind as u32, spec.key_bytes, spec.value_bytes, small_size(spec), spec.flags),
    }
}

/// Ring buffers are whole pages of any architecture.
fn small_size(spec: &MapSpec) -> u32 {
    if spec.kind == MapKind::RingBuf { 64 << 10 } else { spec.max_entries.min(64) }
}

pub(super) fn map_types() -> Found {
    let mut names = BTreeSet::new();
    for spec in ALL {
        match small(spec) {
            Ok(_) => names.insert(kind_name(spec.kind)),
            Err(error) if is_refusal(&error) => return Found::trial(Err(error)),
            Err(error) => return Found::No(format!("{} (map {}): {error}", kind_name(spec.kind), spec.name)),
        };
    }
    Found::Yes(names.into_iter().collect::<Vec<_>>().join(", "))
}

const fn kind_name(kind: MapKind) -> &'static str {
    match kind {
        MapKind::Hash => "hash",
        MapKind::Array => "array",
        MapKind::ProgArray => "program array",
        MapKind::PerCpuHash => "per-CPU hash",
        MapKind::PerCpuArray => "per-CPU array",
        MapKind::LruHash => "LRU hash",
        MapKind::LpmTrie => "LPM trie",
        MapKind::RingBuf => "ring buffer",
    }
}

pub(super) fn batches() -> Found {
    Found::trial(write_and_list_batch().map(|()| "write, list, delete".to_owned()))
}

fn write_and_list_batch() -> io::Result<()> {
    let map = map(HASH, 4, 4, 8, 0)?;
    let keys: Vec<u8> = (0..3u32).flat_map(u32::to_ne_bytes).collect();
    map.update_batch(&keys, &keys).map_err(|(_, error)| error)?;
    let (mut found_keys, mut found_values) = ([0; 32], [0; 32]);
    let (count, _) = map.lookup_batch(&mut Cursor::default(), &mut found_keys, &mut found_values)?;
    if count != 3 {
        return Err(io::Error::other(format!("3 elements written, {count} listed")));
    }
    map.delete_batch(&keys).map_err(|(_, error)| error)
}

pub(super) fn program_runs() -> Found {
    let code = bytes(&[set(0, 0), leave()]);
    let program = Program::load(&ProgramDef::new("tortie_probe", ProgramKind::RawTracepoint, &code));
    let run = program.map_err(|error| error.source).and_then(|program| program.call());
    Found::trial(run.map(|_| "of raw tracepoint programs".to_owned()))
}

fn helper(code: &[Instruction], name: &str) -> Found {
    match Program::load(&ProgramDef::new("tortie_probe", ProgramKind::SchedCls, &bytes(code))) {
        Ok(_) => Found::Yes("in tc programs".to_owned()),
        Err(error) if error.source.raw_os_error() == Some(libc::EPERM) => Found::trial(Err(error.source)),
        Err(error) => {
            let said = error.log.lines().rev().find(|line| line.contains("func")).map(str::trim);
            Found::No(said.map_or_else(|| format!("{name}: {}", error.source), str::to_owned))
        }
    }
}

pub(super) fn coarse_clock() -> Found {
    helper(&[call(KTIME_GET_COARSE_NS), set(0, 0), leave()], "bpf_ktime_get_coarse_ns")
}

pub(super) fn redirect_peer() -> Found {
    helper(&[set(1, 1), set(2, 0), call(REDIRECT_PEER), leave()], "bpf_redirect_peer")
}

pub(super) fn redirect_neigh() -> Found {
    let code = [set(1, 1), set(2, 0), set(3, 0), set(4, 0), call(REDIRECT_NEIGH), leave()];
    helper(&code, "bpf_redirect_neigh")
}

/// The very programs of this version, over small maps: what no list of features can promise.
pub(super) fn packet_programs() -> Found {
    if let Err(error) = empty_program() {
        return Found::trial(Err(error.source));
    }
    let start = Instant::now();
    let sizes: Sizes = ALL.iter().map(|spec| (spec.name, Size::Fixed(small_size(spec)))).collect();
    let prepared = Maps::anonymous(&sizes)
        .map_err(|e| e.to_string())
        .and_then(|maps| Ok((object::prepare(object::embedded(), &maps).map_err(|e| e.to_string())?, maps)));
    let loaded = prepared.and_then(|(prepared, _maps)| match prepared.load_all() {
        Ok(programs) => Ok(programs.len()),
        Err(error) => {
            let line = error.source_line().map(|line| format!(", at: {line}")).unwrap_or_default();
            Err(format!("{}: {}{line}", error.program, error.source))
        }
    });
    match loaded {
        Ok(count) => Found::Yes(format!("all {count} verified in {} ms", start.elapsed().as_millis())),
        Err(text) => Found::No(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_helper_that_no_kernel_has_is_not_found() {
        if empty_program().is_err() {
            // Without permission the answer must be that nothing is known.
            assert!(matches!(helper(&[call(9999), leave()], "none"), Found::Unknown(_)));
            return;
        }
        assert!(matches!(helper(&[call(9999), leave()], "none"), Found::No(_)));
    }

    #[test]
    fn every_probe_of_a_small_map_fits_into_the_kernels_sizes() {
        for spec in ALL {
            assert!((1..=64 << 10).contains(&small_size(spec)), "{}", spec.name);
        }
    }
}
