//! Both ends of a packet.

use tortie_wire::Be16;

/// An address and a port.
pub type Place<A> = (A, Be16);

/// Addresses, ports and protocol. ICMP queries have their identifier in both ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple<A> {
    /// Source address.
    pub source: A,
    /// Destination address.
    pub destination: A,
    /// Source port.
    pub source_port: Be16,
    /// Destination port.
    pub destination_port: Be16,
    /// IP protocol number.
    pub protocol: u8,
}

impl<A: Copy> Tuple<A> {
    /// The same packet seen from the other side.
    #[inline(always)]
    pub const fn reversed(&self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            protocol: self.protocol,
        }
    }
}
