//! Interfaces, addresses and routes of this network namespace.
//!
//! Owns: the conversation with the kernel's routing socket, and our own routes, which carry a protocol
//! number of their own. Does not: decide which routes there should be.
//! Invariant: only routes with our protocol number are ever changed or removed.

use futures::channel::mpsc::UnboundedReceiver;
use futures::{StreamExt as _, TryStreamExt as _};
use ipnet::IpNet;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteType};
use rtnetlink::{
    Handle, LinkMessageBuilder, LinkUnspec, LinkVxlan, MulticastGroup, RouteMessageBuilder, new_connection,
    new_multicast_connection,
};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Protocol number of our routes, used by nothing else (`ip route show proto 80`).
pub const ROUTE_PROTOCOL: u8 = 80;
/// `RT_TABLE_MAIN`
const MAIN_TABLE: u32 = 254;

/// The routing socket did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// No socket.
    #[error("opening the routing socket: {0}")]
    Socket(#[from] io::Error),
    /// A request failed.
    #[error("{operation}: {source}")]
    Request {
        /// What was asked.
        operation: String,
        /// The kernel's answer.
        source: rtnetlink::Error,
    },
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Index.
    pub index: u32,
    /// Name.
    pub name: String,
    /// MTU in bytes.
    pub mtu_bytes: u32,
    /// Administratively up.
    pub up: bool,
}

/// Something happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkEvent {
    /// An interface is new or changed.
    Device(Device),
    /// An interface is gone.
    DeviceGone(Device),
    /// Routes of others changed: ways to other nodes may be others.
    Routing,
    /// One of our routes was made, or is there no more; also when we did it ourselves.
    OwnRoute {
        /// Where to.
        net: IpNet,
        /// `None`: it is gone, or leads to an interface of this node.
        gateway: Option<IpAddr>,
    },
    /// An interface has an address, or has it no more: ways may be others, too.
    Address {
        /// Index of the interface.
        ifindex: u32,
        /// The address.
        address: IpAddr,
        /// It is there.
        there: bool,
    },
}

/// How the host's own stack reaches an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Interface.
    pub ifindex: u32,
    /// The neighbour: a router or the address itself.
    pub neighbour: IpAddr,
}

/// The routing socket.
#[derive(Clone, Debug)]
pub struct Netlink {
    handle: Handle,
}

/// What happens, as it happens. On a socket of its own: what the kernel tells everybody of a change carries the number of
/// the request that made it, whosesoever, and where we wait for an answer of that number it would pass for the answer.
pub struct Events {
    /// The socket lives as long as it can be asked.
    _handle: Handle,
    messages: UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, rtnetlink::sys::SocketAddr)>,
}

