//! What connect-time load balancing remembers of sockets: maps `socket`, `socket_rest` and `message` (one for each family).
//!
//! `socket`: where a socket that was connected to a Service was led to. `getpeername` answers with the Service's address. It
//! goes when the socket is closed. The socket's place is the kernel's number of it (its cookie), modulo their count. The
//! numbers are given out one after the other, so that the sockets of one moment stand side by side, and a look at the place
//! costs neither a hash nor, mostly, a cold cache line: `accept` asks for every peer's name. Who finds the place taken goes
//! to the hash table `socket_rest`, and is counted in the place.
//!
//! `message`: a socket that sends single messages to a Service has two entries, one for each direction. Nobody
//! says when they can go: the least recently used ones do.

/// The place of a socket in `socket`.
#[inline(always)]
pub const fn place(cookie: u64) -> u32 {
    cookie as u32 & (crate::maps::SOCKET_PLACES - 1)
}

/// Values of [`crate::v4::SocketKey::side`].
pub mod side {
    /// The key is a back end, the value the Service's address.
    pub const BACKEND: u8 = 1;
    /// The key is a Service's address, the value the back end that messages to it go to.
    pub const SERVICE: u8 = 2;
}
