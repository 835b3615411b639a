//! Owns: the words `usePodCidr` and `usePodCidrIPv6` in the address plugin's configuration: one conflist for every
//! node, as Calico's plugin has it. Does not: ask the API server; the agent has written down what the Node says.
//! Invariant: the address plugin never sees the words; without the Node's prefixes nobody gets an address.

use std::thread;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use serde_json::{Map, Value, json};

use super::config::Config;
use super::env::Command;
use super::error::CniError;
use crate::pod_cidrs::{self, PodCidrs};

const RETRY_EVERY: Duration = Duration::from_millis(50);

/// Which prefixes a word stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    /// `usePodCidr`
    PodCidr,
    /// `usePodCidrIPv6`
    PodCidrV6,
}

/// The Node has no prefix of the family asked for.
#[derive(Debug, PartialEq, Eq)]
struct Lacking(&'static str);

/// Puts this node's prefixes in the place of the words.
pub fn resolve(config: &Config, command: Command, ipam: &mut Value) -> Result<(), CniError> {
    if !is_asked_for(ipam) {
        return Ok(());
    }
    let give_up = Instant::now() + config.ready_timeout;
    loop {
        let lacking = match known(config, command) {
            Some(prefixes) => match put(&prefixes, ipam) {
                Ok(()) => return Ok(()),
                Err(Lacking(what)) => what,
            },
            None => "prefix",
        };
        // A node that has just joined gets its prefixes within moments; its agent writes them down.
        if command != Command::Add || Instant::now() + RETRY_EVERY >= give_up {
            let file = pod_cidrs::path(&config.run_dir);
            return Err(CniError::NoPodCidr { lacking, file });
        }
        thread::sleep(RETRY_EVERY);
    }
}

/// What goes back, or is looked up, goes by the container's name: any prefix does, and taking a pod away must not
/// depend on what is known of the Node.
fn known(config: &Config, command: Command) -> Option<PodCidrs> {
    let known = PodCidrs::read(&config.run_dir);
    let any = || ["0.0.0.0/0", "::/0"].iter().filter_map(|net| net.parse().ok()).collect();
    match command {
        Command::Del | Command::Gc | Command::Check => Some(PodCidrs { pod_cidrs: any() }),
        Command::Add | Command::Status | Command::Version => known,
    }
}

/// The first subnet of the address plugin's configuration that is neither a prefix nor a word.
pub fn unusable_subnet(ipam: &Value) -> Option<&Value> {
    let is_prefix = |subnet: &Value| subnet.as_str().is_some_and(|text| text.parse::<IpNet>().is_ok());
    subnets(ipam).find(|subnet| word(Some(subnet)).is_none() && !is_prefix(subnet))
}

fn word(value: Option<&Value>) -> Option<Word> {
    let text = value?.as_str()?;
    if text.eq_ignore_ascii_case("usePodCidr") {
        Some(Word::PodCidr)
    } else if text.eq_ignore_ascii_case("usePodCidrIPv6") {
        Some(Word::PodCidrV6)
    } else {
        None
    }
}

fn ranges(ipam: &Value) -> impl Iterator<Item = &Value> {
    ipam.get("ranges").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_array).flatten()
}

fn subnets(ipam: &Value) -> impl Iterator<Item = &Value> {
    ranges(ipam).chain([ipam]).filter_map(|range| range.get("subnet"))
}

fn is_asked_for(ipam: &Value) -> bool {
    subnets(ipam).any(|subnet| word(Some(subnet)).is_some())
}