fn request(operation: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> NetlinkError {
    let operation = operation.into();
    move |source| NetlinkError::Request { operation, source }
}

impl Netlink {
    /// Opens the sockets in the network namespace of this thread. Runs on the current tokio runtime.
    pub fn open() -> Result<(Self, Events), NetlinkError> {
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
        ];
        let (listening, _handle, messages) = new_multicast_connection(&groups)?;
        tokio::spawn(listening);
        let (connection, handle, _) = new_connection()?;
        tokio::spawn(connection);
        Ok((Self { handle }, Events { _handle, messages }))
    }

    /// All interfaces.
    pub async fn devices(&self) -> Result<Vec<Device>, NetlinkError> {
        let links: Vec<LinkMessage> =
            self.handle.link().get().execute().try_collect().await.map_err(request("listing interfaces"))?;
        Ok(links.iter().filter_map(device).collect())
    }

    /// All addresses with their interfaces.
    pub async fn addresses(&self) -> Result<Vec<(u32, IpAddr)>, NetlinkError> {
        let found: Vec<AddressMessage> = self
            .handle
            .address()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(request("listing addresses"))?;
        Ok(found.iter().filter_map(address).collect())
    }

    /// How the host's own stack reaches an address; `None`: not at all, or it is the host's own.
    pub async fn reach(&self, address: IpAddr) -> Result<Option<Reach>, NetlinkError> {
        let message = match address {
            IpAddr::V4(a) => RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(a, 32).build(),
            IpAddr::V6(a) => RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(a, 128).build(),
        };
        let mut answers = self.handle.route().get(message).execute();
        match answers.try_next().await {
            Ok(answer) => Ok(answer.as_ref().and_then(|route| reach(route, address))),
            // No route to host, or network unreachable.
            Err(rtnetlink::Error::NetlinkError(_)) => Ok(None),
            Err(source) => Err(request(format!("asking for the way to {address}"))(source)),
        }
    }

    /// Our routes: prefix and gateway.
    pub async fn routes(&self) -> Result<BTreeMap<IpNet, IpAddr>, NetlinkError> {
        let mut ours = BTreeMap::new();
        let all =
            [RouteMessageBuilder::<Ipv4Addr>::new().build(), RouteMessageBuilder::<Ipv6Addr>::new().build()];
        for message in all {
            let found: Vec<RouteMessage> = self
                .handle
                .route()
                .get(message)
                .execute()
                .try_collect()
                .await
                .map_err(request("listing routes"))?;
            ours.extend(found.iter().filter_map(our_route));
        }
        Ok(ours)
    }

    /// Makes the tunnel's interface where it is not there, and brings it up; its index. The programs say for each packet
    /// where it goes, and see of each where it came from.
    pub async fn tunnel(&self, name: &str, port: u16) -> Result<u32, NetlinkError> {
        if let Some(device) = self.device(name).await? {
            let up = LinkUnspec::new_with_index(device.index).up().build();
            self.handle.link().change(up).execute().await.map_err(request(format!("bringing {name} up")))?;
            return Ok(device.index);
        }
        let made =
            LinkMessageBuilder::<LinkVxlan>::new(name).collect_metadata(true).port(port).learning(false).up();
        let made = self.handle.link().add(made.build()).execute().await;
        made.map_err(request(format!("making the VXLAN interface {name} on port {port}")))?;
        let device = self.device(name).await?;
        let gone = || NetlinkError::Socket(io::Error::other(format!("{name} was made and is gone")));
        device.map(|device| device.index).ok_or_else(gone)
    }

    /// Removes an interface; whether there was one.
    pub async fn remove(&self, name: &str) -> Result<bool, NetlinkError> {
        let Some(device) = self.device(name).await? else { return Ok(false) };
        let removed = self.handle.link().del(device.index).execute().await;
        removed.map_err(request(format!("removing {name}"))).map(|()| true)
    }

    async fn device(&self, name: &str) -> Result<Option<Device>, NetlinkError> {
        Ok(self.devices().await?.into_iter().find(|device| device.name == name))
    }

    /// Makes or replaces one of our routes.
    pub async fn set_route(&self, net: IpNet, gateway: IpAddr) -> Result<(), NetlinkError> {
        let Some(message) = route_message(net, gateway) else { return Ok(()) };
        let add = self.handle.route().add(message).replace().execute().await;
        add.map_err(request(format!("adding the route to {net} by {gateway}")))
    }

    /// Removes one of our routes; one that is not there is no error.
    pub async fn remove_route(&self, net: IpNet, gateway: IpAddr) -> Result<(), NetlinkError> {
        let Some(message) = route_message(net, gateway) else { return Ok(()) };
        match self.handle.route().del(message).execute().await {
            Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -libc::ESRCH => Ok(()),
            result => result.map_err(request(format!("removing the route to {net}"))),
        }
    }
}

impl Events {
    /// The next event if there is one now.
    pub fn try_next(&mut self) -> Option<NetworkEvent> {
        loop {
            let (message, _) = self.messages.try_recv().ok()?;
            if let NetlinkPayload::InnerMessage(message) = message.payload
                && let Some(event) = event(&message)
            {
                return Some(event);
            }
        }
    }

