//! Policy generations: one counter that only grows, over restarts too.
//!
//! Invariant: a generation is handed out only below the ceiling that the file names.

/// The counter.
#[derive(Clone, Copy, Debug)]
pub struct Generations {
    last: u32,
    ceiling: u32,
}

const RESERVE: u32 = 4096;
/// More than are handed out while a flow lives that nobody judges again.
const LEAP: u32 = 1 << 16;

impl Generations {
    /// Goes on above everything that may have been used.
    pub const fn new(ceiling: u32) -> Self {
        Self { last: ceiling, ceiling }
    }

    /// A generation was found in the kernel.
    pub fn seen(&mut self, generation: u32) {
        self.last = self.last.max(generation);
    }

    /// The newest one in the kernel, before any is handed out. One above the ceiling says that the file was lost: others
    /// begin far above those that flows of endpoints without a record may still name. Whether it was.
    pub fn found(&mut self, newest: u32) -> bool {
        let lost = newest > self.ceiling;
        if lost {
            self.last = newest.saturating_add(LEAP);
        }
        lost
    }

    /// Makes room for this many before the file is written.
    pub fn reserve(&mut self, count: usize) {
        let needed = self.last.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
        if needed > self.ceiling {
            self.ceiling = needed.saturating_add(RESERVE);
        }
    }

    /// The next one; never 0.
    pub fn take(&mut self) -> u32 {
        self.last = self.last.saturating_add(1);
        self.last
    }

    /// The last one handed out or found.
    pub const fn last(&self) -> u32 {
        self.last
    }

    /// For the file.
    pub const fn ceiling(&self) -> u32 {
        self.ceiling
    }
}
