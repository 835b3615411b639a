//! Owns: what each command does, in order (SPEC.md, "CNI operations"). Does not: parse or print.
//! Invariant: a failed ADD leaves no veth, no route, no record and no address behind; a repeated ADD answers
//! what the first one did; DEL succeeds however little is left.

use std::path::Path;

use serde_json::Value;

use super::agent;
use super::config::{Attachment, Config};
use super::env::{Env, Pod};
use super::error::CniError;
use super::ipam::Ipam;
use super::netlink::Link;
use super::netns::Netns;
use super::records::{self, Lock};
use super::result::{self, Addresses, HOST_MAC};
use super::wiring::{self, Pair, Wired, Wiring};
use crate::agent_api::EndpointRecord;

/// Gives a pod its network, and returns when it is protected.
pub fn add(env: &Env, config: &Config) -> Result<Value, CniError> {
    let pod = pod_of(env)?;
    let netns = netns_of(env)?;
    let ipam = Ipam::find(config, env)?;
    let _lock = Lock::take(&config.run_dir, &pod)?;
    let record = match records::read(&config.run_dir, &pod) {
        Some(record) if is_about(&record, env) => wire_again(config, &netns, record)?,
        Some(record) if record.container_id == env.container_id => return Err(second_name(&record)),
        before => {
            if let Some(before) = before {
                // The new veth takes the place of this one, whose addresses nobody would give back any more.
                take_away(config, &before, || ipam.del(&env_of(env, &before)))?;
            }
            connect(env, config, &pod, &netns, &ipam)?
        }
    };
    Ok(result::of_add(config.version, &record))
}

/// ADD of an attachment that there is: the same answer, with whatever is missing repaired. It has been
/// protected since the first time, so that a failure here takes nothing from the pod.
fn wire_again(config: &Config, netns: &Netns, record: EndpointRecord) -> Result<EndpointRecord, CniError> {
    let wiring = wiring_of(&record);
    let record = match wiring.difference(netns)? {
        None => record,
        Some(difference) => {
            tracing::info!("pod {}/{}: {difference}; wiring it again", record.namespace, record.name);
            let Wired { pod_mac, mtu, netns_cookie } = wiring.make(netns)?;
            let record = EndpointRecord { pod_mac, mtu, netns_cookie, ..record };
            records::write(&config.run_dir, &record)?;
            record
        }
    };
    agent::wait_until_protected(config, &record)?;
    Ok(record)
}

