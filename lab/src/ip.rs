//! Links, addresses and routes, by `ip -batch` inside a namespace.
//!
//! Owns: running iproute2 and turning its complaints into errors that name the line.
//! Does not: decide any address.
//! Invariant: one process per batch, whatever its length.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::Context as _;

use crate::error::{Error, Result, no};

/// Commands for one namespace.
#[derive(Debug, Default)]
pub struct Batch {
    lines: Vec<String>,
}

impl Batch {
    /// Adds one line as one would type it after `ip`.
    pub fn add(&mut self, line: impl Into<String>) -> &mut Self {
        self.lines.push(line.into());
        self
    }

    /// Runs all lines in the namespace of that name; the first that fails ends it.
    pub fn run(&self, namespace: &str) -> Result<()> {
        if self.lines.is_empty() {
            return Ok(());
        }
        let mut child = Command::new("ip")
            .args(["-n", namespace, "-batch", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(needs_iproute)?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin
                .write_all(format!("{}\n", self.lines.join("\n")).as_bytes())
                .context("writing to ip -batch")?;
        }
        let output = child.wait_with_output().context("ip -batch")?;
        if output.status.success() {
            return Ok(());
        }
        Err(self.explain(namespace, &String::from_utf8_lossy(&output.stderr)))
    }

    fn explain(&self, namespace: &str, complaint: &str) -> Error {
        let failed = complaint
            .split("Command failed -:")
            .nth(1)
            .and_then(|rest| rest.trim().parse::<usize>().ok())
            .and_then(|number| self.lines.get(number.checked_sub(1)?));
        let said = complaint.lines().next().unwrap_or_default();
        match failed {
            Some(line) => no!("ip -n {namespace} {line}: {said}"),
            None => no!("ip -n {namespace}: {said}"),
        }
    }
}

fn needs_iproute(error: std::io::Error) -> Error {
    if error.kind() == std::io::ErrorKind::NotFound {
        return Error::NotAllowed(anyhow::anyhow!(
            "the program `ip` is missing: install the package iproute2"
        ));
    }
    error.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_batch_names_the_line() {
        let mut batch = Batch::default();
        batch.add("link set lo up").add("link set nothing up");
        let error = batch.explain("tl-x-node1", "Cannot find device \"nothing\"\nCommand failed -:2\n");
        assert_eq!(error.to_string(), "ip -n tl-x-node1 link set nothing up: Cannot find device \"nothing\"");
    }
}
