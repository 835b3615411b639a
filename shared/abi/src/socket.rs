//! What connect-time load balancing remembers of sockets: map `socket` (one for each family).
//!
//! A socket that was led from a Service to a back end has an entry under the back end's address, by which
//! `getpeername` answers with the Service's. It goes when the socket is closed.

/// Values of [`crate::v4::SocketKey::side`].
pub mod side {
    /// The key is a back end, the value the Service's address.
    pub const BACKEND: u8 = 1;
}