/// ADD of a new attachment: all of it, or nothing.
fn connect(
    env: &Env,
    config: &Config,
    pod: &Pod,
    netns: &Netns,
    ipam: &Ipam<'_>,
) -> Result<EndpointRecord, CniError> {
    let interface = config.interface_of(pod);
    let pair = Pair { interface: &interface, pod_interface: &env.ifname, mtu: config.mtu };
    // Neither needs the other, and the address plugin is a process that has to start.
    let (addresses, host) = std::thread::scope(|scope| {
        let host = scope.spawn(|| pair.make(netns));
        let addresses = get_addresses(env, ipam);
        (addresses, host.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    let addresses = match addresses {
        Ok(addresses) => addresses,
        Err(error) => {
            complain(wiring::remove(&interface));
            return Err(error);
        }
    };
    let connected = host.and_then(|host| connect_with(env, config, pod, netns, pair, &host, &addresses));
    if connected.is_err() {
        complain(wiring::remove(&interface));
        complain(records::remove(&config.run_dir, pod));
        complain(ipam.del(env));
    }
    connected
}

/// An earlier ADD that was killed may have taken addresses for this container, which some plugins then refuse to
/// give out again. There is no record of it, so nobody uses them.
fn get_addresses(env: &Env, ipam: &Ipam<'_>) -> Result<Addresses, CniError> {
    let first = ipam.add(env);
    if !matches!(first, Err(CniError::Delegate { .. })) {
        return first;
    }
    complain(ipam.del(env));
    let second = ipam.add(env);
    if second.is_err() {
        complain(ipam.del(env));
    }
    second
}

fn connect_with(
    env: &Env,
    config: &Config,
    pod: &Pod,
    netns: &Netns,
    pair: Pair<'_>,
    host: &Link,
    addresses: &Addresses,
) -> Result<EndpointRecord, CniError> {
    let list = addresses.list();
    check_mtu(config, addresses)?;
    let wired = Wiring { pair, addresses: &list }.finish(netns, host)?;
    let record = EndpointRecord {
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        uid: env.pod_uid()?,
        container_id: env.container_id.clone(),
        netns: env.netns.as_deref().unwrap_or(Path::new("")).to_string_lossy().into_owned(),
        netns_cookie: wired.netns_cookie,
        host_mac: wiring::mac(&HOST_MAC),
        pod_mac: wired.pod_mac,
        mtu: wired.mtu,
        pod_interface: env.ifname.clone(),
        network: config.network.clone(),
        ipam: serde_json::to_value(addresses).unwrap_or_default(),
        interface: pair.interface.to_owned(),
        addresses: list,
    };
    records::write(&config.run_dir, &record)?;
    agent::wait_until_protected(config, &record)?;
    Ok(record)
}

/// The kernel switches IPv6 off on links below its smallest MTU (RFC 8200 section 5).
fn check_mtu(config: &Config, addresses: &Addresses) -> Result<(), CniError> {
    match config.mtu {
        Some(mtu) if mtu < 1280 && addresses.list().iter().any(|address| address.is_ipv6()) => {
            let problem =
                format!("{mtu} is too small for IPv6, which needs 1280, and the pod gets an IPv6 address");
            Err(CniError::Config { field: "mtu", problem })
        }
        _ => Ok(()),
    }
}

/// Takes a pod's network away; what is gone already is no error.
pub fn del(env: &Env, config: &Config) -> Result<(), CniError> {
    let ipam = Ipam::find(config, env)?;
    let attachment = Attachment { container_id: env.container_id.clone(), ifname: env.ifname.clone() };
    match env.pod()?.map_or_else(|| pod_with(config, &attachment), |pod| Ok(Some(pod)))? {
        Some(pod) => disconnect(env, config, &pod, &attachment, || ipam.del(env)),
        None => ipam.del(env),
    }
}

/// Removes an attachment, if it is there, and gives its addresses back with `release`.
fn disconnect(
    env: &Env,
    config: &Config,
    pod: &Pod,
    attachment: &Attachment,
    release: impl FnOnce() -> Result<(), CniError>,
) -> Result<(), CniError> {
    let _lock = Lock::take(&config.run_dir, pod)?;
    match records::read(&config.run_dir, pod) {
        Some(record) if attachment_of(&record) == *attachment => take_away(config, &record, release),
        // The pod has a new sandbox by now: the veth is that one's.
        Some(_) => release(),
        None => {
            let netns = env.netns.as_deref().and_then(|path| Netns::open(path).ok());
            if let Some(netns) = netns {
                wiring::remove_pair(&config.interface_of(pod), &attachment.ifname, &netns)?;
            }
            release()
        }
    }
}

/// Removes an attachment, then gives its addresses back with `release`: while a veth is there, nobody else may
/// get them. The record goes last, so that GC finds what could not be released.
fn take_away(
    config: &Config,
    record: &EndpointRecord,
    release: impl FnOnce() -> Result<(), CniError>,
) -> Result<(), CniError> {
    agent::tell_gone(&config.run_dir, record);
    wiring::remove(&record.interface)?;
    release()?;
    records::remove(&config.run_dir, &records::pod_of(record))
}

/// Is everything as ADD left it?
pub fn check(env: &Env, config: &Config) -> Result<(), CniError> {
    let pod = pod_of(env)?;
    let Some(expected) = &config.prev_result else {
        let problem = "missing; CHECK compares with what ADD answered".to_owned();
        return Err(CniError::Config { field: "prevResult", problem });
    };
    let differs = |difference: String| CniError::NotAsAdded { pod: pod.to_string(), difference };
    let netns = netns_of(env)?;
    let _lock = Lock::take(&config.run_dir, &pod)?;
    let record = records::read(&config.run_dir, &pod).filter(|record| is_about(record, env));
    let record =
        record.ok_or_else(|| differs(format!("there is no record of container {}", env.container_id)))?;
    let lost =
        result::addresses_of(expected, &env.ifname).into_iter().find(|a| !record.addresses.contains(a));
    if let Some(lost) = lost {
        return Err(differs(format!("address {lost} of prevResult is not the pod's")));
    }
    if let Some(difference) = wiring_of(&record).difference(&netns)? {
        return Err(differs(difference));
    }
    Ipam::find(config, env)?.check(env)
}

/// Removes every attachment of this network that the runtime no longer knows.
pub fn gc(env: &Env, config: &Config) -> Result<(), CniError> {
    let Some(valid) = &config.valid_attachments else {
        let problem = "missing; without it everything would be garbage".to_owned();
        return Err(CniError::Config { field: "cni.dev/valid-attachments", problem });
    };
    let ipam = Ipam::find(config, env)?;
    let mut errors = Vec::new();
    for record in records::read_all(&config.run_dir)? {
        let attachment = attachment_of(&record);
        if record.network != config.network || valid.contains(&attachment) {
            continue;
        }
        let own = env_of(env, &record);
        let release = || if ipam.knows_gc_and_status() { Ok(()) } else { ipam.del(&own) };
        let removed = disconnect(&own, config, &records::pod_of(&record), &attachment, release);
        if let Err(error) = removed {
            errors.push(format!("pod {}/{}: {error}", record.namespace, record.name));
        }
    }
    if ipam.knows_gc_and_status()
        && let Err(error) = ipam.gc(env)
    {
        errors.push(error.to_string());
    }
    if errors.is_empty() { Ok(()) } else { Err(CniError::Garbage(errors)) }
}

/// Would ADD work?
pub fn status(env: &Env, config: &Config) -> Result<(), CniError> {
    agent::serves(&config.run_dir)?;
    let ipam = Ipam::find(config, env)?;
    ipam.knows_where().map_err(|error| CniError::NotAvailable { reason: error.to_string() })?;
    if ipam.knows_gc_and_status() { ipam.status(env) } else { Ok(()) }
}

fn pod_of(env: &Env) -> Result<Pod, CniError> {
    let problem = "K8S_POD_NAMESPACE and K8S_POD_NAME are missing; policy is by pod".to_owned();
    env.pod()?.ok_or(CniError::Env { variable: "CNI_ARGS", problem })
}

fn netns_of(env: &Env) -> Result<Netns, CniError> {
    let missing = || CniError::Env { variable: "CNI_NETNS", problem: "missing".to_owned() };
    Netns::open(env.netns.as_deref().ok_or_else(missing)?)
}

/// DEL without CNI_ARGS: whose attachment is it?
fn pod_with(config: &Config, attachment: &Attachment) -> Result<Option<Pod>, CniError> {
    let records = records::read_all(&config.run_dir)?;
    Ok(records.iter().find(|record| attachment_of(record) == *attachment).map(records::pod_of))
}

/// The environment of a DEL of this record.
fn env_of(env: &Env, record: &EndpointRecord) -> Env {
    Env {
        container_id: record.container_id.clone(),
        ifname: record.pod_interface.clone(),
        netns: Some(record.netns.clone().into()),
        args: format!("IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={}", record.namespace, record.name),
        ..env.clone()
    }
}

/// A pod has one interface of ours, which its policy is about. The sandbox before this one has another id.
fn second_name(record: &EndpointRecord) -> CniError {
    let EndpointRecord { container_id, pod_interface, .. } = record;
    let problem = format!(
        "container {container_id} is connected as {pod_interface}; a pod has one interface of this plugin: give a second \
         one by another plugin"
    );
    CniError::Env { variable: "CNI_IFNAME", problem }
}

fn is_about(record: &EndpointRecord, env: &Env) -> bool {
    record.container_id == env.container_id && record.pod_interface == env.ifname
}

fn attachment_of(record: &EndpointRecord) -> Attachment {
    Attachment { container_id: record.container_id.clone(), ifname: record.pod_interface.clone() }
}

fn wiring_of(record: &EndpointRecord) -> Wiring<'_> {
    let (interface, pod_interface) = (&record.interface, &record.pod_interface);
    Wiring { pair: Pair { interface, pod_interface, mtu: Some(record.mtu) }, addresses: &record.addresses }
}

/// What fails while something is being undone is told, and does not hide why it is undone.
fn complain(result: Result<(), CniError>) {
    if let Err(error) = result {
        tracing::warn!("while undoing: {error}");
    }
}
