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

impl Generations {
    /// Goes on above everything that may have been used.
    pub const fn new(ceiling: u32) -> Self {
        Self { last: ceiling, ceiling }
    }

    /// A generation was found in the kernel.
    pub fn seen(&mut self, generation: u32) {
        self.last = self.last.max(generation);
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
