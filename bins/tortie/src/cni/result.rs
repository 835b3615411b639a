//! Owns: results as CNI writes them, in each version (SPEC.md, "Result Types"). Does not: know where addresses
//! come from. Invariant: what is written says the version that was asked for, and holds nothing that version
//! does not know.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::error::CniError;
use super::version::Version;
use crate::agent_api::EndpointRecord;

/// The next hop of every pod over IPv4: nobody has it, the host answers for it by proxy ARP.
pub const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The next hop of every pod over IPv6: the link-local address of the host's side, made of [`HOST_MAC`].
pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0xecee, 0xeeff, 0xfeee, 0xeeee);
/// The Ethernet address of the host's side of every veth.
pub const HOST_MAC: [u8; 6] = [0xee; 6];

/// What of an address plugin's answer counts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Addresses {
    /// The addresses, in the plugin's order.
    pub ips: Vec<Address>,
    /// Name servers, as they came.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub dns: Value,
}

/// One address that was given out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Address {
    /// With the prefix length of the range it is of, which does not matter here: a pod gets /32 or /128.
    pub address: IpNet,
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(object) => object.is_empty(),
        _ => false,
    }
}

impl Addresses {
    /// From an address plugin's answer in any version from 0.3.1.
    pub fn parse(plugin: &str, answer: &[u8]) -> Result<Self, CniError> {
        let parsed: Self = serde_json::from_slice(answer).map_err(|source| CniError::Decode {
            what: format!("answer of address plugin {plugin}"),
            source,
        })?;
        if parsed.ips.is_empty() {
            let problem = format!("{plugin} gave out no address");
            return Err(CniError::Config { field: "ipam", problem });
        }
        Ok(parsed)
    }

    /// The addresses alone.
    pub fn list(&self) -> Vec<IpAddr> {
        self.ips.iter().map(|ip| ip.address.addr()).collect()
    }
}

/// What ADD answers.
pub fn of_add(version: Version, record: &EndpointRecord) -> Value {
    let ips: Vec<Value> = record.addresses.iter().map(|address| ip(version, *address)).collect();
    let mut result = json!({
        "cniVersion": version.as_str(),
        "interfaces": interfaces(version, record),
        "ips": ips,
        "routes": routes(&record.addresses),
    });
    if let Some(dns) = record.ipam.get("dns").filter(|dns| !is_empty(dns)) {
        result["dns"] = dns.clone();
    }
    result
}

fn interfaces(version: Version, record: &EndpointRecord) -> Value {
    let mut host = json!({"name": record.interface, "mac": record.host_mac});
    let mut pod = json!({"name": record.pod_interface, "mac": record.pod_mac, "sandbox": record.netns});
    if version >= Version::V1_1_0 {
        for interface in [&mut host, &mut pod] {
            interface["mtu"] = record.mtu.into();
        }
    }
    json!([host, pod])
}

fn ip(version: Version, address: IpAddr) -> Value {
    // Index 1 is the pod's side.
    let mut ip = json!({
        "address": IpNet::from(address).to_string(),
        "gateway": gateway(address).to_string(),
        "interface": 1,
    });
    if version.names_families() {
        ip["version"] = family(address).into();
    }
    ip
}

fn routes(addresses: &[IpAddr]) -> Vec<Value> {
    let v4 = addresses.iter().any(IpAddr::is_ipv4).then(|| ("0.0.0.0/0", GATEWAY_V4.to_string()));
    let v6 = addresses.iter().any(IpAddr::is_ipv6).then(|| ("::/0", GATEWAY_V6.to_string()));
    v4.into_iter().chain(v6).map(|(dst, gw)| json!({"dst": dst, "gw": gw})).collect()
}

/// The next hop of a pod that has this address.
pub fn gateway(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => GATEWAY_V4.into(),
        IpAddr::V6(_) => GATEWAY_V6.into(),
    }
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "4" } else { "6" }
}

/// Makes a result that is in `config` as `prevResult` one of `version`, for a delegate that speaks no newer one.
pub fn downgrade_prev_result(config: &mut Map<String, Value>, version: Version) {
    let Some(Value::Object(result)) = config.get_mut("prevResult") else { return };
    result.insert("cniVersion".to_owned(), version.as_str().into());
    if !version.names_families() {
        return;
    }
    for ip in result.get_mut("ips").and_then(Value::as_array_mut).into_iter().flatten() {
        let address = ip.get("address").and_then(Value::as_str).and_then(|text| text.parse::<IpNet>().ok());
        if let Some(address) = address {
            ip["version"] = family(address.addr()).into();
        }
    }
}

