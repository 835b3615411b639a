//! What needs an interface, tried in a network namespace of its own.
//!
//! Invariant: the namespace belongs to one thread and ends with it, with everything made in it.

use super::kernel::empty_program;
use super::{Found, is_refusal};
use crate::bpf::{Attach, Link};
use crate::clsact;
use crate::links::Direction;
use nix::sched::{CloneFlags, unshare};
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::{LinkVeth, LinkVxlan, new_connection};
use std::io;
use std::os::fd::AsFd as _;

/// `lo` is the first interface of every namespace.
const LOOPBACK: u32 = 1;

/// What happened in the namespace; outside of `Ok` it could not be made.
#[derive(Debug)]
pub(super) struct Trials(io::Result<Answers>);

#[derive(Debug)]
struct Answers {
    tcx: io::Result<()>,
    clsact: io::Result<()>,
    veth: io::Result<()>,
    vxlan: io::Result<()>,
}

impl Trials {
    pub(super) fn run() -> Self {
        let thread = std::thread::Builder::new().name("probe".to_owned()).spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            Ok(Answers { tcx: tcx(), clsact: filter(), veth: veth(), vxlan: vxlan() })
        });
        let ended = thread.and_then(|thread| {
            thread.join().unwrap_or_else(|_| Err(io::Error::other("the probe's thread ended early")))
        });
        Self(ended)
    }

    fn answer(&self, pick: impl Fn(&Answers) -> &io::Result<()>, yes: &str) -> Found {
        match &self.0 {
            Ok(answers) => Found::trial(match pick(answers) {
                Ok(()) => Ok(yes.to_owned()),
                Err(error) => Err(again(error)),
            }),
            Err(error) if is_refusal(error) => Found::Unknown("not permitted".to_owned()),
            Err(error) => Found::Unknown(format!("making a network namespace to try it in: {error}")),
        }
    }

    pub(super) fn attachment(&self) -> Found {
        let tcx = self.answer(|answers| &answers.tcx, "TCX links");
        match tcx {
            Found::No(why) => match self.answer(|answers| &answers.clsact, "clsact filters (no TCX links)") {
                Found::No(other) => Found::No(format!("TCX links: {why}; clsact filters: {other}")),
                found => found,
            },
            found => found,
        }
    }

    pub(super) fn veth(&self) -> Found {
        self.answer(|answers| &answers.veth, "can be made")
    }

    pub(super) fn vxlan(&self) -> Found {
        self.answer(|answers| &answers.vxlan, "can be made")
    }
}

/// Errors of the operating system cannot be cloned.
fn again(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(number) => io::Error::from_raw_os_error(number),
        None => io::Error::other(error.to_string()),
    }
}

fn tcx() -> io::Result<()> {
    let program = empty_program().map_err(|error| error.source)?;
    for attach in [Attach::Ingress, Attach::Egress] {
        // Nobody pins the link: closing it detaches the program.
        Link::tcx(program.as_fd(), LOOPBACK, attach)?;
    }
    Ok(())
}

fn filter() -> io::Result<()> {
    let program = empty_program().map_err(|error| error.source)?;
    for direction in Direction::ALL {
        clsact::attach(LOOPBACK, direction, &program)?;
    }
    Ok(())
}

fn veth() -> io::Result<()> {
    add(LinkVeth::new("probe0", "probe1").build())
}

fn vxlan() -> io::Result<()> {
    add(LinkVxlan::new("probe2", 4096).port(4789).build())
}

fn add(link: LinkMessage) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let (connection, handle, _) = new_connection()?;
        tokio::spawn(connection);
        handle.link().add(link).execute().await.map_err(|error| match error {
            rtnetlink::Error::NetlinkError(message) => io::Error::from_raw_os_error(-message.raw_code()),
            other => io::Error::other(other.to_string()),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_that_may_not_be_made_leaves_everything_unknown() {
        let trials = Trials(Err(io::Error::from_raw_os_error(libc::EPERM)));
        assert!(matches!(trials.attachment(), Found::Unknown(_)));
        assert!(matches!(trials.veth(), Found::Unknown(_)));
    }

    #[test]
    fn clsact_stands_in_for_tcx_and_only_both_missing_is_missing() {
        let absent = || Err(io::Error::from_raw_os_error(libc::EINVAL));
        let trials = |clsact| Trials(Ok(Answers { tcx: absent(), clsact, veth: Ok(()), vxlan: absent() }));
        assert_eq!(trials(Ok(())).attachment(), Found::Yes("clsact filters (no TCX links)".to_owned()));
        assert!(matches!(trials(absent()).attachment(), Found::No(_)));
        assert!(matches!(trials(absent()).vxlan(), Found::No(_)));
    }
}