    /// The next event; `None`: the socket is closed.
    pub async fn next(&mut self) -> Option<NetworkEvent> {
        loop {
            let (message, _) = self.messages.next().await?;
            if let NetlinkPayload::InnerMessage(message) = message.payload
                && let Some(event) = event(&message)
            {
                return Some(event);
            }
        }
    }
}

fn event(message: &RouteNetlinkMessage) -> Option<NetworkEvent> {
    match message {
        RouteNetlinkMessage::NewLink(link) => device(link).map(NetworkEvent::Device),
        RouteNetlinkMessage::DelLink(link) => device(link).map(NetworkEvent::DeviceGone),
        RouteNetlinkMessage::NewAddress(message) => address_event(message, true),
        RouteNetlinkMessage::DelAddress(message) => address_event(message, false),
        RouteNetlinkMessage::NewRoute(route) => route_event(route, true),
        RouteNetlinkMessage::DelRoute(route) => route_event(route, false),
        _ => None,
    }
}

fn device(link: &LinkMessage) -> Option<Device> {
    let name = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })?;
    let mtu_bytes = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Mtu(mtu) => Some(*mtu),
        _ => None,
    });
    let up = link.header.flags.contains(LinkFlags::Up);
    Some(Device { index: link.header.index, name, mtu_bytes: mtu_bytes.unwrap_or(0), up })
}

/// The interface's own address: where both ends of a link are named, that is the local one.
fn address(message: &AddressMessage) -> Option<(u32, IpAddr)> {
    let local = |attribute: &AddressAttribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    };
    let only = |attribute: &AddressAttribute| match attribute {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    };
    let all = &message.attributes;
    let address = all.iter().find_map(local).or_else(|| all.iter().find_map(only))?;
    Some((message.header.index, address))
}

fn address_event(message: &AddressMessage, there: bool) -> Option<NetworkEvent> {
    let (ifindex, address) = address(message)?;
    Some(NetworkEvent::Address { ifindex, address, there })
}

fn route_event(route: &RouteMessage, there: bool) -> Option<NetworkEvent> {
    if route.header.protocol != RouteProtocol::Other(ROUTE_PROTOCOL) {
        return Some(NetworkEvent::Routing);
    }
    let gateway = gateway(route).filter(|_| there);
    destination(route).map(|net| NetworkEvent::OwnRoute { net, gateway })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}

fn gateway(route: &RouteMessage) -> Option<IpAddr> {
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(address) => ip(address),
        _ => None,
    })
}

fn reach(route: &RouteMessage, address: IpAddr) -> Option<Reach> {
    let ifindex = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    })?;
    let unicast = route.header.kind == RouteType::Unicast;
    unicast.then(|| Reach { ifindex, neighbour: gateway(route).unwrap_or(address) })
}

fn our_route(route: &RouteMessage) -> Option<(IpNet, IpAddr)> {
    let ours = route.header.protocol == RouteProtocol::Other(ROUTE_PROTOCOL);
    ours.then(|| Some((destination(route)?, gateway(route)?)))?
}

fn destination(route: &RouteMessage) -> Option<IpNet> {
    let address = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(address) => ip(address),
        _ => None,
    })?;
    IpNet::new(address, route.header.destination_prefix_length).ok()
}

fn route_message(net: IpNet, gateway: IpAddr) -> Option<RouteMessage> {
    let protocol = RouteProtocol::Other(ROUTE_PROTOCOL);
    match (net, gateway) {
        (IpNet::V4(net), IpAddr::V4(gateway)) => Some(
            RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(net.network(), net.prefix_len())
                .gateway(gateway)
                .protocol(protocol)
                .table_id(MAIN_TABLE)
                .build(),
        ),
        (IpNet::V6(net), IpAddr::V6(gateway)) => Some(
            RouteMessageBuilder::<Ipv6Addr>::new()
                .destination_prefix(net.network(), net.prefix_len())
                .gateway(gateway)
                .protocol(protocol)
                .table_id(MAIN_TABLE)
                .build(),
        ),
        _ => None,
    }
}
