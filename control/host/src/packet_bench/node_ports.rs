//! Node ports: of the node that a client outside asks, with the back end there or elsewhere, and of the node with
//! the back end.

use super::BenchError;
use super::frames::{Family, Frame, NODE_PORT, REMOTE_NODE_PORT, SERVER_PORT, from_outside, to_outside};
use super::rig::{Entry, IFINDEX, Rig, Way};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use tortie_abi::Target;
use tortie_abi::endpoint::NextHop;
use tortie_abi::route::Kind;
use tortie_abi::service::{Frontend, flags};
use zerocopy::FromZeros as _;

/// Figures of each of [`connections`]: the request, the reply.
pub(super) const NAMES: [[&str; 2]; 3] = [
    ["nodeport-local", "nodeport-local-reply"],
    ["nodeport-remote-request", "nodeport-remote-reply"],
    ["nodeport-backend-request", "nodeport-backend-reply"],
];

const MTU_BYTES: u32 = 1500;

/// The nodes, a port whose back end is here, and one whose back end is on the other node.
pub(super) fn fill(rig: &Rig, family: Family) -> Result<(), BenchError> {
    let slot = u16::from(family.number());
    let other = Target::next_hop(slot, 1);
    rig.put_route(family.node(), Kind::Host, Target::HOST)?;
    rig.put_route(family.other_node(), Kind::RemoteHost, other)?;
    rig.put_route(family.remote_server(), Kind::RemotePod, other)?;
    rig.put("next_hop", &u32::from(slot), &next_hop(other, family.other_node()))?;
    let port = |service, local_backends| Frontend {
        service,
        backends: 1,
        local_backends,
        flags: flags::EXTERNAL | flags::NODE_PORT,
        ..Frontend::default()
    };
    rig.put_service((every_address(family), NODE_PORT), &port(2, 1), family.server())?;
    rig.put_service((every_address(family), REMOTE_NODE_PORT), &port(3, 0), family.remote_server())
}

fn every_address(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
        Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
    }
}

fn next_hop(id: Target, node: IpAddr) -> NextHop {
    let mut hop = NextHop { id, ifindex: IFINDEX, mtu_bytes: MTU_BYTES, ..NextHop::new_zeroed() };
    match node {
        IpAddr::V4(a) => {
            hop.address4 = a.into();
            let [first, ..] = &mut hop.node.0;
            *first = hop.address4.0;
        }
        IpAddr::V6(a) => {
            hop.address6 = a.into();
            hop.node = hop.address6;
        }
    }
    hop
}

/// Three connections of a client outside: through a node port to a pod here; through one to the other node's pod; and,
/// as the node of the back end sees it, from the other node's port to a pod here.
pub(super) fn connections(family: Family) -> [(Way, Way); 3] {
    let asks = |connection, to| from_outside(family, connection, to);
    let answers = |connection, from| to_outside(family, connection, from);
    let tunnelled = |frame: Frame| (Entry::Tunnel, frame.tunnelled());
    [
        ((Entry::Outside, asks(0, (family.node(), NODE_PORT))), (Entry::Server, answers(0, family.server()))),
        (
            (Entry::Outside, asks(1, (family.node(), REMOTE_NODE_PORT))),
            tunnelled(answers(1, family.remote_server())),
        ),
        (tunnelled(asks(2, (family.server(), SERVER_PORT))), (Entry::Server, answers(2, family.server()))),
    ]
}
