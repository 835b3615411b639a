//! The frames that are measured: TCP without payload, as most packets of a busy connection are.

use super::driver::Tunnel;
use std::net::IpAddr;
use tortie_abi::{v4, v6};
use tortie_wire::Be16;
use tortie_wire::checksum::Sum;
use zerocopy::IntoBytes;

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

const CLIENT_PORT: u16 = 33_000;
pub(super) const SERVER_PORT: u16 = 8080;
pub(super) const SERVICE_PORT: u16 = 80;
/// Leads to the pod that answers.
pub(super) const NODE_PORT: u16 = 30_080;
/// Leads to a pod of another node.
pub(super) const REMOTE_NODE_PORT: u16 = 30_081;
const POD_CLIENT_PORT: u16 = 33_001;
const OUTSIDE_PORT: u16 = 33_010;
const TCP: u8 = 6;
const SYN: u8 = 2;
const SYN_ACK: u8 = 0x12;
const ACK: u8 = 0x10;
const ETHERNET: usize = 14;

impl Family {
    /// 4 or 6.
    pub(super) const fn number(self) -> u8 {
        match self {
            Self::V4 => 4,
            Self::V6 => 6,
        }
    }

    fn address(self, network: u8, host: u8) -> IpAddr {
        match self {
            Self::V4 => [10, 0, network, host].into(),
            Self::V6 => [0xfd00, 0, 0, u16::from(network), 0, 0, 0, u16::from(host)].into(),
        }
    }

    /// The pod that asks.
    pub(super) fn client(self) -> IpAddr {
        self.address(0, 1)
    }

    /// The pod that answers.
    pub(super) fn server(self) -> IpAddr {
        self.address(0, 2)
    }

    /// The Service whose back end the server is.
    pub(super) fn service(self) -> IpAddr {
        self.address(96, 1)
    }

    /// The measured node.
    pub(super) fn node(self) -> IpAddr {
        self.address(100, 1)
    }

    /// Another node.
    pub(super) fn other_node(self) -> IpAddr {
        self.address(100, 2)
    }

    /// The other node's pod that answers.
    pub(super) fn remote_server(self) -> IpAddr {
        self.address(1, 2)
    }

    /// Who asks from outside the cluster.
    pub(super) fn outside(self) -> IpAddr {
        self.address(200, 1)
    }

    const fn ip_bytes(self) -> usize {
        match self {
            Self::V4 => 20,
            Self::V6 => 40,
        }
    }
}

/// A frame with the TCP header at its end.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    family: Family,
    source: (IpAddr, u16),
    destination: (IpAddr, u16),
    flags: u8,
    /// It comes from the other node, through the tunnel.
    tunnelled: bool,
}

impl Frame {
    /// The same, as the first of its connection.
    pub(super) fn opening(self) -> Self {
        Self { flags: SYN, ..self }
    }

    /// The same, as the other side's agreement.
    pub(super) fn agreeing(self) -> Self {
        Self { flags: SYN_ACK, ..self }
    }

    /// The same, out of the tunnel.
    pub(super) fn tunnelled(self) -> Self {
        Self { tunnelled: true, ..self }
    }

    /// Through which tunnel it comes.
    pub(super) fn tunnel(&self) -> Option<Tunnel> {
        self.tunnelled.then(|| Tunnel::from(self.family.other_node()))
    }

    /// Where the source port is.
    pub(super) fn port_offset(&self) -> usize {
        ETHERNET + self.family.ip_bytes()
    }

    /// The bytes, with the IPv4 header's checksum.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
        match (self.source.0, self.destination.0) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let mut ip = vec![0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, TCP, 0, 0];
                ip.extend(source.octets());
                ip.extend(destination.octets());
                let checksum = Sum::EMPTY.bytes(&ip).checksum().to_bytes();
                ip.splice(10..12, checksum);
                frame.extend([0x08, 0x00]);
                frame.extend(ip);
            }
            (source, destination) => {
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, TCP, 64]);
                frame.extend(octets(source));
                frame.extend(octets(destination));
            }
        }
        frame.extend(self.source.1.to_be_bytes());
        frame.extend(self.destination.1.to_be_bytes());
        frame.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, self.flags, 0xff, 0xff, 0x12, 0x34, 0, 0]);
        frame
    }

    /// The key of its flow's element.
    pub(super) fn key(&self) -> Vec<u8> {
        let (source_port, destination_port) = (Be16::new(self.source.1), Be16::new(self.destination.1));
        match (self.source.0, self.destination.0) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let (source, destination) = (source.into(), destination.into());
                v4::FlowKey {
                    source,
                    destination,
                    source_port,
                    destination_port,
                    protocol: TCP,
                    _zero: [0; 3],
                }
                .element()
                .0
                .as_bytes()
                .to_vec()
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let (source, destination) = (source.into(), destination.into());
                v6::FlowKey {
                    source,
                    destination,
                    source_port,
                    destination_port,
                    protocol: TCP,
                    _zero: [0; 3],
                }
                .element()
                .0
                .as_bytes()
                .to_vec()
            }
            _ => Vec::new(),
        }
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn frame(family: Family, source: (IpAddr, u16), destination: (IpAddr, u16)) -> Frame {
    Frame { family, source, destination, flags: ACK, tunnelled: false }
}

/// Client to server.
pub(super) fn to_pod(family: Family) -> Frame {
    frame(family, (family.client(), POD_CLIENT_PORT), (family.server(), SERVER_PORT))
}

/// Server to client.
pub(super) fn from_pod(family: Family) -> Frame {
    frame(family, (family.server(), SERVER_PORT), (family.client(), POD_CLIENT_PORT))
}

/// Client to Service.
pub(super) fn to_service(family: Family) -> Frame {
    frame(family, (family.client(), CLIENT_PORT), (family.service(), SERVICE_PORT))
}

/// Server to a client of the Service.
pub(super) fn from_service(family: Family) -> Frame {
    frame(family, (family.server(), SERVER_PORT), (family.client(), CLIENT_PORT))
}

/// Who asks from outside, by its connection: several of one address meet different doors.
pub(super) fn from_outside(family: Family, connection: u16, to: (IpAddr, u16)) -> Frame {
    frame(family, (family.outside(), OUTSIDE_PORT + connection), to)
}

/// The answer of a pod to who asks from outside.
pub(super) fn to_outside(family: Family, connection: u16, from: IpAddr) -> Frame {
    frame(family, (from, SERVER_PORT), (family.outside(), OUTSIDE_PORT + connection))
}

/// From the client's interface, but not from its address.
pub(super) fn spoofed(family: Family) -> Frame {
    frame(family, (family.address(0, 77), CLIENT_PORT), (family.server(), SERVER_PORT))
}

/// Of a connection that nobody knows.
pub(super) fn unknown(family: Family) -> Frame {
    frame(family, (family.client(), 1), (family.server(), SERVER_PORT))
}

/// Both entries of a flow that is not translated, by family.
pub(super) fn flow_pair_bytes() -> [u64; 2] {
    let v4 = size_of::<v4::FlowKey>() + size_of::<v4::FlowPair>();
    let v6 = size_of::<v6::FlowKey>() + size_of::<v6::FlowPair>();
    [v4 as u64, v6 as u64]
}
