//! Owns: transport headers and their checksums. Does not: know what comes before them but the addresses of
//! the pseudo header. Invariant: the checksum is right for the bytes given.

use std::net::IpAddr;

use tortie_wire::checksum::Sum;
use tortie_wire::icmp4::{self, Icmp4Header};
use tortie_wire::icmp6::{self, Icmp6Header};
use tortie_wire::sctp::{ChunkHeader, ChunkType, SctpHeader};
use tortie_wire::tcp::{TcpFlags, TcpHeader};
use tortie_wire::udp::UdpHeader;
use tortie_wire::{Be16, Be32, IpProtocol};
use zerocopy::IntoBytes;

use super::CRC32C;

#[derive(Clone, Debug)]
pub(super) enum Transport {
    Tcp { header: TcpHeader, options: Vec<u8> },
    Udp { header: UdpHeader, no_checksum: bool },
    Sctp { header: SctpHeader, chunks: Vec<u8> },
    Icmp4(Icmp4Header),
    Icmp6(Icmp6Header),
    Raw(IpProtocol),
}

impl Transport {
    pub(super) fn tcp(src_port: u16, dst_port: u16) -> Self {
        let header = TcpHeader {
            src_port: src_port.into(),
            dst_port: dst_port.into(),
            seq: Be32::new(1000),
            flags: TcpFlags::SYN,
            window: Be16::new(64_240),
            ..Default::default()
        };
        Self::Tcp { header, options: Vec::new() }
    }

    pub(super) fn udp(src_port: u16, dst_port: u16) -> Self {
        let header = UdpHeader { src_port: src_port.into(), dst_port: dst_port.into(), ..Default::default() };
        Self::Udp { header, no_checksum: false }
    }

    pub(super) fn sctp(src_port: u16, dst_port: u16) -> Self {
        let header = SctpHeader {
            src_port: src_port.into(),
            dst_port: dst_port.into(),
            verification_tag: Be32::new(1),
            ..Default::default()
        };
        Self::Sctp { header, chunks: Vec::new() }
    }

    pub(super) fn echo(v4: bool, request: bool, id: u16, sequence: u16) -> Self {
        let kind = match (v4, request) {
            (true, true) => icmp4::ECHO_REQUEST,
            (true, false) => icmp4::ECHO_REPLY,
            (false, true) => icmp6::ECHO_REQUEST,
            (false, false) => icmp6::ECHO_REPLY,
        };
        Self::icmp(v4, kind, 0, (u32::from(id) << 16) | u32::from(sequence))
    }

    pub(super) fn icmp(v4: bool, kind: u8, code: u8, rest: u32) -> Self {
        let rest = Be32::new(rest);
        if v4 {
            Self::Icmp4(Icmp4Header { kind, code, checksum: Be16::ZERO, rest })
        } else {
            Self::Icmp6(Icmp6Header { kind, code, checksum: Be16::ZERO, rest })
        }
    }

    pub(super) fn tcp_header(&mut self, what: &str) -> &mut TcpHeader {
        match self {
            Self::Tcp { header, .. } => header,
            _ => panic!("{what}: TCP only; call tcp() first"),
        }
    }

    pub(super) fn sctp_header(&mut self, what: &str) -> &mut SctpHeader {
        match self {
            Self::Sctp { header, .. } => header,
            _ => panic!("{what}: SCTP only; call sctp() first"),
        }
    }

    pub(super) fn set_tcp_options(&mut self, bytes: &[u8]) {
        match self {
            Self::Tcp { options, .. } => {
                *options = bytes.to_vec();
                options.resize(bytes.len().next_multiple_of(4), 0);
                assert!(options.len() <= 40, "tcp_options: at most 40 bytes");
            }
            _ => panic!("tcp_options: TCP only; call tcp() first"),
        }
    }

    pub(super) fn drop_udp_checksum(&mut self) {
        match self {
            Self::Udp { no_checksum, .. } => *no_checksum = true,
            _ => panic!("no_udp_checksum: UDP only; call udp() first"),
        }
    }

