//! The programs at a cgroup: system calls about a socket's peer.
//!
//! They run in the process that makes the call, which may be interrupted: their state is on the stack, never in
//! the per-CPU memory of the packet programs.

use crate::conclude::tell_refused;
use crate::map::ANY;
use crate::maps::Tables;
use crate::places;
use crate::tables::Running;
use aya_ebpf::bindings::{bpf_sock, bpf_sock_addr};
use aya_ebpf::helpers::generated::{
    bpf_get_current_comm, bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_ktime_get_coarse_ns,
    bpf_set_retval,
};
use core::ptr;
use tortie_abi::event::{Kind, Refusal};
use tortie_abi::{DropReason, Hook, Tick};
use tortie_datapath::hook;
use tortie_datapath::kernel::{Clock, Refusals, Socket, SocketCall, Sockets};
use tortie_datapath::stage::socket::Admission;
use tortie_datapath::tuple::Place;
use tortie_wire::{Be16, Be32, Ip4, Ip6};

/// The context of a program that is asked about an address.
#[derive(Clone, Copy)]
pub struct Address(*mut bpf_sock_addr);

/// The context of a program that is told about a socket.
#[derive(Clone, Copy)]
pub struct Closed(*mut bpf_sock);

/// Reads a field of the context. Volatile: the kernel takes each access for itself and refuses wider ones.
macro_rules! read {
    ($context:expr, $($field:tt)+) => {{
        let context = $context;
        // SAFETY: the kernel gives the program a valid context for as long as it runs; where a program may
        // not read the field, the verifier refuses it.
        unsafe { ptr::read_volatile(&raw const (*context).$($field)+) }
    }};
}

/// Writes a field of the context.
macro_rules! write {
    ($context:expr, $value:expr, $($field:tt)+) => {{
        let (context, value) = ($context, $value);
        // SAFETY: as for reading.
        unsafe { ptr::write_volatile(&raw mut (*context).$($field)+, value) }
    }};
}

const ECONNREFUSED: i32 = 111;
const AF_INET: u32 = 2;

impl Socket for Running<Address> {
    #[inline(always)]
    fn cookie(&self) -> u64 {
        // SAFETY: a helper on our context.
        unsafe { bpf_get_socket_cookie(self.0.0.cast()) }
    }
}

impl SocketCall for Running<Address> {
    #[inline(always)]
    fn protocol(&self) -> u8 {
        read!(self.0.0, protocol) as u8
    }

    #[inline(always)]
    fn netns(&self) -> u64 {
        // SAFETY: a helper on our context.
        unsafe { bpf_get_netns_cookie(self.0.0.cast()) }
    }

    #[inline(always)]
    fn port(&self) -> Be16 {
        Be16::from_raw(read!(self.0.0, user_port) as u16)
    }

    #[inline(always)]
    fn set_port(&self, port: Be16) {
        write!(self.0.0, port.raw() as u32, user_port);
    }

    #[inline(always)]
    fn address4(&self) -> Ip4 {
        Ip4(Be32::from_raw(read!(self.0.0, user_ip4)))
    }

    #[inline(always)]
    fn set_address4(&self, address: Ip4) {
        write!(self.0.0, address.0.raw(), user_ip4);
    }

    #[inline(always)]
    fn address6(&self) -> Ip6 {
        Ip6([
            Be32::from_raw(read!(self.0.0, user_ip6[0])),
            Be32::from_raw(read!(self.0.0, user_ip6[1])),
            Be32::from_raw(read!(self.0.0, user_ip6[2])),
            Be32::from_raw(read!(self.0.0, user_ip6[3])),
        ])
    }

    #[inline(always)]
    fn set_address6(&self, address: Ip6) {
        let Ip6([a, b, c, d]) = address;
        write!(self.0.0, a.raw(), user_ip6[0]);
        write!(self.0.0, b.raw(), user_ip6[1]);
        write!(self.0.0, c.raw(), user_ip6[2]);
        write!(self.0.0, d.raw(), user_ip6[3]);
    }

    #[inline(always)]
    fn is_connected(&self) -> bool {
        let socket = read!(self.0.0, __bindgen_anon_1.sk);
        // The kernel gives a socket at every hook; where the verifier knows it the comparison costs nothing.
        !socket.is_null() && read!(socket, dst_port) != 0
    }
}

impl Clock for Running<Address> {
    #[cfg(not(feature = "test-io"))]
    #[inline(always)]
    fn now(&self) -> Tick {
        // SAFETY: a helper without arguments.
        Tick::from_nanos(unsafe { bpf_ktime_get_coarse_ns() })
    }

