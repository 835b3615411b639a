//! `drops`: what was dropped, where, why, and the latest packets with the rule that decided.
//!
//! Owns: its flags and how drops are shown. Does not: decode events (inspect/observe) or keep them (the agent).
//! Invariant: the counters come from the kernel and are complete; the packets are the latest that the agent kept.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tortie_observe::counters;

use crate::args::Global;
use crate::ask;
use crate::exit::{Answer, Failure, Outcome};
use crate::inspect::{self, counters_table, filters, names, read};
use crate::output::{self, Colour, Format, columns, paint};

/// Flags of `tortie drops`.
#[derive(Debug, Args)]
pub struct Drops {
    /// Show drops as they happen, until interrupted.
    #[arg(long, short = 'f')]
    follow: bool,
    /// Only this interface.
    #[arg(long)]
    interface: Option<String>,
    /// Only this reason, as counters have it.
    #[arg(long, value_parser = filters::reason(), hide_possible_values = true)]
    reason: Option<String>,
    /// So many of the latest packets.
    #[arg(long, default_value_t = 20, value_name = "N")]
    last: usize,
}

/// A dropped packet, as the agent tells it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct Dropped {
    time: f64,
    interface: String,
    /// Its number, which outlives it.
    ifindex: u32,
    /// The pod of this node that the interface is of: it sent or was to get the packet, whatever the addresses say.
    #[serde(skip_serializing_if = "Option::is_none")]
    interface_pod: Option<String>,
    hook: String,
    reason: String,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    packet: Option<Packet>,
    /// The system call, where there was no packet yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    call: Option<Call>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Packet {
    protocol: String,
    source: IpAddr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source_port: Option<u16>,
    /// The pod of this node that had the source address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source_pod: Option<String>,
    destination: IpAddr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    destination_port: Option<u16>,
    /// The pod of this node that had the destination address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    destination_pod: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    icmp: Option<Icmp>,
    #[serde(default)]
    length: u32,
}

/// A `connect` or a `sendto` that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Call {
    task: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pod: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    protocol: String,
    destination: IpAddr,
    destination_port: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    service: Option<String>,
}

/// What ICMP has in place of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
struct Icmp {
    #[serde(rename = "type")]
    kind: u8,
    code: u8,
    id: u16,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Answered {
    items: Vec<Dropped>,
    counters: Vec<counters::Row>,
    /// Drops that are counted and were not told, because the ring buffer was full.
    lost_events: u64,
}

/// Runs the verb.
pub fn run(drops: Drops, global: &Global) -> Outcome {
    let snapshot = read::snapshot(&global.bpffs, false)?;
    let names = names::load(&global.run_dir, &snapshot);
    let mut counted = counters::rows(&snapshot, &names);
    let told = ask::agent(&global.run_dir, &json!({"verb": "drops", "since": 0}));
    if let Some(interface) = &drops.interface {
        // One that is gone has its name in what the agent kept.
        let kept = items(told.as_ref().unwrap_or(&Value::Null)).filter_map(|item| item["interface"].as_str());
        inspect::find_interface(interface, counted.iter().map(|row| row.interface.as_str()).chain(kept))?;
    }
    counted.retain(|row| drops.wants(&row.interface, &row.reason));
    counted.sort_by(|a, b| b.packets.cmp(&a.packets).then_with(|| a.cmp(b)));
    let lost_events = read::lost_events(&global.bpffs)?;
    let (items, last) = match &told {
        Ok(answer) => drops.latest(answer),
        Err(_) => (Vec::new(), 0),
    };
    let answer = Answered { items, counters: counted, lost_events };
    match (drops.follow, global.output) {
        // Lines of one form only: what comes afterwards is one object a line.
        (true, Format::Json | Format::Yaml) => {
            for row in &answer.items {
                output::write(&line(row, global.output)?)?;
            }
        }
        _ => output::print(global.output, &answer, |wide| answer.text(wide, told.is_ok()))?,
    }
    if let Err(error) = told {
        let why = ask::unreachable(&global.run_dir, &error);
        let words = format!("{why} The counters are the kernel's; the packets are kept by the agent.");
        return Err(ask::classed(&error, words));
    }
    if drops.follow { follow(&drops, global, last) } else { Ok(Answer::Yes) }
}

impl Drops {
    fn wants(&self, interface: &str, reason: &str) -> bool {
        self.interface.as_ref().is_none_or(|wanted| wanted == interface)
            && self.reason.as_ref().is_none_or(|wanted| wanted == reason)
    }