    pub(super) fn push_chunk(&mut self, kind: ChunkType, value: &[u8]) {
        match self {
            Self::Sctp { chunks, .. } => {
                let len = Be16::new((ChunkHeader::LEN + value.len()) as u16);
                chunks.extend(ChunkHeader { kind: kind.to_u8(), flags: 0, len }.as_bytes());
                chunks.extend(value);
                chunks.resize(chunks.len().next_multiple_of(4), 0);
            }
            _ => panic!("chunk: SCTP only; call sctp() first"),
        }
    }

    pub(super) fn protocol(&self) -> IpProtocol {
        match self {
            Self::Tcp { .. } => IpProtocol::TCP,
            Self::Udp { .. } => IpProtocol::UDP,
            Self::Sctp { .. } => IpProtocol::SCTP,
            Self::Icmp4(_) => IpProtocol::ICMP,
            Self::Icmp6(_) => IpProtocol::ICMPV6,
            Self::Raw(protocol) => *protocol,
        }
    }

    /// Header and payload, with the checksum; `wrong` makes it off by one bit.
    pub(super) fn bytes(&self, src: IpAddr, dst: IpAddr, payload: &[u8], wrong: bool) -> Vec<u8> {
        let mut bytes = self.unsummed(payload);
        let Some(at) = self.checksum_offset() else { return bytes };
        if let Self::Sctp { .. } = self {
            let crc = CRC32C.checksum(&bytes) ^ u32::from(wrong);
            bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
            return bytes;
        }
        let sum = self.pseudo(src, dst, bytes.len()).bytes(&bytes);
        let checksum = match self {
            Self::Udp { no_checksum: true, .. } => Be16::ZERO,
            Self::Udp { .. } => sum.udp_checksum(),
            _ => sum.checksum(),
        };
        let wrong = if wrong { 0x0100 } else { 0 };
        bytes[at..at + 2].copy_from_slice(&Be16::new(checksum.get() ^ wrong).to_bytes());
        bytes
    }

    fn unsummed(&self, payload: &[u8]) -> Vec<u8> {
        let mut bytes = match self {
            Self::Tcp { header, options } => {
                let words = (TcpHeader::LEN + options.len()) / 4;
                let header = TcpHeader { data_offset: (words as u8) << 4, ..*header };
                [header.as_bytes(), options].concat()
            }
            Self::Udp { header, .. } => {
                let len = Be16::new((UdpHeader::LEN + payload.len()) as u16);
                UdpHeader { len, ..*header }.as_bytes().to_vec()
            }
            Self::Sctp { header, chunks } => [header.as_bytes(), chunks].concat(),
            Self::Icmp4(header) => header.as_bytes().to_vec(),
            Self::Icmp6(header) => header.as_bytes().to_vec(),
            Self::Raw(_) => Vec::new(),
        };
        bytes.extend(payload);
        bytes
    }

    fn checksum_offset(&self) -> Option<usize> {
        match self {
            Self::Tcp { .. } => Some(TcpHeader::CHECKSUM_OFFSET),
            Self::Udp { .. } => Some(UdpHeader::CHECKSUM_OFFSET),
            Self::Sctp { .. } => Some(SctpHeader::CHECKSUM_OFFSET),
            Self::Icmp4(_) => Some(Icmp4Header::CHECKSUM_OFFSET),
            Self::Icmp6(_) => Some(Icmp6Header::CHECKSUM_OFFSET),
            Self::Raw(_) => None,
        }
    }

    fn pseudo(&self, src: IpAddr, dst: IpAddr, len: usize) -> Sum {
        match (self, src, dst) {
            (Self::Icmp4(_), ..) => Sum::EMPTY,
            (_, IpAddr::V4(src), IpAddr::V4(dst)) => {
                Sum::pseudo_v4(src.into(), dst.into(), self.protocol(), len as u16)
            }
            (_, IpAddr::V6(src), IpAddr::V6(dst)) => {
                Sum::pseudo_v6(src.into(), dst.into(), self.protocol(), len as u32)
            }
            _ => unreachable!("a builder has one family"),
        }
    }
}