    #[cfg(feature = "test-io")]
    #[inline(always)]
    fn now(&self) -> Tick {
        crate::test_io::now()
    }
}

impl<F: Tables> Refusals<F> for Running<Address> {
    #[inline(always)]
    fn refused(&self, reason: DropReason, (address, port): Place<F::Addr>, service: u32) {
        let mut refusal = Refusal {
            // SAFETY: a helper without arguments.
            time_nanos: unsafe { bpf_ktime_get_coarse_ns() },
            kind: Kind::Refusal as u16,
            hook: Hook::Socket as u16,
            reason: reason as u16,
            protocol: self.protocol(),
            family: F::VERSION,
            netns: self.netns(),
            destination: F::widen(&address),
            destination_port: port,
            _zero: 0,
            service,
            task: [0; 16],
        };
        // SAFETY: the helper writes at most that many bytes, and zeroes where it has no name.
        unsafe { bpf_get_current_comm(refusal.task.as_mut_ptr().cast(), refusal.task.len() as u32) };
        tell_refused(&refusal);
    }
}

impl Socket for Running<Closed> {
    #[inline(always)]
    fn cookie(&self) -> u64 {
        // SAFETY: a helper on our context.
        unsafe { bpf_get_socket_cookie(self.0.0.cast()) }
    }
}

impl<C, F: Tables> Sockets<F> for Running<C> {
    #[inline(always)]
    fn lead(&self, cookie: u64) -> Option<F::SocketLead> {
        places::lead::<F>(cookie)
    }

    #[inline(always)]
    fn set_lead(&self, cookie: u64, lead: &F::SocketLead) {
        places::set_lead::<F>(cookie, lead);
    }

    #[inline(always)]
    fn forget_lead(&self, cookie: u64) {
        places::forget_lead::<F>(cookie);
    }

    #[inline(always)]
    fn message(&self, key: &F::SocketKey) -> Option<F::SocketPeer> {
        F::MESSAGE.get(key)
    }

    #[inline(always)]
    fn set_message(&self, key: &F::SocketKey, peer: &F::SocketPeer) {
        // Without the entry the sender of an answer is told by its own address.
        let _ = F::MESSAGE.update(key, peer, ANY);
    }
}

/// The return code: 1 lets the call go on; 0 ends it, with "operation not permitted" unless an error is set.
#[inline(always)]
fn conclude(admission: Admission) -> i32 {
    match admission {
        Admission::Allow => 1,
        Admission::Refuse => {
            // SAFETY: a helper without pointers. Where the kernel has no such helper the loader puts a constant
            // in place of the call, and the error is "operation not permitted".
            unsafe { bpf_set_retval(-ECONNREFUSED) };
            0
        }
        Admission::Forbid => 0,
    }
}

macro_rules! programs {
    ($($(#[$doc:meta])* $section:literal $name:ident |$call:ident| $run:expr;)+) => {
        $(
            $(#[$doc])*
            #[unsafe(no_mangle)]
            #[unsafe(link_section = $section)]
            pub extern "C" fn $name(context: *mut bpf_sock_addr) -> i32 {
                let $call = &Running(Address(context));
                $run
            }
        )+
    };
}

programs! {
    /// `connect` with an IPv4 address.
    "cgroup/connect4" connect4 |call| conclude(hook::connect4(call));
    /// `connect` with an IPv6 address.
    "cgroup/connect6" connect6 |call| conclude(hook::connect6(call));
    /// A message to an IPv4 address.
    "cgroup/sendmsg4" sendmsg4 |call| conclude(hook::sent4(call));
    /// A message to an IPv6 address.
    "cgroup/sendmsg6" sendmsg6 |call| conclude(hook::sent6(call));
    /// A message has come to an IPv4 socket.
    "cgroup/recvmsg4" recvmsg4 |call| { hook::sender4(call); 1 };
    /// A message has come to an IPv6 socket.
    "cgroup/recvmsg6" recvmsg6 |call| { hook::sender6(call); 1 };
    /// `getpeername` of an IPv4 socket.
    "cgroup/getpeername4" getpeername4 |call| { hook::named4(call); 1 };
    /// `getpeername` of an IPv6 socket.
    "cgroup/getpeername6" getpeername6 |call| { hook::named6(call); 1 };
}

/// A socket is closed: what is remembered of it can go.
#[unsafe(no_mangle)]
#[unsafe(link_section = "cgroup/sock_release")]
pub extern "C" fn sock_release(context: *mut bpf_sock) -> i32 {
    let socket = &Running(Closed(context));
    if read!(context, family) == AF_INET {
        hook::close4(socket);
    } else {
        hook::close6(socket);
    }
    1
}
