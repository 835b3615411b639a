//! The shortest script that still shows a difference.

use crate::kernel::Kernel;
use crate::session::{Difference, run};
use crate::step::{Script, Step};

/// Removes steps, then bytes from the packets' ends, as long as the sides still differ in the same thing.
pub fn shrink(kernel: &mut Kernel, script: &Script, difference: &Difference) -> Result<Script, String> {
    let mut best = script.clone();
    best.steps.truncate(difference.step.saturating_add(1));
    let mut length = best.steps.len().div_ceil(2).max(1);
    loop {
        let mut at = 0;
        let mut shorter = false;
        while at < best.steps.len() {
            let mut attempt = best.clone();
            attempt.steps.drain(at..(at + length).min(best.steps.len()));
            if still(kernel, &attempt, difference)? {
                best = attempt;
                shorter = true;
            } else {
                at += length;
            }
        }
        if length > 1 {
            length = length.div_ceil(2);
        } else if !shorter {
            break;
        }
    }
    trim(kernel, &mut best, difference)?;
    Ok(best)
}

/// Payload that plays no part goes.
fn trim(kernel: &mut Kernel, best: &mut Script, difference: &Difference) -> Result<(), String> {
    for index in 0..best.steps.len() {
        let mut cut = 1024;
        while cut > 0 {
            let mut attempt = best.clone();
            let Some(Step::Packet(shot)) = attempt.steps.get_mut(index) else { break };
            shot.bytes.truncate(shot.bytes.len().saturating_sub(cut));
            if still(kernel, &attempt, difference)? {
                *best = attempt;
            } else {
                cut /= 2;
            }
        }
    }
    Ok(())
}

fn still(kernel: &mut Kernel, script: &Script, difference: &Difference) -> Result<bool, String> {
    Ok(run(kernel, script)?.is_some_and(|found| found.what == difference.what))
}
