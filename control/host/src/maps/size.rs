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
    /// Large enough for what is in it, and never smaller than it is, unless `is_new` says so.
    Growing {
        /// At least so large.
        least: u32,
        /// So many elements are about to be in it.
        needed: usize,
        /// Somebody chose this `least` since the map got its size.
        is_new: bool,
    },
}

/// What becomes of a map that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fate {
    /// Its size from now on.
    pub entries: u32,
    /// The smaller one that was chosen would be crowded: it waits.
    pub waits: bool,
}

impl Size {
    /// The size of a new map.
    pub fn of_new(self) -> u32 {
        match self {
            Self::Fixed(entries) => entries,
            Self::Growing { least, needed, .. } => large_enough(least, needed),
        }
    }

    /// How large somebody wants it to be, at first at least.
    pub fn chosen(self) -> u32 {
        match self {
            Self::Fixed(entries) => entries,
            Self::Growing { least, .. } => least,
        }
    }

    /// Of one that is `present` elements large and, told by `count`, holds so many. Into one that is `written` by programs
    /// more may come at any time.
    pub fn of_existing<E>(
        self,
        present: u32,
        written: bool,
        count: impl FnOnce() -> Result<usize, E>,
    ) -> Result<Fate, E> {
        match self {
            Self::Fixed(entries) => {
                let waits = entries < present && written && is_crowded(count()?, entries);
                Ok(Fate { entries: if waits { present } else { entries }, waits })
            }
            Self::Growing { least, needed, is_new } => {
                let held = count()?;
                let is_smaller = is_new && least < present;
                if is_smaller && !is_crowded(needed.max(held), least) {
                    return Ok(Fate { entries: least, waits: false });
                }
                // Of a full one nobody knows how much more there would be.
                let is_full = held.saturating_mul(16) >= (present as usize).saturating_mul(15);
                let held = if is_full { held.saturating_mul(2) } else { held };
                Ok(Fate { entries: large_enough(least.max(present), needed.max(held)), waits: is_smaller })
            }
        }
    }
}

/// Maps that grow have room for so many elements.
pub fn room_for(elements: u32) -> Sizes {
    let size =
        |spec: &MapSpec| Size::Growing { least: spec.max_entries, needed: elements as usize, is_new: false };
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
        let growing = |least, needed| Size::Growing { least, needed, is_new: false };
        assert_eq!(growing(1024, 768).of_new(), 1024);
        assert_eq!(growing(1024, 769).of_new(), 2048);
        assert_eq!(growing(1000, 3001).of_new(), 8000);
        assert_eq!(growing(1024, usize::MAX).of_new(), MOST_ENTRIES);
        assert_eq!(growing(2 * MOST_ENTRIES, usize::MAX).of_new(), 2 * MOST_ENTRIES, "as somebody chose");
        assert_eq!(Size::Fixed(7).of_new(), 7);
    }

    fn of(size: Size, present: u32, count: usize) -> (u32, bool) {
        let Ok(fate) = size.of_existing::<()>(present, true, || Ok(count)) else { unreachable!("counted") };
        (fate.entries, fate.waits)
    }

    #[test]
    fn one_that_exists_never_shrinks_by_itself() {
        let growing = |least, needed| Size::Growing { least, needed, is_new: false };
        assert_eq!(of(growing(1024, 0), 4096, 10), (4096, false));
        assert_eq!(of(growing(1024, 0), 1024, 900), (2048, false));
        assert_eq!(of(growing(1024, 0), 1024, 1024), (4096, false), "more did not fit");
        assert_eq!(of(growing(1024, 5000), 1024, 10), (8192, false));
    }

    #[test]
    fn a_smaller_one_that_somebody_chose_is_taken_unless_it_would_be_crowded() {
        let growing = |least, needed| Size::Growing { least, needed, is_new: true };
        assert_eq!(of(growing(1024, 0), 4096, 768), (1024, false));
        assert_eq!(of(growing(1024, 0), 4096, 769), (4096, true));
        assert_eq!(of(growing(1024, 769), 4096, 10), (4096, true));
        assert_eq!(of(growing(1024, 0), 4096, 4096), (16_384, true), "and is larger where it must");
        assert_eq!(of(growing(8192, 0), 4096, 10), (8192, false));
        assert_eq!(of(Size::Fixed(1024), 4096, 768), (1024, false));
        assert_eq!(of(Size::Fixed(1024), 4096, 769), (4096, true));
        let of_ours = Size::Fixed(512).of_existing::<()>(4096, false, || Ok(512));
        assert_eq!(of_ours, Ok(Fate { entries: 512, waits: false }), "nothing else comes into it");
    }
}
