//! The packet: `struct __sk_buff` behind [`Packet`].
//!
//! Invariant: packet memory is only read and written by value. `data` and `data_end` are read anew for every
//! access, since helpers move the packet; beyond the linear part helpers do the same work, slower.

use crate::maps::Tables;
use crate::tables::Running;
use aya_ebpf::bindings::{__sk_buff, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR};
#[cfg(not(feature = "test-io"))]
use aya_ebpf::bindings::{
    BPF_F_TUNINFO_IPV6, BPF_FIB_LOOKUP_OUTPUT, BPF_FIB_LOOKUP_SKIP_NEIGH, bpf_fib_lookup, bpf_tunnel_key,
};
use aya_ebpf::helpers::generated::bpf_csum_update;
#[cfg(not(feature = "test-io"))]
use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
#[cfg(not(feature = "test-io"))]
use aya_ebpf::helpers::generated::{bpf_fib_lookup as ask_routes, bpf_skb_get_tunnel_key};
use aya_ebpf::helpers::{bpf_l4_csum_replace, bpf_skb_change_tail, bpf_skb_load_bytes, bpf_skb_store_bytes};
use core::ffi::c_void;
use core::mem::MaybeUninit;
use core::ptr;
use tortie_abi::Tick;
#[cfg(not(feature = "test-io"))]
use tortie_abi::settings::{TUNNEL_NETWORK, tunnel_flags};
use tortie_datapath::Family;
use tortie_datapath::kernel::{ChecksumKind, Clock, Packet, TunnelInfo, Ways};
use tortie_wire::checksum::Delta;
use tortie_wire::eth::VlanTag;
#[cfg(not(feature = "test-io"))]
use tortie_wire::{Be32, Ip6};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The context of a tc program.
#[derive(Clone, Copy)]
pub struct Skb(*mut __sk_buff);

/// A tc program.
pub type Tc = Running<Skb>;

/// Offsets beyond this are refused: the verifier wants to see a number, and no header is there.
const MAX_OFFSET: u32 = 0x3fff;

/// Reads a field of the context.
macro_rules! field {
    ($skb:expr, $($field:tt)+) => {{
        let skb = $skb;
        // SAFETY: the kernel gives the program a valid context for as long as it runs (see `Skb::new`).
        // Volatile: a helper may change it behind the compiler's back.
        unsafe { ptr::read_volatile(&raw const (*skb).$($field)+) }
    }};
}

impl Skb {
    /// # Safety
    /// `context` is what the kernel called the program with.
    #[inline(always)]
    pub const unsafe fn new(context: *mut __sk_buff) -> Self {
        Self(context)
    }

    /// For helpers.
    #[inline(always)]
    pub const fn as_ptr(self) -> *mut c_void {
        self.0.cast()
    }

    /// What the preamble left: the slot of the endpoint.
    #[inline(always)]
    pub fn slot(self) -> u32 {
        field!(self.0, cb[0])
    }

    /// The interface that the packet came in by, 0 for what the node sends itself.
    #[inline(always)]
    pub fn ingress_ifindex(self) -> u32 {
        field!(self.0, ingress_ifindex)
    }

    /// Ethertype, as on the wire.
    #[inline(always)]
    pub fn ethertype(self) -> u16 {
        (field!(self.0, protocol) as u16).to_be()
    }

    /// Where `size` bytes at `offset` start, when they are in the linear part.
    #[inline(always)]
    fn linear(self, offset: u32, size: usize) -> Option<*mut u8> {
        let mut at = offset as usize;
        // The bound, once more where the address is made: before Linux 6.13 the verifier does not know it of a copy of what was
        // compared. An instruction, since the compiler would leave it out.
        // SAFETY: it changes nothing but `at`.
        unsafe {
            core::arch::asm!("{at} &= {most}", at = inout(reg) at, most = const MAX_OFFSET, options(pure, nomem, nostack));
        }
        let start = (field!(self.0, data) as usize).wrapping_add(at);
        let end = field!(self.0, data_end) as usize;
        if start.wrapping_add(size) <= end { Some(start as *mut u8) } else { None }
    }
}

impl Clock for Tc {
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

const ETHERTYPE_IPV6: u16 = 0x86dd;

impl Packet for Tc {
    #[inline(always)]
    fn length(&self) -> u32 {
        field!(self.0.0, len)
    }

