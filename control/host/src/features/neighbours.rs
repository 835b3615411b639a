//! Who else translates and filters on this node: kube-proxy's rules, other BPF data planes.
//!
//! The kernel is asked for its nftables chains directly (`NFT_MSG_GETCHAIN`), so that no tool is needed.

use super::Found;
use crate::bpf::{Program, program_ids};
use nix::sys::socket::{self, AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType};
use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::Path;

const NFT_MSG_NEWCHAIN: u16 = 0x0a03;
const NFT_MSG_GETCHAIN: u16 = 0x0a04;
const REQUEST_DUMP: u16 = 0x301;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const HEADER: usize = 16;
const GENERIC: usize = 4;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;

pub(super) fn kube_proxy() -> Found {
    let mut found = BTreeSet::new();
    if services_of_ipvs(Path::new("/proc/net/ip_vs")) {
        found.insert("IPVS virtual servers".to_owned());
    }
    match chains() {
        Ok(chains) => found.extend(chains.into_iter().filter_map(|(table, chain)| its(&table, &chain))),
        Err(error) if found.is_empty() && super::is_refusal(&error) => return Found::trial(Err(error)),
        // No nf_tables in this kernel: no rules in it.
        Err(_) => {}
    }
    let legacy = std::fs::read_to_string("/proc/net/ip_tables_names").unwrap_or_default();
    match (found.is_empty(), legacy.lines().any(|table| table == "nat")) {
        (false, _) => Found::No(found.into_iter().collect::<Vec<_>>().join(", ")),
        (true, true) => Found::Unknown(
            "the old iptables has a nat table; look with `iptables-legacy-save -t nat | grep KUBE`"
                .to_owned(),
        ),
        (true, false) => Found::Yes("no rules of it".to_owned()),
    }
}

/// What of kube-proxy a chain belongs to.
fn its(table: &str, chain: &str) -> Option<String> {
    if table == "kube-proxy" {
        return Some("nftables table kube-proxy".to_owned());
    }
    chain.starts_with("KUBE-SERVICES").then(|| format!("iptables chain {chain} in {table}"))
}

/// Two lines of heading, then the servers.
fn services_of_ipvs(path: &Path) -> bool {
    std::fs::read_to_string(path).is_ok_and(|text| text.lines().count() > 3)
}

/// Every nftables chain as (table, chain); those of iptables-nft are among them.
fn chains() -> io::Result<Vec<(String, String)>> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let protocol = SockProtocol::NetlinkNetFilter;
    let fd = socket::socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
    socket::connect(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    let mut request = Vec::with_capacity(HEADER + GENERIC);
    request.extend(((HEADER + GENERIC) as u32).to_ne_bytes());
    request.extend(NFT_MSG_GETCHAIN.to_ne_bytes());
    request.extend(REQUEST_DUMP.to_ne_bytes());
    // Sequence and port number; then: all families, version 0, no resource.
    request.extend([0; 8]);
    request.extend([0; GENERIC]);
    socket::send(fd.as_raw_fd(), &request, MsgFlags::empty())?;
    let mut chains = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = socket::recv(fd.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if read(buffer.get(..length).unwrap_or_default(), &mut chains)? {
            return Ok(chains);
        }
    }
}

/// Takes the chains out of one datagram; says whether it was the last.
fn read(mut messages: &[u8], chains: &mut Vec<(String, String)>) -> io::Result<bool> {
    while let Some(length) = word(messages, 0).map(|length| length as usize) {
        let message = messages.get(..length).filter(|_| length >= HEADER);
        let Some(message) = message else { return Err(io::ErrorKind::InvalidData.into()) };
        match half(message, 4) {
            Some(DONE) => return Ok(true),
            Some(ERROR) => {
                let code = word(message, HEADER).unwrap_or_default() as i32;
                return Err(io::Error::from_raw_os_error(code.saturating_neg()));
            }
            Some(NFT_MSG_NEWCHAIN) => chains.extend(chain(message)),
            _ => {}
        }
        messages = messages.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

fn chain(message: &[u8]) -> Option<(String, String)> {
    let mut attributes = message.get(HEADER + GENERIC..)?;
    let (mut table, mut name) = (None, None);
    while let Some(length) = half(attributes, 0).map(usize::from).filter(|length| *length >= 4) {
        let text = attributes.get(4..length).map(|bytes| {
            String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
        });
        match half(attributes, 2) {
            Some(CHAIN_TABLE) => table = text,
            Some(CHAIN_NAME) => name = text,
            _ => {}
        }
        attributes = attributes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some((table?, name?))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

/// How the programs of other data planes are called.
const OTHERS: [(&str, &str); 3] = [("cil_", "Cilium"), ("cali_", "Calico"), ("antrea_", "Antrea")];

pub(super) fn bpf_data_planes() -> Found {
    let ids = match program_ids() {
        Ok(ids) => ids,
        Err(error) => return Found::trial(Err(error)),
    };
    // A program may go away between the list and the question.
    let names = ids.into_iter().filter_map(|id| Some(Program::by_id(id).ok()?.info().ok()?.name));
    let found: BTreeSet<&str> = names.filter_map(|name| owner(&name)).collect();
    if found.is_empty() {
        return Found::Yes("none".to_owned());
    }
    Found::No(format!("programs of {}", found.into_iter().collect::<Vec<_>>().join(", ")))
}

fn owner(program: &str) -> Option<&'static str> {
    OTHERS.iter().find(|(prefix, _)| program.starts_with(prefix)).map(|(_, owner)| *owner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kube_proxy_is_known_by_its_chains() {
        assert_eq!(its("kube-proxy", "services").as_deref(), Some("nftables table kube-proxy"));
        assert_eq!(its("nat", "KUBE-SERVICES").as_deref(), Some("iptables chain KUBE-SERVICES in nat"));
        assert_eq!(its("nat", "PREROUTING"), None);
    }

    #[test]
    fn other_data_planes_are_known_by_their_programs() {
        assert_eq!(owner("cil_from_contai"), Some("Cilium"));
        assert_eq!(owner("from_workload4"), None);
    }

    #[test]
    fn a_broken_answer_is_an_error_and_not_an_endless_loop() {
        assert!(read(&[8, 0, 0, 0, 0, 0, 0, 0], &mut Vec::new()).is_err());
        assert!(read(&[200, 0, 0, 0, 3, 10, 0, 0], &mut Vec::new()).is_err());
    }
}
