//! Owns: a pod's veth, addresses, routes and sysctls: making, removing, comparing. Does not: get addresses or
//! keep records. Invariant: wiring starts from nothing, whatever an earlier attempt left.

use std::net::IpAddr;

use tortie_host::bpf::netns_cookie;

use super::error::CniError;
use super::netlink::{self, Link, Netlink, Route, Veth};
use super::netns::Netns;
use super::result::{GATEWAY_V4, GATEWAY_V6, HOST_MAC};
use super::sysctl;

/// The veth of a pod.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    /// The side on the host.
    pub interface: &'a str,
    /// The side in the pod.
    pub pod_interface: &'a str,
    /// Of both sides; the kernel's default when absent.
    pub mtu: Option<u32>,
}

/// How a pod is, or is to be, connected.
#[derive(Clone, Copy, Debug)]
pub struct Wiring<'a> {
    /// The veth.
    pub pair: Pair<'a>,
    /// The pod's addresses.
    pub addresses: &'a [IpAddr],
}

/// What only the kernel knew before.
#[derive(Clone, Debug)]
pub struct Wired {
    /// The Ethernet address of the pod's side.
    pub pod_mac: String,
    /// MTU of both sides in bytes.
    pub mtu: u32,
    /// The kernel's number of the pod's network namespace.
    pub netns_cookie: Option<u64>,
}

impl Pair<'_> {
    /// Makes it, with the host's side up. Needs no addresses: the address plugin can run meanwhile.
    pub fn make(&self, netns: &Netns) -> Result<Link, CniError> {
        netlink::with(async |netlink| {
            // Of an attempt that was killed, or of the pod's sandbox before this one.
            if let Some(old) = netlink.link(self.interface).await? {
                netlink.delete(&old).await?;
            }
            let (host, pod) = (self.interface, self.pod_interface);
            let veth = Veth { host, host_mac: HOST_MAC, pod, netns, mtu: self.mtu };
            netlink.add_veth(&veth).await?;
            let host = existing(&netlink, self.interface).await?;
            sysctl::host_side_quiet(self.interface)?;
            netlink.set_up(&host).await?;
            Ok(host)
        })
    }
}

impl Wiring<'_> {
    fn has_v4(&self) -> bool {
        self.addresses.iter().any(IpAddr::is_ipv4)
    }

    fn has_v6(&self) -> bool {
        self.addresses.iter().any(IpAddr::is_ipv6)
    }

    /// Connects the pod.
    pub fn make(&self, netns: &Netns) -> Result<Wired, CniError> {
        self.finish(netns, &self.pair.make(netns)?)
    }

    /// Connects the pod by a new veth, whose side on the host is `host`.
    pub fn finish(&self, netns: &Netns, host: &Link) -> Result<Wired, CniError> {
        sysctl::host_side(self.pair.interface, self.has_v4(), self.has_v6())?;
        if self.has_v6() {
            // Before the pod's side is up: with a carrier the kernel would give the interface this address by itself,
            // and look for duplicates.
            netlink::with(async |netlink| netlink.add_address(host, GATEWAY_V6.into(), 64).await)?;
        }
        let wired = netns.run(|| {
            sysctl::pod_side(self.pair.pod_interface, self.has_v6())?;
            netlink::with(async |netlink| self.make_pod_side(&netlink).await)
        })?;
        netlink::with(async |netlink| self.make_host_routes(&netlink, host).await)?;
        Ok(wired)
    }

    async fn make_pod_side(&self, netlink: &Netlink) -> Result<Wired, CniError> {
        let pod = existing(netlink, self.pair.pod_interface).await?;
        for address in self.addresses {
            netlink.add_address(&pod, *address, host_length(*address)).await?;
        }
        netlink.set_up(&pod).await?;
        if self.has_v4() {
            // Proxy ARP answers only on hosts that have a default route; with this no host needs one, and the
            // first packet does not wait.
            netlink.add_neighbour(&pod, GATEWAY_V4.into(), HOST_MAC).await?;
        }
        for route in self.pod_routes(pod.index) {
            netlink.add_route(&route).await?;
        }
        Ok(Wired { pod_mac: mac(&pod.mac), mtu: pod.mtu, netns_cookie: netns_cookie().ok() })
    }

    async fn make_host_routes(&self, netlink: &Netlink, host: &Link) -> Result<(), CniError> {
        for route in self.host_routes(host.index) {
            if !netlink.add_first_route(&route).await? {
                refuse_to_rob_a_pod(netlink, &route).await?;
                netlink.add_route(&route).await?;
            }
        }
        Ok(())
    }

    /// In the order in which they can be made: a gateway must be reachable before it can be one.
    fn pod_routes(&self, index: u32) -> Vec<Route> {
        let on_link = Route { destination: (GATEWAY_V4.into(), 32), gateway: None, index };
        let by = |any: IpAddr, gateway| Route { destination: (any, 0), gateway: Some(gateway), index };
        let v4 = [on_link, by([0, 0, 0, 0].into(), GATEWAY_V4.into())];
        let v6 = [by([0u16; 8].into(), GATEWAY_V6.into())];
        let v4 = self.has_v4().then_some(v4).into_iter().flatten();
        v4.chain(self.has_v6().then_some(v6).into_iter().flatten()).collect()
    }

    fn host_routes(&self, index: u32) -> Vec<Route> {
        let to =
            |address: &IpAddr| Route { destination: (*address, host_length(*address)), gateway: None, index };
        self.addresses.iter().map(to).collect()
    }

    /// What is not as [`Self::make`] makes it, if anything.
    pub fn difference(&self, netns: &Netns) -> Result<Option<String>, CniError> {
        let (host, missing) = netlink::with(async |netlink| {
            let host = netlink.link(self.pair.interface).await?;
            let missing = match &host {
                Some(host) => missing_route(self.host_routes(host.index), &netlink.routes().await?, "host"),
                None => None,
            };
            Ok((host, missing))
        })?;
        let Some(host) = host else { return Ok(Some(format!("interface {} is gone", self.pair.interface))) };
        if missing.is_some() {
            return Ok(missing);
        }
        if !host.up || host.mac != HOST_MAC {
            let (interface, mac) = (self.pair.interface, mac(&host.mac));
            return Ok(Some(format!("interface {interface} is switched off or has Ethernet address {mac}")));
        }
        netns.run(|| netlink::with(async |netlink| self.pod_difference(&netlink, &host).await))
    }

    async fn pod_difference(&self, netlink: &Netlink, host: &Link) -> Result<Option<String>, CniError> {
        let name = self.pair.pod_interface;
        let Some(pod) = netlink.link(name).await? else {
            return Ok(Some(format!("interface {name} in the pod is gone")));
        };
        if pod.peer != Some(host.index) {
            return Ok(Some(format!(
                "interface {name} in the pod is not the other side of {}",
                self.pair.interface
            )));
        }
        if !pod.up {
            return Ok(Some(format!("interface {name} in the pod is switched off")));
        }
        if self.pair.mtu.is_some_and(|mtu| mtu != pod.mtu) {
            return Ok(Some(format!("interface {name} in the pod has MTU {}", pod.mtu)));
        }
        let has = netlink.addresses(&pod).await?;
        if let Some(lost) = self.addresses.iter().find(|address| !has.iter().any(|(a, _)| a == *address)) {
            return Ok(Some(format!("interface {name} in the pod has lost address {lost}")));
        }
        Ok(missing_route(self.pod_routes(pod.index), &netlink.routes().await?, "pod"))
    }
}

