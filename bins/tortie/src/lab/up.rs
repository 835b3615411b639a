//! `lab up` and `lab down`.
//!
//! Owns: which combinations of flags mean something, and what a new laboratory's owner is told.
//! Does not: build.
//! Invariant: what this version cannot do is refused before anything is made.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use tortie_lab::{Dataplane, Lab, LabName, StoreKind, UpOptions};

use super::{DataplaneArg, Overlay, Up, input, objects, show};
use crate::args::{Global, StoreAddress};
use crate::exit::{Answer, Failure, Outcome};
use crate::output;

/// How long agents may take to enforce the first world.
const PATIENCE: Duration = Duration::from_secs(60);

/// Builds a laboratory.
pub fn up(name: &LabName, arguments: &Up, global: &Global) -> Outcome {
    let options = options(arguments, global)?;
    // Bad input must not leave a half-filled laboratory behind.
    let world = input::objects(&arguments.files)?;
    let started = Instant::now();
    if std::io::stderr().is_terminal() {
        output::tell(format_args!(
            "building {} nodes, a router and two machines outside …",
            options.dataplanes.len()
        ));
    }
    let mut lab = Lab::up(name, &options)?;
    if !world.is_empty() {
        let filled = objects::apply_all(&mut lab, world, false)?;
        if filled != Answer::Yes {
            return Ok(filled);
        }
        lab.wait(PATIENCE)?;
    }
    output::tell(format_args!("laboratory {name} is up after {:.1} s", started.elapsed().as_secs_f64()));
    show::status(name, global.output)
}

fn options(arguments: &Up, global: &Global) -> Result<UpOptions, Failure> {
    let refused = |text: String| Failure::BadInput(anyhow!(text));
    if arguments.overlay != Overlay::None {
        return Err(refused("--overlay: this version has no overlay; leave it out or use none".into()));
    }
    let count = usize::from(arguments.nodes);
    let wanted = match arguments.dataplane.as_slice() {
        [one] => vec![*one; count],
        several if several.len() == count => several.to_vec(),
        several => {
            return Err(refused(format!("--dataplane names {} nodes, --nodes says {count}", several.len())));
        }
    };
    let dataplanes = wanted.into_iter().map(|dataplane| match dataplane {
        DataplaneArg::Bpf => Ok(Dataplane::Bpf),
        DataplaneArg::Plain => Ok(Dataplane::Plain),
        DataplaneArg::Standard => Err(refused(
            "--dataplane standard: this version has no standard Linux data plane; use bpf".into(),
        )),
    });
    Ok(UpOptions {
        families: arguments.families.into(),
        mtu_bytes: arguments.mtu,
        store: store(global)?,
        lender: None,
        dataplanes: dataplanes.collect::<Result<_, _>>()?,
        patience: PATIENCE,
    })
}

/// Where a new laboratory's objects are to be.
pub fn store(global: &Global) -> Result<StoreKind, Failure> {
    match &global.store {
        Some(StoreAddress::Kube(None)) => Ok(StoreKind::Kube),
        Some(StoreAddress::Kube(Some(_))) => {
            Err(Failure::bad_input(anyhow!("--store kube:KUBECONFIG: a laboratory makes its own; use kube")))
        }
        Some(StoreAddress::Dir(_)) | None => Ok(StoreKind::Dir),
    }
}

/// Removes one laboratory, or all.
pub fn down(name: &LabName, all: bool) -> Outcome {
    if all {
        for gone in tortie_lab::down_all()? {
            output::tell(format_args!("laboratory {gone} is gone"));
        }
        return Ok(Answer::Yes);
    }
    tortie_lab::down(name)?;
    output::tell(format_args!("laboratory {name} is gone"));
    Ok(Answer::Yes)
}
