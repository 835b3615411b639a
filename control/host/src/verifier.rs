//! A refused program, told so that a person sees where and why.

use crate::bpf::LoadError;
use std::io;
use std::path::{Path, PathBuf};

/// The kernel did not take a program.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.text())]
pub struct VerifierError {
    /// Program.
    pub program: String,
    /// The kernel's answer.
    pub source: io::Error,
    /// Everything the verifier said.
    pub log: String,
    /// Where the log was put by [`VerifierError::keep_log`].
    pub log_path: Option<PathBuf>,
}

impl From<LoadError> for VerifierError {
    fn from(error: LoadError) -> Self {
        Self { program: error.name, source: error.source, log: error.log, log_path: None }
    }
}

/// Lines shown of a log.
const SHOWN: usize = 20;

impl VerifierError {
    /// The last source line the verifier passed before it gave up.
    pub fn source_line(&self) -> Option<&str> {
        self.log.lines().rev().find_map(|line| line.trim().strip_prefix("; ")).map(str::trim)
    }

    /// Writes the whole log into `dir` and remembers where.
    pub fn keep_log(mut self, dir: &Path) -> Self {
        let path = dir.join(format!("verifier-{}.log", self.program));
        match std::fs::write(&path, &self.log) {
            Ok(()) => self.log_path = Some(path),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the verifier's log could not be kept")
            }
        }
        self
    }

    fn text(&self) -> String {
        let mut text = format!("program {}: the kernel refused it: {}", self.program, self.source);
        if self.log.trim().is_empty() {
            return text;
        }
        if let Some(line) = self.source_line() {
            text.push_str(&format!("\n  at: {line}"));
        }
        let lines: Vec<&str> = self.log.lines().filter(|line| !line.trim().is_empty()).collect();
        let hidden = lines.len().saturating_sub(SHOWN);
        if hidden > 0 {
            text.push_str(&format!("\n  ({hidden} lines of the verifier's log left out)"));
        }
        for line in lines.iter().skip(hidden) {
            text.push_str("\n  ");
            text.push_str(line);
        }
        if let Some(path) = &self.log_path {
            text.push_str(&format!("\n  the whole log: {}", path.display()));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_shows_the_source_line_and_the_last_twenty_lines() {
        let mut log: String = (0..50).map(|n| format!("{n}: (b7) r0 = {n}\n")).collect();
        log.push_str("; let x = k.load(offset) @ parse.rs:42\n51: (95) exit\nR0 !read_ok\n");
        let source = io::Error::from_raw_os_error(libc::EACCES);
        let error = VerifierError { program: "from_workload4".into(), source, log, log_path: None };
        let text = error.to_string();
        assert!(text.contains("at: let x = k.load(offset) @ parse.rs:42"), "{text}");
        assert!(text.contains("(33 lines of the verifier's log left out)"), "{text}");
        assert!(text.ends_with("R0 !read_ok"), "{text}");
        assert!(!text.contains("r0 = 10\n"), "{text}");
    }
}
