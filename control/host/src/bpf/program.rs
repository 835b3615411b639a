//! Programs by descriptor.

use super::sys::{self, Command, bpf, bpf_fd, info_by_fd, object_name};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// `enum bpf_prog_type`, those in use here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ProgramKind {
    /// tc and TCX.
    SchedCls = 3,
    /// XDP.
    Xdp = 6,
    /// Cgroup hooks on sockets.
    CgroupSock = 9,
    /// Raw tracepoints; here never at one, but run by user space.
    RawTracepoint = 17,
    /// Cgroup hooks on socket addresses.
    CgroupSockAddr = 18,
    /// Run by user space.
    Syscall = 31,
}

/// What to load.
#[derive(Clone, Copy, Debug)]
pub struct ProgramDef<'a> {
    /// Name shown by the kernel's tools (15 bytes).
    pub name: &'a str,
    /// Type.
    pub kind: ProgramKind,
    /// `expected_attach_type`; 0 for tc programs, so that ingress and egress share program arrays.
    pub expected_attach_type: u32,
    /// Instructions, 8 bytes each.
    pub insns: &'a [u8],
    /// Licence.
    pub license: &'a str,
    /// BTF that the two tables below refer to.
    pub btf: Option<BorrowedFd<'a>>,
    /// `struct bpf_func_info` records and the size of one.
    pub func_info: (&'a [u8], u32),
    /// `struct bpf_line_info` records and the size of one.
    pub line_info: (&'a [u8], u32),
}

impl<'a> ProgramDef<'a> {
    /// A program without debug information.
    pub fn new(name: &'a str, kind: ProgramKind, insns: &'a [u8]) -> Self {
        Self {
            name,
            kind,
            expected_attach_type: 0,
            insns,
            license: "Dual MIT/GPL",
            btf: None,
            func_info: (&[], 0),
            line_info: (&[], 0),
        }
    }
}

/// The kernel did not take a program.
#[derive(Debug, thiserror::Error)]
#[error("program {name}: the kernel refused it: {source}")]
pub struct LoadError {
    /// Program.
    pub name: String,
    /// Its answer.
    pub source: io::Error,
    /// What the verifier said; empty when it did not get that far.
    pub log: String,
}

/// A loaded program.
#[derive(Debug)]
pub struct Program {
    fd: OwnedFd,
}

/// What the kernel says about a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramInfo {
    /// Kernel-wide id.
    pub id: u32,
    /// `enum bpf_prog_type`.
    pub kind: u32,
    /// Hash of its instructions.
    pub tag: [u8; 8],
    /// Name, at most 15 bytes.
    pub name: String,
    /// When it was loaded, since boot.
    pub loaded_at: Duration,
    /// Instructions the verifier walked through.
    pub verified_insns: u32,
    /// Instructions after the verifier's rewriting.
    pub xlated_insns: u32,
    /// Machine code, bytes.
    pub jited_bytes: u32,
}

const LOG_BYTES: usize = 16 << 20;
/// `BPF_LOG_LEVEL1`: the verifier's way through the program, last lines kept.
const LOG_VERBOSE: u32 = 1;
/// `BPF_LOG_STATS`.
const LOG_STATS: u32 = 4;

impl Program {
    /// Loads a program; when it is refused, once more for the verifier's log.
    pub fn load(def: &ProgramDef<'_>) -> Result<Self, LoadError> {
        match load(def, 0, &mut []) {
            Ok(fd) => Ok(Self { fd }),
            Err(source) => {
                let (again, log) = load_with_log(def, LOG_VERBOSE);
                match again {
                    Ok(program) => Ok(program),
                    Err(_) => Err(LoadError { name: def.name.to_owned(), source, log }),
                }
            }
        }
    }

    /// Loads a program and returns the verifier's statistics with it (stack depth, time, states).
    pub fn load_with_statistics(def: &ProgramDef<'_>) -> (Result<Self, LoadError>, String) {
        let (result, log) = load_with_log(def, LOG_STATS);
        match result {
            Ok(program) => (Ok(program), log),
            Err(_) => (Self::load(def), log),
        }
    }