    #[inline(always)]
    fn load<T: FromBytes + IntoBytes>(&self, offset: u32) -> Option<T> {
        if offset > MAX_OFFSET {
            return None;
        }
        if let Some(start) = self.0.linear(offset, size_of::<T>()) {
            // SAFETY: `size_of::<T>()` bytes from `start` are inside the packet, checked just now, and any
            // bytes are a `T`. Alignment: the kernel pads frames so that IP headers are aligned to 4, and a
            // machine where that is not enough makes the verifier refuse the program.
            return Some(unsafe { ptr::read(start.cast()) });
        }
        let mut value = MaybeUninit::<T>::uninit();
        // SAFETY: the helper fills exactly `size_of::<T>()` bytes, or fails.
        let result = unsafe {
            bpf_skb_load_bytes(self.0.as_ptr(), offset, value.as_mut_ptr().cast(), size_of::<T>() as u32)
        };
        // SAFETY: filled, and any bytes are a `T`.
        if result == 0 { Some(unsafe { value.assume_init() }) } else { None }
    }

    #[inline(always)]
    fn store<T: IntoBytes + Immutable>(&self, offset: u32, value: T) -> Option<()> {
        if offset > MAX_OFFSET {
            return None;
        }
        if let Some(start) = self.0.linear(offset, size_of::<T>()) {
            // SAFETY: as in `load`; the verifier has made the linear part writable before the program.
            unsafe { ptr::write(start.cast(), value) };
            return Some(());
        }
        // SAFETY: `value` is `size_of::<T>()` initialised bytes without padding.
        let result = unsafe {
            bpf_skb_store_bytes(self.0.0, offset, ptr::from_ref(&value).cast(), size_of::<T>() as u32, 0)
        };
        if result == 0 { Some(()) } else { None }
    }

    #[inline(always)]
    fn update_checksum(&self, offset: u32, delta: Delta, kind: ChecksumKind) -> Option<()> {
        let (pseudo, udp) = match kind {
            ChecksumKind::PseudoHeader { udp } => (BPF_F_PSEUDO_HDR as u64, udp),
            ChecksumKind::Payload { udp } => (0, udp),
        };
        let mangled = if udp { BPF_F_MARK_MANGLED_0 as u64 } else { 0 };
        let change = delta.to_kernel();
        // SAFETY: a helper on our context; it checks the offset.
        let result = unsafe { bpf_l4_csum_replace(self.0.0, offset, 0, change as u64, pseudo | mangled) };
        // Of a sum over the whole packet, which some devices deliver, the helper takes away the change of the
        // pseudo header. That is right for IPv4, whose header checksum hides its addresses from the sum. In
        // IPv6 the addresses are in the sum, and the two changes cancel: it is put back. (Kernel 6.16 has a flag
        // for that, which older ones refuse.)
        if pseudo != 0 && self.0.ethertype() == ETHERTYPE_IPV6 {
            // SAFETY: a helper on our context; it fails, as it should, when there is no such sum.
            unsafe { bpf_csum_update(self.0.0, change) };
        }
        if result == 0 { Some(()) } else { None }
    }

    #[inline(always)]
    fn resize(&self, length: u32) -> Option<()> {
        // SAFETY: a helper on our context; packet pointers are never kept.
        if unsafe { bpf_skb_change_tail(self.0.0, length, 0) } == 0 { Some(()) } else { None }
    }

    #[inline(always)]
    fn has_vlan_tag(&self) -> bool {
        field!(self.0.0, vlan_present) != 0
    }

    #[inline(always)]
    fn vlan(&self) -> u16 {
        // Without a tag older kernels leave the last one's number there.
        if self.has_vlan_tag() { field!(self.0.0, vlan_tci) as u16 & VlanTag::ID } else { 0 }
    }

    #[inline(always)]
    fn is_aggregate(&self) -> bool {
        field!(self.0.0, gso_size) != 0
    }

    #[inline(always)]
    fn segment_bytes(&self) -> u32 {
        field!(self.0.0, gso_size)
    }

    #[inline(always)]
    fn mark(&self) -> u32 {
        field!(self.0.0, mark)
    }

