//! The system call and the layouts it reads (`union bpf_attr`, one struct for each command).

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};

/// Command numbers of `enum bpf_cmd`.
#[derive(Clone, Copy, Debug)]
#[repr(i32)]
pub(super) enum Command {
    MapCreate = 0,
    MapLookup = 1,
    MapUpdate = 2,
    MapDelete = 3,
    MapNextKey = 4,
    ProgLoad = 5,
    ObjPin = 6,
    ObjGet = 7,
    TestRun = 10,
    ProgNextId = 11,
    ProgById = 13,
    MapById = 14,
    InfoByFd = 15,
    ProgQuery = 16,
    BtfLoad = 18,
    LookupBatch = 24,
    UpdateBatch = 26,
    DeleteBatch = 27,
    LinkCreate = 28,
    LinkUpdate = 29,
    EnableStatistics = 32,
    LinkDetach = 34,
}

macro_rules! attributes {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty,)+ })+) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, Default)]
            #[repr(C)]
            pub(super) struct $name { $(pub $field: $type,)+ }
            impl Attributes for $name {}
        )+
    };
}

/// A struct of integers and arrays of integers without padding: every bit pattern is a value.
pub(super) trait Attributes: Sized {}

attributes! {
    MapCreate {
        map_type: u32, key_size: u32, value_size: u32, max_entries: u32, map_flags: u32,
        inner_map_fd: u32, numa_node: u32, name: [u8; 16],
    }
    Element { map_fd: u32, zero: u32, key: u64, value: u64, flags: u64, }
    Batch {
        in_batch: u64, out_batch: u64, keys: u64, values: u64, count: u32, map_fd: u32,
        element_flags: u64, flags: u64,
    }
    ProgLoad {
        prog_type: u32, insn_count: u32, insns: u64, license: u64, log_level: u32, log_size: u32,
        log: u64, kernel_version: u32, prog_flags: u32, name: [u8; 16], ifindex: u32,
        expected_attach_type: u32, btf_fd: u32, func_info_size: u32, func_info: u64,
        func_info_count: u32, line_info_size: u32, line_info: u64, line_info_count: u32,
        attach_btf_id: u32, attach_fd: u32, core_relo_count: u32, fd_array: u64, core_relos: u64,
        core_relo_size: u32, log_true_size: u32,
    }
    Object { path: u64, fd: u32, flags: u32, }
    TestRun {
        prog_fd: u32, result: u32, data_size_in: u32, data_size_out: u32, data_in: u64, data_out: u64,
        repeat: u32, duration: u32, ctx_size_in: u32, ctx_size_out: u32, ctx_in: u64, ctx_out: u64,
        flags: u32, cpu: u32, batch_size: u32, zero: u32,
    }
    ById { id: u32, next_id: u32, flags: u32, }
    Info { fd: u32, length: u32, info: u64, }
    ProgQuery {
        ifindex: u32, attach_type: u32, query_flags: u32, attach_flags: u32, prog_ids: u64, count: u32,
        zero: u32, prog_attach_flags: u64, link_ids: u64, link_attach_flags: u64, revision: u64,
    }
    LinkCreate {
        prog_fd: u32, target: u32, attach_type: u32, flags: u32, relative_fd_or_iter_info_low: u32,
        iter_info_high: u32, iter_info_length_or_revision_low: u32, revision_high: u32,
    }
    LinkUpdate { link_fd: u32, prog_fd: u32, flags: u32, old_prog_fd: u32, }
    LinkDetach { link_fd: u32, }
    EnableStatistics { kind: u32, }
    BtfLoad { btf: u64, log: u64, size: u32, log_size: u32, log_level: u32, zero: u32, }
    /// `struct bpf_map_info`, the part every supported kernel has.
    MapInfo {
        map_type: u32, id: u32, key_size: u32, value_size: u32, max_entries: u32, map_flags: u32,
        name: [u8; 16], ifindex: u32, zero: u32, netns_dev: u64, netns_ino: u64, btf_id: u32,
        btf_key: u32, btf_value: u32, zero2: u32, map_extra: u64,
    }
    /// `struct bpf_prog_info`.
    ProgInfo {
        prog_type: u32, id: u32, tag: [u8; 8], jited_bytes: u32, xlated_bytes: u32, jited: u64,
        xlated: u64, load_time_nanos: u64, created_by_uid: u32, map_ids_count: u32, map_ids: u64,
        name: [u8; 16], ifindex: u32, gpl: u32, netns_dev: u64, netns_ino: u64, ksyms_count: u32,
        func_lens_count: u32, ksyms: u64, func_lens: u64, btf_id: u32, func_info_size: u32,
        func_info: u64, func_info_count: u32, line_info_count: u32, line_info: u64,
        jited_line_info: u64, jited_line_info_count: u32, line_info_size: u32,
        jited_line_info_size: u32, tags_count: u32, tags: u64, run_time_nanos: u64, run_count: u64,
        recursion_misses: u64, verified_insns: u32, attach_btf_obj_id: u32, attach_btf_id: u32,
        zero: u32,
    }
    /// `struct bpf_link_info`, with room for every kind.
    LinkInfo {
        link_type: u32, id: u32, prog_id: u32, zero: u32, ifindex: u32, attach_type: u32,
        rest: [u64; 8],
    }
}