/// The addresses that a result of any version says interface `name` in a sandbox has.
pub fn addresses_of(result: &Value, name: &str) -> Vec<IpAddr> {
    let interfaces = result.get("interfaces").and_then(Value::as_array);
    let is_ours = |ip: &Value| {
        let index = ip.get("interface").and_then(Value::as_u64).and_then(|index| usize::try_from(index).ok());
        let interface = index.zip(interfaces).and_then(|(index, list)| list.get(index));
        interface.is_some_and(|it| {
            it.get("name").and_then(Value::as_str) == Some(name) && it.get("sandbox").is_some()
        })
    };
    let ips = result.get("ips").and_then(Value::as_array).into_iter().flatten();
    ips.filter(|ip| is_ours(ip))
        .filter_map(|ip| ip.get("address")?.as_str()?.parse::<IpNet>().ok())
        .map(|net| net.addr())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::version;
    use super::*;

    fn record() -> EndpointRecord {
        EndpointRecord {
            namespace: "shop".into(),
            name: "front".into(),
            uid: None,
            container_id: "c1".into(),
            netns: "/run/netns/x".into(),
            netns_cookie: Some(4711),
            interface: "cali0123456789a".into(),
            host_mac: "ee:ee:ee:ee:ee:ee".into(),
            pod_mac: "02:00:00:00:00:01".into(),
            addresses: vec!["10.65.0.2".parse().unwrap(), "fd00:65::2".parse().unwrap()],
            mtu: 1450,
            pod_interface: "eth0".into(),
            network: "tortie".into(),
            ipam: json!({"dns": {"nameservers": ["10.0.0.10"]}}),
        }
    }

    #[test]
    fn a_result_is_in_the_form_of_the_version_asked_for() {
        let result = of_add(Version::V1_1_0, &record());
        assert_eq!(
            result,
            json!({
                "cniVersion": "1.1.0",
                "interfaces": [
                    {"name": "cali0123456789a", "mac": "ee:ee:ee:ee:ee:ee", "mtu": 1450},
                    {"name": "eth0", "mac": "02:00:00:00:00:01", "sandbox": "/run/netns/x", "mtu": 1450},
                ],
                "ips": [
                    {"address": "10.65.0.2/32", "gateway": "169.254.1.1", "interface": 1},
                    {"address": "fd00:65::2/128", "gateway": "fe80::ecee:eeff:feee:eeee", "interface": 1},
                ],
                "routes": [
                    {"dst": "0.0.0.0/0", "gw": "169.254.1.1"},
                    {"dst": "::/0", "gw": "fe80::ecee:eeff:feee:eeee"},
                ],
                "dns": {"nameservers": ["10.0.0.10"]},
            })
        );
        let old = of_add(Version::V0_3_1, &record());
        assert_eq!(old["cniVersion"], "0.3.1");
        assert_eq!((&old["ips"][0]["version"], &old["ips"][1]["version"]), (&json!("4"), &json!("6")));
        assert!(old["interfaces"][0].get("mtu").is_none());
        let middle = of_add(Version::V1_0_0, &record());
        assert!(middle["ips"][0].get("version").is_none() && middle["interfaces"][0].get("mtu").is_none());
    }

    #[test]
    fn the_gateway_over_ipv6_is_what_the_kernel_makes_of_the_hosts_ethernet_address() {
        let [a, b, c, d, e, f] = HOST_MAC.map(u16::from);
        let derived = Ipv6Addr::new(0xfe80, 0, 0, 0, (a ^ 2) << 8 | b, c << 8 | 0xff, 0xfe00 | d, e << 8 | f);
        assert_eq!(derived, GATEWAY_V6);
    }

    #[test]
    fn an_address_plugins_answer_is_understood_in_old_and_new_form() {
        let old = br#"{"cniVersion":"0.3.1","ips":[{"version":"4","address":"10.65.0.2/24","gateway":"10.65.0.1"}],"dns":{}}"#;
        let new = br#"{"cniVersion":"1.0.0","ips":[{"address":"10.65.0.2/24"},{"address":"fd00::2/64"}]}"#;
        let expected: IpAddr = "10.65.0.2".parse().unwrap();
        assert_eq!(Addresses::parse("x", old).unwrap().list(), [expected]);
        assert_eq!(Addresses::parse("x", new).unwrap().list().len(), 2);
        assert_eq!(Addresses::parse("x", br#"{"ips":[]}"#).unwrap_err().code(), 7);
        assert_eq!(Addresses::parse("x", b"not json").unwrap_err().code(), 6);
    }

    #[test]
    fn a_previous_result_is_understood_in_every_version() {
        for version in version::ALL {
            let result = of_add(version, &record());
            assert_eq!(addresses_of(&result, "eth0"), record().addresses, "{version}");
            assert!(addresses_of(&result, "eth1").is_empty());
            // The host's side has a name, too, but no addresses.
            assert!(addresses_of(&result, "cali0123456789a").is_empty());
        }
    }

    #[test]
    fn a_previous_result_is_made_older_for_a_delegate() {
        for version in version::ALL {
            let mut config = Map::new();
            config.insert("prevResult".to_owned(), of_add(Version::V1_1_0, &record()));
            downgrade_prev_result(&mut config, version);
            assert_eq!(config["prevResult"]["cniVersion"], version.as_str());
            let named = config["prevResult"]["ips"][1].get("version") == Some(&json!("6"));
            assert_eq!(named, version.names_families(), "{version}");
        }
    }
}