    /// The latest drops of the agent's answer, oldest first, and the number of the last.
    fn latest(&self, answer: &Value) -> (Vec<Dropped>, u64) {
        let mut rows: Vec<Dropped> = items(answer).filter_map(dropped).collect();
        rows.retain(|row| self.wants(&row.interface, &row.reason));
        let rows = rows.split_off(rows.len().saturating_sub(self.last));
        (rows, answer.get("last").and_then(Value::as_u64).unwrap_or_default())
    }
}

/// The drops of the agent's answer.
fn items(answer: &Value) -> impl Iterator<Item = &Value> {
    answer.get("items").and_then(Value::as_array).into_iter().flatten()
}

/// `None`: it is no drop, or none that this version knows.
fn dropped(item: &Value) -> Option<Dropped> {
    item.get("reason")?;
    serde_json::from_value(item.clone()).ok()
}

/// Prints drops as they come. A reader that has gone ends it quietly; an agent that has gone does not.
fn follow(drops: &Drops, global: &Global, since: u64) -> Outcome {
    let question = json!({"verb": "drops", "follow": true, "since": since});
    let gone = |error: &io::Error| ask::failure(&global.run_dir, error);
    let mut gaps = Gaps::since_now(&global.bpffs)?;
    for told in ask::stream(&global.run_dir, &question).map_err(|e| gone(&e))? {
        let told = told.map_err(|e| gone(&e))?;
        if let Some(missed) = gaps.after(told.get("missed").and_then(Value::as_u64))? {
            output::tell(format_args!(
                "{missed} more came too fast to be told one by one; the counters have them"
            ));
        }
        let Some(row) = dropped(&told) else { continue };
        if !drops.wants(&row.interface, &row.reason) {
            continue;
        }
        match writeln!(io::stdout().lock(), "{}", line(&row, global.output)?) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Answer::Yes),
            other => other?,
        }
    }
    Err(Failure::unreachable(anyhow::anyhow!("the agent has ended; the data plane works on")))
}

/// Drops that are counted and not told, of a stream.
struct Gaps<'a> {
    bpffs: &'a Path,
    lost: u64,
    looked: Instant,
}

impl<'a> Gaps<'a> {
    const PAUSE: Duration = Duration::from_secs(1);

    fn since_now(bpffs: &'a Path) -> Result<Self, Failure> {
        Ok(Self { bpffs, lost: read::lost_events(bpffs)?, looked: Instant::now() })
    }

    /// How many there are now; `missed`: as many the agent did not keep.
    fn after(&mut self, missed: Option<u64>) -> Result<Option<u64>, Failure> {
        if missed.is_none() && self.looked.elapsed() < Self::PAUSE {
            return Ok(None);
        }
        self.looked = Instant::now();
        let before = std::mem::replace(&mut self.lost, read::lost_events(self.bpffs)?);
        let more = missed.unwrap_or(0) + self.lost.saturating_sub(before);
        Ok((more > 0).then_some(more))
    }
}

/// One drop in a stream of them.
fn line(row: &Dropped, format: Format) -> anyhow::Result<String> {
    Ok(match format {
        Format::Table | Format::Wide => one_line(row),
        Format::Json => serde_json::to_string(row)?,
        Format::Yaml => format!("---\n{}", serde_saphyr::to_string(row)?.trim_end()),
    })
}

impl Answered {
    fn text(&self, wide: bool, with_packets: bool) -> String {
        if self.counters.is_empty() && self.items.is_empty() {
            return "nothing was dropped\n".to_owned();
        }
        let mut text = inspect::text(&counters_table(&self.counters, wide));
        if self.lost_events > 0 {
            let _ = writeln!(text, "{} of these came too fast to be told one by one", self.lost_events);
        }
        if with_packets && !self.items.is_empty() {
            let _ = write!(text, "\n{}\n{}", paint(Colour::Bold, "LATEST"), latest_table(&self.items));
        }
        text.push('\n');
        text.push_str(&meanings(self));
        text
    }
}

/// Every reason that occurs, once, in words.
fn meanings(answer: &Answered) -> String {
    let counted = answer.counters.iter().map(|row| (row.reason.as_str(), row.explanation));
    let told = answer.items.iter().map(|row| (row.reason.as_str(), row.detail.as_str()));
    let all: BTreeSet<(&str, &str)> = counted.chain(told).collect();
    let mut text = String::new();
    for (reason, meaning) in all {
        let _ = writeln!(text, "{}: {meaning}", paint(Colour::Bold, reason));
    }
    text
}

fn latest_table(rows: &[Dropped]) -> String {
    let row = |row: &Dropped| {
        let (protocol, from, to) = ends(row);
        let rule = rule(row).unwrap_or_default();
        vec![clock(row.time), interface(row), row.reason.clone(), protocol, from, to, rule]
    };
    let rows: Vec<Vec<String>> = rows.iter().map(row).collect();
    columns(&["TIME (UTC)", "INTERFACE", "REASON", "PROTOCOL", "FROM", "TO", "RULE"], &rows)
}

