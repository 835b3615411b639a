//! Big-endian integers.
//!
//! Owns: `Be16`, `Be32`, `Be64`. Does not: offer arithmetic or an order, which are meaningless before
//! conversion. Invariant: the bytes in memory are always in network order, aligned as the integer is
//! (byte-aligned wrappers cost a quarter more instructions on BPF).

use core::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

macro_rules! big_endian {
    ($name:ident, $int:ident, $size:literal) => {
        #[doc = concat!("A `", stringify!($int), "` in network byte order.")]
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
        #[repr(transparent)]
        pub struct $name($int);

        impl $name {
            /// All bits clear.
            pub const ZERO: Self = Self(0);

            /// From a number in host order.
            #[inline(always)]
            pub const fn new(host: $int) -> Self {
                Self(host.to_be())
            }

            /// The number, in host order.
            #[inline(always)]
            pub const fn get(self) -> $int {
                $int::from_be(self.0)
            }

            /// From memory as it is: for fields that the kernel hands over in network order.
            #[inline(always)]
            pub const fn from_raw(memory: $int) -> Self {
                Self(memory)
            }

            /// Memory as it is: for fields that the kernel wants in network order, and for checksums.
            #[inline(always)]
            pub const fn raw(self) -> $int {
                self.0
            }

            /// From bytes in wire order.
            #[inline(always)]
            pub const fn from_bytes(bytes: [u8; $size]) -> Self {
                Self($int::from_ne_bytes(bytes))
            }

            /// The bytes in wire order.
            #[inline(always)]
            pub const fn to_bytes(self) -> [u8; $size] {
                self.0.to_ne_bytes()
            }

            /// Is every bit clear? Needs no conversion.
            #[inline(always)]
            pub const fn is_zero(self) -> bool {
                self.0 == 0
            }
        }

        impl From<$int> for $name {
            #[inline(always)]
            fn from(host: $int) -> Self {
                Self::new(host)
            }
        }

        impl From<$name> for $int {
            #[inline(always)]
            fn from(value: $name) -> Self {
                value.get()
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.get().fmt(f)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.get().fmt(f)
            }
        }
    };
}

big_endian!(Be16, u16, 2);
big_endian!(Be32, u32, 4);
big_endian!(Be64, u64, 8);
