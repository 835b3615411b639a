//! `bpf(2)`: maps, programs, links and pins, without a loader.
//!
//! Owns: the system call and the layouts of its attributes.
//! Does not: parse object files or decide what is loaded.
//! Invariant: every buffer handed to the kernel is as long as the kernel will read or write; the
//! lengths come from the kernel's own description of the map, not from the caller.

mod link;
mod map;
mod netns;
mod pin;
mod program;
mod ring;
mod sys;

pub use link::{Attach, CgroupPlace, Link, LinkInfo, tcx_programs};
pub use map::{Cursor, Map, MapDef, MapInfo, Update, possible_cpus};
pub use netns::netns_cookie;
pub use pin::{get_link, get_map, get_program, pin};
pub use program::{
    LoadError, Program, ProgramDef, ProgramInfo, ProgramKind, Run, RunResult, Runs, Statistics, load_btf,
    program_ids,
};
pub use ring::RingBuffer;