/// `subnet` beside `type` stands for one address of each family that the Node has; inside `ranges`, where the
/// families are chosen by hand, `usePodCidr` is IPv4 as with Calico's plugin.
fn put(prefixes: &PodCidrs, ipam: &mut Value) -> Result<(), Lacking> {
    let Some(object) = ipam.as_object_mut() else { return Ok(()) };
    let mut whole = object.clone();
    if let Some(word) = word(whole.get("subnet")) {
        let nets = match word {
            Word::PodCidr => prefixes.of_each_family(),
            Word::PodCidrV6 => prefixes.of_family(false).into_iter().collect(),
        };
        if nets.is_empty() {
            return Err(Lacking(if word == Word::PodCidr { "prefix" } else { "IPv6 prefix" }));
        }
        whole.remove("subnet");
        let sets = nets.iter().map(|net| json!([{"subnet": net.trunc()}]));
        match whole.entry("ranges").or_insert_with(|| json!([])) {
            Value::Array(given) => given.extend(sets),
            other => *other = sets.collect(),
        }
    }
    put_in_ranges(prefixes, &mut whole)?;
    *object = whole;
    Ok(())
}

fn put_in_ranges(prefixes: &PodCidrs, ipam: &mut Map<String, Value>) -> Result<(), Lacking> {
    let sets = ipam.get_mut("ranges").and_then(Value::as_array_mut).into_iter().flatten();
    for range in sets.filter_map(Value::as_array_mut).flatten() {
        let Some(word) = word(range.get("subnet")) else { continue };
        let v4 = word == Word::PodCidr;
        let net = prefixes.of_family(v4).ok_or(Lacking(if v4 { "IPv4 prefix" } else { "IPv6 prefix" }))?;
        if let Some(range) = range.as_object_mut() {
            range.insert("subnet".to_owned(), json!(net.trunc()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put_for(prefixes: &[&str], mut ipam: Value) -> Result<Value, Lacking> {
        let pod_cidrs = prefixes.iter().map(|net| net.parse().unwrap()).collect();
        put(&PodCidrs { pod_cidrs }, &mut ipam).map(|()| ipam)
    }

    const BOTH: [&str; 2] = ["10.65.0.0/24", "fd00:65::/64"];

    #[test]
    fn the_short_form_means_every_family_of_the_node() {
        let short = json!({"type": "host-local", "subnet": "usePodCidr"});
        let ranges = json!({"type": "host-local", "ranges": [[{"subnet": BOTH[0]}], [{"subnet": BOTH[1]}]]});
        assert_eq!(put_for(&BOTH, short.clone()), Ok(ranges));
        let one = json!({"type": "host-local", "ranges": [[{"subnet": BOTH[1]}]]});
        assert_eq!(put_for(&BOTH[1..], short), Ok(one.clone()));
        assert_eq!(put_for(&BOTH, json!({"type": "host-local", "subnet": "usepodcidripv6"})), Ok(one));
    }

    #[test]
    fn ranges_choose_families_and_keep_what_else_they_say() {
        let given = json!({"ranges": [
            [{"subnet": "usePodCidr", "rangeStart": "10.65.0.10"}, {"subnet": "192.0.2.0/24"}],
            [{"subnet": "usePodCidrIPv6"}],
        ]});
        let expected = json!({"ranges": [
            [{"subnet": BOTH[0], "rangeStart": "10.65.0.10"}, {"subnet": "192.0.2.0/24"}],
            [{"subnet": BOTH[1]}],
        ]});
        assert_eq!(put_for(&BOTH, given.clone()), Ok(expected));
        assert_eq!(put_for(&BOTH[1..], given.clone()), Err(Lacking("IPv4 prefix")));
        assert_eq!(put_for(&BOTH[..1], given), Err(Lacking("IPv6 prefix")));
    }

    #[test]
    fn a_node_without_prefixes_gives_out_nothing() {
        assert_eq!(put_for(&[], json!({"subnet": "usePodCidr"})), Err(Lacking("prefix")));
        assert_eq!(put_for(&BOTH[..1], json!({"subnet": "usePodCidrIPv6"})), Err(Lacking("IPv6 prefix")));
    }

    #[test]
    fn what_does_not_ask_stays_as_it_is() {
        for ipam in [json!({"type": "x", "subnet": "10.0.0.0/8"}), json!({"ranges": [[{"subnet": "::/0"}]]})]
        {
            assert!(!is_asked_for(&ipam));
        }
        assert!(is_asked_for(&json!({"ranges": [[{"subnet": "x"}], [{"subnet": "usePodCidrIPv6"}]]})));
    }
}