fn one_line(row: &Dropped) -> String {
    let (protocol, from, to) = ends(row);
    let rule = rule(row).map(|rule| format!("  [{rule}]")).unwrap_or_default();
    let reason = paint(Colour::Red, &row.reason);
    format!("{}  {}  {reason}  {protocol} {from} → {to}{rule}", clock(row.time), interface(row))
}

/// With its pod where the packet's addresses name others: the source of a spoofed packet is somebody else's.
fn interface(row: &Dropped) -> String {
    let ends = row.packet.as_ref().map(|packet| [&packet.source_pod, &packet.destination_pod]);
    match &row.interface_pod {
        Some(pod) if !ends.is_some_and(|ends| ends.contains(&&row.interface_pod)) => {
            format!("{} ({pod})", row.interface)
        }
        _ => row.interface.clone(),
    }
}

/// What decided. A list that allows something and does not name a packet denies it without any rule.
fn rule(row: &Dropped) -> Option<String> {
    let by_default = || {
        ["policy-egress", "policy-ingress"]
            .contains(&row.reason.as_str())
            .then(|| "no rule allows it".to_owned())
    };
    row.rule.clone().or_else(by_default)
}

/// Protocol, from where, to where.
fn ends(row: &Dropped) -> (String, String, String) {
    match (&row.packet, &row.call) {
        (Some(packet), _) => ends_of(packet),
        (None, Some(call)) => (call.protocol.clone(), caller(call), wanted(call)),
        (None, None) => Default::default(),
    }
}

/// A task chooses its name: what a terminal would obey is written out.
fn caller(call: &Call) -> String {
    let task = call.task.escape_debug();
    match call.pod.as_ref().or(call.node.as_ref()) {
        Some(place) => format!("{place} ({task})"),
        None => task.to_string(),
    }
}

fn wanted(call: &Call) -> String {
    named(call.destination, Some(call.destination_port), call.service.as_ref())
}

fn named(address: IpAddr, port: Option<u16>, name: Option<&String>) -> String {
    let socket = match port {
        None | Some(0) => address.to_string(),
        Some(port) => SocketAddr::new(address, port).to_string(),
    };
    match name {
        Some(name) => format!("{name} ({socket})"),
        None => socket,
    }
}

fn ends_of(packet: &Packet) -> (String, String, String) {
    let protocol = match packet.icmp {
        Some(Icmp { kind, code, id: 0 }) => format!("{} type {kind} code {code}", packet.protocol),
        Some(Icmp { kind, code, id }) => format!("{} type {kind} code {code} id {id}", packet.protocol),
        None => packet.protocol.clone(),
    };
    (
        protocol,
        named(packet.source, packet.source_port, packet.source_pod.as_ref()),
        named(packet.destination, packet.destination_port, packet.destination_pod.as_ref()),
    )
}

/// Time of day, UTC, to the millisecond.
fn clock(epoch_seconds: f64) -> String {
    let millis = (epoch_seconds * 1000.0).max(0.0) as u64;
    let (seconds, millis) = (millis / 1000, millis % 1000);
    format!("{:02}:{:02}:{:02}.{millis:03}", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60)
}

/// All drops of a node together, for `status`.
#[derive(Debug)]
pub struct Total {
    packets: u64,
    /// Reasons, the most frequent first.
    reasons: Vec<(String, u64)>,
}

/// Adds up the kernel's counters; `None`: they cannot be read.
pub fn total(bpffs: &Path) -> Option<Total> {
    let counted = read::drop_counters(bpffs).ok()?;
    let mut by_reason: BTreeMap<String, u64> = BTreeMap::new();
    for (key, counter) in &counted {
        *by_reason.entry(counters::reason_name(key.reason)).or_default() += counter.packets;
    }
    Some(Total::of(by_reason))
}

impl Total {
    fn of(by_reason: BTreeMap<String, u64>) -> Self {
        let mut reasons: Vec<_> = by_reason.into_iter().filter(|(_, packets)| *packets > 0).collect();
        reasons.sort_by_key(|(_, packets)| std::cmp::Reverse(*packets));
        Self { packets: reasons.iter().map(|(_, packets)| packets).sum(), reasons }
    }

