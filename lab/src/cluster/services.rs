//! Addresses and ports of Services, as the API server allocates them.
//!
//! Owns: ClusterIPs, node ports, load-balancer addresses, and the defaults of a Service's fields.
//! Does not: choose back ends.
//! Invariant: an allocation depends on the Service's name, so that a world comes up the same every time; what
//! is allocated stays.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde_json::{Value, json};

use crate::error::{Result, bad};
use crate::names::hash;
use crate::object::Object;
use crate::plan::{Family, Plan};
use crate::world::World;

/// As the API server gives them out: the first 86 of its range are left to who asks for one.
const NODE_PORTS: std::ops::RangeInclusive<u16> = 30_086..=32_767;

/// Completes every Service.
pub fn allocate(world: &mut World, plan: &Plan) -> Result<()> {
    let services: Vec<Object> = world.of_kind("Service").cloned().collect();
    let mut addresses = taken_addresses(&services)?;
    let mut ports = taken_ports(&services);
    for mut service in services {
        if service.text("/spec/type") == Some("ExternalName") {
            continue;
        }
        fill_defaults(&mut service);
        fill_addresses(&mut service, plan, &mut addresses)?;
        if has_node_ports(&service) {
            fill_node_ports(&mut service, &mut ports);
        }
        fill_health_check(&mut service, &mut ports);
        if service.text("/spec/type") == Some("LoadBalancer") {
            fill_ingress(&mut service, &mut addresses);
        }
        world.put(service);
    }
    Ok(())
}

fn taken_addresses(services: &[Object]) -> Result<BTreeSet<IpAddr>> {
    let mut taken = BTreeSet::new();
    for service in services {
        let mut own: BTreeSet<&str> = service.texts("/spec/clusterIPs").into_iter().collect();
        own.extend(service.text("/spec/clusterIP"));
        for text in own.into_iter().filter(|text| !["None", ""].contains(text)) {
            let address: IpAddr =
                text.parse().map_err(|_| bad!("{}: spec.clusterIP {text:?} is no address", service.key()))?;
            if !taken.insert(address) {
                return Err(bad!("{}: spec.clusterIP {text} belongs to another Service", service.key()));
            }
        }
        let ingress = service.list("/status/loadBalancer/ingress").iter();
        taken.extend(ingress.filter_map(|entry| entry.get("ip")?.as_str()?.parse::<IpAddr>().ok()));
    }
    Ok(taken)
}

fn taken_ports(services: &[Object]) -> BTreeSet<u64> {
    let ports = services.iter().flat_map(|service| service.list("/spec/ports"));
    let ports = ports.filter_map(|port| port.get("nodePort")?.as_u64());
    let checks = services.iter().filter_map(|service| service.at("/spec/healthCheckNodePort")?.as_u64());
    ports.chain(checks).collect()
}

/// Whether its ports without node ports get some.
pub(super) fn has_node_ports(service: &Object) -> bool {
    match service.text("/spec/type") {
        Some("NodePort") => true,
        Some("LoadBalancer") => {
            service.at("/spec/allocateLoadBalancerNodePorts") != Some(&Value::Bool(false))
        }
        _ => false,
    }
}

/// Where a load balancer asks whether a node has endpoints; only one that is to choose among nodes does.
fn fill_health_check(service: &mut Object, taken: &mut BTreeSet<u64>) {
    let path = ["spec", "healthCheckNodePort"];
    let there = service.at("/spec/healthCheckNodePort").and_then(Value::as_u64).is_some_and(|port| port > 0);
    let wanted = service.text("/spec/type") == Some("LoadBalancer")
        && service.text("/spec/externalTrafficPolicy") == Some("Local");
    if wanted == there {
        return;
    }
    let port = match wanted {
        true => free_port(&format!("{}/health", service.key()), taken),
        false => None,
    };
    service.set(&path, json!(port));
}

fn fill_defaults(service: &mut Object) {
    service.set_default(&["spec", "type"], json!("ClusterIP"));
    service.set_default(&["spec", "sessionAffinity"], json!("None"));
    service.set_default(&["spec", "internalTrafficPolicy"], json!("Cluster"));
    service.set_default(&["spec", "ipFamilyPolicy"], json!("SingleStack"));
    if service.text("/spec/type") != Some("ClusterIP") {
        service.set_default(&["spec", "externalTrafficPolicy"], json!("Cluster"));
    }
    let mut ports = service.list("/spec/ports").to_vec();
    for port in ports.iter_mut().filter_map(Value::as_object_mut) {
        port.entry("protocol").or_insert(json!("TCP"));
        if let Some(number) = port.get("port").cloned() {
            port.entry("targetPort").or_insert(number);
        }
    }
    if !ports.is_empty() {
        service.set(&["spec", "ports"], Value::Array(ports));
    }
}