/// Calls `bpf(2)`. Every pointer in `attributes` must be valid for what the command does with it.
///
/// # Safety
/// The addresses in `attributes` point to buffers that live through the call, are as long as the sizes
/// beside them say (or as the map's own sizes, for elements), and those that the command writes to
/// are exclusively borrowed by the caller.
pub(super) unsafe fn bpf<A: Attributes>(command: Command, attributes: &mut A) -> io::Result<i64> {
    loop {
        // SAFETY: `attributes` is a struct of integers of the size given; the caller answers for
        // the addresses in it.
        let result = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                command as libc::c_int,
                std::ptr::from_mut(attributes),
                size_of::<A>() as libc::c_uint,
            )
        };
        if result >= 0 {
            return Ok(result);
        }
        let error = io::Error::last_os_error();
        // The verifier gives up with EAGAIN when a signal arrives; nothing has happened then.
        if error.raw_os_error() != Some(libc::EAGAIN) {
            return Err(error);
        }
    }
}

/// As [`bpf`], for commands that return a new file descriptor.
///
/// # Safety
/// As for [`bpf`]; and `command` is one that returns a descriptor.
pub(super) unsafe fn bpf_fd<A: Attributes>(command: Command, attributes: &mut A) -> io::Result<OwnedFd> {
    // SAFETY: the caller's.
    let fd = unsafe { bpf(command, attributes)? };
    let fd = RawFd::try_from(fd).map_err(|_| io::Error::from_raw_os_error(libc::EOVERFLOW))?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Asks for the description of an object.
pub(super) fn info_by_fd<I: Attributes + Default>(fd: RawFd) -> io::Result<I> {
    let mut info = I::default();
    let mut attributes =
        Info { fd: fd as u32, length: size_of::<I>() as u32, info: std::ptr::from_mut(&mut info) as u64 };
    // SAFETY: `info` is `length` bytes long, zeroed (the kernel takes zeroes as "no buffer") and any bytes make a value.
    unsafe { bpf(Command::InfoByFd, &mut attributes)? };
    Ok(info)
}

/// A name as the kernel stores it: the first 15 bytes of those it allows.
pub(super) fn object_name(name: &str) -> [u8; 16] {
    let mut out = [0; 16];
    let allowed =
        name.bytes().map(|b| if b.is_ascii_alphanumeric() || b == b'_' || b == b'.' { b } else { b'_' });
    for (to, from) in out.iter_mut().take(15).zip(allowed) {
        *to = from;
    }
    out
}

/// The text of a stored name.
pub(super) fn name_text(name: &[u8]) -> String {
    let end = name.iter().position(|b| *b == 0).unwrap_or(name.len());
    String::from_utf8_lossy(name.get(..end).unwrap_or_default()).into_owned()
}

/// Kernel memory of an object, as `/proc` tells it.
pub(super) fn memlock(fd: i32) -> io::Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("memlock:"));
    Ok(line.and_then(|rest| rest.trim().parse().ok()).unwrap_or(0))
}
