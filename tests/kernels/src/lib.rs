//! A virtual machine with another kernel than this machine's.
//!
//! Owns: which kernels there are (scripts/kernels.sh), what is in the machine's memory, its console. Does not: say what is to
//! be seen there (init.sh). Invariant: software emulation, so that it runs wherever the other suites do.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use anyhow::{Context as _, Result, bail, ensure};

/// A machine that hangs is ended after this time.
const LIMIT_SECONDS: u32 = 480;
/// Its memory, MiB.
const MEMORY: u32 = 3072;
/// What the laboratory calls beside tortie itself.
const PROGRAMS: [&str; 2] = ["ip", "host-local"];
const DIRECTORIES: [&str; 6] = ["/sbin", "/usr/sbin", "/bin", "/usr/bin", "/usr/lib/cni", "/opt/cni/bin"];

/// A kernel.
#[derive(Debug)]
pub struct Kernel {
    /// `6.1`.
    pub series: String,
    /// The directory with its image and modules.
    home: PathBuf,
}

/// The kernels that can be had here, fetched if need be.
pub fn kernels() -> Result<Vec<Kernel>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/kernels.sh");
    let output = Command::new(&script).stderr(Stdio::inherit()).output().context("scripts/kernels.sh")?;
    ensure!(output.status.success(), "{}: {}", script.display(), output.status);
    let text = String::from_utf8(output.stdout)?;
    let of = |line: &str| {
        let (series, home) = line.split_once(' ').context("SERIES DIRECTORY")?;
        Ok(Kernel { series: series.to_owned(), home: home.into() })
    };
    text.lines().map(of).collect()
}

impl Kernel {
    /// Boots it, and returns what was on its console when it was off again.
    pub fn boot(&self) -> Result<String> {
        let directory = tempfile::tempdir()?;
        let memory = directory.path().join("memory");
        self.fill(&memory)?;
        let archive = directory.path().join("initramfs");
        // As the kernel unpacks it; not compressed, which would take longer than it saves.
        let pack = format!("find . | cpio --quiet -o -H newc > {}", archive.display());
        run(Command::new("sh").args(["-c", &pack]).current_dir(&memory))?;
        let output = Command::new("timeout")
            .args([
                &LIMIT_SECONDS.to_string(),
                "qemu-system-x86_64",
                "-machine",
                "q35,accel=tcg",
                "-cpu",
                "max",
            ])
            .args(["-smp", "2", "-m", &MEMORY.to_string(), "-nographic", "-no-reboot", "-net", "none"])
            .arg("-kernel")
            .arg(self.home.join("vmlinuz"))
            .arg("-initrd")
            .arg(&archive)
            .args(["-append", "console=ttyS0 quiet panic=1"])
            .stdin(Stdio::null())
            .output()
            .context("qemu-system-x86_64")?;
        let console = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "qemu: {}\n{console}", output.status);
        Ok(console)
    }

    /// Everything that the machine has.
    fn fill(&self, root: &Path) -> Result<()> {
        for empty in ["proc", "sys", "dev", "run", "tmp", "root", "bin", "modules", "opt/cni/bin"] {
            fs::create_dir_all(root.join(empty))?;
        }
        fs::copy("/bin/busybox", root.join("bin/busybox")).context("busybox-static")?;
        for module in fs::read_dir(self.home.join("modules"))? {
            let module = module?;
            fs::copy(module.path(), root.join("modules").join(module.file_name()))?;
        }
        let tortie = env::var_os("TORTIE_BIN").context("TORTIE_BIN: which tortie to try")?;
        run(Command::new("strip").args(["-g", "-o"]).arg(root.join("bin/tortie")).arg(&tortie))?;
        with_libraries(Path::new(&tortie), root)?;
        for program in PROGRAMS {
            let found = DIRECTORIES.iter().map(|directory| Path::new(directory).join(program));
            let path =
                found.into_iter().find(|path| path.exists()).with_context(|| format!("no {program}"))?;
            let there = if program == "host-local" { "opt/cni/bin" } else { "bin" };
            fs::copy(&path, root.join(there).join(program))?;
            with_libraries(&path, root)?;
        }
        let own = Path::new(env!("CARGO_MANIFEST_DIR"));
        fs::copy(own.join("world.yaml"), root.join("world.yaml"))?;
        fs::copy(own.join("init.sh"), root.join("init"))?;
        run(Command::new("chmod").arg("755").arg(root.join("init")))
    }
}

/// Copies what the dynamic linker would load.
fn with_libraries(program: &Path, root: &Path) -> Result<()> {
    let output = Command::new("ldd").arg(program).output().context("ldd")?;
    // A static program has none.
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for library in text.split_whitespace().filter(|word| word.starts_with('/')) {
        let copy = root.join(library.trim_start_matches('/'));
        fs::create_dir_all(copy.parent().context("a library without a directory")?)?;
        fs::copy(library, copy)?;
    }
    Ok(())
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{command:?}"))?;
    if !status.success() {
        bail!("{command:?}: {status}");
    }
    Ok(())
}
