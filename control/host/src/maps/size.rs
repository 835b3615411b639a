//! How many elements a map has room for.
//!
//! Owns: when a map is crowded, and which size it gets then. Does not: make maps.
//! Invariant: a map of the size that is given for its content is not crowded by it, unless it cannot be larger.

use std::collections::BTreeMap;
use tortie_abi::maps::{GROWING, MOST_ENTRIES, MapSpec};

/// Sizes that differ from the list's, by map name.
pub type Sizes = BTreeMap<&'static str, Size>;

/// How large a map is to be, in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// So large, whatever is in it.
    Fixed(u32),
    /// Large enough for what is in it, and never smaller than it is.
    Growing {
        /// At least so large.
        least: u32,
        /// So many elements are about to be in it.
        needed: usize,
    },
}

impl Size {
    /// The size of a new map.
    pub fn of_new(self) -> u32 {
        match self {
            Self::Fixed(entries) => entries,
            Self::Growing { least, needed } => large_enough(least, needed),
        }
    }

    /// The size of one that is `present` elements large and, told by `count`, holds so many.
    pub fn of_existing<E>(self, present: u32, count: impl FnOnce() -> Result<usize, E>) -> Result<u32, E> {
        match self {
            Self::Fixed(entries) => Ok(entries),
            Self::Growing { least, needed } => {
                let held = count()?;
                // Of a full one nobody knows how much more there would be.
                let is_full = held.saturating_mul(16) >= (present as usize).saturating_mul(15);
                let held = if is_full { held.saturating_mul(2) } else { held };
                Ok(large_enough(least.max(present), needed.max(held)))
            }
        }
    }
}

/// Maps that grow have room for so many elements.
pub fn room_for(elements: u32) -> Sizes {
    let size = |spec: &MapSpec| Size::Growing { least: spec.max_entries, needed: elements as usize };
    GROWING.iter().map(|spec| (spec.name, size(spec))).collect()
}

/// Whether so many elements are more than three quarters of a map.
pub fn is_crowded(elements: usize, size: u32) -> bool {
    elements.saturating_mul(4) > (size as usize).saturating_mul(3)
}

/// Doubled until it is not crowded.
fn large_enough(least: u32, elements: usize) -> u32 {
    let mut size = least.max(1);
    while size < MOST_ENTRIES && is_crowded(elements, size) {
        size = size.saturating_mul(2).min(MOST_ENTRIES);
    }
    size
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_doubled_until_a_quarter_is_free_and_never_beyond_the_most() {
        let growing = |least, needed| Size::Growing { least, needed };
        assert_eq!(growing(1024, 768).of_new(), 1024);
        assert_eq!(growing(1024, 769).of_new(), 2048);
        assert_eq!(growing(1000, 3001).of_new(), 8000);
        assert_eq!(growing(1024, usize::MAX).of_new(), MOST_ENTRIES);
        assert_eq!(growing(2 * MOST_ENTRIES, usize::MAX).of_new(), 2 * MOST_ENTRIES, "as somebody chose");
        assert_eq!(Size::Fixed(7).of_new(), 7);
    }

    #[test]
    fn one_that_exists_never_shrinks_by_itself() {
        let of = |size: Size, present, count| size.of_existing::<()>(present, || Ok(count)).expect("counted");
        assert_eq!(of(Size::Growing { least: 1024, needed: 0 }, 4096, 10), 4096);
        assert_eq!(of(Size::Growing { least: 1024, needed: 0 }, 1024, 900), 2048);
        assert_eq!(of(Size::Growing { least: 1024, needed: 0 }, 1024, 1024), 4096, "more did not fit");
        assert_eq!(of(Size::Growing { least: 1024, needed: 5000 }, 1024, 10), 8192);
        assert_eq!(of(Size::Fixed(512), 4096, 4096), 512);
    }
}
