//! Interfaces, addresses and routes of this network namespace.
//!
//! Owns: the conversation with the kernel's routing socket, and our own routes, which carry a protocol
//! number of their own. Does not: decide which routes there should be.
//! Invariant: only routes with our protocol number are ever changed or removed.

use futures::channel::mpsc::UnboundedReceiver;
use futures::{StreamExt as _, TryStreamExt as _};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage, LinkXdp};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{
    Handle, LinkMessageBuilder, LinkUnspec, LinkVxlan, MulticastGroup, RouteMessageBuilder, new_connection,
    new_multicast_connection,
};
use std::collections::BTreeMap;
use std::fmt;
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
    /// Somebody else has a route to the prefix, which stays.
    #[error(
        "the route to {net} {via} cannot be made: there is one of another owner (protocol {owner}), which is not touched \
         (`ip route show {net}`)"
    )]
    Taken {
        /// Where to.
        net: IpNet,
        /// What ours would lead to.
        via: Via,
        /// Whose it is, as `ip route` says it.
        owner: String,
    },
}

impl NetlinkError {
    /// The interface that was meant is gone, or switched off.
    pub fn is_of_no_interface(&self) -> bool {
        let Self::Request { source: rtnetlink::Error::NetlinkError(error), .. } = self else { return false };
        [libc::ENODEV, libc::ENXIO, libc::ENETDOWN].contains(&-error.raw_code())
    }
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
    /// The bond or bridge that it is a part of.
    pub controller: Option<u32>,
    /// The XDP program that sees what comes in there before everything else, by its id: none of ours is one.
    pub xdp: Option<u32>,
}

/// Something happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkEvent {
    /// An interface is new or changed.
    Device(Device),
    /// An interface is gone.
    DeviceGone(Device),
    /// Routes of others or rules changed: ways to other nodes, and to clients outside, may be others.
    Routing,
    /// One of our routes was made, or is there no more; also when we did it ourselves. Of an interface that is switched
    /// off the kernel removes the routes without a word.
    OwnRoute {
        /// Where to.
        net: IpNet,
        /// What it leads to.
        via: Via,
        /// It is there.
        there: bool,
    },
    /// An interface has an address, or has it no more: ways may be others, too.
    Address {
        /// Index of the interface.
        ifindex: u32,
        /// The address, with the length of its network's prefix.
        address: IpNet,
        /// It is there.
        there: bool,
    },
}

/// What one of our routes leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// A neighbour: on the way to another node.
    Gateway(IpAddr),
    /// An interface, by its index: a pod's.
    Device(u32),
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gateway(address) => write!(f, "by {address}"),
            Self::Device(index) => write!(f, "to interface {index}"),
        }
    }
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
            MulticastGroup::Ipv4Rule,
            MulticastGroup::Ipv6Rule,
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

    /// All addresses with the lengths of their networks' prefixes, and their interfaces.
    pub async fn addresses(&self) -> Result<Vec<(u32, IpNet)>, NetlinkError> {
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

    /// Gives an interface an address; one that it has is no error.
    pub async fn add_address(&self, index: u32, address: IpAddr, length: u8) -> Result<(), NetlinkError> {
        let add = self.handle.address().add(index, address, length).replace().execute().await;
        add.map_err(request(format!("adding {address}/{length} to interface {index}")))
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

    /// Our routes.
    pub async fn routes(&self) -> Result<BTreeMap<IpNet, Via>, NetlinkError> {
        Ok(self.all_routes().await?.iter().filter_map(our_route).collect())
    }

    async fn all_routes(&self) -> Result<Vec<RouteMessage>, NetlinkError> {
        let mut found = Vec::new();
        let all =
            [RouteMessageBuilder::<Ipv4Addr>::new().build(), RouteMessageBuilder::<Ipv6Addr>::new().build()];
        for message in all {
            let of_family: Vec<RouteMessage> = self
                .handle
                .route()
                .get(message)
                .execute()
                .try_collect()
                .await
                .map_err(request("listing routes"))?;
            found.extend(of_family);
        }
        Ok(found)
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

    /// Makes one of our routes, in place of `found`, which is ours too. Another's route to the prefix stays. To replace would
    /// be to ask the kernel for whichever has the prefix: of the connected network's route, or the default one.
    pub async fn set_route(&self, net: IpNet, found: Option<Via>, via: Via) -> Result<(), NetlinkError> {
        if let Some(found) = found {
            self.remove_route(net, found).await?;
        }
        let Some(message) = route_message(net, via) else { return Ok(()) };
        match self.handle.route().add(message).execute().await {
            Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -libc::EEXIST => {
                self.rival(net, via).await
            }
            result => result.map_err(request(format!("adding the route to {net} {via}"))),
        }
    }

    /// Whose route there is to a prefix that ours could not be made to.
    async fn rival(&self, net: IpNet, via: Via) -> Result<(), NetlinkError> {
        let found = self.all_routes().await?;
        let rivals: Vec<&RouteMessage> =
            found.iter().filter(|route| is_of_main_table(route) && target(route) == Some(net)).collect();
        if rivals.iter().any(|route| our_route(route) == Some((net, via))) {
            return Ok(());
        }
        let owner = rivals.first().map(|route| route.header.protocol.to_string());
        Err(NetlinkError::Taken { net, via, owner: owner.unwrap_or_else(|| "unknown".into()) })
    }

    /// Removes one of our routes; one that is not there is no error.
    pub async fn remove_route(&self, net: IpNet, via: Via) -> Result<(), NetlinkError> {
        let Some(message) = route_message(net, via) else { return Ok(()) };
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
        RouteNetlinkMessage::NewRule(_) | RouteNetlinkMessage::DelRule(_) => Some(NetworkEvent::Routing),
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
    let controller = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Controller(index) => Some(*index),
        _ => None,
    });
    let xdp = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Xdp(facts) => facts.iter().find_map(program),
        _ => None,
    });
    let up = link.header.flags.contains(LinkFlags::Up);
    Some(Device { index: link.header.index, name, mtu_bytes: mtu_bytes.unwrap_or(0), up, controller, xdp })
}

