//! Builds the BPF object: used by `control/host/build.rs` and by `xtask build-bpf`, so it is std only.
//!
//! Owns: which compiler, linker, flags and environment produce the object. Does not: decide when to
//! build, or look inside the result (`scan_object` does). Invariant: nothing of the calling cargo
//! (wrappers, flags, profiles, target directories) reaches the inner one.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fmt, io};

const TARGET: &str = "bpfel-unknown-none";
const PACKAGE: &str = "tortie-bpf";
const PROFILE: &str = "bpf";
/// `--btf` needs the profile's `debug = 2`; v3 is the instruction set of kernel 5.1 and later. Left to itself
/// bpf-linker makes LLVM call a byte loop for every `memset`, so that it is told not to (design/bpf.md).
const FLAGS: [&str; 6] =
    ["-C", "link-arg=--btf", "-C", "link-arg=--disable-expand-memcpy-in-order", "-C", "target-cpu=v3"];
const TOOL_VERSIONS: &str = include_str!("../../scripts/tools.env");
/// Variables of these families configure a compilation; only those in [`KEPT`] mean the same to ours. `HOST` is set for
/// build scripts alone, and whether it is set makes those of aya compile again.
const CLEARED_PREFIXES: [&str; 5] = ["CARGO_", "RUST", "CLIPPY_", "__CARGO", "HOST"];
const KEPT: [&str; 8] = [
    "CARGO_HOME",
    "CARGO_MAKEFLAGS",
    "CARGO_HTTP_",
    "CARGO_NET_",
    "CARGO_REGISTR",
    "CARGO_SOURCE_",
    "RUSTUP_HOME",
    "RUSTUP_TOOLCHAIN",
];

/// What to build and where to put it.
pub struct Request<'a> {
    /// The root of the workspace.
    pub workspace: &'a Path,
    /// Where the inner cargo keeps its work: one directory for all profiles of the outer one.
    pub build_dir: &'a Path,
    /// Cargo features of the BPF crate, comma separated; empty for the product.
    pub features: &'a str,
    /// Where the finished object goes; left alone when it already has the same bytes.
    pub output: &'a Path,
}

/// Why there is no object; the text says what to do.
#[derive(Debug)]
pub enum BuildError {
    /// No compiler with a `core` for the BPF target.
    NoCompiler { tried: Vec<String> },
    /// No `bpf-linker` in the cache or on the path.
    NoLinker { cached: Option<PathBuf> },
    /// `TORTIE_BPF_OBJECT` names a file that cannot be used.
    BadPrebuilt { path: PathBuf, cause: io::Error },
    /// The inner cargo failed; its own messages are above.
    Failed { command: String },
    /// A file operation failed.
    File { path: PathBuf, cause: io::Error },
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCompiler { tried } => write!(
                f,
                "no Rust compiler with a core library for {TARGET}: {}. Fix: `make bootstrap` (as root on \
                 Debian), or `rustup component add rust-src`, or set TORTIE_BPF_RUSTC",
                tried.join("; ")
            ),
            Self::NoLinker { cached } => {
                let cached = cached.as_deref().unwrap_or(Path::new("(no cache: HOME is not set)"));
                write!(f, "no bpf-linker: neither {} nor on PATH. Fix: `make bootstrap`", cached.display())
            }
            Self::BadPrebuilt { path, cause } => {
                write!(
                    f,
                    "TORTIE_BPF_OBJECT={}: {cause}. Fix: unset it, or name a built object",
                    path.display()
                )
            }
            Self::Failed { command } => write!(f, "building the BPF object failed: {command}"),
            Self::File { path, cause } => write!(f, "{}: {cause}", path.display()),
        }
    }
}

impl std::error::Error for BuildError {}

/// Builds the object (or takes the prebuilt one) and leaves it at `request.output`.
pub fn build(request: &Request<'_>) -> Result<(), BuildError> {
    // A prebuilt object is the product's: it has no features.
    let prebuilt = env::var_os("TORTIE_BPF_OBJECT").filter(|_| request.features.is_empty());
    if let Some(path) = prebuilt.map(PathBuf::from) {
        let bytes = fs::read(&path).map_err(|cause| BuildError::BadPrebuilt { path, cause })?;
        return write_if_different(request.output, &bytes);
    }
    fs::create_dir_all(request.build_dir).map_err(at(request.build_dir))?;
    // Builds with other features share the directory: nobody may replace the result before it is read.
    let lock_path = request.build_dir.join(".lock");
    let lock = File::create(&lock_path).map_err(at(&lock_path))?;
    lock.lock().map_err(at(&lock_path))?;

    let mut command = cargo(request, &Compiler::find()?, &find_linker()?);
    let done = command.status().is_ok_and(|status| status.success());
    if !done {
        return Err(BuildError::Failed { command: describe(&command) });
    }
    let built = request.build_dir.join(TARGET).join(PROFILE).join(PACKAGE);
    write_if_different(request.output, &fs::read(&built).map_err(at(&built))?)
}

