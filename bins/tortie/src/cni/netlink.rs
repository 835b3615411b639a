//! Owns: the few changes to links, addresses and routes that wiring a pod takes. Does not: decide any of them.
//! Invariant: works in the namespace of the thread that called [`with`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures::TryStreamExt as _;
use nix::errno::Errno;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope};
use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::packet_route::neighbour::NeighbourState;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::{Handle, LinkGetRequest, LinkMessageBuilder, LinkUnspec, LinkVeth};

use tortie_host::netlink::ROUTE_PROTOCOL;

use super::error::CniError;
use super::netns::Netns;

/// A connection to the kernel's routing tables.
pub struct Netlink(Handle);

/// What is known of an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its Ethernet address.
    pub mac: Vec<u8>,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// For a veth the number of the other side, in that side's namespace.
    pub peer: Option<u32>,
    /// Is it switched on?
    pub up: bool,
}

/// A veth to be made.
pub struct Veth<'a> {
    /// The side that stays here.
    pub host: &'a str,
    /// Its Ethernet address.
    pub host_mac: [u8; 6],
    /// The side in the pod.
    pub pod: &'a str,
    /// Where the pod is.
    pub netns: &'a Netns,
    /// Of both sides; the kernel's default when absent.
    pub mtu: Option<u32>,
}

/// A route, as far as the plugin makes and reads them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Destination; with length 0, everything.
    pub destination: (IpAddr, u8),
    /// Next hop, or none for what is on the link.
    pub gateway: Option<IpAddr>,
    /// Through which interface.
    pub index: u32,
}

/// Runs `work` with a connection in the calling thread's network namespace.
pub fn with<T>(work: impl AsyncFnOnce(Netlink) -> Result<T, CniError>) -> Result<T, CniError> {
    let opening = || CniError::io("opening a netlink socket");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(opening())?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(opening())?;
        tokio::spawn(connection);
        work(Netlink(handle)).await
    })
}

fn failed(doing: String) -> impl FnOnce(rtnetlink::Error) -> CniError {
    move |source| CniError::Netlink { doing, source }
}

fn is(error: &rtnetlink::Error, errno: Errno) -> bool {
    matches!(error, rtnetlink::Error::NetlinkError(message)
        if message.code.is_some_and(|code| code.get() == -(errno as i32)))
}

impl Netlink {
    /// The interface of that name, if there is one.
    pub async fn link(&self, name: &str) -> Result<Option<Link>, CniError> {
        first(self.0.link().get().match_name(name.to_owned()), name).await
    }

    /// The interface of that number, if there is one.
    pub async fn link_at(&self, index: u32) -> Result<Option<Link>, CniError> {
        first(self.0.link().get().match_index(index), &index.to_string()).await
    }

    /// Makes a veth, one side of it in the pod already.
    pub async fn add_veth(&self, veth: &Veth<'_>) -> Result<(), CniError> {
        let mut host = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
            .name(veth.host.to_owned())
            .address(veth.host_mac.to_vec());
        let mut pod = LinkMessageBuilder::<LinkUnspec>::new()
            .name(veth.pod.to_owned())
            .setns_by_fd(veth.netns.raw_fd());
        if let Some(mtu) = veth.mtu {
            (host, pod) = (host.mtu(mtu), pod.mtu(mtu));
        }
        let host = host.set_info_data(InfoData::Veth(InfoVeth::Peer(pod.build())));
        let doing = format!("making the veth {} with {} in the pod", veth.host, veth.pod);
        self.0.link().add(host.build()).execute().await.map_err(failed(doing))
    }

    /// Removes an interface, with its other side; one that is gone is no error.
    pub async fn delete(&self, link: &Link) -> Result<(), CniError> {
        match self.0.link().del(link.index).execute().await {
            Err(error) if !is(&error, Errno::ENODEV) => Err(failed(format!("removing {}", link.name))(error)),
            _ => Ok(()),
        }
    }

    /// Switches an interface on.
    pub async fn set_up(&self, link: &Link) -> Result<(), CniError> {
        let message = LinkUnspec::new_with_index(link.index).up().build();
        self.0.link().set(message).execute().await.map_err(failed(format!("switching {} on", link.name)))
    }

    /// Gives an interface an address, usable at once. One that it has already is no error.
    pub async fn add_address(&self, link: &Link, address: IpAddr, length: u8) -> Result<(), CniError> {
        let mut request = self.0.address().add(link.index, address, length).replace();
        *request.message_mut() = address_message(link.index, address, length);
        request.execute().await.map_err(failed(format!("adding address {address}/{length}")))
    }