    /// Takes an open descriptor; fails when it is not a program's.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        info_by_fd::<sys::ProgInfo>(fd.as_raw_fd())?;
        Ok(Self { fd })
    }

    /// The same program through another descriptor.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { fd: self.fd.try_clone()? })
    }

    /// Opens a program by its kernel-wide id.
    pub fn by_id(id: u32) -> io::Result<Self> {
        let mut attributes = sys::ById { id, ..Default::default() };
        // SAFETY: no addresses inside.
        Ok(Self { fd: unsafe { bpf_fd(Command::ProgById, &mut attributes)? } })
    }

    /// The name of the program with this id, as far as the kernel keeps it; empty: it is gone.
    pub fn name_of(id: u32) -> String {
        Self::by_id(id).and_then(|program| program.info()).map(|info| info.name).unwrap_or_default()
    }

    /// What the kernel says about it.
    pub fn info(&self) -> io::Result<ProgramInfo> {
        let i: sys::ProgInfo = info_by_fd(self.fd.as_raw_fd())?;
        Ok(ProgramInfo {
            id: i.id,
            kind: i.prog_type,
            tag: i.tag,
            name: sys::name_text(&i.name),
            loaded_at: Duration::from_nanos(i.load_time_nanos),
            verified_insns: i.verified_insns,
            xlated_insns: i.xlated_bytes / 8,
            jited_bytes: i.jited_bytes,
        })
    }

    /// Kernel memory it takes, bytes.
    pub fn memlock_bytes(&self) -> io::Result<u64> {
        sys::memlock(self.fd.as_raw_fd())
    }

    /// How often it ran, and for how long, while somebody held [`Statistics`].
    pub fn runs(&self) -> io::Result<Runs> {
        let i: sys::ProgInfo = info_by_fd(self.fd.as_raw_fd())?;
        Ok(Runs { count: i.run_count, time: Duration::from_nanos(i.run_time_nanos) })
    }

    /// Ids of the maps that its instructions name.
    pub fn map_ids(&self) -> io::Result<Vec<u32>> {
        let first: sys::ProgInfo = info_by_fd(self.fd.as_raw_fd())?;
        let mut ids = vec![0u32; first.map_ids_count as usize];
        if ids.is_empty() {
            return Ok(ids);
        }
        let mut info = sys::ProgInfo {
            map_ids_count: first.map_ids_count,
            map_ids: ids.as_mut_ptr() as u64,
            ..Default::default()
        };
        let mut attributes = sys::Info {
            fd: self.fd.as_raw_fd() as u32,
            length: size_of_val(&info) as u32,
            info: std::ptr::from_mut(&mut info) as u64,
        };
        // SAFETY: `info` is `length` bytes long; the only address in it is `ids`, with room for the number
        // of ids given beside it.
        unsafe { bpf(Command::InfoByFd, &mut attributes)? };
        ids.truncate(info.map_ids_count as usize);
        Ok(ids)
    }

    /// Runs a program that is for no packet, such as one of a raw tracepoint, with a context of zeros: what it returned.
    pub fn call(&self) -> io::Result<u32> {
        let (data_out, context_out) = (&mut [], &mut []);
        Ok(self.run(&mut Run { data: &[], data_out, context: &[], context_out, repeat: 0 })?.code)
    }

    /// Runs it on a packet.
    pub fn run(&self, run: &mut Run<'_>) -> io::Result<RunResult> {
        let mut attributes = sys::TestRun {
            prog_fd: self.fd.as_raw_fd() as u32,
            data_size_in: length(run.data)?,
            data_in: address(run.data),
            data_size_out: length(run.data_out)?,
            data_out: address(run.data_out),
            ctx_size_in: length(run.context)?,
            ctx_in: address(run.context),
            ctx_size_out: length(run.context_out)?,
            ctx_out: address(run.context_out),
            repeat: run.repeat,
            ..Default::default()
        };
        // SAFETY: every address is a live slice of the length beside it; the outputs are borrowed mutably.
        unsafe { bpf(Command::TestRun, &mut attributes)? };
        Ok(RunResult {
            code: attributes.result,
            data_bytes: attributes.data_size_out as usize,
            context_bytes: attributes.ctx_size_out as usize,
            duration: Duration::from_nanos(u64::from(attributes.duration)),
        })
    }
}

impl AsFd for Program {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Runs of a program that the kernel has measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Runs {
    /// How many.
    pub count: u64,
    /// All of them together.
    pub time: Duration,
}

/// While it lives the kernel measures every run of every program, which makes each a little slower.
#[derive(Debug)]
pub struct Statistics {
    _fd: OwnedFd,
}

impl Statistics {
    /// `BPF_STATS_RUN_TIME`; since Linux 5.8.
    pub fn enable() -> io::Result<Self> {
        let mut attributes = sys::EnableStatistics::default();
        // SAFETY: no addresses inside.
        Ok(Self { _fd: unsafe { bpf_fd(Command::EnableStatistics, &mut attributes)? } })
    }
}

/// Input and output buffers of a run (`BPF_PROG_TEST_RUN`).
#[derive(Debug)]
pub struct Run<'a> {
    /// The packet, from the Ethernet header on.
    pub data: &'a [u8],
    /// Where the packet goes afterwards; empty: nowhere. Too small a buffer fails with `ENOSPC`.
    pub data_out: &'a mut [u8],
    /// `struct __sk_buff` or another context; empty: none.
    pub context: &'a [u8],
    /// Where the context goes afterwards; empty: nowhere.
    pub context_out: &'a mut [u8],
    /// How often; 0 means once.
    pub repeat: u32,
}

