//! Values of settings in the forms people write them.
//!
//! Owns: durations, marks, port ranges, and words in any case. Does not: know which setting it is.
//! Invariant: the text form (file, environment) and the YAML form of a value mean the same.

use crate::check;
use crate::fault::Wrong;
use crate::resource::type_of;
use ipnet::IpNet;
use serde_json::Value;
use std::net::IpAddr;
use std::time::Duration;
use tortie_model::settings::Timeout;

/// Text.
pub fn text(value: &Value) -> Result<&str, Wrong> {
    value.as_str().ok_or_else(|| wrong_type(value, "text"))
}

/// A host to listen at: an address, a name, or nothing for all.
pub fn host(value: &Value) -> Result<String, Wrong> {
    let host = text(value)?.trim();
    let is_name = host.split('.').all(|label| {
        let inside = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        !label.is_empty() && label.len() <= 63 && label.chars().all(inside)
    });
    if host.is_empty() || is_name || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
        return Ok(host.to_owned());
    }
    Err(Wrong::NotA { value: host.into(), what: "host", example: "localhost, 127.0.0.1 or ::1" })
}

/// Yes or no; as text in any of the forms that Go reads.
pub fn boolean(value: &Value) -> Result<bool, Wrong> {
    let from_text = |text: &str| match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "1" => Some(true),
        "false" | "f" | "0" => Some(false),
        _ => None,
    };
    let read = match value {
        Value::Bool(b) => Some(*b),
        Value::String(text) => from_text(text.trim()),
        _ => None,
    };
    read.ok_or_else(|| wrong_type(value, "true or false"))
}

/// A whole number; as text also in hexadecimal with `0x`.
pub fn number(value: &Value) -> Result<i64, Wrong> {
    let from_text = |text: &str| match text.strip_prefix("0x") {
        Some(digits) => i64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    };
    let read = match value {
        Value::Number(n) => n.as_i64(),
        Value::String(t) => from_text(t.trim()),
        _ => None,
    };
    read.ok_or_else(|| wrong_type(value, "a whole number"))
}

/// A number within bounds.
pub fn number_within(value: &Value, least: i64, most: i64) -> Result<i64, Wrong> {
    let number = number(value)?;
    if (least..=most).contains(&number) {
        Ok(number)
    } else {
        Err(Wrong::OutOfRange { value: number, least, most })
    }
}

/// One of some words, in any case.
pub fn word<T: Copy>(value: &Value, words: &'static [&'static str], meanings: &[T]) -> Result<T, Wrong> {
    let given = text(value)?;
    let exact = words.iter().find(|word| word.eq_ignore_ascii_case(given)).copied().unwrap_or(given);
    check::word(exact, words, meanings).map_err(|_| Wrong::NotOneOf { value: given.into(), allowed: words })
}

/// True or false; as text in any spelling that Calico takes.
pub fn switch(value: &Value) -> Result<bool, Wrong> {
    let said = match value {
        Value::Bool(on) => Some(*on),
        Value::String(text) => match text.trim().to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "y" | "t" => Some(true),
            "false" | "0" | "no" | "n" | "f" => Some(false),
            _ => None,
        },
        _ => None,
    };
    said.ok_or_else(|| wrong_type(value, "true or false"))
}

/// A port to listen on.
pub fn port(value: &Value) -> Result<u16, Wrong> {
    check::port(number(value)?)
}

/// A duration; a bare number is in seconds, as in Calico's file and environment.
pub fn seconds(value: &Value) -> Result<Duration, Wrong> {
    if let Ok(whole) = number(value) {
        let within = number_within(value, 0, u32::MAX.into());
        return within.map(|_| Duration::from_secs(whole.unsigned_abs()));
    }
    duration(text(value)?)
}

/// `20000:29999`, or one port.
pub fn port_range(value: &Value) -> Result<(u16, u16), Wrong> {
    if value.is_number() {
        let port = check::port(number(value)?)?;
        return Ok((port, port));
    }
    let given = text(value)?;
    let (first, last) = given.split_once(':').unwrap_or((given, given));
    let not_range = || Wrong::NotA { value: given.into(), what: "port range", example: "20000:29999" };
    let port = |text: &str| check::port(text.trim().parse().map_err(|_| not_range())?);
    let (first, last) = (port(first)?, port(last)?);
    if last < first {
        return Err(Wrong::EndBelow { end: last.into(), start: first.into() });
    }
    Ok((first, last))
}

/// Address ranges: a list, or as text with commas between them.
pub fn cidrs(value: &Value) -> Result<Vec<IpNet>, Wrong> {
    match value {
        Value::Array(list) => list.iter().map(|one| check::cidr(text(one)?)).collect(),
        _ => {
            let given = text(value)?;
            given.split(',').map(str::trim).filter(|part| !part.is_empty()).map(check::cidr).collect()
        }
    }
}

/// A time-out: a duration, or `Auto`.
pub fn timeout(value: &Value) -> Result<Timeout, Wrong> {
    let given = text(value)?;
    if given.eq_ignore_ascii_case("auto") {
        return Ok(Timeout::Auto);
    }
    duration(given).map(Timeout::Fixed)
}

/// A duration as Go writes it: `90s`, `1h30m`, `1.5s`, `100ms`.
pub fn duration(given: &str) -> Result<Duration, Wrong> {
    let wrong = || Wrong::NotA { value: given.into(), what: "duration", example: "90s, 1h30m or 100ms" };
    let mut rest = given.trim();
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (amount, tail) = rest.split_at(digits);
        let unit_end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return Err(wrong()),
        };
        let amount: f64 = amount.parse().map_err(|_| wrong())?;
        let part = Duration::try_from_secs_f64(amount * seconds).map_err(|_| wrong())?;
        total = total.checked_add(part).ok_or_else(wrong)?;
        rest = tail;
    }
    Ok(total)
}

fn wrong_type(value: &Value, expected: &str) -> Wrong {
    let found = match value {
        Value::String(text) => format!("text {text:?}"),
        Value::Number(n) => n.to_string(),
        Value::Bool(b) => b.to_string(),
        other => type_of(other).into(),
    };
    Wrong::Type { found, expected: expected.into() }
}