    /// The addresses of an interface.
    pub async fn addresses(&self, link: &Link) -> Result<Vec<(IpAddr, u8)>, CniError> {
        let found = self.0.address().get().set_link_index_filter(link.index).execute();
        let messages: Vec<_> = found.try_collect().await.map_err(failed("reading addresses".to_owned()))?;
        Ok(messages.iter().filter_map(address_of).collect())
    }

    /// Says once and for all which Ethernet address a neighbour has.
    pub async fn add_neighbour(&self, link: &Link, address: IpAddr, mac: [u8; 6]) -> Result<(), CniError> {
        let neighbour = self.0.neighbours().add(link.index, address).link_local_address(&mac);
        let doing = format!("adding neighbour {address}");
        neighbour.state(NeighbourState::Permanent).replace().execute().await.map_err(failed(doing))
    }

    /// Makes a route, in place of one to the same destination.
    pub async fn add_route(&self, route: &Route) -> Result<(), CniError> {
        let (address, length) = route.destination;
        let doing = format!("adding the route to {address}/{length}");
        self.0.route().add(route_message(route)).replace().execute().await.map_err(failed(doing))
    }

    /// Makes a route, unless there is one to the same destination; says whether it did.
    pub async fn add_first_route(&self, route: &Route) -> Result<bool, CniError> {
        let (address, length) = route.destination;
        match self.0.route().add(route_message(route)).execute().await {
            Ok(()) => Ok(true),
            Err(error) if is(&error, Errno::EEXIST) => Ok(false),
            Err(error) => Err(failed(format!("adding the route to {address}/{length}"))(error)),
        }
    }

    /// The routes of the main table.
    pub async fn routes(&self) -> Result<Vec<Route>, CniError> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut question = RouteMessage::default();
            question.header.address_family = family;
            let found = self.0.route().get(question).execute();
            let messages: Vec<_> = found.try_collect().await.map_err(failed("reading routes".to_owned()))?;
            routes.extend(messages.iter().filter_map(route_of));
        }
        Ok(routes)
    }
}

async fn first(request: LinkGetRequest, what: &str) -> Result<Option<Link>, CniError> {
    match request.execute().try_next().await {
        Ok(message) => Ok(message.as_ref().map(link_of)),
        Err(error) if is(&error, Errno::ENODEV) => Ok(None),
        Err(error) => Err(failed(format!("looking for interface {what}"))(error)),
    }
}

fn link_of(message: &LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        up: message.header.flags.contains(LinkFlags::Up),
        ..Link::default()
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Address(mac) => link.mac.clone_from(mac),
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Link(peer) => link.peer = Some(*peer),
            _ => {}
        }
    }
    link
}

/// Without the broadcast address that the library would add, and without duplicate detection.
fn address_message(index: u32, address: IpAddr, length: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = index;
    message.header.prefix_len = length;
    message.header.family = family(address);
    if is_link_local(address) {
        message.header.scope = AddressScope::Link;
    }
    if address.is_ipv6() {
        message.header.flags = AddressHeaderFlags::Nodad;
    }
    message.attributes = vec![AddressAttribute::Local(address), AddressAttribute::Address(address)];
    message
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn address_of(message: &AddressMessage) -> Option<(IpAddr, u8)> {
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    // IPv6 has only this one.
    let any = || {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    };
    local.or_else(any).map(|address| (address, message.header.prefix_len))
}

fn route_message(route: &Route) -> RouteMessage {
    let (address, length) = route.destination;
    let mut message = RouteMessage::default();
    message.header.address_family = family(address);
    message.header.destination_prefix_length = length;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    // The agent knows the host's by it, and puts them back when somebody removes them.
    message.header.protocol = RouteProtocol::Other(ROUTE_PROTOCOL);
    message.header.kind = RouteType::Unicast;
    message.header.scope = match route.gateway {
        None if address.is_ipv4() => RouteScope::Link,
        _ => RouteScope::Universe,
    };
    if length > 0 {
        message.attributes.push(RouteAttribute::Destination(address.into()));
    }
    if let Some(gateway) = route.gateway {
        message.attributes.push(RouteAttribute::Gateway(gateway.into()));
    }
    message.attributes.push(RouteAttribute::Oif(route.index));
    message
}

fn route_of(message: &RouteMessage) -> Option<Route> {
    if message.header.table != RouteHeader::RT_TABLE_MAIN {
        return None;
    }
    let everything = match message.header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        _ => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let mut route = Route {
        destination: (everything, message.header.destination_prefix_length),
        gateway: None,
        index: 0,
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => route.destination.0 = ip(address)?,
            RouteAttribute::Gateway(address) => route.gateway = Some(ip(address)?),
            RouteAttribute::Oif(index) => route.index = *index,
            _ => {}
        }
    }
    Some(route)
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}
