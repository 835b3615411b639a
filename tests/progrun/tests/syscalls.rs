//! The `bpf(2)` wrapper against the running kernel. Needs root.

use std::os::fd::AsFd;
use tortie_host::bpf::{Cursor, Map, MapDef, Program, ProgramDef, ProgramKind, Run, Update};

const HASH: u32 = 1;
const PER_CPU_HASH: u32 = 5;
const PROG_ARRAY: u32 = 3;

fn hash(kind: u32, max_entries: u32) -> Map {
    let def = MapDef { name: "tt_sys", kind, key_bytes: 4, value_bytes: 8, max_entries, flags: 0 };
    Map::create(&def).expect("creating a map needs root (CAP_BPF)")
}

/// `r0 = code; exit`
fn returns(code: i32) -> Vec<u8> {
    let mut insns = vec![0xb7, 0, 0, 0];
    insns.extend(code.to_le_bytes());
    insns.extend([0x95, 0, 0, 0, 0, 0, 0, 0]);
    insns
}

#[test]
fn elements_are_written_read_and_removed() {
    let map = hash(HASH, 8);
    let mut value = [0; 8];
    assert!(!map.lookup(&[1, 0, 0, 0], &mut value).expect("lookup"));
    map.update(&[1, 0, 0, 0], &[7; 8], Update::Create).expect("create");
    let again = map.update(&[1, 0, 0, 0], &[8; 8], Update::Create).expect_err("it exists");
    assert_eq!(again.raw_os_error(), Some(17));
    assert!(map.lookup(&[1, 0, 0, 0], &mut value).expect("lookup"));
    assert_eq!(value, [7; 8]);
    assert!(map.delete(&[1, 0, 0, 0]).expect("delete"));
    assert!(!map.delete(&[1, 0, 0, 0]).expect("delete"));
}

#[test]
fn buffers_of_a_wrong_size_never_reach_the_kernel() {
    let map = hash(HASH, 8);
    let refused = |r: std::io::Result<()>| r.expect_err("wrong size").raw_os_error() == Some(22);
    assert!(refused(map.update(&[1, 0, 0], &[7; 8], Update::Any)));
    assert!(refused(map.update(&[1, 0, 0, 0], &[7; 7], Update::Any)));
    assert!(refused(map.lookup(&[1, 0, 0, 0], &mut [0; 4]).map(drop)));
    let per_cpu = hash(PER_CPU_HASH, 8);
    assert!(refused(per_cpu.lookup(&[1, 0, 0, 0], &mut [0; 8]).map(drop)) || per_cpu.value_stride() == 8);
}

#[test]
fn batches_walk_the_whole_map() {
    let map = hash(HASH, 1000);
    let keys: Vec<u8> = (0..500u32).flat_map(u32::to_ne_bytes).collect();
    let values: Vec<u8> = (0..500u64).flat_map(u64::to_ne_bytes).collect();
    map.update_batch(&keys, &values).expect("update");
    let (mut cursor, mut seen) = (Cursor::default(), 0);
    loop {
        let (mut keys, mut values) = ([0; 4 * 64], [0; 8 * 64]);
        let (count, end) = map.lookup_batch(&mut cursor, &mut keys, &mut values).expect("batch");
        seen += count;
        if end {
            break;
        }
    }
    assert_eq!(seen, 500);
    map.delete_batch(&keys).expect("delete");
    assert!(!map.next_key(None, &mut [0; 4]).expect("next"));
}

#[test]
fn a_program_is_loaded_put_into_an_array_and_run() {
    let insns = returns(2);
    let program = Program::load(&ProgramDef::new("tt_two", ProgramKind::SchedCls, &insns)).expect("load");
    let info = program.info().expect("info");
    assert_eq!((info.name.as_str(), info.kind), ("tt_two", 3));
    assert!(program.memlock_bytes().expect("memory") > 0 && info.verified_insns == 2);
    let mut out = [0; 64];
    let result = program.run(&mut Run::once(&[0; 64], &mut out)).expect("run");
    assert_eq!((result.code, result.data_bytes), (2, 64));
    let def =
        MapDef { name: "tt_progs", kind: PROG_ARRAY, key_bytes: 4, value_bytes: 4, max_entries: 2, flags: 0 };
    let array = Map::create(&def).expect("array");
    array.set_fd(1, program.as_fd()).expect("slot");
    let mut id = [0; 4];
    assert!(array.lookup(&1u32.to_ne_bytes(), &mut id).expect("lookup"));
    assert_eq!(u32::from_ne_bytes(id), info.id);
}

#[test]
fn a_refused_program_comes_with_what_the_verifier_said() {
    let exit_without_result = [0x95, 0, 0, 0, 0, 0, 0, 0];
    let def = ProgramDef::new("tt_bad", ProgramKind::SchedCls, &exit_without_result);
    let error = Program::load(&def).expect_err("r0 is not set");
    assert!(error.log.contains("R0 !read_ok"), "{}", error.log);
}
