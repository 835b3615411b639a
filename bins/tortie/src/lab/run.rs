//! `lab exec` and `lab capture`.
//!
//! Owns: how a program is run for a person.
//! Does not: enter namespaces; the laboratory does.
//! Invariant: the exit code is the program's own.

use std::ffi::OsString;
use std::process::{Child, Stdio};

use anyhow::{Context as _, anyhow};
use tortie_lab::{Lab, Where};

use super::{Capture, Exec, input};
use crate::exit::{Answer, Failure, Outcome};

/// Runs a program in a pod, on a node or on a machine outside.
pub fn exec(lab: &Lab, arguments: Exec) -> Outcome {
    let place =
        input::place(arguments.pod.as_deref(), &arguments.namespace, arguments.node, arguments.client)?;
    let mut command = arguments.command;
    if let Some(first) = command.first_mut()
        && first == "tortie"
    {
        *first = lab.binary.clone().into_os_string();
    }
    finish(start(lab, &place, &command)?)
}

/// Shows or writes what is on the wire.
pub fn capture(lab: &Lab, arguments: Capture) -> Outcome {
    let place =
        input::place(arguments.pod.as_deref(), &arguments.namespace, arguments.node, arguments.client)?;
    let interface = if matches!(place, Where::Node(_)) { "any" } else { "eth0" };
    let mut command: Vec<OsString> =
        ["tcpdump", "--immediate-mode", "-n", "-i", interface].map(Into::into).to_vec();
    match &arguments.write {
        Some(file) => {
            let file = std::path::absolute(file).with_context(|| file.display().to_string())?;
            // tcpdump would drop its privileges and then not be allowed to write there.
            command.extend(["-U".into(), "-Z".into(), "root".into(), "-w".into(), file.into_os_string()]);
        }
        None => command.push("-l".into()),
    }
    if let Some(count) = arguments.count {
        command.extend(["-c".into(), count.to_string().into()]);
    }
    command.extend(arguments.filter.into_iter().map(OsString::from));
    finish(start(lab, &place, &command)?)
}

fn start(lab: &Lab, place: &Where, command: &[OsString]) -> Result<Child, Failure> {
    Ok(lab.place(place)?.spawn(command, [Stdio::inherit(), Stdio::inherit(), Stdio::inherit()])?)
}

fn finish(mut child: Child) -> Outcome {
    use std::os::unix::process::ExitStatusExt as _;
    let status = child.wait().context("waiting for the program")?;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    let code = code.and_then(|code| u8::try_from(code).ok());
    Ok(Answer::Code(code.ok_or_else(|| anyhow!("the program ended without a code: {status}"))?))
}