fn fill_addresses(service: &mut Object, plan: &Plan, taken: &mut BTreeSet<IpAddr>) -> Result<()> {
    let families = families(service, plan)?;
    let spelled: Vec<&str> = families.iter().map(|family| family.kubernetes()).collect();
    service.set(&["spec", "ipFamilies"], json!(spelled));
    if service.text("/spec/clusterIP") == Some("None") {
        service.set(&["spec", "clusterIPs"], json!(["None"]));
        return Ok(());
    }
    let mut given: Vec<IpAddr> =
        service.texts("/spec/clusterIPs").into_iter().filter_map(|text| text.parse().ok()).collect();
    given.extend(service.text("/spec/clusterIP").and_then(|text| text.parse::<IpAddr>().ok()));
    let mut addresses = Vec::new();
    for family in families {
        let kept = given.iter().find(|address| Family::of(address) == family).copied();
        let address = kept.or_else(|| {
            let cidr = plan.service_cidrs.iter().find(|cidr| Family::of(&cidr.addr()) == family)?;
            pick(cidr, &service.key().to_string(), taken)
        });
        let address =
            address.ok_or_else(|| bad!("{}: no {} address is left", service.key(), family.kubernetes()))?;
        taken.insert(address);
        addresses.push(address.to_string());
    }
    service.set(&["spec", "clusterIP"], json!(addresses.first()));
    service.set(&["spec", "clusterIPs"], json!(addresses));
    Ok(())
}

/// The families of a Service, by its policy and what it says itself.
fn families(service: &Object, plan: &Plan) -> Result<Vec<Family>> {
    let all = plan.families.list();
    let mut wanted: Vec<Family> = service
        .texts("/spec/ipFamilies")
        .into_iter()
        .filter_map(|text| all.iter().find(|family| family.kubernetes() == text).copied())
        .collect();
    if wanted.is_empty() {
        let own = service.text("/spec/clusterIP").and_then(|text| text.parse::<IpAddr>().ok());
        wanted.extend(own.as_ref().map(Family::of).or_else(|| all.first().copied()));
    }
    match service.text("/spec/ipFamilyPolicy") {
        Some("SingleStack") | None => wanted.truncate(1),
        Some("RequireDualStack") if all.len() < 2 => {
            return Err(bad!(
                "{}: spec.ipFamilyPolicy RequireDualStack: this cluster has one family",
                service.key()
            ));
        }
        Some(_) => {
            let missing: Vec<Family> = all.into_iter().filter(|family| !wanted.contains(family)).collect();
            wanted.extend(missing);
        }
    }
    Ok(wanted)
}

/// A free address: where the name hashes to, or the next one. The first 256 stay free for what users choose.
fn pick(cidr: &IpNet, name: &str, taken: &BTreeSet<IpAddr>) -> Option<IpAddr> {
    let span = 1u64 << (cidr.max_prefix_len() - cidr.prefix_len()).min(16);
    let start = hash(name.as_bytes());
    let candidates = (0..span).map(|step| start.wrapping_add(step) % (span - 257) + 256);
    candidates.map(|offset| at(cidr, offset)).find(|address| !taken.contains(address))
}

fn at(cidr: &IpNet, offset: u64) -> IpAddr {
    match cidr.network() {
        IpAddr::V4(base) => {
            Ipv4Addr::from(u32::from(base) + u32::try_from(offset).unwrap_or_default()).into()
        }
        IpAddr::V6(base) => Ipv6Addr::from(u128::from(base) + u128::from(offset)).into(),
    }
}

fn fill_node_ports(service: &mut Object, taken: &mut BTreeSet<u64>) {
    let mut ports = service.list("/spec/ports").to_vec();
    for (index, port) in ports.iter_mut().enumerate() {
        let Some(port) = port.as_object_mut().filter(|port| !port.contains_key("nodePort")) else { continue };
        if let Some(number) = free_port(&format!("{}/{index}", service.key()), taken) {
            port.insert("nodePort".into(), json!(number));
        }
    }
    service.set(&["spec", "ports"], Value::Array(ports));
}

/// Takes a port that is free: where the name hashes to, or the next one.
fn free_port(name: &str, taken: &mut BTreeSet<u64>) -> Option<u64> {
    let span = u64::from(NODE_PORTS.end() - NODE_PORTS.start()) + 1;
    let start = hash(name.as_bytes());
    let mut candidates =
        (0..span).map(|step| start.wrapping_add(step) % span + u64::from(*NODE_PORTS.start()));
    let free = candidates.find(|number| !taken.contains(number))?;
    taken.insert(free);
    Some(free)
}