    #[inline(always)]
    fn set_mark(&self, mark: u32) {
        // SAFETY: the context is valid, and tc programs may write this field.
        unsafe { ptr::write_volatile(&raw mut (*self.0.0).mark, mark) };
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        field!(self.0.0, ifindex)
    }
}

impl<F: Family> TunnelInfo<F> for Tc {
    #[cfg(not(feature = "test-io"))]
    #[inline(always)]
    fn tunnel_source(&self) -> Option<(F::Addr, u32)> {
        /// Of the record, up to the local address.
        const TUNNEL_KEY_BYTES: u32 = 28;
        let mut key = MaybeUninit::<bpf_tunnel_key>::zeroed();
        let flags = if F::VERSION == 6 { BPF_F_TUNINFO_IPV6 as u64 } else { 0 };
        // SAFETY: a helper on our context, which fills the record or fails.
        let result = unsafe { bpf_skb_get_tunnel_key(self.0.0, key.as_mut_ptr(), TUNNEL_KEY_BYTES, flags) };
        // SAFETY: zeroed, and integers all the way down.
        let key = unsafe { key.assume_init() };
        if result != 0 || key.tunnel_id & !tunnel_flags::ALL != TUNNEL_NETWORK {
            return None;
        }
        // SAFETY: every member of the union is integers of its size or less, and the record was zeroed.
        let [w0, w1, w2, w3] = unsafe { key.__bindgen_anon_1.remote_ipv6 };
        // The helper gives an IPv4 address in the order of this machine, and an IPv6 address in the network's.
        let first = if F::VERSION == 4 { Be32::new(w0) } else { Be32::from_raw(w0) };
        let address = Ip6([first, Be32::from_raw(w1), Be32::from_raw(w2), Be32::from_raw(w3)]);
        Some((F::narrow(&address), key.tunnel_id))
    }

    #[cfg(feature = "test-io")]
    #[inline(always)]
    fn tunnel_source(&self) -> Option<(F::Addr, u32)> {
        crate::test_io::tunnel_source().map(|(address, network)| (F::narrow(&address), network))
    }
}

impl<F: Tables> Ways<F> for Tc {
    #[cfg(not(feature = "test-io"))]
    #[inline(always)]
    fn way_out(&self, source: &F::Addr, destination: &F::Addr) -> Option<u32> {
        way::<F>(self, self.ifindex(), source, destination, BPF_FIB_LOOKUP_SKIP_NEIGH)
    }

    #[cfg(not(feature = "test-io"))]
    #[inline(always)]
    fn leads(&self, ifindex: u32, source: &F::Addr, destination: &F::Addr) -> bool {
        // IPv6 takes the interface for a wish.
        let flags = BPF_FIB_LOOKUP_SKIP_NEIGH | BPF_FIB_LOOKUP_OUTPUT;
        way::<F>(self, ifindex, source, destination, flags) == Some(ifindex)
    }

    #[cfg(feature = "test-io")]
    #[inline(always)]
    fn way_out(&self, _source: &F::Addr, _destination: &F::Addr) -> Option<u32> {
        Some(crate::test_io::WAY_OUT)
    }

    #[cfg(feature = "test-io")]
    #[inline(always)]
    fn leads(&self, _ifindex: u32, _source: &F::Addr, _destination: &F::Addr) -> bool {
        true
    }
}

/// What the kernel's routes say of a packet that came in by an interface, or with `BPF_FIB_LOOKUP_OUTPUT` goes out by it.
#[cfg(not(feature = "test-io"))]
#[inline(always)]
fn way<F: Tables>(tc: &Tc, ifindex: u32, source: &F::Addr, destination: &F::Addr, flags: u32) -> Option<u32> {
    let words = |address: &F::Addr| F::widen(address).0.map(|word| word.raw());
    // SAFETY: integers all the way down.
    let mut question: bpf_fib_lookup = unsafe { core::mem::zeroed() };
    question.family = F::ADDRESS_FAMILY as u8;
    question.ifindex = ifindex;
    question.__bindgen_anon_3.ipv6_src = words(source);
    question.__bindgen_anon_4.ipv6_dst = words(destination);
    let size = size_of::<bpf_fib_lookup>() as i32;
    // SAFETY: a helper on our context, which reads and fills as many bytes as it is told there are.
    let result = unsafe { ask_routes(tc.0.as_ptr(), &raw mut question, size, flags) };
    if result == 0 { Some(question.ifindex) } else { None }
}
