//! The leaves of validation: names, labels, addresses, ports, as the API server takes them.
//!
//! Owns: the rules for single values. Does not: know objects or fields.
//! Invariant: what passes is in the form the model promises.

use crate::fault::Wrong;
use ipnet::IpNet;
use std::net::IpAddr;

fn alphanumeric(c: u8) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && bytes.first().is_some_and(|c| alphanumeric(*c))
        && bytes.last().is_some_and(|c| alphanumeric(*c))
        && bytes.iter().all(|c| alphanumeric(*c) || *c == b'-')
}

/// RFC 1123 label.
pub fn label(text: &str) -> Result<(), Wrong> {
    is_label(text).then_some(()).ok_or_else(|| Wrong::NotLabel { value: text.into() })
}

fn is_subdomain(text: &str) -> bool {
    let part = |p: &str| {
        let bytes = p.as_bytes();
        bytes.first().is_some_and(|c| alphanumeric(*c))
            && bytes.last().is_some_and(|c| alphanumeric(*c))
            && bytes.iter().all(|c| alphanumeric(*c) || *c == b'-')
    };
    text.len() <= 253 && text.split('.').all(part)
}

/// RFC 1123 subdomain.
pub fn subdomain(text: &str) -> Result<(), Wrong> {
    is_subdomain(text).then_some(()).ok_or_else(|| Wrong::NotSubdomain { value: text.into() })
}

/// IANA service name: named ports.
pub fn port_name(text: &str) -> Result<(), Wrong> {
    let bytes = text.as_bytes();
    let good = (1..=15).contains(&bytes.len())
        && bytes.iter().all(|c| alphanumeric(*c) || *c == b'-')
        && bytes.iter().any(u8::is_ascii_lowercase)
        && !text.contains("--")
        && !text.starts_with('-')
        && !text.ends_with('-');
    good.then_some(()).ok_or_else(|| Wrong::NotPortName { value: text.into() })
}

fn is_qualified_part(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(c))
}

/// `[prefix/]name`.
pub fn label_key(text: &str) -> Result<(), Wrong> {
    let good = match text.split_once('/') {
        Some((prefix, name)) => !prefix.is_empty() && is_subdomain(prefix) && is_qualified_part(name),
        None => is_qualified_part(text),
    };
    good.then_some(()).ok_or_else(|| Wrong::NotLabelKey { value: text.into() })
}

/// A label's value; may be empty.
pub fn label_value(text: &str) -> Result<(), Wrong> {
    let good = text.is_empty() || is_qualified_part(text);
    good.then_some(()).ok_or_else(|| Wrong::NotLabelValue { value: text.into() })
}

/// No number of it begins with a zero that it does not need: readers differ in what that means (octal in some).
fn has_leading_zeros(net: &str) -> bool {
    let numbers = |text: &str| text.split('.').any(|part| part.len() > 1 && part.starts_with('0'));
    let (address, length) = net.split_once('/').unwrap_or((net, ""));
    // An IPv6 address may have them, but for the IPv4 address at its end.
    let dotted = address.rsplit(':').next().filter(|last| last.contains('.'));
    dotted.is_some_and(numbers) || numbers(length)
}

fn net(text: &str) -> Result<IpNet, Wrong> {
    match text.parse::<IpNet>() {
        _ if has_leading_zeros(text) => Err(Wrong::LeadingZeros { value: text.into() }),
        Ok(net) => Ok(net),
        Err(_) => Err(Wrong::NotCidr { value: text.into() }),
    }
}

/// An address; the IPv4-mapped form means the IPv4 address.
pub fn address(text: &str) -> Result<IpAddr, Wrong> {
    text.parse::<IpAddr>()
        .map(|address| address.to_canonical())
        .map_err(|_| Wrong::NotAddress { value: text.into() })
}

/// An address that packets can be sent to: not unspecified, loopback, link-local or multicast.
pub fn reachable_address(text: &str) -> Result<IpAddr, Wrong> {
    let address = address(text)?;
    let what = match address {
        a if a.is_unspecified() => Some("the unspecified address"),
        a if a.is_loopback() => Some("a loopback address"),
        a if a.is_multicast() => Some("a multicast address"),
        IpAddr::V4(a) if a.is_link_local() => Some("a link-local address"),
        IpAddr::V4(a) if a.is_broadcast() => Some("the broadcast address"),
        IpAddr::V6(a) if a.is_unicast_link_local() => Some("a link-local address"),
        _ => None,
    };
    match what {
        Some(what) => Err(Wrong::UselessAddress { value: text.into(), what }),
        None => Ok(address),
    }
}

/// A prefix; bits outside the mask are cleared, as Kubernetes takes it.
pub fn cidr(text: &str) -> Result<IpNet, Wrong> {
    net(text).map(|net| net.trunc())
}

/// A prefix without bits outside the mask.
pub fn strict_cidr(text: &str) -> Result<IpNet, Wrong> {
    let net = net(text)?;
    if net.trunc() != net {
        return Err(Wrong::HostBits { value: text.into(), canonical: net.trunc().to_string() });
    }
    Ok(net)
}

/// 1 to 65535.
pub fn port(number: i64) -> Result<u16, Wrong> {
    u16::try_from(number).ok().filter(|n| *n != 0).ok_or(Wrong::NotPort { value: number })
}

/// One of some words, exactly as written.
pub fn word<T: Copy>(text: &str, words: &'static [&'static str], meanings: &[T]) -> Result<T, Wrong> {
    let found = words.iter().position(|word| *word == text).and_then(|at| meanings.get(at));
    found.copied().ok_or_else(|| Wrong::NotOneOf { value: text.into(), allowed: words })
}