/// Removes a veth by the name of its side on the host; one that is gone is no error.
pub fn remove(interface: &str) -> Result<(), CniError> {
    netlink::with(async |netlink| match netlink.link(interface).await? {
        Some(link) => netlink.delete(&link).await,
        None => Ok(()),
    })
}

/// Removes a veth whose two sides have these names, if there is one: the name on the host alone might by now
/// be that of the pod's next sandbox.
pub fn remove_pair(interface: &str, pod_interface: &str, netns: &Netns) -> Result<(), CniError> {
    let pod = netns.run(|| netlink::with(async |netlink| netlink.link(pod_interface).await))?;
    netlink::with(async |netlink| match (netlink.link(interface).await?, pod) {
        (Some(host), Some(pod)) if pod.peer == Some(host.index) && host.peer == Some(pod.index) => {
            netlink.delete(&host).await
        }
        _ => Ok(()),
    })
}

/// A route that is in the way is replaced, for instance one to the node where the address was before; but not one
/// to another pod that is still there.
async fn refuse_to_rob_a_pod(netlink: &Netlink, route: &Route) -> Result<(), CniError> {
    for other in netlink.routes().await? {
        if other.destination != route.destination || other.index == route.index {
            continue;
        }
        let link = netlink.link_at(other.index).await?;
        if let Some(link) = link.filter(|link| link.mac == HOST_MAC) {
            return Err(CniError::AddressInUse { address: route.destination.0, interface: link.name });
        }
    }
    Ok(())
}

fn missing_route(wanted: Vec<Route>, present: &[Route], place: &str) -> Option<String> {
    let missing = wanted.into_iter().find(|route| !present.contains(route))?;
    let (address, length) = missing.destination;
    Some(format!("the {place} has lost its route to {address}/{length}"))
}

async fn existing(netlink: &Netlink, name: &str) -> Result<Link, CniError> {
    let gone = || CniError::Io {
        doing: format!("looking for interface {name}"),
        source: std::io::Error::new(
            std::io::ErrorKind::NotFound,
            "it was removed while the pod was being wired",
        ),
    };
    netlink.link(name).await?.ok_or_else(gone)
}

fn host_length(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// As people write it.
pub fn mac(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}
