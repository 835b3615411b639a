//! Logs: on stderr, as text or JSON, as much as was asked for.
//!
//! Owns: the form, the level, and changing it while the agent runs. Does not: decide what is worth a line.
//! Invariant: RUST_LOG wins over `-v`, which wins over the setting `logSeverityScreen`.

use std::io::IsTerminal as _;
use std::sync::OnceLock;

use clap::ValueEnum;
use serde_json::json;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

use crate::args::Global;

/// The form of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line: timestamp, level, message, target and the fields of each event.
    Json,
}

/// As it was asked for.
static FORMAT: OnceLock<LogFormat> = OnceLock::new();

/// Set when neither RUST_LOG nor `-v` has said what to log.
static LEVEL: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Begins. Once in a process.
pub fn start(global: &Global) {
    let _ = FORMAT.set(global.log_format);
    let told = EnvFilter::try_from_default_env().ok();
    let fixed = told.is_some() || global.verbose > 0;
    let filter = told.unwrap_or_else(|| EnvFilter::new(filter(default_level(global.verbose))));
    let (filter, handle) = reload::Layer::new(filter);
    let lines = match global.log_format {
        LogFormat::Text => fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false)
            // A line that cannot be written is no reason to end.
            .log_internal_errors(false)
            .boxed(),
        LogFormat::Json => fmt::layer()
            .json()
            .flatten_event(true)
            .with_writer(std::io::stderr)
            .log_internal_errors(false)
            .boxed(),
    };
    tracing_subscriber::registry().with(lines.with_filter(filter)).init();
    if !fixed {
        // The first start counts; there is no second one.
        let _ = LEVEL.set(handle);
    }
}

/// What `logSeverityScreen` says from now on: `off`, `error`, `warn`, `info`, `debug` or `trace`.
pub fn set_level(level: &str) {
    let Some(handle) = LEVEL.get() else { return };
    if let Err(error) = handle.reload(EnvFilter::new(filter(level))) {
        tracing::warn!(%error, level, "the log level could not be changed");
    }
}

/// What ended the process, as a line among the others where these are JSON; it is said whatever the level is.
pub fn json_line(message: &str) -> Option<String> {
    if FORMAT.get() != Some(&LogFormat::Json) {
        return None;
    }
    let mut timestamp = String::new();
    // Without a clock the line is still worth something.
    let _ = SystemTime.format_time(&mut Writer::new(&mut timestamp));
    let line = json!({"timestamp": timestamp, "level": "ERROR", "message": message, "target": "tortie"});
    Some(line.to_string())
}

fn default_level(verbose: u8) -> &'static str {
    match verbose {
        0 => "info",
        1 => "debug",
        _ => "trace",
    }
}

/// What is logged at a level. Other people's code is one level quieter. A kernel newer than the netlink crate
/// tells it more about every interface than it knows, which it warns of each time and which changes nothing.
fn filter(level: &str) -> &'static str {
    match level {
        "off" => "off",
        "error" => "error",
        "warn" => "warn,netlink_packet_route=error",
        "debug" => "info,netlink_packet_route=error,tortie=debug",
        "trace" => "debug,tortie=trace",
        _ => "warn,netlink_packet_route=error,tortie=info",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_that_the_setting_may_have_is_a_filter() {
        for level in ["off", "error", "warn", "info", "debug", "trace"] {
            let parsed = filter(level).parse::<EnvFilter>();
            assert!(parsed.is_ok(), "{level}: {parsed:?}");
        }
        let say = |level| filter(level).parse::<EnvFilter>().unwrap().max_level_hint();
        assert_eq!(say("off"), Some(tracing::level_filters::LevelFilter::OFF));
        assert_eq!(say("error"), Some(tracing::level_filters::LevelFilter::ERROR));
        assert_eq!(say("info"), Some(tracing::level_filters::LevelFilter::INFO));
        assert_eq!(say("debug"), Some(tracing::level_filters::LevelFilter::DEBUG));
    }
}
