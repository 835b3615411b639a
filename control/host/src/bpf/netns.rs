//! This thread's network namespace.

use std::io;
use std::mem::size_of;
use std::net::UdpSocket;
use std::os::fd::AsRawFd as _;

/// The kernel's number of it, by which the programs know sockets of the node itself (Linux 5.14).
pub fn netns_cookie() -> io::Result<u64> {
    let socket = UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, 0))?;
    let mut cookie = 0_u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the option is a u64, and the kernel writes at most `length` bytes into it.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_keeps_its_number_and_has_one() {
        let first = netns_cookie().unwrap();
        assert!(first != 0 && first == netns_cookie().unwrap());
    }
}