/// What a load balancer's controller would write. `lab route` leads the packets to a node.
fn fill_ingress(service: &mut Object, taken: &mut BTreeSet<IpAddr>) {
    if !service.list("/status/loadBalancer/ingress").is_empty() {
        return;
    }
    let pools: [IpNet; 2] = [
        IpNet::new_assert(Ipv4Addr::new(203, 0, 113, 0).into(), 24),
        IpNet::new_assert(Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 0).into(), 120),
    ];
    let mut ingress = Vec::new();
    for family in service.texts("/spec/ipFamilies") {
        let pool = pools.iter().find(|pool| Family::of(&pool.addr()).kubernetes() == family);
        let key = service.key().to_string();
        let free = pool.and_then(|pool| {
            let start = hash(key.as_bytes());
            let offsets = (0..254).map(|step| start.wrapping_add(step) % 254 + 1);
            offsets.map(|offset| at(pool, offset)).find(|address| !taken.contains(address))
        });
        if let Some(address) = free {
            taken.insert(address);
            ingress.push(json!({"ip": address.to_string(), "ipMode": "VIP"}));
        }
    }
    service.set(&["status", "loadBalancer", "ingress"], Value::Array(ingress));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Dataplane, Families};

    fn service(name: &str, spec: Value) -> Object {
        Object::make("v1", "Service", Some("default"), name, json!({"spec": spec}))
    }

    fn allocated(services: &[Object]) -> Result<Vec<Object>> {
        let plan = Plan::new(Families::Dual, 1500, &[Dataplane::Bpf]).unwrap();
        let mut world = World::default();
        services.iter().for_each(|service| world.put(service.clone()));
        allocate(&mut world, &plan)?;
        let once: Vec<Object> = world.of_kind("Service").cloned().collect();
        allocate(&mut world, &plan)?;
        assert_eq!(
            world.of_kind("Service").cloned().collect::<Vec<_>>(),
            once,
            "the second time changes nothing"
        );
        Ok(once)
    }

    #[test]
    fn a_service_has_one_family_unless_it_asks_for_both() {
        let services = allocated(&[
            service("a", json!({"ports": [{"port": 80}]})),
            service("b", json!({"ipFamilyPolicy": "PreferDualStack"})),
            service("c", json!({"ipFamilies": ["IPv6"]})),
            service("d", json!({"clusterIP": "None"})),
        ])
        .unwrap();
        let families: Vec<_> = services.iter().map(|service| service.texts("/spec/ipFamilies")).collect();
        assert_eq!(families, [vec!["IPv4"], vec!["IPv4", "IPv6"], vec!["IPv6"], vec!["IPv4"]]);
        assert_eq!(services[1].texts("/spec/clusterIPs").len(), 2);
        assert!(services[2].text("/spec/clusterIP").unwrap().starts_with("fd00:96::"));
        assert_eq!(services[3].texts("/spec/clusterIPs"), ["None"]);
        assert_eq!(services[0].at("/spec/ports/0/targetPort"), Some(&json!(80)));
    }

    #[test]
    fn no_two_services_share_an_address_or_a_node_port() {
        let many: Vec<Object> = (0..2000)
            .map(|n| service(&format!("s{n}"), json!({"type": "NodePort", "ports": [{"port": 80}], "ipFamilyPolicy": "RequireDualStack"})))
            .collect();
        let services = allocated(&many).unwrap();
        let addresses: BTreeSet<&str> =
            services.iter().flat_map(|service| service.texts("/spec/clusterIPs")).collect();
        let ports: BTreeSet<u64> =
            services.iter().filter_map(|s| s.at("/spec/ports/0/nodePort")?.as_u64()).collect();
        assert_eq!((addresses.len(), ports.len()), (4000, 2000));
    }

    #[test]
    fn a_load_balancer_may_do_without_node_ports_and_asks_for_health_where_nodes_differ() {
        let balancer = |more: Value| {
            let mut spec = json!({"type": "LoadBalancer", "ports": [{"port": 80}]});
            spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            service("a", spec)
        };
        for (more, node_port, health) in [
            (json!({}), true, false),
            (json!({"allocateLoadBalancerNodePorts": false}), false, false),
            (json!({"externalTrafficPolicy": "Local"}), true, true),
            (json!({"externalTrafficPolicy": "Local", "allocateLoadBalancerNodePorts": false}), false, true),
            (json!({"externalTrafficPolicy": "Local", "type": "NodePort"}), true, false),
            (json!({"healthCheckNodePort": 30100}), true, false),
        ] {
            let service = allocated(&[balancer(more.clone())]).unwrap().remove(0);
            let number = |pointer: &str| service.at(pointer).and_then(Value::as_u64);
            let (node, check) = (number("/spec/ports/0/nodePort"), number("/spec/healthCheckNodePort"));
            assert_eq!((node.is_some(), check.is_some()), (node_port, health), "{more}");
            assert!(check.is_none() || check != node, "{more}");
        }
    }

    #[test]
    fn an_address_that_two_services_want_is_refused_by_name() {
        let spec = json!({"clusterIP": "10.96.0.10"});
        let error = allocated(&[service("a", spec.clone()), service("b", spec)]).unwrap_err();
        assert!(error.to_string().contains("Service default/b: spec.clusterIP 10.96.0.10"), "{error}");
    }

    #[test]
    fn a_load_balancer_gets_an_address_outside_the_cluster() {
        let services =
            allocated(&[service("a", json!({"type": "LoadBalancer", "ports": [{"port": 80}]}))]).unwrap();
        assert!(services[0].text("/status/loadBalancer/ingress/0/ip").unwrap().starts_with("203.0.113."));
    }
}
