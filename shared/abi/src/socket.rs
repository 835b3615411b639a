//! What connect-time load balancing remembers of sockets: maps `socket` and `message` (one for each family).
//!
//! `socket`: where a socket that was connected to a Service was led to, by the kernel's number of the socket (its cookie).
//! `getpeername` answers with the Service's address. It goes when the socket is closed.
//!
//! `message`: a socket that sends single messages to a Service has two entries, one for each direction. Nobody
//! says when they can go: the least recently used ones do.

/// Values of [`crate::v4::SocketKey::side`].
pub mod side {
    /// The key is a back end, the value the Service's address.
    pub const BACKEND: u8 = 1;
    /// The key is a Service's address, the value the back end that messages to it go to.
    pub const SERVICE: u8 = 2;
}