/// A compiler that can make code for the BPF target. `RUSTC_BOOTSTRAP` lets a stable one use the unstable
/// assembler feature that aya-ebpf enables, and build `core`.
struct Compiler {
    rustc: PathBuf,
    /// Whether it comes with a compiled `core` for the target, or has to build it from source.
    has_core: bool,
}

impl Compiler {
    /// The one that is set, else Debian's `rustc-web`, else the one cargo uses.
    fn find() -> Result<Self, BuildError> {
        let set = |name: &str| env::var_os(name).map(PathBuf::from);
        let candidates = match set("TORTIE_BPF_RUSTC") {
            Some(rustc) => vec![rustc],
            None => vec!["/usr/bin/rustc".into(), set("RUSTC").unwrap_or_else(|| "rustc".into())],
        };
        let mut tried = Vec::new();
        for rustc in candidates {
            match Self::examine(&rustc) {
                Ok(compiler) => return Ok(compiler),
                Err(obstacle) => tried.push(format!("{} {obstacle}", rustc.display())),
            }
        }
        Err(BuildError::NoCompiler { tried })
    }

    fn examine(rustc: &Path) -> Result<Self, String> {
        let root = ask(rustc, &["--print", "sysroot"]).ok_or("is not there or does not run")?;
        let library = Path::new(root.trim()).join("lib/rustlib");
        let has_core = library.join(TARGET).is_dir();
        if !has_core && !library.join("src/rust/library/core").is_dir() {
            return Err(format!("has neither {TARGET} nor rust-src"));
        }
        let version = ask(rustc, &["-vV"]).unwrap_or_default();
        let llvm = version.lines().find_map(|line| line.strip_prefix("LLVM version: ")).unwrap_or_default();
        let major = |version: &str| version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        let linkers = setting("LLVM_VERSION").and_then(major);
        if major(llvm) > linkers {
            return Err(format!(
                "has LLVM {llvm}, which the linker's {} cannot read",
                linkers.unwrap_or_default()
            ));
        }
        Ok(Self { rustc: rustc.to_owned(), has_core })
    }
}

fn ask(rustc: &Path, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new(rustc);
    clear_environment(&mut command);
    let output = command.args(arguments).output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()
}

/// The inner cargo, ready to run.
fn cargo(request: &Request<'_>, compiler: &Compiler, linker: &Path) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    clear_environment(&mut command);
    command.current_dir(request.workspace).args(["build", "--package", PACKAGE, "--profile", PROFILE]);
    command.args(["--target", TARGET, "--target-dir"]).arg(request.build_dir);
    if !request.features.is_empty() {
        command.args(["--features", request.features]);
    }
    if !compiler.has_core {
        command.args(["-Z", "build-std=core"]);
    }
    command.env("RUSTC", &compiler.rustc).env("RUSTC_BOOTSTRAP", "1");
    command.env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", linker);
    command.env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_RUSTFLAGS", FLAGS.join(" "));
    command
}

/// The command as a person would type it.
pub fn describe(command: &Command) -> String {
    let settings = command.get_envs().filter_map(|(name, value)| Some((name, value?)));
    let settings = settings.map(|(name, value)| format!("{}={value:?}", name.to_string_lossy()));
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    let words = words.map(|word| word.to_string_lossy().into_owned());
    settings.chain(words).collect::<Vec<_>>().join(" ")
}

/// Removes what the outer cargo, clippy or rustup put into our environment.
fn clear_environment(command: &mut Command) {
    for (name, _) in env::vars_os() {
        let Some(text) = name.to_str() else { continue };
        let cleared = CLEARED_PREFIXES.iter().any(|prefix| text.starts_with(prefix));
        if cleared && !KEPT.iter().any(|kept| text.starts_with(kept)) {
            command.env_remove(&name);
        }
    }
}

fn find_linker() -> Result<PathBuf, BuildError> {
    let cached = tool("bpf-linker", "BPF_LINKER_VERSION");
    let on_path =
        env::var_os("PATH").into_iter().flat_map(|path| env::split_paths(&path).collect::<Vec<_>>());
    let mut candidates = cached.iter().cloned().chain(on_path.map(|dir| dir.join("bpf-linker")));
    candidates.find(|path| path.is_file()).ok_or(BuildError::NoLinker { cached })
}

/// Where the bootstrap script puts a tool, whether it is there or not; the same rule stands in
/// `scripts/bootstrap.sh`. `None` without any place for caches.
pub fn tool(name: &str, version_setting: &str) -> Option<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = set("TORTIE_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|base| base.join("tortie")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/tortie")))?;
    let version = setting(version_setting)?;
    Some(cache.join(format!("{name}-{version}")).join("bin").join(name))
}

fn setting(name: &str) -> Option<&'static str> {
    let mut pairs = TOOL_VERSIONS.lines().filter_map(|line| line.split_once('='));
    pairs.find_map(|(key, value)| (key == name).then_some(value))
}

fn write_if_different(path: &Path, bytes: &[u8]) -> Result<(), BuildError> {
    if fs::read(path).is_ok_and(|present| present == bytes) {
        return Ok(());
    }
    fs::write(path, bytes).map_err(at(path))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> BuildError {
    let path = path.to_owned();
    move |cause| BuildError::File { path, cause }
}
