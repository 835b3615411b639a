//! A map of the object: typed access to one entry of [`tortie_abi::maps`].
//!
//! Owns: the definition the loader reads, and the map helpers. Does not: hold a pointer longer than the
//! closure it gives it to. Invariant: kind, sizes and flags are those of the list, or it does not compile.

use aya_ebpf::bindings::bpf_map_def;
use aya_ebpf::helpers::{
    bpf_for_each_map_elem, bpf_map_delete_elem, bpf_map_lookup_elem, bpf_map_update_elem, bpf_ringbuf_output,
    bpf_tail_call,
};
use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::marker::PhantomData;
use core::ptr::{self, NonNull};
use tortie_abi::maps::{MapKind, MapSpec};

/// A map with keys `K` and values `V`.
#[repr(transparent)]
pub struct Map<K, V> {
    definition: UnsafeCell<bpf_map_def>,
    types: PhantomData<(K, V)>,
}

// SAFETY: the definition is only data for the loader; at run time its address stands for the map, which
// the kernel makes safe to use from every CPU.
unsafe impl<K, V> Sync for Map<K, V> {}

/// What is called with the map, an element's key and value, and nothing. A function of its own, not a closure: the verifier
/// takes a reference to a static one only.
pub type Each = extern "C" fn(*mut c_void, *const c_void, *mut c_void, *mut c_void) -> i64;

/// `BPF_ANY`: create or replace.
pub const ANY: u64 = 0;
/// `BPF_NOEXIST`: only create.
pub const CREATE: u64 = 1;
/// `-EEXIST`.
pub const EXISTS: i64 = -17;

impl<K, V> Map<K, V> {
    /// The map that the list describes.
    pub const fn new(spec: &MapSpec) -> Self {
        assert!(size_of::<K>() == spec.key_bytes as usize && size_of::<V>() == spec.value_bytes as usize);
        Self {
            definition: UnsafeCell::new(bpf_map_def {
                type_: spec.kind as u32,
                key_size: spec.key_bytes,
                value_size: spec.value_bytes,
                max_entries: spec.max_entries,
                map_flags: spec.flags,
                id: 0,
                pinning: 0,
            }),
            types: PhantomData,
        }
    }

    #[inline(always)]
    fn address(&self) -> *mut c_void {
        self.definition.get().cast()
    }

    #[inline(always)]
    fn lookup(&self, key: &K) -> Option<NonNull<V>> {
        // SAFETY: the loader has put the map's address here; `key` is as long as its keys.
        NonNull::new(unsafe { bpf_map_lookup_elem(self.address(), ptr::from_ref(key).cast()) }.cast())
    }

    /// Applies `f` to a value.
    #[inline(always)]
    pub fn with<R>(&self, key: &K, f: impl FnOnce(&mut V) -> R) -> Option<R> {
        let mut value = self.lookup(key)?;
        // SAFETY: the value stays mapped as long as the program runs (RCU), is as long as `V`, aligned to 8, and
        // any bytes are a `V`. The reference ends with `f`, which cannot reach the map. Other CPUs may change
        // the value meanwhile; that loses an increment at worst, since every field is read by itself.
        Some(f(unsafe { value.as_mut() }))
    }

    /// Calls `f` with every element, until it returns something else than 0.
    #[inline(always)]
    pub fn for_each(&self, f: Each) {
        // SAFETY: the loader has put the map's address here; the kernel calls `f` as its type says.
        unsafe { bpf_for_each_map_elem(self.address(), f as *mut c_void, ptr::null_mut(), 0) };
    }

    /// A copy of a value.
    #[inline(always)]
    pub fn get(&self, key: &K) -> Option<V>
    where
        V: Copy,
    {
        self.with(key, |value| *value)
    }

    /// Writes a value; the kernel's error is negative.
    #[inline(always)]
    pub fn update(&self, key: &K, value: &V, flags: u64) -> Result<(), i64> {
        // SAFETY: as in `lookup`; `value` is as long as the map's values.
        let result = unsafe {
            bpf_map_update_elem(self.address(), ptr::from_ref(key).cast(), ptr::from_ref(value).cast(), flags)
        };
        if result == 0 { Ok(()) } else { Err(result) }
    }

    /// Removes a value; whether there was one.
    #[inline(always)]
    pub fn remove(&self, key: &K) -> bool {
        // SAFETY: as in `lookup`.
        unsafe { bpf_map_delete_elem(self.address(), ptr::from_ref(key).cast()) == 0 }
    }
}

impl<V> Map<u32, V> {
    /// Memory for one CPU and program run, not in the list because nobody outside reads it.
    pub const fn scratch() -> Self {
        Self::new(&MapSpec {
            name: "",
            kind: MapKind::PerCpuArray,
            key_bytes: size_of::<u32>() as u32,
            value_bytes: size_of::<V>() as u32,
            max_entries: 1,
            flags: 0,
            version: 1,
            writer: tortie_abi::maps::Writer::Kernel,
        })
    }

    /// The element of an array for as long as the program runs.
    ///
    /// # Safety
    /// `V` takes any bytes, the map is a per-CPU array, and nothing else in this run has a reference to the element.
    #[inline(always)]
    pub unsafe fn element(&self, index: u32) -> Option<&'static mut V> {
        // SAFETY: elements of an array live as long as the map, which outlives the program; the rest is the
        // caller's.
        self.lookup(&index).map(|mut value| unsafe { value.as_mut() })
    }
}

/// A map of programs.
pub type Programs = Map<u32, u32>;

impl Programs {
    /// Goes on with the program in a slot. Returns only when there is none (or after 33 such calls).
    ///
    /// # Safety
    /// `context` is the context of the running program.
    #[inline(always)]
    pub unsafe fn tail_call(&self, context: *mut c_void, slot: u32) {
        // SAFETY: the caller's; the loader has put the map's address here.
        unsafe { bpf_tail_call(context, self.address(), slot) };
    }
}

/// A ring buffer.
pub type Ring = Map<(), ()>;

impl Ring {
    /// Appends a record; `false` when there is no room.
    #[inline(always)]
    pub fn push<T: zerocopy::IntoBytes + zerocopy::Immutable>(&self, record: &T) -> bool {
        let size = size_of::<T>() as u64;
        // SAFETY: `record` is `size` initialised bytes without padding.
        unsafe { bpf_ringbuf_output(self.address(), ptr::from_ref(record).cast_mut().cast(), size, 0) == 0 }
    }
}
