//! `lab probe` and `lab stream`.
//!
//! Owns: how one result looks.
//! Does not: connect.
//! Invariant: exit 0 when connected, 1 when not.

use tortie_lab::{Lab, Probe, ProbeResult, StreamReport};

use super::{ProbeArgs, Stream};
use crate::exit::{Answer, Outcome};
use crate::output::{self, Colour, Format, paint};

impl From<ProbeArgs> for Probe {
    fn from(arguments: ProbeArgs) -> Self {
        let ProbeArgs { from, to, protocol, port, source_port, family, timeout, bytes } = arguments;
        Self { from, to, protocol, port, family, source_port, timeout, bytes, unconnected: false }
    }
}

/// Makes one attempt.
pub fn one(lab: &Lab, arguments: ProbeArgs, format: Format) -> Outcome {
    let title = format!("{} → {}", arguments.from, arguments.to);
    let result = lab.probe(&arguments.into())?;
    output::print(format, &result, |_| sentence(&title, &result))?;
    Ok(if result.is_connected() { Answer::Yes } else { Answer::No })
}

fn sentence(title: &str, result: &ProbeResult) -> String {
    let colour = if result.is_connected() { Colour::Green } else { Colour::Red };
    let mut text = format!("{title}: {}", paint(colour, result.result.as_str()));
    for (label, value) in [
        ("by", &result.server),
        ("on", &result.node),
        ("at", &result.server_address),
        ("which saw", &result.client_seen),
    ] {
        if let Some(value) = value {
            text.push_str(&format!(" {label} {value}"));
        }
    }
    if let Some(micros) = result.connect_micros {
        text.push_str(&format!(" in {micros} µs"));
    }
    if let Some(detail) = &result.detail {
        text.push_str(&format!(" ({detail})"));
    }
    text
}

/// Sends SYNs.
pub fn flood(lab: &Lab, arguments: ProbeArgs, count: u64) -> Outcome {
    let sent = lab.flood(&arguments.into(), count)?;
    output::tell(format_args!("{sent} SYNs sent"));
    Ok(Answer::Yes)
}

/// Starts, reports or stops a conversation.
pub fn stream(lab: &Lab, verb: Stream, format: Format) -> Outcome {
    let (report, stopped) = match verb {
        Stream::Start { id, interval, probe } => (lab.stream_start(&id, &probe.into(), interval)?, false),
        Stream::Report { id } => (lab.stream_report(&id)?, false),
        Stream::Stop { id } => (lab.stream_stop(&id)?, true),
    };
    output::print(format, &report, |_| account(&report))?;
    let broken =
        report.lost + report.disordered > 0 || report.ended.as_deref().is_some_and(|why| why != "stopped");
    Ok(if stopped && broken { Answer::No } else { Answer::Yes })
}

fn account(report: &StreamReport) -> String {
    let state = report.ended.as_deref().unwrap_or("open");
    format!(
        "{}: {state}, {} sent, {} received, {} acknowledged, {} lost, longest pause {:.1} ms, silent for {:.1} ms",
        report.id,
        report.sent,
        report.received,
        report.acknowledged,
        report.lost,
        report.longest_pause_micros as f64 / 1e3,
        report.silent_micros as f64 / 1e3,
    )
}