/// One of an interface that has several, each in its own mode, is named in another way.
fn program(fact: &LinkXdp) -> Option<u32> {
    match fact {
        LinkXdp::ProgId(id) | LinkXdp::DrvProgId(id) | LinkXdp::SkbProgId(id) | LinkXdp::HwProgId(id) => {
            Some(*id)
        }
        _ => None,
    }
    .filter(|id| *id != 0)
}

/// The interface's own address: where both ends of a link are named, that is the local one.
fn address(message: &AddressMessage) -> Option<(u32, IpNet)> {
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
    Some((message.header.index, IpNet::new(address, message.header.prefix_len).ok()?))
}

fn address_event(message: &AddressMessage, there: bool) -> Option<NetworkEvent> {
    let (ifindex, address) = address(message)?;
    Some(NetworkEvent::Address { ifindex, address, there })
}

fn route_event(route: &RouteMessage, there: bool) -> Option<NetworkEvent> {
    if route.header.protocol != RouteProtocol::Other(ROUTE_PROTOCOL) {
        return leads_on(route).then_some(NetworkEvent::Routing);
    }
    our_route(route).map(|(net, via)| NetworkEvent::OwnRoute { net, via, there })
}

/// Does it lead beyond a link? What comes and goes with every interface, and so with every pod, does not.
fn leads_on(route: &RouteMessage) -> bool {
    let to_link = route.attributes.iter().any(|attribute| match attribute {
        RouteAttribute::Destination(address) => {
            matches!(ip(address), Some(IpAddr::V6(to)) if to.is_unicast_link_local() || to.is_multicast())
        }
        _ => false,
    });
    route.header.table != libc::RT_TABLE_LOCAL && !to_link
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

fn interface(route: &RouteMessage) -> Option<u32> {
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    })
}

fn reach(route: &RouteMessage, address: IpAddr) -> Option<Reach> {
    let ifindex = interface(route)?;
    let unicast = route.header.kind == RouteType::Unicast;
    unicast.then(|| Reach { ifindex, neighbour: gateway(route).unwrap_or(address) })
}

fn our_route(route: &RouteMessage) -> Option<(IpNet, Via)> {
    let ours = route.header.protocol == RouteProtocol::Other(ROUTE_PROTOCOL);
    let via = || gateway(route).map(Via::Gateway).or_else(|| interface(route).map(Via::Device));
    ours.then(|| Some((destination(route)?, via()?)))?
}

fn is_of_main_table(route: &RouteMessage) -> bool {
    let table = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    table.unwrap_or(route.header.table.into()) == MAIN_TABLE
}

/// As [`destination`]; that of a default route is not said.
fn target(route: &RouteMessage) -> Option<IpNet> {
    let any: IpAddr = match route.header.address_family {
        AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let default = || (route.header.destination_prefix_length == 0).then(|| IpNet::new(any, 0).ok());
    destination(route).or_else(|| default()?)
}

fn destination(route: &RouteMessage) -> Option<IpNet> {
    let address = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(address) => ip(address),
        _ => None,
    })?;
    IpNet::new(address, route.header.destination_prefix_length).ok()
}

/// `None`: prefix and gateway are of different families.
fn route_message(net: IpNet, via: Via) -> Option<RouteMessage> {
    let mut message = match (net, via) {
        (IpNet::V4(net), Via::Gateway(IpAddr::V4(gateway))) => v4_route(net).gateway(gateway).build(),
        (IpNet::V4(net), Via::Device(index)) => {
            v4_route(net).output_interface(index).scope(RouteScope::Link).build()
        }
        (IpNet::V6(net), Via::Gateway(IpAddr::V6(gateway))) => v6_route(net).gateway(gateway).build(),
        (IpNet::V6(net), Via::Device(index)) => v6_route(net).output_interface(index).build(),
        _ => return None,
    };
    message.header.protocol = RouteProtocol::Other(ROUTE_PROTOCOL);
    Some(message)
}

fn v4_route(net: Ipv4Net) -> RouteMessageBuilder<Ipv4Addr> {
    RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(net.network(), net.prefix_len())
        .table_id(MAIN_TABLE)
}

fn v6_route(net: Ipv6Net) -> RouteMessageBuilder<Ipv6Addr> {
    RouteMessageBuilder::<Ipv6Addr>::new()
        .destination_prefix(net.network(), net.prefix_len())
        .table_id(MAIN_TABLE)
}
