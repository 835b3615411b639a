//! `xtask scan-object`: proves that nothing in the BPF object can panic or format.
//!
//! Owns: which symbols are forbidden. Does not: build (`build_bpf`). Invariant: an object without
//! programs is an error, never a clean result.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use object::read::elf::ElfFile64;
use object::{Object, ObjectSection, ObjectSymbol, SectionKind, SymbolKind};

use crate::build_bpf;

/// Parts of mangled names (both schemes) that only code for panics or formatting has.
const FORBIDDEN: [&str; 5] = ["panic", "4core3fmt", "core..fmt", "unwrap_failed", "expect_failed"];

/// What the scan found in an object it accepted.
#[derive(Debug, PartialEq, Eq)]
pub struct Contents {
    /// Sections with code.
    pub program_sections: usize,
    /// Symbols looked at.
    pub symbols: usize,
}

/// Scans the object, or builds the current one and scans it.
pub fn main(object: Option<PathBuf>) -> Result<()> {
    let path = object.map_or_else(|| build_bpf::build("", None), Ok)?;
    let contents = scan(&path)?;
    println!(
        "{}: {} program sections, {} symbols, none of panics or formatting",
        path.display(),
        contents.program_sections,
        contents.symbols
    );
    Ok(())
}

fn scan(path: &Path) -> Result<Contents> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    scan_bytes(&bytes).with_context(|| path.display().to_string())
}

fn scan_bytes(bytes: &[u8]) -> Result<Contents> {
    let file =
        ElfFile64::<object::LittleEndian>::parse(bytes).context("not a 64-bit little-endian ELF file")?;
    let names: Vec<&str> = file.symbols().filter(named).map(|s| s.name()).collect::<Result<_, _>>()?;
    let found: Vec<&str> = names.iter().copied().filter(|name| is_forbidden(name)).collect();
    if !found.is_empty() {
        bail!(
            "holds code that panics or formats: {}. The verifier refuses it, or it hides an unchecked index, \
             division or overflow in packet/datapath, packet/bpf or shared: use get, checked_* or wrapping_*",
            found.join(", ")
        );
    }
    let program_sections = file.sections().filter(|s| s.kind() == SectionKind::Text && s.size() > 0).count();
    if program_sections == 0 {
        bail!("holds no program; was packet/bpf built with its own profile?");
    }
    Ok(Contents { program_sections, symbols: names.len() })
}

fn named<'data>(symbol: &impl ObjectSymbol<'data>) -> bool {
    !matches!(symbol.kind(), SymbolKind::File | SymbolKind::Section)
}

fn is_forbidden(name: &str) -> bool {
    FORBIDDEN.iter().any(|part| name.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_and_formatting_are_recognised_under_both_manglings() {
        for name in [
            "_ZN4core9panicking18panic_bounds_check17h0123456789abcdefE",
            "_RNvNtCsl0dTzwnqiEd_4core9panicking9panic_fmt",
            "_ZN4core3fmt9Formatter3pad17h0123456789abcdefE",
            "_RNvXsi_NtNtNtCs_4core3fmt3num3impmNtB9_7Display3fmt",
            "_ZN4core6option13unwrap_failed17h0123456789abcdefE",
        ] {
            assert!(is_forbidden(name), "{name}");
        }
    }

    #[test]
    fn programs_and_maps_are_no_suspects() {
        for name in
            ["from_workload_v4", "FLOWS_V4", "_ZN15tortie_datapath5stage4flow6lookup17h0123E", "memcpy"]
        {
            assert!(!is_forbidden(name), "{name}");
        }
    }

    #[test]
    fn an_object_without_programs_is_not_clean() {
        // A complete ELF header of a relocatable BPF object with no section at all.
        let mut elf = vec![0u8; 64];
        elf[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1]);
        elf[16..20].copy_from_slice(&[1, 0, 247, 0]);
        elf[20] = 1;
        elf[52] = 64;
        elf[58] = 64;
        let error = scan_bytes(&elf).unwrap_err().to_string();
        assert!(error.contains("no program"), "{error}");
    }

    #[test]
    fn the_symbols_of_a_real_executable_are_seen() {
        let this_test = std::env::current_exe().unwrap();
        let error = scan(&this_test).unwrap_err();
        assert!(format!("{error:#}").contains("panic"), "{error:#}");
    }
}