    /// One line.
    pub fn sentence(&self) -> String {
        const NAMED: usize = 3;
        if self.packets == 0 {
            return "none".to_owned();
        }
        let named: Vec<String> =
            self.reasons.iter().take(NAMED).map(|(reason, packets)| format!("{reason} {packets}")).collect();
        let more = if self.reasons.len() > NAMED { " …" } else { "" };
        format!("{} packets: {}{more}; see `tortie drops`", self.packets, named.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item() -> Value {
        json!({
            "time": 86_399.5, "interface": "cali1", "ifindex": 7, "hook": "to-workload", "reason": "policy-ingress",
            "detail": "denied", "rule": "NetworkPolicy shop/deny ingress rule 0",
            "packet": {"protocol": "TCP", "source": "10.0.0.1", "sourcePort": 40000,
                       "destination": "fd00::2", "destinationPort": 80, "length": 60}
        })
    }

    fn drops() -> Drops {
        Drops { follow: false, interface: None, reason: None, last: 2 }
    }

    #[test]
    fn a_drop_is_one_line_with_pods_ports_and_rule() {
        let mut item = item();
        item["packet"]["sourcePod"] = json!("shop/front");
        let line = one_line(&dropped(&item).unwrap());
        assert_eq!(
            line,
            "23:59:59.500  cali1  policy-ingress  TCP shop/front (10.0.0.1:40000) → [fd00::2]:80  \
             [NetworkPolicy shop/deny ingress rule 0]"
        );
    }

    #[test]
    fn a_spoofed_packet_names_who_sent_it_and_not_only_whose_address_it_has() {
        let mut item = item();
        item["packet"]["sourcePod"] = json!("shop/victim");
        item["interfacePod"] = json!("shop/culprit");
        let row = dropped(&item).unwrap();
        assert!(one_line(&row).contains("cali1 (shop/culprit)  "), "{}", one_line(&row));
        assert!(latest_table(std::slice::from_ref(&row)).contains("cali1 (shop/culprit)"));
        let of_an_end =
            Dropped { interface_pod: row.packet.as_ref().unwrap().source_pod.clone(), ..row.clone() };
        assert!(one_line(&of_an_end).contains("  cali1  "), "once is enough");
        assert_eq!(serde_json::to_value(row).unwrap(), item);
    }

    #[test]
    fn icmp_has_type_code_and_id_and_no_ports() {
        let mut item = item();
        item["packet"] = json!({"protocol": "ICMP", "source": "10.0.0.1", "destination": "10.0.0.2", "length": 84,
                                "icmp": {"type": 8, "code": 0, "id": 4660}});
        let row = dropped(&item).unwrap();
        let (protocol, from, to) = ends(&row);
        assert_eq!(
            (protocol.as_str(), from.as_str(), to.as_str()),
            ("ICMP type 8 code 0 id 4660", "10.0.0.1", "10.0.0.2")
        );
        assert_eq!(serde_json::to_value(row).unwrap()["packet"], item["packet"]);
    }

    #[test]
    fn a_denial_by_the_end_of_a_list_says_so_and_other_drops_have_no_rule() {
        let without = |reason: &str| Dropped { reason: reason.into(), ..Dropped::default() };
        assert_eq!(rule(&without("policy-egress")).as_deref(), Some("no rule allows it"));
        assert_eq!(rule(&without("policy-not-ready")), None);
        assert_eq!(rule(&without("no-flow")), None);
    }

    #[test]
    fn a_drop_without_a_packet_that_can_be_read_is_shown_all_the_same() {
        let row = dropped(&json!({"reason": "frame-too-short", "interface": "eth0"})).unwrap();
        assert!(latest_table(&[row]).contains("frame-too-short"));
    }

    #[test]
    fn only_the_latest_are_shown_and_filters_come_first() {
        let answer = json!({"last": 9, "items": [
            {"reason": "a", "time": 1}, {"reason": "b", "time": 2}, {"reason": "a", "time": 3}, {"reason": "a", "time": 4},
        ]});
        let (rows, last) = drops().latest(&answer);
        assert_eq!((rows.iter().map(|r| r.time).collect::<Vec<_>>(), last), (vec![3.0, 4.0], 9));
        let only_b = Drops { reason: Some("b".into()), ..drops() };
        assert_eq!(only_b.latest(&answer).0.len(), 1);
    }

    #[test]
    fn the_json_of_a_drop_has_the_agreed_fields() {
        let row = dropped(&item()).unwrap();
        assert_eq!(serde_json::to_value(row).unwrap(), item());
    }

    #[test]
    fn reasons_are_named_by_their_number_of_packets() {
        let total =
            Total::of(BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 5), ("c".to_owned(), 0)]));
        assert_eq!(total.sentence(), "6 packets: b 5, a 1; see `tortie drops`");
        assert_eq!(Total::of(BTreeMap::new()).sentence(), "none");
    }
}