impl<'a> Run<'a> {
    /// One run on one packet.
    pub fn once(data: &'a [u8], data_out: &'a mut [u8]) -> Self {
        Self { data, data_out, context: &[], context_out: &mut [], repeat: 1 }
    }
}

/// What a run gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunResult {
    /// What the program returned.
    pub code: u32,
    /// Length of the packet afterwards.
    pub data_bytes: usize,
    /// Length of the context afterwards.
    pub context_bytes: usize,
    /// Average time of one run.
    pub duration: Duration,
}

fn load_with_log(def: &ProgramDef<'_>, level: u32) -> (Result<Program, io::Error>, String) {
    let mut log = vec![0; LOG_BYTES];
    let result = load(def, level, &mut log).map(|fd| Program { fd });
    let end = log.iter().position(|b| *b == 0).unwrap_or(log.len());
    log.truncate(end);
    (result, String::from_utf8_lossy(&log).into_owned())
}

fn load(def: &ProgramDef<'_>, log_level: u32, log: &mut [u8]) -> io::Result<OwnedFd> {
    if !def.insns.len().is_multiple_of(8) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let license = CString::new(def.license)?;
    let mut attributes = sys::ProgLoad {
        prog_type: def.kind as u32,
        insn_count: length(def.insns)? / 8,
        insns: address(def.insns),
        license: license.as_ptr() as u64,
        log_level,
        log_size: length(log)?,
        log: address(log),
        name: object_name(def.name),
        expected_attach_type: def.expected_attach_type,
        btf_fd: def.btf.map_or(0, |fd| fd.as_raw_fd() as u32),
        func_info_size: def.func_info.1,
        func_info: address(def.func_info.0),
        func_info_count: records(def.func_info)?,
        line_info_size: def.line_info.1,
        line_info: address(def.line_info.0),
        line_info_count: records(def.line_info)?,
        ..Default::default()
    };
    // SAFETY: every address is a live slice of the length beside it; the log is borrowed mutably.
    unsafe { bpf_fd(Command::ProgLoad, &mut attributes) }
}

fn records((bytes, size): (&[u8], u32)) -> io::Result<u32> {
    Ok(length(bytes)?.checked_div(size).unwrap_or(0))
}

fn length(bytes: &[u8]) -> io::Result<u32> {
    u32::try_from(bytes.len()).map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))
}

/// The address of a slice, 0 for an empty one.
fn address(bytes: &[u8]) -> u64 {
    if bytes.is_empty() { 0 } else { bytes.as_ptr() as u64 }
}

/// Loads BTF; programs refer to it.
pub fn load_btf(btf: &[u8]) -> Result<OwnedFd, LoadError> {
    let attempt = |log_level: u32, log: &mut [u8]| -> io::Result<OwnedFd> {
        let mut attributes = sys::BtfLoad {
            btf: address(btf),
            size: length(btf)?,
            log: address(log),
            log_size: length(log)?,
            log_level,
            zero: 0,
        };
        // SAFETY: both addresses are live slices of the length beside them.
        unsafe { bpf_fd(Command::BtfLoad, &mut attributes) }
    };
    attempt(0, &mut []).or_else(|source| {
        let mut log = vec![0; 1 << 20];
        attempt(1, &mut log).map_err(|_| LoadError {
            name: "BTF".to_owned(),
            source,
            log: sys::name_text(&log),
        })
    })
}

/// Ids of all loaded programs.
pub fn program_ids() -> io::Result<Vec<u32>> {
    let mut ids = Vec::new();
    let mut last = 0;
    loop {
        let mut attributes = sys::ById { id: last, ..Default::default() };
        // SAFETY: no addresses inside.
        match unsafe { bpf(Command::ProgNextId, &mut attributes) } {
            Ok(_) => {
                last = attributes.next_id;
                ids.push(last);
            }
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(ids),
            Err(error) => return Err(error),
        }
    }
}
